package mesh

import (
	"context"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/internal/session"
)

// drainAfter is how long a session that another has taken the place of must have
// had no stream before it is closed: the peer may be about to open one.
const drainAfter = 5 * time.Second

// plainKey is the key of the session that a node dials without further wishes.
func plainKey(peer identity.ID) linkKey { return linkKey{peer: peer} }

// sessionFor is session, but for the plain key it also takes a session that the
// peer dialled. Of two, dialled by both ends at once, both ends take the same.
func (n *Node) sessionFor(ctx context.Context, key linkKey, want demand) (*session.Session, error) {
	if key == plainKey(key.peer) && key.peer != n.id && (want.policy.MinPaths <= 1 || want.policy == n.policy) {
		n.mu.Lock()
		l := n.links[key]
		n.mu.Unlock()
		ours := l != nil && l.begunSession()
		if s := n.theirs(key.peer, l == nil); s != nil && (!ours || outranks(s, l.s, n.id)) {
			return s, nil
		}
	}
	return n.session(ctx, key, want)
}

// begunSession reports whether the link has its session.
func (l *link) begunSession() bool {
	select {
	case <-l.ready:
		return l.err == nil
	default:
		return false
	}
}

// theirs returns the best session that peer dialled and that carries conns, nil
// when there is none; with circuits, one that carries circuits too will do. One of
// cells will not: what it hides, conns of other policies would show.
func (n *Node) theirs(peer identity.ID, circuits bool) (best *session.Session) {
	n.mu.Lock()
	var all []*session.Session
	for _, s := range n.peers[peer] {
		if a := n.sessions[s]; a.services && !a.dialled && (circuits || !a.hop) {
			all = append(all, s)
		}
	}
	n.mu.Unlock()
	for _, s := range all {
		if since, _ := s.Pathless(); s.Err() == nil && since.IsZero() && !s.Cells() && (best == nil || !isDirect(best) && isDirect(s)) {
			best = s
		}
	}
	return best
}

// outranks reports whether new streams go on theirs, which the peer dialled,
// rather than on ours: one with a direct path goes before one without, else that
// which the lower ID dialled. Both ends see the same.
func outranks(theirs, ours *session.Session, self identity.ID) bool {
	if t, o := isDirect(theirs), isDirect(ours); t != o {
		return t
	}
	return theirs.Peer().Compare(self) < 0
}

// isDirect reports whether the session has a direct path that works.
func isDirect(s *session.Session) bool {
	for _, p := range s.Stats().Paths {
		if p.Direct() && p.State == session.Active {
			return true
		}
	}
	return false
}

// outranked reports whether a session that the peer dialled takes the place of s.
func (l *link) outranked(s *session.Session) bool {
	if l.key != plainKey(l.key.peer) || l.key.peer == l.n.id {
		return false
	}
	t := l.n.theirs(l.key.peer, false)
	return t != nil && outranks(t, s, l.n.id)
}

// untilDrained is how long until drained is to be asked.
func (l *link) untilDrained(s *session.Session) time.Duration {
	if !l.outranked(s) {
		return never
	}
	return drainAfter
}

// drained reports whether s, in whose place another has come, has had no streams
// for a while.
func (l *link) drained(s *session.Session) bool {
	switch {
	case s.NumStreams() > 0 || !l.outranked(s):
		l.idleFor = time.Time{}
	case l.idleFor.IsZero():
		l.idleFor = time.Now()
	case time.Since(l.idleFor) >= drainAfter:
		return true
	}
	return false
}
