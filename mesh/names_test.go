package mesh_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/registry/memory"
)

// petnames is a Resolver of one's own.
type petnames map[string]identity.ID

func (p petnames) Resolve(_ context.Context, name string) (identity.ID, error) {
	if name == "broken" {
		return identity.ID{}, errors.New("the file of names is damaged")
	}
	if id, ok := p[name]; ok {
		return id, nil
	}
	return identity.ID{}, fmt.Errorf("%w: no petname %q", registry.ErrNotFound, name)
}

func TestDialByName(t *testing.T) {
	dir := memory.New()
	var listeners []string
	peers := make([]*mesh.Node, 2)
	for i, name := range []string{"kitchen", "cellar"} {
		n := &mesh.Node{Identity: key(t, 10+i), Directory: dir, Name: name, ListenAddrs: []multiaddr.Multiaddr{addr(t, overWS)}}
		start(t, n)
		l := listen(t, n, "echo", 0)
		go echo(l)
		t.Cleanup(func() { l.Close() })
		listeners = append(listeners, l.Addr().String())
		peers[i] = n
		for t.Context().Err() == nil { // it publishes in the background
			if _, err := dir.Resolve(t.Context(), name); err == nil {
				break
			}
			runtime.Gosched()
		}
	}
	client := &mesh.Node{Identity: key(t, 20), Directory: dir, Names: petnames{"cellar": peers[0].ID(), "fridge": peers[1].ID()}}
	start(t, client)
	for _, tt := range []struct {
		addr string
		want string // whom it means; or a part of the error
	}{
		{"kitchen.mesh:echo", listeners[0]},
		{"cellar.mesh:echo", listeners[0]}, // one's own names come first
		{"fridge.mesh:echo", listeners[1]},
		{"attic.mesh:echo", "nobody is called"},
		{"broken.mesh:echo", "damaged"},
		{"Kitchen.mesh:echo", "a name has"},
		{".mesh:echo", "a name has"},
		{peers[1].ID().String() + ".mesh:echo", "a name has"}, // a name never looks like an ID
		{"kitchen.mesh", "peer:service"},
		{"kitchen.mesh:", "a service name has"},
		{"kitchen:echo", "peer"},
		{strings.Repeat("x", 10000) + ".mesh:echo", "a name has"},
	} {
		c, err := client.Dial(t.Context(), tt.addr)
		if err != nil {
			var ae *mesh.AddrError
			if !strings.Contains(err.Error(), tt.want) || !errors.As(err, &ae) || len(err.Error()) > 600 {
				t.Errorf("%.40q: %v; want %q", tt.addr, err, tt.want)
			}
			continue
		}
		if got := c.RemoteAddr().String(); got != tt.want {
			t.Errorf("%.40q is %s; want %s", tt.addr, got, tt.want)
		}
		c.Close()
	}
	nameless := &mesh.Node{Identity: key(t, 21)}
	start(t, nameless)
	if _, err := nameless.Dial(t.Context(), "kitchen.mesh:echo"); !errors.Is(err, registry.ErrNotFound) || !strings.Contains(err.Error(), "Node.Names") {
		t.Errorf("without names: %v", err)
	}
	if _, err := new(mesh.Dialer).Dial(t.Context(), "kitchen.mesh:echo"); err == nil {
		t.Error("without a node: no error")
	}
}

// What a node says of itself is signed, of now, and newer each time.
func TestRecord(t *testing.T) {
	n := &mesh.Node{
		Identity: key(t, 30), ListenAddrs: []multiaddr.Multiaddr{addr(t, overWS)}, Relay: &mesh.RelayConfig{},
		Operator: "ACME", Network: "AS64500", Name: "attic", Capabilities: []string{registry.CapDHTServer},
	}
	start(t, n)
	first, err := n.Record()
	if err != nil {
		t.Fatal(err)
	}
	second, err := n.Record()
	if err != nil || !second.Newer(first) {
		t.Errorf("%v, %v", second, err)
	}
	if first.ID != n.ID() || len(first.Addrs) != 1 || first.Operator != "ACME" || first.Network != "AS64500" || first.Name != "attic" ||
		!first.Has(registry.CapDHTServer) || !first.Has(registry.CapRelay) {
		t.Errorf("%+v", first)
	}
	wrong := &mesh.Node{Identity: key(t, 31), Name: "no name"}
	t.Cleanup(func() { wrong.Close() })
	if _, err := wrong.Record(); !errors.Is(err, registry.ErrMalformed) {
		t.Errorf("a name that is none: %v", err)
	}
}
