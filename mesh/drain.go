package mesh

import (
	"context"
	"fmt"
	"sync"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/internal/session"
)

// drainsAtOnce bounds the peers that a relay tells at once that it will end.
const drainsAtOnce = 64

// goingAway answers who wants to begin something at a relay that is being drained.
var goingAway = openAnswer{status: statusLeaving}

// Drain prepares the end of a relay: it takes no more reservations and circuits, is no
// relay in its record any more, and tells its peers, which reserve elsewhere and move
// their circuits to other relays. It returns nil when no circuit is left, or else, when
// ctx is done, an error that says how many are. Close the node then: what has not
// moved by then moves when it is gone. Of a node that does not relay there is nothing
// to drain.
func (n *Node) Drain(ctx context.Context) error {
	if err := n.Start(ctx); err != nil || n.relay == nil {
		return err
	}
	empty := n.relay.drain()
	n.publish()
	n.mu.Lock()
	var told []*session.Session
	for s, a := range n.sessions {
		if a.hop && !a.dialled {
			told = append(told, s)
		}
	}
	n.mu.Unlock()
	n.log.Info("the relay drains", "peers", len(told))
	var telling sync.WaitGroup
	room := make(chan struct{}, drainsAtOnce)
	for _, s := range told {
		room <- struct{}{}
		telling.Go(func() { // ends within openTimeout
			defer func() { <-room }()
			if st, _, err := n.ask(ctx, s, openRequest{service: serviceDrain}); err == nil {
				st.Close()
			}
		})
	}
	telling.Wait()
	select {
	case <-empty:
		return nil
	case <-n.ctx.Done():
		return errNodeClosed
	case <-ctx.Done():
		return &OpError{Op: "drain", Err: fmt.Errorf("%d circuits are left: %w", n.relay.stats().Circuits, context.Cause(ctx))}
	}
}

// drain ends what the relay takes, and returns what is closed once no circuit is left.
func (r *relay) drain() (empty <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.drained == nil {
		r.drained = make(chan struct{})
		if r.circuits == 0 {
			close(r.drained)
		}
	}
	return r.drained
}

// draining reports whether the relay takes nothing new.
func (r *relay) draining() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.drained != nil
}

// serveDrain heeds a relay of ours that is going away.
func (n *Node) serveDrain(s *session.Session, a *accepted, st *session.Stream) {
	relay := s.Peer()
	n.mu.Lock()
	ours := n.asked[relay] == s || a.dialled && a.hop
	lost := n.reservations[relay] == s
	var links []*link
	if ours {
		for _, l := range n.links {
			links = append(links, l)
		}
	}
	if lost {
		delete(n.reservations, relay) // n.asked stays: circuits may still come
		n.reservationsChanged()
	}
	n.mu.Unlock()
	if !ours {
		refuse(st, openAnswer{status: statusRefused})
		return
	}
	if lost {
		n.log.Info("a relay is going away", "relay", relay.Short())
		n.publish()
	}
	for _, l := range links {
		l.leave(relay)
	}
	refuse(st, openAnswer{})
}

// leave has the link's paths over a relay replaced.
func (l *link) leave(relay identity.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	left := false
	for _, r := range l.live {
		if r.relay == relay && !r.leaving {
			r.leaving, left = true, true
		}
	}
	if left {
		l.news()
	}
}

// left ends the paths whose relays are going away, once others do in their place: as
// many as are wanted or, where there are no more to be had, as the policies demand.
func (l *link) left() {
	l.mu.Lock()
	defer l.mu.Unlock()
	lack := l.lackLocked()
	if len(l.joining) > 0 || lack.carriers > 0 || lack.relays > 0 && !l.stuck {
		return
	}
	others := false
	for _, r := range l.live {
		if !r.leaving && r.active.IsZero() {
			return // it has yet to prove itself
		}
		others = others || !r.leaving
	}
	for id, r := range l.live {
		if r.leaving && others {
			delete(l.live, id)
			l.restLocked(&r.route)
			r.conn.Close() // its bytes, if any, go over the others
		}
	}
}
