package memory_test

import (
	"context"
	"net"
	"runtime"
	"sync"
	"testing"

	"github.com/splitmesh/splitmesh/transport"
	"github.com/splitmesh/splitmesh/transport/memory"
)

// mesh is nodes that listen, and connections between them.
type mesh struct {
	network *memory.Network
	mu      sync.Mutex
	conns   []net.Conn
}

func (m *mesh) keep(c net.Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.conns = append(m.conns, c)
}

func newMesh(tb testing.TB, nodes, conns int) *mesh {
	m := &mesh{network: memory.NewNetwork(memory.Options{}), conns: make([]net.Conn, 0, 2*conns)}
	var arrived sync.WaitGroup
	arrived.Add(conns)
	listeners := make([]transport.Listener, nodes)
	for i := range listeners {
		var err error
		listeners[i], err = m.network.Transport().Listen(context.Background(), anywhere, func([]byte) func(net.Conn) {
			return func(c net.Conn) { m.keep(c); arrived.Done() }
		})
		if err != nil {
			tb.Fatal(err)
		}
	}
	for i := range conns {
		c, err := m.network.Transport().Dial(context.Background(), listeners[i%nodes].Multiaddr(), []byte("opening"))
		if err != nil {
			tb.Fatal(err)
		}
		m.keep(c)
	}
	arrived.Wait()
	return m
}

// bytesPerConn is the heap that a connection takes, both ends together.
func bytesPerConn(tb testing.TB, nodes, conns int) (bytes uint64, m *mesh) {
	empty := newMesh(tb, nodes, 0)
	defer empty.network.Close()
	before := heap()
	m = newMesh(tb, nodes, conns)
	after := heap()
	runtime.KeepAlive(empty)
	return (after - before) / uint64(conns), m
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

func TestThousandsOfNodes(t *testing.T) {
	before := runtime.NumGoroutine()
	bytes, m := bytesPerConn(t, 5000, 10_000)
	defer m.network.Close()
	// Listeners included, which is what a node costs here.
	if bytes >= 2<<10 {
		t.Errorf("an idle connection takes %d bytes, want < 2048", bytes)
	}
	if got := len(m.network.Conns()); got != 10_000 {
		t.Errorf("%d live connections", got)
	}
	// The last arrivals may be about to end.
	for runtime.NumGoroutine() > before {
		runtime.Gosched()
	}
	mustReach(t, m.conns[0], other(m, m.conns[0]))
}

func other(m *mesh, c net.Conn) net.Conn {
	for _, o := range m.conns {
		if o.RemoteAddr() == c.LocalAddr() {
			return o
		}
	}
	return nil
}

// Connections that ended are forgotten.
func TestEndedConnsAreForgotten(t *testing.T) {
	network := memory.NewNetwork(memory.Options{})
	defer network.Close()
	admit, conns := queue(1)
	l := listen(t, network, "a", admit)
	dial := func() {
		c, err := network.Transport().Dial(t.Context(), l.Multiaddr(), nil)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		(<-conns).Close()
	}
	dial()
	before := heap()
	for range 20_000 {
		dial()
	}
	if after := heap(); after > before+1<<20 {
		t.Errorf("20000 connections that ended hold %d bytes", after-before)
	}
}

func BenchmarkIdleConn(b *testing.B) {
	var bytes uint64
	for b.Loop() {
		n, m := bytesPerConn(b, 1, 10_000)
		bytes = n
		m.network.Close()
	}
	b.ReportMetric(float64(bytes), "B/conn")
}

func BenchmarkDial(b *testing.B) {
	network := memory.NewNetwork(memory.Options{})
	defer network.Close()
	admit, conns := queue(1)
	l, err := network.Transport().Listen(b.Context(), anywhere, admit)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		c, err := network.Transport().Dial(b.Context(), l.Multiaddr(), []byte("opening"))
		if err != nil {
			b.Fatal(err)
		}
		c.Close()
		(<-conns).Close()
	}
}
