//go:build !js

package websocket

import (
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/internal/buf"
)

// raceEnabled says that pools lose things on purpose.
var raceEnabled bool

// pairs returns n connections over sockets, both ends of each.
func pairs(t *testing.T, n int) (clients, servers []*conn) {
	t.Helper()
	delivered := make(chan net.Conn, 1)
	l, err := (&Transport{}).Listen(t.Context(), multiaddr.StringCast("/ip4/127.0.0.1/tcp/0/ws"),
		func([]byte) func(net.Conn) { return func(c net.Conn) { delivered <- c } })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	for range n {
		c, err := (&Transport{}).Dial(t.Context(), l.Multiaddr(), nil)
		if err != nil {
			t.Fatal(err)
		}
		s := <-delivered
		t.Cleanup(func() { c.Close(); s.Close() })
		clients, servers = append(clients, c.(*conn)), append(servers, s.(*conn))
	}
	return clients, servers
}

// In steady state a message costs no allocation, whoever sends it, however it is
// written and read.
func TestMessagesAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("under the race detector, pools lose things on purpose")
	}
	clients, servers := pairs(t, 1)
	for name, ends := range map[string][2]*conn{"up": {clients[0], servers[0]}, "down": {servers[0], clients[0]}} {
		from, to := ends[0], ends[1]
		for _, size := range []int{1, 300, 5000, 32 << 10, 90000} {
			p := make([]byte, size)
			check := func(what string, f func()) {
				t.Helper()
				if n := testing.AllocsPerRun(200, f); n > 0 {
					t.Errorf("%s, %s of %d: %v allocations", name, what, size, n)
				}
			}
			check("Write and Read", func() {
				if _, err := from.Write(p); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(to, p); err != nil {
					t.Fatal(err)
				}
			})
			check("WriteBuf and ReadBuf", func() {
				if err := from.WriteBuf(buf.Get(from.Headroom()+size), false); err != nil {
					t.Fatal(err)
				}
				for left := size; left > 0; {
					got, owner, err := to.ReadBuf()
					if err != nil {
						t.Fatal(err)
					}
					left -= len(got)
					owner.Release()
				}
			})
		}
	}
}

// A connection on which a Read waits has no goroutine of its own, and no buffer,
// however much came before.
func TestIdleHoldsLittle(t *testing.T) {
	const n, allowed = 200, 8 << 10
	inUse := func() int {
		for range 6 { // pools empty in two, and stacks shrink
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc + m.StackInuse)
	}
	pairs(t, 1) // so that what is made once is made
	before, goroutines := inUse(), runtime.NumGoroutine()
	clients, servers := pairs(t, n)
	got := make(chan int)
	for i, c := range clients {
		for _, ends := range [][2]*conn{{c, servers[i]}, {servers[i], c}} {
			go func() { // ends with the connection
				for {
					p, owner, err := ends[1].ReadBuf()
					if err != nil {
						return
					}
					owner.Release()
					got <- len(p)
				}
			}()
			if _, err := ends[0].Write(make([]byte, 90000)); err != nil {
				t.Fatal(err)
			}
			for left := 90000; left > 0; {
				left -= <-got
			}
		}
	}
	// Besides, there is the new listener's. Those of dials and arrivals go when they
	// get to it, and so do readers back to waiting.
	const most = 2*n + 1
	var more, held int
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); runtime.Gosched() {
		if more = runtime.NumGoroutine() - goroutines; more > most {
			continue
		}
		if held = (inUse() - before) / (2 * n); held <= allowed || raceEnabled {
			break
		}
	}
	t.Logf("%d bytes a connection and its reader's stack", held)
	if more > most || held > allowed && !raceEnabled {
		t.Errorf("%d goroutines for %d connections and as many readers; %d bytes each, want %d at most", more, 2*n, held, allowed)
	}
	runtime.KeepAlive(clients)
	runtime.KeepAlive(servers)
}
