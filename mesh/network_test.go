package mesh_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/multiformats/go-multiaddr"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/registry"
	directory "github.com/splitmesh/splitmesh/registry/memory"
	"github.com/splitmesh/splitmesh/splitter"
	"github.com/splitmesh/splitmesh/transport"
	"github.com/splitmesh/splitmesh/transport/memory"
)

// echo serves an echo on l until it is closed.
func echo(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			io.Copy(c, c)
			c.Close()
		}()
	}
}

// ask sends a question over a new conn and reads it back.
func ask(ctx context.Context, d *mesh.Dialer, to string) error {
	c, err := d.Dial(ctx, to)
	if err != nil {
		return err
	}
	defer c.Close()
	const question = "are you there?"
	if _, err := io.WriteString(c, question); err != nil {
		return err
	}
	got := make([]byte, len(question))
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if string(got) != question {
		return errors.New("the echo is another")
	}
	return nil
}

// TestNetworkKey: who lacks the key is nobody, directly and by relay; the relay,
// which lacks it too, still carries; and a relay's own services need the key.
func TestNetworkKey(t *testing.T) {
	secret, wrong := &[32]byte{1}, &[32]byte{2}
	relay := start(t, &mesh.Node{Identity: key(t, 50), ListenAddrs: []multiaddr.Multiaddr{addr(t, overTCP)}, Relay: &mesh.RelayConfig{}, NetworkKey: secret})
	go echo(listen(t, relay, "echo", 0))
	server := start(t, &mesh.Node{Identity: key(t, 51), Bootstrap: relay.Addrs(), NetworkKey: secret})
	go echo(listen(t, server, "echo", 1))
	overRelay := func(n *mesh.Node) *mesh.Dialer {
		return &mesh.Dialer{Node: n, RelayedOnly: true, Split: splitter.Policy{MinPaths: 1}}
	}
	for _, tt := range []struct {
		name string
		key  *[32]byte
		ok   bool
	}{{"right", secret, true}, {"wrong", wrong, false}, {"none", nil, false}} {
		client := start(t, &mesh.Node{Bootstrap: relay.Addrs(), NetworkKey: tt.key})
		if err := ask(within(t), overRelay(client), server.ID().String()+":echo"); (err == nil) != tt.ok {
			t.Errorf("%s key, by relay: %v", tt.name, err)
		}
		if err := ask(within(t), &mesh.Dialer{Node: client}, relay.ID().String()+":echo"); (err == nil) != tt.ok {
			t.Errorf("%s key, the relay's own service: %v", tt.name, err)
		}
	}
}

// A watched directory tells of what is published.
type watched struct {
	registry.Directory
	published chan *registry.Record
}

func (d *watched) Publish(ctx context.Context, r *registry.Record) error {
	err := d.Directory.Publish(ctx, r)
	if err == nil {
		d.published <- r
	}
	return err
}

// TestDirectory: nodes that know only a directory find each other, first by
// address, then by the relays where the peer is reserved.
func TestDirectory(t *testing.T) {
	dir := &watched{directory.New(), make(chan *registry.Record, 100)}
	_, boot := relays(t, 3, overTCP, mesh.RelayConfig{})
	public := start(t, &mesh.Node{Directory: dir, ListenAddrs: []multiaddr.Multiaddr{addr(t, overTCP)}})
	go echo(listen(t, public, "echo", 0))
	hidden := start(t, &mesh.Node{Directory: dir, Bootstrap: boot})
	go echo(listen(t, hidden, "echo", 3))
	client := start(t, &mesh.Node{Directory: dir})
	want := map[identity.ID]int{public.ID(): 1, hidden.ID(): 3} // addresses, once all is published
	for len(want) > 0 {
		if r := <-dir.published; len(r.Addrs) == want[r.ID] {
			delete(want, r.ID)
		}
	}
	for name, d := range map[string]*mesh.Dialer{"public": {Node: client}, "hidden": {Node: client, RelayedOnly: true, Split: splitter.Policy{MinPaths: 3}}} {
		to := map[string]*mesh.Node{"public": public, "hidden": hidden}[name]
		if err := ask(within(t), d, to.ID().String()+":echo"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := ask(within(t), &mesh.Dialer{Node: client}, key(t, 77).ID().String()+":echo"); !errors.Is(err, mesh.ErrNoRoute) {
		t.Error(err)
	}
}

// standings is an authority that a test writes.
type standings map[identity.ID]registry.Standing

var errAuthority = errors.New("the authority is out of reach")

func (s standings) Standing(_ context.Context, id identity.ID) (registry.Standing, error) {
	st, ok := s[id]
	if !ok {
		return registry.Unknown, errAuthority
	}
	return st, nil
}

// TestAuthority: only those in good standing get in, whichever end asks, and an
// authority that does not answer refuses.
func TestAuthority(t *testing.T) {
	good, revoked, unknown := key(t, 60), key(t, 61), key(t, 62)
	auth := standings{good.ID(): registry.Active, revoked.ID(): registry.Revoked}
	server := start(t, &mesh.Node{Identity: key(t, 63), ListenAddrs: []multiaddr.Multiaddr{addr(t, overTCP)}, Authority: auth})
	go echo(listen(t, server, "echo", 0))
	for _, k := range []*identity.Key{good, revoked, unknown} {
		client := start(t, &mesh.Node{Identity: k, Bootstrap: server.Addrs()})
		if err := ask(within(t), &mesh.Dialer{Node: client}, server.ID().String()+":echo"); (err == nil) != (k == good) {
			t.Errorf("%v: %v", auth[k.ID()], err)
		}
	}
	suspicious := start(t, &mesh.Node{Bootstrap: server.Addrs(), Authority: auth})
	if err := ask(within(t), &mesh.Dialer{Node: suspicious}, server.ID().String()+":echo"); !errors.Is(err, errAuthority) {
		t.Error(err)
	}
}

// TestPeerThatCameBack: a peer that starts anew with the same key ends what is
// left of its former self at once.
func TestPeerThatCameBack(t *testing.T) {
	server := start(t, &mesh.Node{Identity: key(t, 1), ListenAddrs: []multiaddr.Multiaddr{addr(t, overTCP)}})
	l := listen(t, server, "x", 0)
	first := start(t, &mesh.Node{Identity: key(t, 2), Bootstrap: server.Addrs()})
	_, old := connect(t, &mesh.Dialer{Node: first}, l)
	second := start(t, &mesh.Node{Identity: key(t, 2), Bootstrap: server.Addrs()})
	_, fresh := connect(t, &mesh.Dialer{Node: second}, l)
	if _, err := old.Read(make([]byte, 1)); !errors.Is(err, mesh.ErrPeerGone) {
		t.Errorf("the former self's conn: %v", err)
	}
	if len(fresh.Paths()) != 1 || len(server.Stats().Sessions) != 1 {
		t.Errorf("%+v", server.Stats())
	}
}

// TestThousandsOfNodes brings up a ring in which each node dials the next.
func TestThousandsOfNodes(t *testing.T) {
	const count = 2000
	wire := memory.NewNetwork(memory.Options{})
	defer wire.Close()
	nodes := make([]*mesh.Node, count)
	for i := range nodes {
		nodes[i] = &mesh.Node{
			Identity:    key(t, 10_000+i),
			ListenAddrs: []multiaddr.Multiaddr{addr(t, "/memory/0")},
			Transports:  []transport.Transport{wire.Transport()},
		}
		if i > 0 {
			nodes[i].Bootstrap = nodes[i-1].Addrs()
		}
		start(t, nodes[i])
		go echo(listen(t, nodes[i], "echo", 0))
	}
	var wg sync.WaitGroup
	atOnce := make(chan struct{}, 32) // a handshake may take 10 s, and there are few cores
	for i := 1; i < count; i++ {
		atOnce <- struct{}{}
		wg.Go(func() {
			defer func() { <-atOnce }()
			if err := ask(within(t), &mesh.Dialer{Node: nodes[i]}, nodes[i-1].ID().String()+":echo"); err != nil {
				t.Errorf("node %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	for _, n := range nodes {
		wg.Go(func() { n.Close() })
	}
	wg.Wait()
}

// TestCloseAtAnyMoment closes nodes while they start, dial and are dialled.
func TestCloseAtAnyMoment(t *testing.T) {
	server := start(t, &mesh.Node{Identity: key(t, 1), ListenAddrs: []multiaddr.Multiaddr{addr(t, overTCP)}})
	go echo(listen(t, server, "echo", 0))
	for i := range 50 {
		n := &mesh.Node{Identity: key(t, 100+i), Bootstrap: server.Addrs(), ListenAddrs: []multiaddr.Multiaddr{addr(t, overTCP)}}
		var wg sync.WaitGroup
		wg.Go(func() { n.Start(context.Background()) })
		wg.Go(func() { ask(within(t), &mesh.Dialer{Node: n}, server.ID().String()+":echo") })
		wg.Go(func() { n.Listen("x") })
		wg.Go(func() { n.Close() })
		wg.Wait()
		n.Close()
		if _, err := n.Dial(within(t), server.ID().String()+":echo"); !errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
	}
}
