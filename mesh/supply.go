package mesh

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/internal/handshake"
	"github.com/splitmesh/splitmesh/internal/session"
	"github.com/splitmesh/splitmesh/splitter"
)

// failed lets a route rest.
func (l *link) failed(r *route) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.restLocked(r)
}

func (l *link) restLocked(r *route) {
	k := r.key()
	next := min(max(2*l.rests[k].next, minRest), maxRest)
	jitter := time.Duration(rand.Int64N(int64(next / 4)))
	l.rests[k] = rest{time.Now().Add(next + jitter), next}
}

// supply adds paths until the policy is satisfied.
func (l *link) supply(ctx context.Context, s *session.Session) error {
	for {
		have, want := l.distinct()
		if have >= want {
			return nil
		}
		few := &splitter.TooFewPathsError{Have: have, Want: want}
		l.tooFew(few)
		if l.joinMore(s) && l.key.policy.FailFast && l.idle() {
			return l.inTrouble(few)
		}
		t := time.NewTimer(minRest)
		select {
		case <-l.kick:
		case <-t.C:
		case <-s.Done():
			t.Stop()
			return s.Err()
		case <-ctx.Done():
			t.Stop()
			return l.inTrouble(fmt.Errorf("%w (%w)", few, context.Cause(ctx)))
		}
		t.Stop()
	}
}

// idle reports whether no path is being joined.
func (l *link) idle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.joining) == 0
}

// maintain keeps the session at the number of paths that it wants until it ends,
// and ends it when it has long been of no use.
func (l *link) maintain(s *session.Session) {
	idle := time.NewTicker(idleLimit / idleChecks)
	defer idle.Stop()
	for unused := 0; ; {
		var again <-chan time.Time // nil, and so never, when nothing is lacking
		if l.joinMore(s) {
			again = time.After(l.untilNext())
		}
		select {
		case <-l.kick:
		case <-again:
		case <-idle.C:
			if unused++; s.NumStreams() > 0 || l.n.reservedBy(s) {
				unused = 0
			}
			if unused == idleChecks {
				l.n.unlink(l)
				s.Close()
				return
			}
		case <-s.Done():
			return
		}
	}
}

// untilNext is how long to wait for a route that rests, or for news.
func (l *link) untilNext() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	wait := pollRelays
	for _, r := range l.rests {
		if left := time.Until(r.until); left > 0 {
			wait = min(wait, left)
		}
	}
	return max(wait, minRest/10)
}

// distinct counts the live paths of which no two share a relay, and how many
// there must be.
func (l *link) distinct() (have, want int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.relaysLocked(false)), l.minPaths
}

// relaysLocked are the relays of the live paths, and of those being joined; direct
// ones are of the zero relay. mu is held.
func (l *link) relaysLocked(joining bool) map[identity.ID]bool {
	relays := make(map[identity.ID]bool)
	for _, r := range l.live {
		relays[r.relay] = true
	}
	if joining {
		for _, r := range l.joining {
			relays[r.relay] = true
		}
	}
	return relays
}

// lackLocked is how many paths there should be more. mu is held.
func (l *link) lackLocked() int {
	relays := l.relaysLocked(true)
	want := max(l.key.paths, l.minPaths)
	if relays[identity.ID{}] {
		want = l.minPaths // a direct path is enough by itself
	}
	return want - len(relays)
}

// joinMore starts to join as many paths as the session lacks. It reports whether
// some are still wanted that could not be tried.
func (l *link) joinMore(s *session.Session) bool {
	l.mu.Lock()
	lack := l.lackLocked()
	l.mu.Unlock()
	if lack <= 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(l.n.ctx, joinTimeout)
	routes, err := l.n.routes(ctx, l.key, l.hints)
	cancel()
	if err != nil {
		return true
	}
	for _, r := range l.choose(routes, lack) {
		if !l.n.goRun(func() { l.join(s, r) }) { // ends within joinTimeout
			l.joined(&r)
			return false
		}
		lack--
	}
	return lack > 0
}

// choose picks up to k of the routes that are neither in use nor resting, and
// marks them as joining.
func (l *link) choose(routes []route, k int) []route {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	used := make([]route, 0, len(l.live))
	for _, r := range l.live {
		used = append(used, r.route)
	}
	busy := l.relaysLocked(true) // one direct path is enough, too
	var free []route
	for _, r := range routes {
		if !busy[r.relay] && !now.Before(l.rests[r.key()].until) {
			free = append(free, r)
			busy[r.relay] = r.direct()
		}
	}
	for k, r := range l.rests { // forget those that could rest no longer
		if now.Sub(r.until) > maxRest {
			delete(l.rests, k)
		}
	}
	free = diverse(used, free)
	free = free[:min(k, len(free))]
	for i := range free {
		l.joining[free[i].key()] = free[i]
	}
	return free
}

func (l *link) joined(r *route) {
	l.mu.Lock()
	delete(l.joining, r.key())
	l.mu.Unlock()
	l.signal()
}

// join adds a path over r.
func (l *link) join(s *session.Session, r route) {
	defer l.joined(&r)
	ctx, cancel := context.WithTimeout(l.n.ctx, joinTimeout)
	defer cancel()
	token, err := s.TakeToken(ctx)
	if err != nil {
		return
	}
	conn, res, err := l.dial(ctx, &r, &token)
	if err == nil {
		err = l.add(s, conn, res, r)
	}
	if err == nil {
		return
	}
	l.failed(&r)
	l.setTrouble(&RouteError{r.String(), err})
	l.n.log.Debug("join failed", "peer", l.key.peer.Short(), "via", r.String(), "err", err)
	if errors.Is(err, handshake.ErrUnknownToken) {
		s.Abort(session.CodeReplaced) // authenticated and final: the peer has lost the session
	}
}
