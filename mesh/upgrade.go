package mesh

import (
	"maps"
	"net"
	"slices"
	"time"

	"github.com/splitmesh/splitmesh/internal/session"
)

const (
	// A session without a direct path tries to get one after minUpgrade, twice
	// as long each time, up to maxUpgrade; sooner when the peer has new addresses.
	minUpgrade = time.Second
	maxUpgrade = time.Minute
	// warmBackups is how many relayed paths stay beside a direct one that came
	// later, surplusAfter how long the others do.
	warmBackups  = 1
	surplusAfter = 30 * time.Second
)

// never is longer than a link waits for anything.
const never = idleLimit

// upgrade tries to add a direct path to a session that has none, and returns how
// long until it is to be asked again.
func (l *link) upgrade(s *session.Session) time.Duration {
	if l.key.hop || l.key.relayedOnly || l.key.cells || l.key.peer == l.n.id {
		return never
	}
	l.mu.Lock()
	has := l.directLocked()
	l.mu.Unlock()
	if has {
		l.upgrades = pace{}
		return never
	}
	if l.upgrades.wait == 0 {
		l.upgrades.next(minUpgrade, maxUpgrade)
	}
	if left := l.upgrades.left(); left > 0 {
		return left
	}
	before := directKeys(l.known)
	routes, err := l.routes()
	if err == nil && !maps.Equal(before, directKeys(routes)) {
		l.upgrades = pace{} // others than before: begin anew
	}
	l.upgrades.next(minUpgrade, maxUpgrade)
	if r, ok := l.longestRested(routes); ok {
		l.begun(s, r, false)
	}
	return max(l.upgrades.left(), time.Millisecond)
}

func directKeys(routes []route) map[string]bool {
	keys := make(map[string]bool)
	for i := range routes {
		if routes[i].direct() {
			keys[routes[i].key()] = true
		}
	}
	return keys
}

// longestRested picks the direct route that has failed least lately, and marks it
// as joining. There is none while one is being joined.
func (l *link) longestRested(routes []route) (best route, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.joining {
		if r.direct() {
			return route{}, false
		}
	}
	for _, r := range routes {
		if r.direct() && (!ok || l.rests[r.key()].until.Before(l.rests[best.key()].until)) {
			best, ok = r, true
		}
	}
	if ok {
		l.joining[best.key()] = best
	}
	return best, ok
}

// trim ends the slowest relayed paths beside a direct one that has long proven
// itself, but for those that the policies demand and warmBackups. It returns how
// long until it is to be asked again.
func (l *link) trim(s *session.Session) time.Duration {
	l.mu.Lock()
	var since time.Time // of the first direct path that works
	for _, r := range l.live {
		if r.direct() && !r.active.IsZero() && (since.IsZero() || r.active.Before(since)) {
			since = r.active
		}
	}
	surplus := len(l.live) > l.wantLocked()
	l.mu.Unlock()
	if since.IsZero() || !surplus {
		return never
	}
	if left := time.Until(since.Add(surplusAfter)); left > 0 {
		return left
	}
	paths := s.Stats().Paths
	slices.SortFunc(paths, func(a, b session.PathStats) int { return int(b.SRTT - a.SRTT) })
	for i := range paths {
		if conn := l.spare(paths[i].ID); conn != nil {
			conn.Close() // its bytes, if any, go over the others
		}
	}
	return never
}

// spare takes a relayed path that can be done without out of the live ones and
// returns its connection; nil when it is needed.
func (l *link) spare(id uint32) net.Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.live[id]
	if r == nil || r.direct() || len(l.live) <= l.wantLocked() {
		return nil
	}
	delete(l.live, id)
	if l.carriersLocked(false) < l.minPaths {
		l.live[id] = r
		return nil
	}
	return r.conn
}
