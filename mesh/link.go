package mesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/multiformats/go-multiaddr"
	"github.com/splitmesh/splitmesh/frame"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/internal/handshake"
	"github.com/splitmesh/splitmesh/internal/session"
	"github.com/splitmesh/splitmesh/splitter"
)

const (
	connectTimeout = 30 * time.Second
	joinTimeout    = 15 * time.Second
	// A route that failed rests, twice as long each time.
	minRest = 500 * time.Millisecond
	maxRest = 30 * time.Second
	// pollRelays is how often a link that wants more paths than it can have
	// looks for new relays.
	pollRelays = 5 * time.Second
	// notReservedLimit bounds the waits of a dial for a peer that no relay knows
	// yet: 250 ms, 500 ms and 1 s.
	notReservedLimit = time.Second
	// idleLimit is how long a session without streams is kept, idleChecks how
	// often it is looked at in that time.
	idleLimit  = 5 * time.Minute
	idleChecks = 5
)

// A linkKey tells apart the sessions that a node dials: one for each peer, but for
// those that may not share paths with others.
type linkKey struct {
	peer        identity.ID
	hop         bool // with a relay, to carry circuits: direct, without network key
	relayedOnly bool
	cells       bool // every frame on its paths is a cell
}

// A demand is what somebody wants of a session.
type demand struct {
	policy splitter.Policy
	paths  int // at once, when none is direct
}

// A link dials the session to one peer and keeps it supplied with paths.
type link struct {
	n     *Node
	key   linkKey
	hints []multiaddr.Multiaddr
	ready chan struct{} // closed when s or err is set
	kick  chan struct{} // of size 1: something changed

	s   *session.Session // set before ready is closed
	err error            // likewise

	comeback pace      // of a session without paths; run's alone
	lookups  pace      // of ways to its peer; run's alone
	upgrades pace      // to a direct path; run's alone
	known    []route   // when last looked up; run's alone
	idleFor  time.Time // since when an outranked session has no streams; run's alone

	mu       sync.Mutex            // guards all below
	live     map[uint32]*liveRoute // by path id
	joining  map[string]route      // by route key
	rests    map[string]rest       // likewise
	doubtful map[[32]byte]struct{} // tokens that the peer may have spent
	minPaths int                   // by our policies or, if that is stricter, the peer's
	paths    int                   // wanted at once, when none is direct
	upgraded bool                  // there were a direct path and relayed ones at once
	waiting  int                   // dials that wait for more paths
	stuck    bool                  // paths are lacking, and none can be tried now
	changed  chan struct{}         // closed and replaced when any of these changes
	trouble  error                 // what went wrong last, for those who give up waiting
}

// A liveRoute is one that a path uses.
type liveRoute struct {
	route
	conn    net.Conn
	since   time.Time
	token   *handshake.Join // with which it joined, until it is proven to work
	active  time.Time       // since when it is; zero: not yet
	leaving bool            // its relay is going away
}

// A rest is how long a route that failed is left alone.
type rest struct {
	until time.Time
	next  time.Duration
}

// session returns the session for key, dialling it if there is none, once it has
// as many paths as the policy demands.
func (n *Node) session(ctx context.Context, key linkKey, want demand, hints ...multiaddr.Multiaddr) (*session.Session, error) {
	for {
		l, err := n.link(key, want, hints)
		if err != nil {
			return nil, err
		}
		select {
		case <-l.ready:
		case <-ctx.Done():
			return nil, l.inTrouble(context.Cause(ctx))
		}
		if l.err != nil {
			return nil, l.err
		}
		if l.s.Err() == nil {
			return l.s, l.enough(ctx, &want.policy)
		}
		n.unlink(l) // it died as we looked
	}
}

// link returns the link for key, starting one if there is none.
func (n *Node) link(key linkKey, want demand, hints []multiaddr.Multiaddr) (*link, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.links[key]
	if l == nil {
		if n.closed {
			return nil, errNodeClosed
		}
		if n.blockedLocked(key.peer) != nil {
			return nil, ErrBlocked
		}
		l = &link{
			n: n, key: key, hints: hints, ready: make(chan struct{}), kick: make(chan struct{}, 1),
			live: make(map[uint32]*liveRoute), joining: make(map[string]route), rests: make(map[string]rest),
			doubtful: make(map[[32]byte]struct{}), changed: make(chan struct{}),
			minPaths: n.leastPolicy(key.hop, key.peer).MinPaths,
		}
		n.links[key] = l
		defer n.wg.Go(l.run) // ends with its session, or when it can't be dialled
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if want.policy.MinPaths > l.minPaths || want.paths > l.paths {
		l.minPaths, l.paths = max(l.minPaths, want.policy.MinPaths), max(l.paths, want.paths)
		l.news()
	}
	return l, nil
}

// news wakes who waits for a change, and the link itself. mu is held.
func (l *link) news() {
	l.stuck = false
	close(l.changed)
	l.changed = make(chan struct{})
	l.signal()
}

func (n *Node) unlink(l *link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.links[l.key] == l {
		delete(n.links, l.key)
	}
}

// inTrouble adds to err what the link has to say for itself.
func (l *link) inTrouble(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.trouble == nil {
		return err
	}
	return fmt.Errorf("%w; what went wrong last: %w", err, l.trouble)
}

func (l *link) setTrouble(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trouble = err
}

func (l *link) run() {
	ctx, cancel := context.WithTimeout(l.n.ctx, connectTimeout)
	s, err := l.connect(ctx)
	for wait := stagger; err != nil && errors.Is(err, ErrNotReserved) && wait <= notReservedLimit; wait *= 2 {
		select { // the peer may have begun to listen a moment ago
		case <-time.After(wait):
			s, err = l.connect(ctx)
		case <-ctx.Done():
			wait = notReservedLimit
		}
	}
	cancel()
	if err != nil {
		l.err = err
		l.n.notReached(l.key.peer, err)
		l.n.unlink(l)
		close(l.ready)
		return
	}
	l.s = s
	close(l.ready)
	select {
	case l.n.dialled <- struct{}{}:
	default:
	}
	l.maintain(s)
	l.n.unlink(l)
}

// dial runs the handshake over one route.
func (l *link) dial(ctx context.Context, r *route, join *handshake.Join) (net.Conn, *handshake.Result, error) {
	d, err := handshake.NewDialler(l.n.handshakeConfig(l.key.hop), l.key.peer, join)
	if err != nil {
		return nil, nil, err
	}
	conn, err := l.n.dialRoute(ctx, l.key, r, d.Opening())
	if err != nil {
		return nil, nil, err
	}
	final := &lastWord{Conn: conn}
	res, err := d.Run(ctx, final) // closes conn on error
	if err != nil && final.said {
		return nil, nil, &doubtError{err}
	}
	if err != nil {
		return nil, nil, explain(err)
	}
	return conn, res, nil
}

// A lastWord notes whether the dialler's last message of the handshake was
// written, if only in part.
type lastWord struct {
	net.Conn
	said bool // the goroutine of Run's alone
}

func (c *lastWord) Write(p []byte) (int, error) {
	c.said = true
	return c.Conn.Write(p)
}

// A doubtError is of a handshake that may have ended well for the peer.
type doubtError struct{ error }

func (e *doubtError) Unwrap() error { return e.error }

// explain adds to a failed handshake's error what a person would look at first.
func explain(err error) error {
	switch {
	case errors.Is(err, frame.ErrVersion), errors.Is(err, frame.ErrType):
		return fmt.Errorf("what answers speaks another protocol; if it is a web server, is the address /ws? %w", err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return fmt.Errorf("it hung up: is the ID in the address right, and the network key the same? %w", err)
	}
	return err
}

// begin makes the session of its first path.
func (l *link) begin(conn net.Conn, res *handshake.Result, r route) (*session.Session, error) {
	if err := l.n.checkStanding(l.n.ctx, res.Peer); err != nil {
		conn.Close()
		return nil, err
	}
	if err := l.n.endGhosts(res.Peer, res.PeerInstance); err != nil {
		conn.Close()
		return nil, err
	}
	a := &accepted{dialled: true, hop: l.key.hop, services: !l.key.hop || l.n.NetworkKey == nil}
	s, err := l.n.newSession(res, a, l)
	if err != nil {
		conn.Close()
		return nil, err
	}
	if err := l.add(s, conn, res, r, nil); err != nil {
		s.Abort(session.CodeNormal)
		return nil, err
	}
	return s, nil
}

// add gives the session a path and remembers its route, and the token that it came
// with.
func (l *link) add(s *session.Session, conn net.Conn, res *handshake.Result, r route, token *handshake.Join) error {
	l.mu.Lock()
	l.live[res.PathID] = &liveRoute{route: r, conn: conn, since: time.Now(), token: token}
	for _, other := range l.live {
		l.upgraded = l.upgraded || other.direct() != r.direct()
	}
	l.news()
	l.mu.Unlock()
	info := session.PathInfo{Relay: r.relay, Operator: r.operator, Remote: r.String(), Dialled: true}
	if r.direct() {
		info.Host = remoteHost(conn)
		if host, ok := hostOf(r.addr); ok { // what the system tells may be a proxy's
			info.Host = host
		}
	}
	err := s.AddPath(conn, res, info)
	if err != nil {
		l.mu.Lock()
		delete(l.live, res.PathID)
		l.mu.Unlock()
	} else if l.key.relayedOnly && !r.direct() {
		l.n.noteHop(l.n.firstHops.worked(r.relay, time.Now()))
	}
	return err
}

// pathChanged is the session's OnPath.
func (l *link) pathChanged(s *session.Session, e session.Event) {
	l.mu.Lock()
	r, ok := l.live[e.Path.ID]
	var unproven *handshake.Join
	switch {
	case !ok:
	case e.State == session.Active && r.active.IsZero():
		r.active, r.token = time.Now(), nil
	case e.State == session.Dead:
		delete(l.live, e.Path.ID)
		if time.Since(r.since) > maxRest { // it did well until now
			delete(l.rests, r.key())
		}
		l.restLocked(&r.route)
		if unproven = r.token; unproven != nil {
			l.doubtful[unproven.Token] = struct{}{} // the peer may never have seen our last message
		}
	}
	l.news()
	l.mu.Unlock()
	if unproven != nil {
		s.ReturnToken(*unproven)
	}
}

// policyChanged is the session's OnPolicy.
func (l *link) policyChanged(p splitter.Policy) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.minPaths = max(l.minPaths, p.MinPaths)
	l.news()
}

func (l *link) signal() {
	select {
	case l.kick <- struct{}{}:
	default:
	}
}
