package mesh

import (
	"slices"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/internal/session"
	"github.com/splitmesh/splitmesh/transport"
)

// maxHealth bounds the peers without sessions of which the node remembers how they fared.
const maxHealth = 1024

// A PeerHealth says how a peer fares that the node was told of by Bootstrap, or has had
// to do with. While there is a session its peer is pinged when it is silent, so Up is
// right to within half a minute.
type PeerHealth struct {
	ID identity.ID
	// Up says that there is a session with a path that works, RTT the shortest
	// round-trip time of its paths, 0 until measured.
	Up  bool
	RTT time.Duration
	// Seen is when a session with it last began or ended; zero: never. Err is why it
	// could not be reached since then, or why its last session ended.
	Seen time.Time
	Err  error
}

// health is what is remembered of a peer.
type health struct {
	seen, at time.Time // at is of the last change
	err      error
}

// noteHealth notes that a session with a peer began (err is nil) or ended, or that none
// could be begun. mu is held.
func (n *Node) noteHealth(peer identity.ID, seen bool, err error) {
	if peer == n.id {
		return
	}
	h, ok := n.healths[peer]
	if !ok && len(n.healths) >= maxHealth {
		n.forgetHealth()
	}
	h.at, h.err = time.Now(), err
	if seen {
		h.seen = h.at
	}
	n.healths[peer] = h
}

// notReached notes that no session with a peer could be begun, unless there is one.
func (n *Node) notReached(peer identity.ID, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.peers[peer]) == 0 {
		n.noteHealth(peer, false, err)
	}
}

// forgetHealth makes room: what is oldest goes, of peers without sessions.
func (n *Node) forgetHealth() {
	var oldest identity.ID
	for id, h := range n.healths {
		if len(n.peers[id]) == 0 && (oldest.IsZero() || h.at.Before(n.healths[oldest].at)) {
			oldest = id
		}
	}
	delete(n.healths, oldest)
}

// Known are the IDs of Bootstrap: whom the node knew from the start.
func (n *Node) Known() (ids []identity.ID) {
	for _, b := range n.Bootstrap {
		if _, id, ok, err := transport.SplitPeer(b); err == nil && ok && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// Peers says how the peers fare that the node was told of by Bootstrap, has sessions
// with, or had to do with lately: in the order of their IDs.
func (n *Node) Peers() (out []PeerHealth) {
	n.init()
	n.mu.Lock()
	sessions := make(map[identity.ID][]*session.Session, len(n.peers))
	for id, of := range n.peers {
		sessions[id] = slices.Clone(of)
	}
	known := make(map[identity.ID]health, len(n.healths))
	for id, h := range n.healths {
		known[id] = h
	}
	n.mu.Unlock()
	for _, b := range n.Bootstrap {
		if _, id, ok, err := transport.SplitPeer(b); err == nil && ok {
			h := known[id] // zero, if nothing happened yet
			known[id] = h
		}
	}
	delete(known, n.id)
	for id, h := range known {
		p := PeerHealth{ID: id, Seen: h.seen, Err: h.err}
		for _, s := range sessions[id] {
			for _, path := range s.Stats().Paths {
				if path.State == session.Dead {
					continue
				}
				p.Up = true
				if path.SRTT > 0 && (p.RTT == 0 || path.SRTT < p.RTT) {
					p.RTT = path.SRTT
				}
			}
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b PeerHealth) int { return a.ID.Compare(b.ID) })
	return out
}
