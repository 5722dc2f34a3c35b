package mesh

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/internal/session"
	"github.com/splitmesh/splitmesh/splitter"
)

const (
	defaultGrace = time.Minute
	// A session without paths comes back by itself: at once, then after
	// minComeback, twice as long each time, up to maxComeback.
	minComeback = 100 * time.Millisecond
	maxComeback = 5 * time.Second
	// Where its peer is, is looked up at once, then after minLookup, twice as long each
	// time, up to maxComeback: when a network is cut, every session asks.
	minLookup = time.Second
	// idleGrace is how long a session without paths comes back if nobody has a use for it.
	idleGrace = 3 * time.Second
	// urgentTimeout bounds one attempt, maxUrgent how many there are at once.
	urgentTimeout = 5 * time.Second
	maxUrgent     = 4
	// maxHeldOfPeer and maxHeld bound what sessions without paths keep in memory
	// for one peer, and for all.
	maxHeldOfPeer = 32 << 20
	maxHeld       = 256 << 20
)

// A pace spreads attempts in time: each wait is twice the one before, with jitter.
// Its zero value is due.
type pace struct {
	wait time.Duration
	at   time.Time // of the next attempt
}

// left is how long until the next attempt, 0 when it is due.
func (p *pace) left() time.Duration { return max(0, time.Until(p.at)) }

// next notes an attempt.
func (p *pace) next(least, most time.Duration) {
	p.wait = min(max(2*p.wait, least), most)
	p.at = time.Now().Add(p.wait*3/4 + time.Duration(rand.Int64N(int64(p.wait/2))))
}

// resume tries every way to the peer of a session that has lost all paths, and
// returns how long until it is to be asked again.
func (l *link) resume(s *session.Session) time.Duration {
	if l.comeback.left() == 0 {
		l.comeback.next(minComeback, maxComeback)
		l.joinMore(s, true)
	}
	return max(l.comeback.left(), time.Millisecond)
}

// abandon ends s if it has lost its paths for a while, and nobody has a use for it.
func (l *link) abandon(s *session.Session) {
	l.mu.Lock()
	wanted := l.waiting > 0
	l.mu.Unlock()
	if !wanted {
		s.Abandon(idleGrace)
	}
}

// graceOf is how long a session may be without paths.
func (n *Node) graceOf(a *accepted) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case a.hop || !a.services || n.Grace < 0:
		return 0 // circuits die at once with a relay, so that others take over
	case n.Grace == 0:
		return defaultGrace
	}
	return n.Grace
}

// leastPolicy is by what this node sends at the least on the session with peer.
func (n *Node) leastPolicy(hop bool, peer identity.ID) splitter.Policy {
	p := n.policy
	switch {
	case hop || peer == n.id: // nothing of it is divided
		return hopPolicy
	case p.Purpose != splitter.Throughput:
		return splitter.Policy{Purpose: splitter.Throughput, MinPaths: p.MinPaths, MaxShare: 1}
	}
	p.FailFast = false // is a conn's own
	return p
}

// A PathsLostError reports a session whose last path died and that got no other
// within its grace period.
type PathsLostError = session.PathsLostError

// A HeldError reports a session that lost its paths and was given up within its
// grace period: sessions without paths kept more in memory than a node may.
type HeldError struct {
	Peer        identity.ID
	Held, Limit int // bytes: of all the sessions without paths that count
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("every path to %s was lost, and the sessions that wait for paths hold %d bytes, more than the %d they may: this one has waited longest", e.Peer.Short(), e.Held, e.Limit)
}

// pathChanged is the OnPath of every session. It may be called while the session
// holds locks that its other methods take.
func (n *Node) pathChanged(s *session.Session, a *accepted, e session.Event) {
	if n.OnPath != nil {
		n.tell(PathEvent{Peer: s.Peer(), ID: e.Path.ID, Relay: e.Path.Relay, Operator: e.Path.Operator, Remote: e.Path.Remote, State: e.State, Err: e.Err})
	}
	if e.State == session.Active && e.Path.ID == session.FirstPath {
		// Not before: a peer that hangs up on us in place of an answer wants none of it.
		s.SetGrace(n.graceOf(a))
		s.SetGrace(n.graceOf(a)) // it may have begun to carry circuits meanwhile
	}
	if e.State != session.Dead {
		return
	}
	n.mu.Lock()
	if n.sessions[s] != nil {
		n.pathless[s] = struct{}{} // perhaps
	}
	look := !n.bounding
	n.bounding, n.boundAgain = true, true
	n.mu.Unlock()
	if look {
		n.goRun(n.boundPathless) // ends when nothing has changed since it looked
	}
}

// boundPathless ends those sessions without paths that have waited longest while
// all together hold too much. Without paths, none holds more as time passes.
func (n *Node) boundPathless() {
	for {
		n.mu.Lock()
		if !n.boundAgain {
			n.bounding = false
			n.mu.Unlock()
			return
		}
		n.boundAgain = false
		waiting := make([]*session.Session, 0, len(n.pathless))
		for s := range n.pathless {
			waiting = append(waiting, s)
		}
		n.mu.Unlock()
		held := make([]holding, 0, len(waiting))
		for _, s := range waiting {
			n.mu.Lock()
			delete(n.pathless, s) // first: pathChanged may note it again meanwhile
			n.mu.Unlock()
			since, bytes := s.Pathless()
			if since.IsZero() {
				continue
			}
			held = append(held, holding{s, s.Peer(), since, bytes})
			n.mu.Lock()
			if n.sessions[s] != nil {
				n.pathless[s] = struct{}{}
			}
			n.mu.Unlock()
		}
		for _, h := range overHeld(held, maxHeldOfPeer, maxHeld) {
			h.s.End(h.err)
		}
	}
}

// A holding is what a session without paths keeps in memory, since when.
type holding struct {
	s     *session.Session
	peer  identity.ID
	since time.Time
	bytes int
}

// An excess is a session to be ended, and why.
type excess struct {
	s   *session.Session
	err *HeldError
}

// overHeld picks those that have waited longest until the others hold no more than
// ofPeer bytes for each peer and inAll for all.
func overHeld(held []holding, ofPeer, inAll int) (out []excess) {
	slices.SortFunc(held, func(a, b holding) int { return a.since.Compare(b.since) })
	total, ofEach := 0, make(map[identity.ID]int)
	for _, h := range held {
		total += h.bytes
		ofEach[h.peer] += h.bytes
	}
	for _, h := range held {
		switch sum := ofEach[h.peer]; {
		case h.bytes == 0:
			continue
		case sum > ofPeer:
			out = append(out, excess{h.s, &HeldError{h.peer, sum, ofPeer}})
		case total > inAll:
			out = append(out, excess{h.s, &HeldError{h.peer, total, inAll}})
		default:
			continue
		}
		total -= h.bytes
		ofEach[h.peer] -= h.bytes
	}
	return out
}
