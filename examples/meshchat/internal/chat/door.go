package chat

import (
	"context"
	"net"
	"time"

	"golang.org/x/time/rate"

	"github.com/splitmesh/splitmesh/examples/meshchat/internal/store"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
)

// An incoming is a conn that a peer has dialled.
type incoming struct {
	net.Conn
	known bool // the peer is a contact, or in a room with us
	since time.Time
	stop  context.CancelFunc // closes it
}

// accept serves conns until the node is closed. Of each peer there is one at a time, the newest; strangers have a few
// together, so that they don't keep out those whom we know.
func (e *Engine) accept(ctx context.Context, l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return // closed
		}
		addr, ok := conn.RemoteAddr().(mesh.Addr)
		if !ok || ctx.Err() != nil {
			conn.Close()
			continue
		}
		c := &incoming{Conn: conn, known: e.acquainted(ctx, addr.ID), since: time.Now()}
		if !e.admit(c, addr.ID) {
			conn.Close()
		}
	}
}

// admit starts the goroutine of a conn, and ends that of the one in whose place it is. It reports whether there was room.
func (e *Engine) admit(c *incoming, peer identity.ID) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.spawn == nil {
		return false
	}
	var oldest identity.ID
	strangers := 0
	for id, o := range e.conns {
		if o.known || id == peer {
			continue
		}
		if strangers++; oldest.IsZero() || o.since.Before(e.conns[oldest].since) {
			oldest = id
		}
	}
	full := len(e.conns) >= maxConns
	switch old := e.conns[peer]; {
	case old != nil:
		old.stop()
	case strangers >= maxStrangers && !c.known, full && strangers > 0:
		e.conns[oldest].stop()
		delete(e.conns, oldest)
	case full:
		return false
	}
	e.conns[peer] = c
	c.stop = e.spawn(func(ctx context.Context) { e.converse(ctx, c, peer) })
	return true
}

// acquainted reports whether the peer is a contact, or in a room with us.
func (e *Engine) acquainted(ctx context.Context, peer identity.ID) (known bool) {
	_ = e.Store.View(ctx, func(tx *store.Tx) error { // then he is a stranger
		if c, err := tx.Contact(peer); err != nil || c != nil && c.Standing != store.Request {
			known = c != nil && c.Standing == store.Friend
			return err
		}
		rooms, err := tx.Rooms()
		for i := range rooms {
			known = known || !rooms[i].Gone && rooms[i].Has(peer)
		}
		return err
	})
	return known
}

// pace is how much a peer may say, over all of his conns: what waited for us all at once, and then no more than a person
// reads.
func (e *Engine) pace(peer identity.ID) *rate.Limiter {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.paces[peer]
	if l == nil {
		if len(e.paces) >= maxConns { // those of who was quiet are full anyway
			clear(e.paces)
		}
		l = rate.NewLimiter(paceRate, store.MaxQueue)
		e.paces[peer] = l
	}
	return l
}

// notKept tells why what came could not be kept. It is not lost: whoever sent it has it, and tries again.
func (e *Engine) notKept(ctx context.Context, err error) {
	if ctx.Err() == nil {
		e.Log.Error("what came can't be kept", "err", err)
		e.publish(Event{Kind: Noted, Text: "what others send can't be kept: " + err.Error()})
	}
}
