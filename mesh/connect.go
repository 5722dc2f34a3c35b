package mesh

import (
	"context"
	"errors"
	"net"
	"slices"
	"time"

	"github.com/splitmesh/splitmesh/internal/handshake"
	"github.com/splitmesh/splitmesh/internal/session"
	"github.com/splitmesh/splitmesh/registry"
)

const (
	// stagger is how long the first route may try before the next joins in
	// (RFC 8305, section 5), and how long the directory is waited for when the peer's
	// own address is known; relayPatience is for when only relays are that may know it.
	stagger       = 250 * time.Millisecond
	relayPatience = time.Second
	// anew is how long direct routes may try before another attempt begins beside: a
	// lost SYN is sent again ever more seldom.
	anew = 3 * time.Second
)

// looked is what the directory said of a peer.
type looked struct {
	rec *registry.Record
	err error
}

// A race is the first dial of a session: over the routes that are known, each a little
// after the one before, and those that the directory tells meanwhile.
type race struct {
	l        *link
	pending  <-chan looked // nil: the directory has answered
	lookErr  error         // what it said
	routes   []route       // to be tried
	tried    map[string]bool
	running  int
	results  chan finish
	failures []error
}

// A finish is the end of one attempt.
type finish struct {
	route route
	conn  net.Conn
	res   *handshake.Result
	err   error
}

// connect makes the session over the first route that leads to the peer.
func (l *link) connect(ctx context.Context) (*session.Session, error) {
	r := &race{l: l, tried: make(map[string]bool), results: make(chan finish)}
	if err := r.line(ctx); err != nil {
		return nil, err
	}
	if f, ok := r.alone(ctx); ok {
		return r.end(f)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.start(ctx)
	next := time.NewTimer(r.pause())
	defer next.Stop()
	for {
		select {
		case <-next.C:
			if len(r.routes) == 0 {
				r.routes = slices.DeleteFunc(slices.Clone(l.known), func(k route) bool { return !k.direct() })
			}
			r.start(ctx)
			next.Reset(r.pause())
		case d := <-r.pending:
			if err := r.heard(ctx, d); err != nil {
				return nil, err
			}
			if r.running == 0 {
				r.start(ctx)
			}
			next.Reset(r.pause())
		case f := <-r.results:
			r.running--
			if f.err == nil {
				return r.end(f)
			}
			r.lost(f)
			if len(r.routes) > 0 {
				r.start(ctx)
				next.Reset(r.pause())
			}
		case <-ctx.Done():
			return nil, errors.Join(append(r.failures, context.Cause(ctx))...)
		}
		if r.running == 0 && r.pending == nil && len(r.routes) == 0 {
			return nil, r.why()
		}
	}
}

// line finds the routes to begin with, and waits for the directory as long as it makes
// sense.
func (r *race) line(ctx context.Context) error {
	l, n := r.l, r.l.n
	if l.key.peer == n.id {
		r.routes = []route{{self: true}}
		return nil
	}
	if n.Directory == nil {
		return r.heard(ctx, looked{})
	}
	answer := make(chan looked, 1)
	n.wg.Go(func() { // l.run, which runs, keeps wg above zero; ends with ctx
		rec, err := n.lookup(ctx, l.key.peer)
		answer <- looked{rec, err}
	})
	r.pending = answer
	known := n.sortRoutes(ctx, l.key, n.addrsOf(l.key.peer, l.hints, nil))
	var late <-chan time.Time // never, when there is nothing else
	switch {
	case len(known) == 0:
	case known[0].direct():
		late = time.After(stagger)
	default:
		late = time.After(relayPatience)
	}
	select {
	case d := <-answer:
		return r.heard(ctx, d)
	case <-late:
		r.add(known)
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// heard takes in what the directory said.
func (r *race) heard(ctx context.Context, d looked) error {
	l, n := r.l, r.l.n
	r.pending, r.lookErr = nil, d.err
	if errors.Is(d.err, ErrRevoked) {
		return d.err
	}
	addrs := n.addrsOf(l.key.peer, l.hints, d.rec)
	r.add(n.sortRoutes(ctx, l.key, addrs))
	if len(l.known) == 0 {
		return noRoute(l.key, len(addrs) > 0, n.Directory != nil, d.err)
	}
	return nil
}

// add lines up those of the routes that are new.
func (r *race) add(routes []route) {
	if len(routes) > 0 {
		r.l.known = routes
	}
	for _, k := range routes {
		if !r.tried[k.key()] {
			r.tried[k.key()] = true
			r.routes = append(r.routes, k)
		}
	}
}

// alone tries the only route there is, without a race.
func (r *race) alone(ctx context.Context) (f finish, ended bool) {
	if len(r.routes) != 1 || r.pending != nil {
		return f, false
	}
	only := r.routes[0]
	dialling, cancel := ctx, context.CancelFunc(func() {})
	if only.direct() {
		dialling, cancel = context.WithTimeout(ctx, anew)
	}
	defer cancel()
	conn, res, err := r.l.dial(dialling, &only, nil)
	if err != nil && ctx.Err() == nil && dialling.Err() != nil {
		return f, false // not this attempt: others may do better
	}
	return finish{only, conn, res, err}, true
}

// start begins the attempt that is next, if there is one.
func (r *race) start(ctx context.Context) {
	if len(r.routes) == 0 {
		return
	}
	k := r.routes[0]
	r.routes = r.routes[1:]
	r.running++
	r.l.n.wg.Go(func() { // l.run, which runs, keeps wg above zero; ends with ctx
		conn, res, err := r.l.dial(ctx, &k, nil)
		select {
		case r.results <- finish{k, conn, res, err}:
		case <-ctx.Done():
			if conn != nil {
				conn.Close()
			}
		}
	})
}

// pause is how long until the next attempt.
func (r *race) pause() time.Duration {
	if len(r.routes) > 0 {
		return stagger
	}
	return anew
}

// end makes the session of an attempt that did not fail.
func (r *race) end(f finish) (*session.Session, error) {
	if f.err != nil {
		r.lost(f)
		return nil, r.why()
	}
	return r.l.begin(f.conn, f.res, f.route)
}

// lost notes an attempt that failed.
func (r *race) lost(f finish) {
	r.failures = append(r.failures, &RouteError{f.route.String(), f.err})
	r.failures = r.failures[max(0, len(r.failures)-maxFailures):]
	r.l.setTrouble(errors.Join(r.failures...))
	r.l.failed(&f.route)
}

// maxFailures bounds those that an error lists.
const maxFailures = 16

// why is why no route leads to the peer; that the directory does not know it comes first.
func (r *race) why() error {
	if r.lookErr != nil {
		return errors.Join(append([]error{r.lookErr}, r.failures...)...)
	}
	if len(r.failures) == 1 {
		return r.failures[0]
	}
	return errors.Join(r.failures...)
}
