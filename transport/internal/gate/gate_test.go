package gate_test

import (
	"net"
	"sync"
	"testing"

	"github.com/splitmesh/splitmesh/transport/internal/gate"
)

// A conn counts how often it is closed.
type conn struct {
	net.Conn
	closed int
}

func (c *conn) Close() error { c.closed++; return nil }

func TestGate(t *testing.T) {
	g := gate.New(2)
	conns := [4]conn{}
	a, b := g.Enter(&conns[0]), g.Enter(&conns[1])
	if !a.Leave() || a.Leave() {
		t.Error("Leave is true once, and then false")
	}
	c := g.Enter(&conns[2])
	if g.Len() != 2 || conns[1].closed != 0 {
		t.Errorf("%d in the gate, the second closed %d times", g.Len(), conns[1].closed)
	}
	d := g.Enter(&conns[3]) // one too many: b is the oldest
	if g.Len() != 2 || conns[1].closed != 1 || b.Leave() {
		t.Errorf("%d in the gate, the oldest closed %d times", g.Len(), conns[1].closed)
	}
	if !c.Leave() {
		t.Error("the oldest but one was put out")
	}
	g.Close()
	g.Close()
	if d.Leave() || conns[3].closed != 1 {
		t.Errorf("after Close the one within was closed %d times", conns[3].closed)
	}
	if conns[0].closed+conns[2].closed != 0 {
		t.Error("one that had left was closed")
	}
	late := conn{}
	if g.Enter(&late) != nil || late.closed != 1 || g.Len() != 0 {
		t.Error("a closed gate let one in")
	}
}

func TestGateConcurrently(t *testing.T) {
	g := gate.New(3)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				c := &conn{}
				ticket := g.Enter(c)
				if g.Len() > 3 {
					t.Error("overfull")
				}
				if ticket != nil && ticket.Leave() && c.closed != 0 {
					t.Error("closed, and yet it left")
				}
			}
		})
	}
	wg.Wait()
	g.Close()
}
