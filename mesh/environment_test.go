package mesh

import (
	"context"
	"errors"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/registry/bootstrap"
	"github.com/splitmesh/splitmesh/transport"
)

// What stands for addresses is resolved, and tried again the next time when it cannot be.
func TestBootstrapFromEnvironment(t *testing.T) {
	k, err := identity.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	web, err := transport.Parse("/dns/web.example/tcp/443/wss")
	if err != nil {
		t.Fatal(err)
	}
	r := &registry.Record{Sequence: now.UnixMilli(), Expires: now.Add(time.Hour).UnixMilli(), Addrs: []multiaddr.Multiaddr{web}}
	if err := r.Sign(k); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewTLSServer(bootstrap.Handler(func() *registry.Record { return r }))
	defer server.Close()
	client := server.Client()
	defer client.CloseIdleConnections()
	away := errors.New("the network is away")
	down := true
	defer func(before bootstrap.Resolver) { sources = before }(sources)
	sources = bootstrap.Resolver{Client: client, LookupTXT: func(_ context.Context, name string) ([]string, error) {
		if down || name != "_dnsaddr.example.org" {
			return nil, away
		}
		return []string{"dnsaddr=/ip4/192.0.2.2/tcp/1/p2p/" + k.ID().PeerID()}, nil
	}}
	end := "/p2p/" + k.ID().PeerID()
	for _, tt := range []struct {
		env, want string
		down      bool
	}{
		{"/dnsaddr/example.org, https://HOST ,/ip4/192.0.2.1/tcp/1" + "/p2p/" + k.ID().String(), "/ip4/192.0.2.1/tcp/1" + end + " /ip4/192.0.2.2/tcp/1" + end + " /dns/web.example/tcp/443/wss" + end, false},
		{"/dnsaddr/example.org/p2p/" + k.ID().String(), "/ip4/192.0.2.2/tcp/1" + end, false},
		{"/dnsaddr/example.org,/ip4/192.0.2.1/tcp/1" + end, "/ip4/192.0.2.1/tcp/1" + end, true},
		{"/dnsaddr/example.org", "", true},
	} {
		down = tt.down
		t.Setenv("SPLITMESH_BOOTSTRAP", strings.ReplaceAll(tt.env, "https://HOST", server.URL))
		n, err := nodeFromEnvironment(t.Context())
		if tt.want == "" {
			if !errors.Is(err, away) || !strings.Contains(err.Error(), "SPLITMESH_BOOTSTRAP: ") {
				t.Errorf("%s: %v, want that the network is away", tt.env, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, a := range n.Bootstrap {
			got = append(got, a.String())
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s is %q, want %s", tt.env, got, tt.want)
		}
		n.Close()
	}
}

// The default node is made once it can be, and not at all once it is closed.
func TestDefaultNode(t *testing.T) {
	defer func() { defaultMade = nil }()
	t.Setenv("SPLITMESH_BOOTSTRAP", "nonsense")
	if _, err := Listen("x"); err == nil || !strings.Contains(err.Error(), "SPLITMESH_BOOTSTRAP") {
		t.Errorf("Listen: %v", err)
	}
	t.Setenv("SPLITMESH_BOOTSTRAP", "")
	t.Setenv("SPLITMESH_LISTEN", "/ip4/127.0.0.1/tcp/0")
	l, err := Listen("x")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	k, err := identity.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Close(); err != nil {
			t.Error(err)
		}
		if _, err := Dial(t.Context(), k.ID().String()+":x"); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Dial: %v", err)
		}
		defaultMade = nil // and as if none had been made
	}
}
