package mesh

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
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

// enough waits until there are as many paths as the policy demands. One is not
// waited for: the session itself does that.
func (l *link) enough(ctx context.Context, p *splitter.Policy) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	wait := func(n int) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.waiting += n
	}
	wait(1)
	defer wait(-1)
	for {
		l.mu.Lock()
		have, want := l.carriersLocked(p.Purpose.Private()), p.MinPaths
		stuck, changed := l.stuck, l.changed
		l.mu.Unlock()
		if want <= 1 && !p.Purpose.Private() || have >= want {
			return nil
		}
		few := &splitter.TooFewPathsError{Have: have, Want: want}
		if stuck && p.FailFast {
			return l.inTrouble(few)
		}
		select {
		case <-changed:
		case <-l.s.Done():
			return l.s.Err()
		case <-ctx.Done():
			return l.inTrouble(fmt.Errorf("%w (%w)", few, context.Cause(ctx)))
		}
	}
}

// maintain keeps the session at the number of paths that it wants until it ends,
// and ends it when it has long been of no use.
func (l *link) maintain(s *session.Session) {
	idle := time.NewTicker(idleLimit / idleChecks)
	defer idle.Stop()
	for unused := 0; ; {
		next := time.NewTimer(l.tend(s))
		select {
		case <-l.kick:
		case <-next.C:
		case <-idle.C:
			if unused++; s.NumStreams() > 0 || l.n.reservedBy(s) {
				unused = 0
			}
		case <-s.Done():
			next.Stop()
			return
		}
		next.Stop()
		if unused == idleChecks || l.drained(s) {
			l.n.unlink(l)
			s.Close()
			return
		}
		l.abandon(s)
	}
}

// tend does what is due for the session's paths, and returns how long until it is
// to be asked again, if nothing changes before.
func (l *link) tend(s *session.Session) time.Duration {
	if since, _ := s.Pathless(); !since.IsZero() && !l.key.hop {
		return l.resume(s)
	}
	l.lookups = pace{}
	l.mu.Lock()
	short := l.carriersLocked(l.key.relayedOnly) < l.minPaths && !l.key.hop && l.key.peer != l.n.id
	l.mu.Unlock()
	// Below what the policies demand nothing is sent, as without any path.
	urgent := short && l.comeback.left() == 0
	switch {
	case !short:
		l.comeback = pace{}
	case urgent:
		l.comeback.next(minComeback, maxComeback)
	}
	wait := never
	if l.joinMore(s, urgent) {
		wait = l.untilNext()
	}
	if short {
		wait = min(wait, max(l.comeback.left(), time.Millisecond))
	}
	l.left()
	return min(wait, l.upgrade(s), l.trim(s), l.untilDrained(s))
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

// carriersLocked counts the live paths of which no two share a relay or an
// operator; a direct one counts, unless the policy is private. mu is held.
func (l *link) carriersLocked(private bool) int {
	carriers := make(map[string]struct{})
	for _, r := range l.live {
		if !r.direct() || !private {
			carriers[r.carrier()] = struct{}{}
		}
	}
	return len(carriers)
}

// directLocked reports whether a direct path is alive. mu is held.
func (l *link) directLocked() bool {
	for _, r := range l.live {
		if r.direct() {
			return true
		}
	}
	return false
}

// A lack is what a session has too few of: paths over different relays, and such
// of different operators too. Those being joined count as there.
type lack struct{ relays, carriers int }

func (k lack) some() bool { return k.relays > 0 || k.carriers > 0 }

// lackLocked returns what the session lacks. mu is held.
func (l *link) lackLocked() lack {
	relays, carriers := make(map[identity.ID]struct{}), make(map[string]struct{})
	count := func(r *route) {
		relays[r.relay] = struct{}{}
		carriers[r.carrier()] = struct{}{}
	}
	for _, r := range l.live {
		if !r.leaving {
			count(&r.route)
		}
	}
	for _, r := range l.joining {
		count(&r)
	}
	if len(l.live)+len(l.joining) >= session.MaxPaths {
		return lack{}
	}
	return lack{l.wantLocked() - len(relays), l.minPaths - len(carriers)}
}

// wantLocked is over how many different relays there should be paths, a direct one
// counted. mu is held.
func (l *link) wantLocked() int {
	switch {
	case !l.directLocked():
		return max(l.paths, l.minPaths)
	case l.upgraded:
		return max(l.minPaths, 1+warmBackups)
	}
	return l.minPaths // a direct path is enough by itself
}

// routes looks the ways to the peer up again. When that fails, those known from
// before must do.
func (l *link) routes() ([]route, error) {
	ctx, cancel := context.WithTimeout(l.n.ctx, lookupTimeout)
	defer cancel()
	routes, err := l.n.routes(ctx, l.key, l.hints)
	if err == nil {
		l.known = routes
	} else if errors.Is(err, ErrRevoked) {
		l.known = nil // nor is it to be joined until the next lookup
	} else if l.known != nil {
		return l.known, nil
	}
	return routes, err
}

// joinMore starts to join as many paths as the session lacks; if it is urgent, also
// over routes that rest, and without any path over every way there is. It reports whether some are still wanted that could
// not be tried.
func (l *link) joinMore(s *session.Session, urgent bool) bool {
	l.mu.Lock()
	pathless := urgent && len(l.live) == 0
	lacks := l.lackLocked().some() || pathless
	l.mu.Unlock()
	if !lacks {
		return false
	}
	var chosen []route
	routes, err := l.known, error(nil)
	if !pathless || len(routes) == 0 || l.lookups.left() == 0 {
		l.lookups.next(minLookup, maxComeback)
		routes, err = l.routes()
	}
	if err == nil {
		chosen = l.choose(routes, urgent)
	}
	for _, r := range chosen {
		l.begun(s, r, urgent)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	lacks = l.lackLocked().some()
	if stuck := lacks && len(l.joining) == 0; stuck && !l.stuck {
		close(l.changed) // but not news to the link itself
		l.changed = make(chan struct{})
		l.stuck = true
	}
	return lacks
}

// begun starts to join over r, which is marked as joining.
func (l *link) begun(s *session.Session, r route, urgent bool) {
	limit := joinTimeout
	if urgent {
		limit = urgentTimeout
	}
	if !l.n.goRun(func() { l.join(s, r, limit) }) { // ends within limit
		// The node is closed. To say that something changed would have tend
		// try again at once, and again, for as long as the session lives.
		l.mu.Lock()
		delete(l.joining, r.key())
		l.mu.Unlock()
	}
}

// choose picks routes that are not in use for what the session lacks, and marks
// them as joining. Those that rest are left out, unless it is urgent; without any
// path all are tried then, maxUrgent at once.
func (l *link) choose(routes []route, urgent bool) (chosen []route) {
	l.mu.Lock()
	defer l.mu.Unlock()
	used, free := l.freeLocked(routes, urgent)
	carriers := make(map[string]bool)
	for i := range used {
		carriers[used[i].carrier()] = true
	}
	lack := l.lackLocked()
	all := urgent && len(l.live) == 0
	for _, r := range l.n.inOrder(used, free, l.key.relayedOnly) {
		other := !carriers[r.carrier()]
		if all && len(l.joining) >= maxUrgent || !all && lack.relays <= 0 && !(other && lack.carriers > 0) {
			continue
		}
		carriers[r.carrier()] = true
		lack.relays--
		if other {
			lack.carriers--
		}
		l.joining[r.key()] = r
		chosen = append(chosen, r)
	}
	return chosen
}

// freeLocked sorts out the routes that paths use or are about to, and those that
// may be tried. mu is held.
func (l *link) freeLocked(routes []route, urgent bool) (used, free []route) {
	now := time.Now()
	busy := make(map[identity.ID]bool)
	for _, r := range l.live {
		used, busy[r.relay] = append(used, r.route), true
	}
	for _, r := range l.joining {
		used, busy[r.relay] = append(used, r), true
	}
	for _, r := range routes {
		_, joining := l.joining[r.key()]
		taken := busy[r.relay] && !(urgent && len(l.live) == 0 && r.direct()) // one direct path is enough
		if joining || taken || now.Before(l.rests[r.key()].until) && !urgent {
			continue
		}
		free = append(free, r)
		busy[r.relay] = r.direct()
	}
	slices.SortStableFunc(free, func(a, b route) int { return l.rests[a.key()].until.Compare(l.rests[b.key()].until) })
	for k, r := range l.rests { // forget those that could rest no longer
		if now.Sub(r.until) > maxRest {
			delete(l.rests, k)
		}
	}
	return used, free
}

func (l *link) joined(r *route) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.joining, r.key())
	l.news()
}

// join adds a path over r.
func (l *link) join(s *session.Session, r route, limit time.Duration) {
	defer l.joined(&r)
	ctx, cancel := context.WithTimeout(l.n.ctx, limit)
	defer cancel()
	token, err := s.TakeToken(ctx)
	if err != nil {
		return
	}
	conn, res, err := l.dial(ctx, &r, &token)
	if err != nil {
		l.giveBack(s, token, err)
	} else if err = l.add(s, conn, res, r, &token); err == nil {
		return
	}
	l.failed(&r)
	l.setTrouble(&RouteError{r.String(), err})
	l.n.log.Debug("join failed", "peer", l.key.peer.Short(), "via", r.String(), "err", err)
}

// giveBack keeps the token of a handshake that failed for the next attempt. If our
// last message was under way, the peer may have spent it; that the peer does not
// know any other is authenticated and final: it has lost the session.
func (l *link) giveBack(s *session.Session, token handshake.Join, err error) {
	l.mu.Lock()
	_, doubtful := l.doubtful[token.Token]
	unknown := errors.Is(err, handshake.ErrUnknownToken)
	if _, half := errors.AsType[*doubtError](err); half {
		l.doubtful[token.Token] = struct{}{}
	} else if unknown {
		delete(l.doubtful, token.Token)
	}
	l.mu.Unlock()
	switch {
	case !unknown:
		s.ReturnToken(token)
	case !doubtful:
		s.Abort(session.CodeReplaced)
	}
}
