package mesh

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multiformats/go-multiaddr"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/internal/session"
	"github.com/splitmesh/splitmesh/registry"
	directory "github.com/splitmesh/splitmesh/registry/memory"
	"github.com/splitmesh/splitmesh/transport"
	"github.com/splitmesh/splitmesh/transport/memory"
)

// A counted directory counts what one node asks of it.
type counted struct {
	*directory.Directory
	finds, publishes atomic.Int64
}

func (d *counted) Providers(ctx context.Context, capability string) ([]*registry.Record, error) {
	d.finds.Add(1)
	return registry.Providers(ctx, d.Directory, capability)
}

func (d *counted) Publish(ctx context.Context, r *registry.Record) error {
	d.publishes.Add(1)
	return d.Directory.Publish(ctx, r)
}

// hostileRelays starts k relays that dir knows. Each does to every peer what it is told to
// once it has reserved.
func hostileRelays(t *testing.T, wire *memory.Network, dir registry.Directory, k int, then func(relay *Node, s *session.Session)) (stop func()) {
	t.Helper()
	var all []*Node
	for i := range k {
		n := &Node{Directory: dir, ListenAddrs: []multiaddr.Multiaddr{multiaddr.StringCast(fmt.Sprintf("/memory/%d", 100+i))}, Transports: []transport.Transport{wire.Transport()}}
		n.Relay = &RelayConfig{Allow: func(peer identity.ID) bool {
			n.goRun(func() {
				time.Sleep(10 * time.Millisecond) // it has our answer
				n.mu.Lock()
				sessions := append([]*session.Session(nil), n.peers[peer]...)
				n.mu.Unlock()
				for _, s := range sessions {
					then(n, s)
				}
			})
			return true
		}}
		if err := n.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		all = append(all, n)
	}
	synctest.Wait() // their records are published
	return func() {
		for _, n := range all {
			n.Close()
		}
	}
}

// TestRelaysThatDropUs: relays that take a reservation and drop it at once have the node
// neither ask its directory all the time, nor publish, nor dial.
func TestRelaysThatDropUs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wire := memory.NewNetwork(memory.Options{})
		defer wire.Close()
		dir := &counted{Directory: directory.New()}
		var dropped atomic.Int64
		stop := hostileRelays(t, wire, dir.Directory, 30, func(_ *Node, s *session.Session) {
			dropped.Add(1)
			s.Abort(session.CodeNormal)
		})
		defer stop()
		n := &Node{Directory: dir, Transports: []transport.Transport{wire.Transport()}}
		defer n.Close()
		if _, err := n.Listen("x"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if d := dropped.Load(); d > 20 {
			t.Errorf("in five seconds it was dropped %d times", d)
		}
		time.Sleep(10 * time.Minute)
		if f, p, d := dir.finds.Load(), dir.publishes.Load(), dropped.Load(); f > 150 || p > 35 || d > 260 || d < 20 {
			t.Errorf("in ten minutes it asked %d times, published %d times and was dropped %d times", f, p, d)
		}
	})
}

// TestRelayThatIsAlwaysGoingAway: who says so and stays is left in the end, and may be
// taken again.
func TestRelayThatIsAlwaysGoingAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wire := memory.NewNetwork(memory.Options{})
		defer wire.Close()
		dir := &counted{Directory: directory.New()}
		var said atomic.Int64
		stop := hostileRelays(t, wire, dir.Directory, 1, func(n *Node, s *session.Session) {
			if said.Add(1) > 1 {
				return
			}
			for range 1000 {
				if st, _, err := n.ask(n.ctx, s, openRequest{service: serviceDrain}); err != nil {
					t.Error(err)
				} else {
					st.Close()
				}
			}
		})
		defer stop()
		var log bytes.Buffer
		n := &Node{Directory: dir, Transports: []transport.Transport{wire.Transport()}, Logger: slog.New(slog.NewTextHandler(&log, nil))}
		defer n.Close()
		if _, err := n.Listen("x"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if have := len(n.Stats().Reservations); have != 0 {
			t.Errorf("%d reservations", have)
		}
		time.Sleep(15 * time.Minute)
		if have := len(n.Stats().Reservations); have != 1 {
			t.Errorf("%d reservations", have)
		}
		if p := dir.publishes.Load(); p > 5 {
			t.Errorf("it published %d times", p)
		}
		n.Close()
		if said := bytes.Count(log.Bytes(), []byte("a relay is going away")); said != 1 {
			t.Errorf("it was said %d times", said)
		}
	})
}
