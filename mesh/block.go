package mesh

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/splitmesh/splitmesh/identity"
)

const (
	// maxBlocked bounds the peers that are blocked at once; of more, the one whose block ends first is forgotten.
	maxBlocked = 4096
	// holdBlocked is for how long a blocked peer that comes back is kept waiting at the most, once at a time: it is to have no
	// reason to try again at once, and what it sends meanwhile is not read.
	holdBlocked = 10 * time.Second
)

// ErrBlocked reports a peer that this node blocks.
var ErrBlocked = errors.New("the peer is blocked here")

// A block is a peer's with which there is to be no session.
type block struct {
	until time.Time
	holds bool // a conn of its waits
}

// Block ends all sessions with a peer at once, whatever is under way on them, and has none
// with it for so long, or for as long as it is blocked already if that is longer: for a peer
// that floods this node. What may be let in at all is for Authority and RelayConfig.Allow to
// say.
func (n *Node) Block(peer identity.ID, d time.Duration) {
	n.init()
	now := time.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.blocks == nil {
		n.blocks = make(map[identity.ID]*block)
	}
	b := n.blocks[peer]
	if b == nil {
		b = new(block)
		n.blocks[peer] = b
	}
	if until := now.Add(d); until.After(b.until) {
		b.until = until
	}
	var first identity.ID
	for id, b := range n.blocks {
		if now.After(b.until) {
			delete(n.blocks, id)
		} else if first.IsZero() || b.until.Before(n.blocks[first].until) {
			first = id
		}
	}
	if len(n.blocks) > maxBlocked {
		delete(n.blocks, first)
	}
	if n.closed {
		return
	}
	for _, s := range n.peers[peer] {
		n.wg.Go(func() { s.End(fmt.Errorf("%w: %w", ErrBlocked, net.ErrClosed)) }) // ends at once
	}
}

// blockedLocked returns the block of a peer, nil when there is none. mu is held.
func (n *Node) blockedLocked(peer identity.ID) *block {
	b := n.blocks[peer]
	if b == nil || time.Now().After(b.until) {
		return nil
	}
	return b
}

// turnAway keeps a blocked peer waiting, and reports whether that is one.
func (n *Node) turnAway(conn net.Conn, peer identity.ID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	b := n.blockedLocked(peer)
	if b == nil {
		return false
	}
	if b.holds || n.closed {
		conn.Close()
		return true
	}
	b.holds = true
	until := b.until
	n.wg.Go(func() { // ends within holdBlocked, or with the node
		t := time.NewTimer(min(holdBlocked, time.Until(until)))
		defer t.Stop()
		select {
		case <-t.C:
		case <-n.ctx.Done():
		}
		conn.Close()
		n.mu.Lock()
		defer n.mu.Unlock()
		b.holds = false
	})
	return true
}
