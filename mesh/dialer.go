package mesh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/splitmesh/splitmesh/internal/session"
	"github.com/splitmesh/splitmesh/splitter"
)

// defaultPaths is how many relays a session is split over.
const defaultPaths = 3

// A Dialer dials with options of its own. Only Node is required.
type Dialer struct {
	Node *Node
	// Split is how the bytes may be divided, in both directions. Its zero
	// value means the node's.
	Split splitter.Policy
	// RelayedOnly allows no direct path, so that the peer does not learn our
	// address. Unless Split says otherwise, it then takes at least two relays at
	// which the peer has reserved (MinPaths 2), and none carries more than 0.6
	// of what is sent (MaxShare); Dial waits until there are two. With a single
	// relay, say Split: splitter.Policy{MinPaths: 1}.
	RelayedOnly bool
	// Paths is the number of relays to use at once when there is no direct
	// path, 1 to 8. 0 means 3. Fewer are used when there are no more, but never
	// fewer than Split.MinPaths. Conns to one peer share their paths: as many are
	// kept as any of their Dialers asked for.
	Paths int
	// Class says which bytes go first among the conns to one peer. 0 means
	// splitter.Interactive; a file wants splitter.Bulk, so that what a person waits
	// for does not wait for it.
	Class splitter.Class
	// FastOpen returns before the peer has answered, so that the first data
	// travels with the request; a refusal is then the first Read's error.
	FastOpen bool
}

// Dial connects to "peer:service"; see [Dialer.Dial].
func (n *Node) Dial(ctx context.Context, addr string) (net.Conn, error) {
	return (&Dialer{Node: n}).Dial(ctx, addr)
}

// FastDial is Dial with FastOpen: it does not wait for the peer's consent.
func (n *Node) FastDial(ctx context.Context, addr string) (net.Conn, error) {
	return (&Dialer{Node: n, FastOpen: true}).Dial(ctx, addr)
}

// DialContext is Dial with the signature that http.Transport wants. network is
// "mesh", "tcp" or empty.
func (n *Node) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	return (&Dialer{Node: n}).DialContext(ctx, network, addr)
}

// DialContext is Dial for those who want a network: "mesh", "tcp" or empty.
func (d *Dialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	switch network {
	case "", "mesh", "tcp":
		return d.Dial(ctx, addr)
	}
	return nil, &OpError{Op: "dial", Err: net.UnknownNetworkError(network)}
}

// Dial connects to "peer:service", where the peer is an ID or a name that ends in
// .mesh (see [Node.Names]), and returns a *Conn when the peer's listener
// has it. ctx bounds the dial only, which waits for as many paths as the policy
// demands, 30 s at most; see [splitter.Policy.FailFast]. Errors are *OpError or *AddrError, and wrap
// ErrNoRoute, ErrNoService, ErrRefused, ErrBusy, ErrRevoked, ErrBlocked, *LimitError, *PurposeError,
// *RouteError, *PathsLostError, splitter.ErrPolicy, *splitter.TooFewPathsError, net.ErrClosed when the node is closed, or the
// context's error.
func (d *Dialer) Dial(ctx context.Context, addr string) (net.Conn, error) {
	a, err := d.resolve(ctx, addr)
	if err != nil {
		return nil, err
	}
	c, err := d.dial(ctx, a)
	if op, ok := err.(*OpError); ok { // from Start
		return nil, op
	}
	if err != nil {
		return nil, &OpError{Op: "dial", Peer: a.ID, Service: a.Service, Err: err}
	}
	return c, nil
}

func (d *Dialer) dial(ctx context.Context, a Addr) (*Conn, error) {
	n := d.Node
	if n == nil {
		return nil, errors.New("the Dialer has no Node")
	}
	if err := n.Start(ctx); err != nil {
		return nil, err
	}
	key, want, err := d.key(a)
	if err != nil {
		return nil, err
	}
	class, err := d.Class.WithDefaults()
	if err != nil {
		return nil, err
	}
	const tries = 2 // a session that was kept may have died without our knowing
	for try := 1; ; try++ {
		s, err := n.sessionFor(ctx, key, want)
		if err != nil {
			return nil, err
		}
		c, err := n.open(ctx, s, want.policy, class, a, d.FastOpen)
		if err != nil && ctx.Err() != nil {
			return nil, n.pathlessDial(key, s, err)
		}
		if err == nil || try == tries || s.Err() == nil {
			return c, err
		}
	}
}

// pathlessDial adds to the error of a dial that took too long that the session has
// no path, if so, and why.
func (n *Node) pathlessDial(key linkKey, s *session.Session, err error) error {
	since, _ := s.Pathless()
	if since.IsZero() {
		return err
	}
	err = fmt.Errorf("every path to the peer was lost %v ago, and none is back yet: %w", time.Since(since).Round(time.Millisecond), err)
	n.mu.Lock()
	l := n.links[key]
	n.mu.Unlock()
	if l == nil {
		return err
	}
	return l.inTrouble(err)
}

// key fills the options' defaults.
func (d *Dialer) key(a Addr) (key linkKey, want demand, err error) {
	key.peer = a.ID
	want = demand{d.Split, d.Paths}
	if want.policy == (splitter.Policy{}) {
		want.policy = d.Node.Split
	}
	if want.policy, err = want.policy.WithDefaults(d.RelayedOnly); err != nil {
		return key, want, err
	}
	if want.paths == 0 {
		want.paths = max(defaultPaths, want.policy.N, want.policy.MinPaths)
	}
	if want.paths < 1 || want.paths > session.MaxPaths {
		return key, want, fmt.Errorf("Dialer.Paths is %d, want 1 to %d, or 0 for %d", d.Paths, session.MaxPaths, defaultPaths)
	}
	if a.ID == d.Node.id { // nothing leaves the process, so there is nothing to divide
		want.policy = hopPolicy
		return key, want, nil
	}
	key.relayedOnly = d.RelayedOnly || want.policy.Purpose.Private()
	key.cells = want.policy.Purpose == splitter.Unlinkability
	return key, want, nil
}

// open opens a stream for a service and reads the peer's answer, unless fast.
func (n *Node) open(ctx context.Context, s *session.Session, policy splitter.Policy, class splitter.Class, a Addr, fast bool) (*Conn, error) {
	st, err := s.Open(policy, class)
	if err != nil {
		return nil, err
	}
	c := &Conn{stream: st, session: s, local: Addr{ID: n.id}, remote: a, unread: true}
	stop := context.AfterFunc(ctx, func() { st.SetDeadline(time.Unix(1, 0)) })
	_, err = st.Write(appendRequest(nil, openRequest{a.Service, nil}))
	if err == nil && !fast {
		err = c.readAnswer()
	}
	if !stop() && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		st.Reset()
		if op, ok := err.(*OpError); ok { // Dial wraps it again
			err = op.Err
		}
		if cause := s.Err(); cause != nil && ctx.Err() == nil {
			err = cause
		}
		return nil, err
	}
	return c, nil
}
