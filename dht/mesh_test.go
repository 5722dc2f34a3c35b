package dht_test

import (
	"context"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/dht"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/splitter"
)

// A real node, on real sockets, whose directory is a DHT.
type realNode struct {
	*mesh.Node
	dht *dht.DHT
}

// newNode makes the i-th node, in a /24 of its own, that knows the address of one other.
func newNode(t testing.TB, i int, by *realNode) *realNode {
	t.Helper()
	return changedNode(t, i, by, func(*mesh.Node) {})
}

func changedNode(t testing.TB, i int, by *realNode, change func(*mesh.Node)) *realNode {
	t.Helper()
	var cfg dht.Config
	n := &mesh.Node{Capabilities: []string{registry.CapDHTServer}}
	listen, err := multiaddr.NewMultiaddr(fmt.Sprintf("/ip4/127.1.%d.1/tcp/0/ws", i))
	if err != nil {
		t.Fatal(err)
	}
	n.ListenAddrs = []multiaddr.Multiaddr{listen}
	if by != nil {
		cfg.Bootstrap, n.Bootstrap = []identity.ID{by.ID()}, by.Addrs()
	}
	change(n)
	cfg.Client = len(n.ListenAddrs) == 0
	r := &realNode{n, dht.New(cfg)}
	n.Directory = r.dht
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.dht.Start(n); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *realNode) close() {
	r.dht.Close()
	r.Node.Close()
}

func (r *realNode) echo(t testing.TB) {
	t.Helper()
	l, err := r.Listen("echo")
	if err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the node
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the conn
				io.Copy(c, c)
				c.Close()
			}()
		}
	}()
}

// findable waits until the record that a node published is in the DHT.
func (r *realNode) findable(t testing.TB, by *realNode) {
	t.Helper()
	for again := time.NewTicker(50 * time.Millisecond); ; <-again.C {
		if res, err := by.dht.Find(t.Context(), r.ID()); err == nil && len(res.Records) > 0 {
			again.Stop()
			return
		} else if t.Context().Err() != nil {
			t.Fatalf("%v: not found: %v", r.ID(), err)
		}
	}
}

func dialEcho(ctx context.Context, from *realNode, to identity.ID) error {
	c, err := from.Dial(ctx, to.String()+":echo")
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write([]byte("hello")); err != nil {
		return err
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "hello" {
		return fmt.Errorf("read %q, %w", got, err)
	}
	return nil
}

// Fifty real nodes: one that has just started and knows one of them dials any by its ID alone, also when 20 are gone.
func TestFiftyNodes(t *testing.T) {
	if testing.Short() {
		t.Skip("fifty nodes and some 3,000 handshakes")
	}
	const n, killed = dht.NodesAtOnce, dht.NodesAtOnce * 2 / 5
	nodes := []*realNode{newNode(t, 0, nil)}
	var closing sync.WaitGroup
	defer closing.Wait()
	for i := 1; i < n; i++ {
		nodes = append(nodes, newNode(t, i, nodes[0]))
	}
	for _, r := range nodes {
		defer closing.Go(r.close)
		r.echo(t)
	}
	for _, r := range nodes {
		r.findable(t, nodes[0])
	}
	for round, alive := range [][]*realNode{nodes, append(nodes[:1:1], nodes[1+killed:]...)} {
		if round == 1 {
			for _, r := range nodes[1 : 1+killed] {
				closing.Go(r.close)
			}
			closing.Wait()
		}
		for i := range 3 {
			cold := newNode(t, 200+3*round+i, nodes[0])
			to := alive[len(alive)/2+i]
			start := time.Now()
			err := dialEcho(t.Context(), cold, to.ID())
			took := time.Since(start)
			if err != nil {
				t.Errorf("round %d: %v", round, err)
			}
			res, err := cold.dht.Find(t.Context(), alive[len(alive)/3+i].ID())
			if err != nil || len(res.Records) != 1 {
				t.Errorf("round %d: %+v, %v", round, res, err)
				continue
			}
			t.Logf("round %d: a cold node's Dial by ID took %v; its next lookup %v, %d hops, %d asked, %d failed", round, took.Round(time.Millisecond), res.Latency.Round(time.Millisecond), res.Hops, res.Asked, res.Failed)
			closing.Go(cold.close)
		}
	}
}

// A node that knows one other of a DHT, which is no relay, finds relays there, is reserved at them, and another such node
// reaches it over them.
func TestRelaysOfTheDHT(t *testing.T) {
	first := newNode(t, 0, nil)
	defer first.close()
	for i := 1; i <= 4; i++ {
		r := realRelay(t, i, first)
		defer r.close()
		r.findable(t, first)
	}
	hidden := hiddenNode(t, first)
	defer hidden.close()
	hidden.echo(t)
	if err := hidden.WaitReserved(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	hidden.findable(t, first)
	other := hiddenNode(t, first)
	defer other.close()
	for { // the record may be one of before the last reservation
		d := &mesh.Dialer{Node: other.Node, RelayedOnly: true, Split: splitter.Policy{MinPaths: 2, FailFast: true}}
		c, err := d.Dial(t.Context(), hidden.ID().String()+":echo")
		if err == nil {
			c.Close()
			return
		}
		if t.Context().Err() != nil {
			t.Fatal(err)
		}
	}
}

// realRelay is newNode of one that relays.
func realRelay(t testing.TB, i int, by *realNode) *realNode {
	t.Helper()
	return changedNode(t, i, by, func(n *mesh.Node) { n.Relay = &mesh.RelayConfig{} })
}

// hiddenNode is one that listens nowhere.
func hiddenNode(t testing.TB, by *realNode) *realNode {
	t.Helper()
	return changedNode(t, 0, by, func(n *mesh.Node) { n.ListenAddrs, n.Capabilities = nil, nil })
}
