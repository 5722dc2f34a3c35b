package dht

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"
	"go.uber.org/goleak"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A fabric is a network in which whoever knows where a node is reaches it.
type fabric struct {
	now func() time.Time

	mu    sync.Mutex
	nodes map[identity.ID]*fnode
	split bool     // those of another side are not reached
	load  *machine // nil: nothing takes time
}

func newFabric(now func() time.Time) *fabric {
	return &fabric{now: now, nodes: make(map[identity.ID]*fnode)}
}

// An fnode is a node: it resolves by its DHT, as a mesh's does by its Directory.
type fnode struct {
	*DHT
	f    *fabric
	id   identity.ID
	key  *identity.Key // nil: of somebody else
	addr string
	side int

	mu     sync.Mutex
	accept chan net.Conn // nil: does not listen
	down   bool
	hangs  bool                // who dials it waits for as long as it wants to
	dialed map[identity.ID]int // by this node
	blocks []identity.ID
}

func (n *fnode) Block(id identity.ID, _ time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.blocks = append(n.blocks, id)
}

type pipeConn struct {
	net.Conn
	remote string
}

type pipeAddr string

func (a pipeAddr) Network() string { return "fabric" }
func (a pipeAddr) String() string  { return string(a) }

func (c pipeConn) RemoteAddr() net.Addr { return pipeAddr(c.remote) }

var errDown = errors.New("the node is down")

func (n *fnode) ID() identity.ID { return n.id }

func (n *fnode) Dial(ctx context.Context, addr string) (net.Conn, error) {
	id, err := identity.ParseID(addr[:len(addr)-len(":"+Service)])
	if err != nil {
		return nil, err
	}
	known := false
	for _, b := range n.cfg.Bootstrap {
		known = known || b == id
	}
	if _, err := n.Lookup(ctx, id); err != nil && !known {
		return nil, fmt.Errorf("no route: %w", err)
	}
	n.mu.Lock()
	if n.dialed == nil {
		n.dialed = make(map[identity.ID]int)
	}
	n.dialed[id]++
	n.mu.Unlock()
	n.f.mu.Lock()
	to, split, load := n.f.nodes[id], n.f.split, n.f.load
	n.f.mu.Unlock()
	if to == nil || split && to.side != n.side {
		return nil, errDown
	}
	to.mu.Lock()
	accept, down, hangs := to.accept, to.down, to.hangs
	to.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if accept == nil || down {
		return nil, errDown
	}
	if load != nil {
		if err := load.work(ctx); err != nil {
			return nil, err
		}
	}
	here, there := net.Pipe()
	select {
	case accept <- pipeConn{there, n.ID().String()}:
		return pipeConn{here, addr}, nil
	case <-ctx.Done():
		here.Close()
		return nil, ctx.Err()
	}
}

type flistener struct {
	n    *fnode
	in   chan net.Conn
	done chan struct{}
	once sync.Once
}

func (n *fnode) Listen(service string) (net.Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.accept != nil {
		return nil, errors.New("taken")
	}
	n.accept = make(chan net.Conn)
	return &flistener{n: n, in: n.accept, done: make(chan struct{})}, nil
}

func (l *flistener) Accept() (net.Conn, error) {
	select {
	case c := <-l.in:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *flistener) Close() error {
	l.once.Do(func() {
		l.n.mu.Lock()
		defer l.n.mu.Unlock()
		l.n.accept = nil
		close(l.done)
	})
	return nil
}

func (l *flistener) Addr() net.Addr { return pipeAddr("") }

// node adds one that answers, each in a network of its own.
func (f *fabric) node(t testing.TB, cfg Config) *fnode {
	t.Helper()
	k, err := identity.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	n := f.as(t, k.ID(), cfg)
	n.key = k
	if !cfg.Client {
		n.publishSelf(t)
	}
	return n
}

// as adds one of that ID, which has no record yet.
func (f *fabric) as(t testing.TB, id identity.ID, cfg Config) *fnode {
	t.Helper()
	cfg.Now, cfg.Rate = f.now, cmp.Or(cfg.Rate, 100_000)
	f.mu.Lock()
	n := &fnode{DHT: New(cfg), f: f, id: id, addr: fmt.Sprintf("/ip4/11.0.%d.1/tcp/443", len(f.nodes))}
	f.nodes[id] = n
	f.mu.Unlock()
	if err := n.Start(n); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

func (n *fnode) record(t testing.TB) *registry.Record {
	t.Helper()
	a, err := multiaddr.NewMultiaddr(n.addr)
	if err != nil {
		t.Fatal(err)
	}
	now := n.f.now()
	r := &registry.Record{
		Sequence: now.UnixMilli(), Expires: now.Add(registry.MaxLife).UnixMilli(),
		Addrs: []multiaddr.Multiaddr{a}, Capabilities: []string{registry.CapDHTServer},
	}
	if err := r.Sign(n.key); err != nil {
		t.Fatal(err)
	}
	return r
}

func (n *fnode) publishSelf(t testing.TB) {
	t.Helper()
	if err := n.Publish(t.Context(), n.record(t)); err != nil {
		t.Fatalf("publishing a node's own record: %v", err)
	}
}

func (n *fnode) dials(id identity.ID) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dialed[id]
}

func (n *fnode) set(down bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down = down
}

// cluster makes as many nodes that know the first.
func (f *fabric) cluster(t testing.TB, n int) []*fnode {
	t.Helper()
	if underRace {
		// In a bubble of synctest, timers whose time is over before somebody receives from them run in whoever does then.
		// Go's race detector has one state for all of them, up to Go 1.26: two at once corrupt it, and it crashes.
		procs := runtime.GOMAXPROCS(1)
		t.Cleanup(func() { runtime.GOMAXPROCS(procs) }) // after those of the nodes
	}
	nodes := []*fnode{f.node(t, Config{})}
	for range n - 1 {
		nodes = append(nodes, f.node(t, Config{Bootstrap: []identity.ID{nodes[0].ID()}}))
	}
	return nodes
}
