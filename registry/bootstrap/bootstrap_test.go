package bootstrap_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multiformats/go-multiaddr"
	"go.uber.org/goleak"

	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/registry/bootstrap"
	"github.com/splitmesh/splitmesh/registry/registrytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func texts(addrs []multiaddr.Multiaddr) (out []string) {
	for _, a := range addrs {
		out = append(out, a.String())
	}
	return out
}

// want checks what came of the sources: these addresses, or an error with the text.
func want(t *testing.T, got []multiaddr.Multiaddr, err error, addrs ...string) {
	t.Helper()
	if len(addrs) == 1 && !strings.HasPrefix(addrs[0], "/") {
		var e *bootstrap.Error
		if err == nil || !strings.Contains(err.Error(), addrs[0]) || !errors.As(err, &e) || len(err.Error()) > 1000 {
			t.Errorf("%v, %v; want an error with %q", got, err, addrs[0])
		}
		return
	}
	if err != nil || strings.Join(texts(got), " ") != strings.Join(addrs, " ") {
		t.Errorf("%v, %v; want %v", got, err, addrs)
	}
}

func TestMultiaddrs(t *testing.T) {
	key := registrytest.Key(t).ID()
	id := key.PeerID()
	a := "/ip4/192.0.2.1/tcp/443/wss/p2p/" + id
	spelled := "/ip4/192.0.2.1/tcp/443/wss/p2p/" + key.String() // the same
	got, err := bootstrap.Resolve(t.Context(), a, a, spelled, "/ip4/192.0.2.1/tcp/443", "nonsense")
	want(t, got, err, a)
	for _, s := range []string{"", "nonsense", "/ip4/192.0.2.1/tcp/443", "/p2p/" + id, "http://example.org", "https://", "https://user@example.org", "https://example.org/path", "https://example.org?q", strings.Repeat("x", 10000)} {
		got, err := bootstrap.Resolve(t.Context(), s)
		want(t, got, err, "it is neither")
		if !errors.Is(err, bootstrap.ErrSource) {
			t.Errorf("%.50q: %v", s, err)
		}
		want(t, nil, bootstrap.Check(s), "it is neither")
	}
	for _, s := range []string{a, spelled, "https://example.org", "https://example.org:8443/", "/dnsaddr/example.org", "/dnsaddr/example.org/p2p/" + id} {
		if err := bootstrap.Check(s); err != nil {
			t.Error(err)
		}
	}
	if got, err := bootstrap.Resolve(t.Context()); got != nil || err != nil {
		t.Errorf("of nothing: %v, %v", got, err)
	}
}

func TestWellKnown(t *testing.T) {
	k, other := registrytest.Key(t), registrytest.Key(t)
	now := time.Now()
	var current *registry.Record
	var raw http.HandlerFunc
	served := bootstrap.Handler(func() *registry.Record { return current })
	mux := http.NewServeMux()
	mux.HandleFunc(bootstrap.WellKnown, func(w http.ResponseWriter, r *http.Request) {
		if raw != nil {
			raw(w, r)
			return
		}
		served.ServeHTTP(w, r)
	})
	s := httptest.NewTLSServer(mux)
	defer s.Close()
	plain := httptest.NewServer(served)
	defer plain.Close()
	r := &bootstrap.Resolver{Client: s.Client(), Now: func() time.Time { return now }}
	defer s.Client().CloseIdleConnections()
	get := func(addrs ...string) {
		t.Helper()
		got, err := r.Resolve(t.Context(), s.URL)
		want(t, got, err, addrs...)
	}
	get("404 Not Found")
	id := k.ID().PeerID()
	circuit := "/ip4/192.0.2.9/tcp/443/wss/p2p/" + other.ID().PeerID() + "/p2p-circuit"
	rec := registrytest.Draft(t, now)
	rec.Addrs = append(rec.Addrs, registrytest.Addr(t, circuit), registrytest.Addr(t, "/ip4/192.0.2.5/tcp/1/p2p/"+id), registrytest.Addr(t, "/ip4/192.0.2.5/tcp/1/p2p/"+other.ID().PeerID()))
	if err := rec.Sign(k); err != nil {
		t.Fatal(err)
	}
	current = rec
	get("/ip4/192.0.2.1/tcp/443/wss/p2p/"+id, "/ip6/2001:db8::1/tcp/4001/p2p/"+id, circuit+"/p2p/"+id, "/ip4/192.0.2.5/tcp/1/p2p/"+id)
	if resp, err := s.Client().Post(s.URL+bootstrap.WellKnown, "", nil); err != nil || resp.StatusCode != http.StatusNotFound {
		t.Errorf("POST: %v, %v", resp, err)
	} else {
		resp.Body.Close()
	}
	current = registrytest.Revocation(t, k, now)
	get("it names no node's address")
	current = rec
	now = now.Add(registry.MaxLife)
	get("expired")
	now = now.Add(-registry.MaxLife)
	for text, h := range map[string]http.HandlerFunc{
		"malformed": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") },
		"too large": func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 1<<20)) },
		"302 Found": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, plain.URL, http.StatusFound) },
		"301": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path, http.StatusMovedPermanently)
		},
		"500":           func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"not signed by": func(w http.ResponseWriter, _ *http.Request) { b := rec.Marshal(); b[len(b)-1] ^= 1; w.Write(b) },
		"unexpected EOF": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			w.Write([]byte("x"))
		},
	} {
		raw = h
		get(text)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Resolve(ended, s.URL); !errors.Is(err, context.Canceled) {
		t.Errorf("when ctx has ended: %v", err)
	}
}

func TestDNSAddr(t *testing.T) {
	one, two := registrytest.Key(t).ID().PeerID(), registrytest.Key(t).ID().PeerID()
	a, b := "/ip4/192.0.2.1/tcp/443/wss/p2p/"+one, "/ip6/2001:db8::1/tcp/4001/p2p/"+two
	zone := map[string][]string{
		"plain.example": {"v=spf1 -all", "dnsaddr=" + a, "dnsaddr=nonsense", "dnsaddr=/ip4/192.0.2.1/tcp/1", "dnsaddr=" + b, "dnsaddr=" + a},
		"two.example":   {"dnsaddr=/dnsaddr/plain.example", "dnsaddr=/dnsaddr/nowhere.example"},
		"loop.example":  {"dnsaddr=/dnsaddr/loop.example", "dnsaddr=" + b},
		"empty.example": {"hello"},
	}
	var many, wide []string
	for i := range 200 {
		many = append(many, fmt.Sprintf("dnsaddr=/ip4/10.0.%d.%d/tcp/1/p2p/%s", i/250, i%250, one))
		wide = append(wide, fmt.Sprintf("dnsaddr=/dnsaddr/w%d.example", i))
		zone[fmt.Sprintf("w%d.example", i)] = []string{"nothing"}
	}
	zone["many.example"], zone["wide.example"] = many, wide
	asked := 0
	r := &bootstrap.Resolver{LookupTXT: func(_ context.Context, name string) ([]string, error) {
		asked++
		if texts, ok := zone[strings.TrimPrefix(name, "_dnsaddr.")]; ok && strings.HasPrefix(name, "_dnsaddr.") {
			return texts, nil
		}
		return nil, errors.New("no such name")
	}}
	for _, tt := range []struct {
		source string
		want   []string
	}{
		{"/dnsaddr/plain.example", []string{a, b}},
		{"/dnsaddr/plain.example/p2p/" + two, []string{b}},
		{"/dnsaddr/two.example", []string{a, b}},
		{"/dnsaddr/loop.example", []string{b}},
		{"/dnsaddr/empty.example", []string{"it names no node's address"}},
		{"/dnsaddr/nowhere.example", []string{"no such name"}},
		{"/dnsaddr/wide.example", []string{"lead to others"}},
	} {
		asked = 0
		got, err := r.Resolve(t.Context(), tt.source)
		want(t, got, err, tt.want...)
		if asked > 32 {
			t.Errorf("%s: %d names were asked", tt.source, asked)
		}
	}
	if got, err := r.Resolve(t.Context(), "/dnsaddr/many.example"); err != nil || len(got) != bootstrap.MaxAddrs {
		t.Errorf("%d addresses, %v", len(got), err)
	}
}

// A source that does not answer takes the time of no other.
func TestSilentSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := "/ip4/192.0.2.1/tcp/443/wss/p2p/" + registrytest.Key(t).ID().PeerID()
		r := &bootstrap.Resolver{LookupTXT: func(ctx context.Context, name string) ([]string, error) {
			if name == "_dnsaddr.silent.example" {
				<-ctx.Done()
			}
			return []string{"dnsaddr=" + a}, ctx.Err()
		}}
		got, err := r.Resolve(t.Context(), "/dnsaddr/silent.example", "/dnsaddr/plain.example")
		want(t, got, err, a)
	})
}

func ExampleHandler() {
	var current *registry.Record // what the node published last
	http.Handle(bootstrap.WellKnown, bootstrap.Handler(func() *registry.Record { return current }))
}
