// Package gate bounds how many connections a listener holds that it has not
// admitted yet. When one too many arrives, the oldest goes: a peer is admitted
// within a round trip or two, so what has been there longest is what least
// likely is one, and whoever wants to keep peers out by filling the gate has to
// refill all of it in that time, again and again.
//
//	ticket := g.Enter(conn)
//	… read, judge …
//	if !ticket.Leave() { return } // conn was closed meanwhile
package gate

import (
	"container/list"
	"net"
	"sync"
)

// A Gate holds at most a fixed number of connections.
type Gate struct {
	most int

	mu     sync.Mutex
	closed bool
	in     list.List // of *Ticket, the oldest first
}

// New returns a Gate that holds up to most connections, at least one.
func New(most int) *Gate { return &Gate{most: max(most, 1)} }

// A Ticket stands for a connection in the Gate.
type Ticket struct {
	gate  *Gate
	conn  net.Conn
	place *list.Element // nil once out; guarded by gate.mu
}

// Enter lets c in, at the price of closing the oldest when the gate is full.
// It returns nil, and closes c, when the gate is closed.
func (g *Gate) Enter(c net.Conn) *Ticket {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		c.Close()
		return nil
	}
	if g.in.Len() >= g.most {
		g.closeOldest()
	}
	t := &Ticket{gate: g, conn: c}
	t.place = g.in.PushBack(t)
	return t
}

// closeOldest runs under g.mu: a connection not yet admitted is a socket, whose
// Close calls nobody back.
func (g *Gate) closeOldest() {
	t := g.in.Remove(g.in.Front()).(*Ticket)
	t.place = nil
	t.conn.Close()
}

// Leave takes the connection out of the gate. It reports whether it was still
// in, and so was not closed by the gate.
func (t *Ticket) Leave() bool {
	t.gate.mu.Lock()
	defer t.gate.mu.Unlock()
	if t.place == nil {
		return false
	}
	t.gate.in.Remove(t.place)
	t.place = nil
	return true
}

// Len is the number of connections in the gate.
func (g *Gate) Len() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.in.Len()
}

// Close closes the connections in the gate and lets no other in.
func (g *Gate) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for g.in.Len() > 0 {
		g.closeOldest()
	}
}
