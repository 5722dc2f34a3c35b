package mesh

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/multiformats/go-multiaddr"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/internal/session"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/transport"
)

const (
	// defaultReservations is at how many relays a node wants to be reserved: as many
	// as a session is split over.
	defaultReservations = defaultPaths
	// noRelayRest is how long a node that said that it does not relay for us is left
	// alone.
	noRelayRest = 10 * time.Minute
	// A relay of the directory that failed, or was lost, rests for minRelayRest, twice as long each
	// time, up to maxRelayRest.
	minRelayRest = 5 * time.Second
	maxRelayRest = time.Hour
	// maxRelayRests bounds those that are remembered.
	maxRelayRests = 1024
	// minServed is how long one has to serve us until a loss is no failure.
	minServed = time.Minute
	// While relays are lacking the directory is asked again after minSeek, twice as
	// long each time, up to maxComeback, or maxSeek if there is none to try.
	minSeek = 250 * time.Millisecond
	maxSeek = time.Minute
	// maxDraining is how long a relay may say that it is going away, and stay.
	maxDraining = 10 * time.Minute
	// maxReservations bounds those wanted, by relays of the directory.
	maxReservations = 8
	// relayAddrs is how many addresses of each relay are published.
	relayAddrs = 2
	// maxRelayAddr is how long those may be, in bytes, for ours to have room for them.
	maxRelayAddr = 128
)

var errElsewhere = errors.New("it is in another network than its record says, where we have a relay already")

// reserveAll begins to reserve at every bootstrap address and, if those are too few,
// at relays of the directory. mu is held.
func (n *Node) reserveAll() {
	seen := make(map[identity.ID]bool)
	for _, b := range n.Bootstrap {
		addr, id, _, _ := transport.SplitPeer(b) // checked by start
		if id == n.id || seen[id] {
			continue
		}
		seen[id] = true
		n.reserving[id] = struct{}{}
		n.wg.Go(func() { n.keepReserved(id, addr) }) // ends with n.ctx
	}
	if n.seeksRelays() {
		n.wg.Go(n.seekRelays) // ends with n.ctx
	}
}

// keepReserved holds a reservation at a relay for as long as the node lives.
func (n *Node) keepReserved(relay identity.ID, addr multiaddr.Multiaddr) {
	wait := minRest
	lost := time.Now()
	for n.ctx.Err() == nil {
		held, err := n.holdReservation(relay, addr)
		if held {
			wait, lost = minRest, time.Now()
		}
		rest := wait
		wait = min(2*wait, maxRest)
		switch {
		case errors.Is(err, ErrRefused):
			rest = noRelayRest
		case time.Since(lost) < defaultGrace: // sessions may be waiting for paths
			wait = min(wait, maxComeback)
		}
		select {
		case <-time.After(rest):
		case <-n.ctx.Done():
		}
	}
}

// holdReservation reserves at a relay and returns when that has failed or, with held,
// when the reservation has ended.
func (n *Node) holdReservation(relay identity.ID, addr multiaddr.Multiaddr) (held bool, err error) {
	s, err := n.reserve(relay, addr)
	n.mu.Lock()
	again := n.refusals[relay] != nil
	n.refusals[relay] = err
	delete(n.reserving, relay)
	n.reservationsChanged()
	n.mu.Unlock()
	switch {
	case err == nil:
	case again || n.ctx.Err() != nil:
		n.log.Debug("no reservation", "relay", relay.Short(), "err", err)
		return false, err
	case errors.Is(err, ErrRefused):
		n.log.Info("no relay for us; that is no error if it is to be a peer only", "peer", relay.Short())
		return false, err
	default:
		n.log.Warn("no reservation", "relay", relay.Short(), "err", err)
		return false, err
	}
	n.log.Info("reserved", "relay", relay.Short())
	n.publish()
	n.untilLost(s)
	n.log.Info("reservation lost", "relay", relay.Short(), "err", s.Err())
	n.publish()
	return true, nil
}

// untilLost waits until the session that holds a reservation ends, and ends it itself
// when the relay has long been going away.
func (n *Node) untilLost(s *session.Session) {
	var late <-chan time.Time
	for {
		n.mu.Lock()
		leaving, changed := n.reservations[s.Peer()] != s, n.reservedC
		n.mu.Unlock()
		if leaving && late == nil {
			late = time.After(maxDraining)
		}
		select {
		case <-changed:
		case <-late:
			s.Close()
			return
		case <-s.Done():
			return
		case <-n.ctx.Done():
			return
		}
	}
}

// reserve asks a relay to forward to us while the session with it lives.
func (n *Node) reserve(relay identity.ID, addr multiaddr.Multiaddr) (*session.Session, error) {
	s, err := n.hop(n.ctx, relay, addr)
	if err != nil {
		return nil, err
	}
	if err := n.elsewhere(s); err != nil {
		return nil, err
	}
	n.mu.Lock()
	n.asked[relay] = s
	n.mu.Unlock()
	st, _, err := n.ask(n.ctx, s, openRequest{service: serviceReserve})
	n.mu.Lock()
	if err == nil {
		st.Close()
		n.reservations[relay] = s
	}
	n.mu.Unlock()
	if err == nil {
		err = s.Err() // ended before or after we noted it: n.ended may have come first
	}
	if err == nil {
		return s, nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.asked[relay] == s {
		delete(n.asked, relay)
	}
	if n.reservations[relay] == s {
		delete(n.reservations, relay)
	}
	return nil, err
}

// reservedBy reports whether s holds a reservation of ours.
func (n *Node) reservedBy(s *session.Session) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked[s.Peer()] == s
}

// reservationsChanged wakes who waits for it. mu is held.
func (n *Node) reservationsChanged() {
	close(n.reservedC)
	n.reservedC = make(chan struct{})
}

// seeksRelays reports whether the node takes relays that its directory knows. One that
// relays is itself in reach.
func (n *Node) seeksRelays() bool {
	return n.Reservations >= 0 && n.Relay == nil && registry.CanFind(n.Directory)
}

// seekRelays reserves at relays of the directory while there are fewer reservations
// than wanted, so that another takes the place of one that dies.
func (n *Node) seekRelays() {
	var asking pace
	for {
		n.mu.Lock()
		lack, changed := n.wanted-len(n.reservations)-len(n.reserving), n.reservedC
		n.mu.Unlock()
		var due <-chan time.Time // nil: not until something changes
		switch {
		case lack <= 0:
		case asking.left() == 0:
			if time.Since(asking.at) > maxSeek {
				asking = pace{} // the next loss is made good soon
			}
			if n.reserveAtSome(lack) {
				asking.next(minSeek, maxComeback)
			} else {
				asking.next(minSeek, maxSeek)
			}
			continue
		default:
			due = time.After(asking.left())
		}
		select {
		case <-changed:
		case <-due:
		case <-n.ctx.Done():
			return
		}
	}
}

// reserveAtSome begins to reserve at up to k relays of the directory, chosen to be as
// unlike each other and those in use as can be. It reports whether there are any.
func (n *Node) reserveAtSome(k int) bool {
	ctx, cancel := context.WithTimeout(n.ctx, lookupTimeout)
	known, err := registry.Providers(ctx, n.Directory, registry.CapRelay)
	cancel()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return false
	}
	n.seekErr = err
	candidates := make(map[identity.ID]*registry.Record)
	var free []route
	for _, rec := range known {
		resting := n.relayRests[rec.ID]
		if r, ok := n.relayRoute(rec); ok && !n.usesRelay(rec.ID) && resting.left() == 0 {
			candidates[rec.ID] = rec
			free = append(free, r)
		}
	}
	for _, r := range diverse(n.relaysInUse(), free, rand.IntN)[:min(k, len(free))] {
		id := r.relay
		n.found[id] = candidates[id]
		n.reserving[id] = struct{}{}
		n.wg.Go(func() { // ends with the reservation, or n.ctx
			begun := time.Now()
			held, err := n.holdReservation(id, nil)
			n.mu.Lock()
			defer n.mu.Unlock()
			delete(n.found, id)
			if err != nil {
				n.seekErr = fmt.Errorf("relay %s: %w", id.Short(), err)
			}
			delete(n.refusals, id)
			n.restRelay(id, held && time.Since(begun) >= minServed)
			n.reservationsChanged()
		})
	}
	return len(free) > 0
}

// elsewhere objects to a relay of the directory that was met in another network than
// that for which it was chosen, if there is one in use already: or a single host would be
// as many networks as its records say. Where it was met it may be chosen for later.
func (n *Node) elsewhere(s *session.Session) error {
	met := ""
	for _, p := range s.Stats().Paths {
		if p.Dialled && p.Host.IsValid() {
			met = networkOf(p.Host)
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	rec := n.found[s.Peer()]
	if rec == nil || met == "" {
		return nil
	}
	if chosen, ok := n.relayRoute(rec); ok && chosen.group == met {
		return nil
	}
	for id := range n.relayMet { // room for one: any other may go
		if len(n.relayMet) < maxRelayRests {
			break
		}
		delete(n.relayMet, id)
	}
	n.relayMet[rec.ID] = met
	for _, r := range n.relaysInUse() {
		if r.relay != rec.ID && r.group == met {
			return errElsewhere
		}
	}
	return nil
}

// relayRoute is the way to a relay by its record, if there is one that we can take. Its
// network is the one in which it was met, if it ever was. mu is held.
func (n *Node) relayRoute(rec *registry.Record) (r route, ok bool) {
	for _, a := range directAddrs(rec) {
		if n.canDial(a) {
			return route{relay: rec.ID, operator: rec.Operator, group: cmp.Or(n.relayMet[rec.ID], transport.NetworkGroup(a))}, true
		}
	}
	return r, false
}

// directAddrs are the record's addresses that are no circuits, nor too long, without
// /p2p/ID.
func directAddrs(rec *registry.Record) (out []multiaddr.Multiaddr) {
	for _, a := range rec.Addrs {
		if _, _, circuit, err := transport.SplitCircuit(a); err != nil || circuit {
			continue
		}
		if base, id, named, err := transport.SplitPeer(a); err == nil && (!named || id == rec.ID) && len(base.Bytes()) <= maxRelayAddr {
			out = append(out, base)
		}
	}
	return out
}

// usesRelay reports whether id is this node, a bootstrap peer, or a relay that was
// found before. mu is held.
func (n *Node) usesRelay(id identity.ID) bool {
	return id == n.id || n.found[id] != nil || n.inBootstrap(id) != nil
}

// inBootstrap returns the first address of a bootstrap peer, nil if it is none.
func (n *Node) inBootstrap(id identity.ID) multiaddr.Multiaddr {
	for _, b := range n.Bootstrap {
		if base, peer, _, err := transport.SplitPeer(b); err == nil && peer == id {
			return base
		}
	}
	return nil
}

// relaysInUse are the routes to those at which the node is reserved, or is about to
// be. mu is held.
func (n *Node) relaysInUse() (used []route) {
	for _, rec := range n.found {
		if r, ok := n.relayRoute(rec); ok {
			used = append(used, r)
		}
	}
	for id := range n.reservations {
		if addr := n.inBootstrap(id); addr != nil {
			operator, _ := n.operators.remembered(id, time.Now())
			used = append(used, route{relay: id, operator: operator, group: transport.NetworkGroup(addr)})
		}
	}
	return used
}

// restRelay leaves a relay of the directory alone for a while: longer each time,
// unless it has served us meanwhile. mu is held.
func (n *Node) restRelay(id identity.ID, served bool) {
	p, again := n.relayRests[id]
	for other, q := range n.relayRests {
		if !again && len(n.relayRests) >= maxRelayRests {
			delete(n.relayRests, other)
		} else if other != id && time.Since(q.at) > maxRelayRest {
			delete(n.relayRests, other)
		}
	}
	if served {
		p = pace{}
	}
	p.next(minRelayRest, maxRelayRest)
	n.relayRests[id] = p
}

// circuits are the addresses by which others reach this node through relays. mu is
// held.
func (n *Node) circuits() (out []multiaddr.Multiaddr) {
	add := func(relay multiaddr.Multiaddr) {
		if c, err := transport.Circuit(relay, n.id); err == nil {
			out = append(out, c)
		}
	}
	for _, b := range n.Bootstrap {
		if _, id, _, err := transport.SplitPeer(b); err == nil && n.reservations[id] != nil {
			add(b)
		}
	}
	for id, rec := range n.found {
		if n.reservations[id] == nil {
			continue
		}
		addrs := directAddrs(rec)
		for _, a := range addrs[:min(relayAddrs, len(addrs))] {
			add(transport.WithPeer(a, id))
		}
	}
	return out
}

// WaitReserved waits until k relays forward to this node. A node reserves at the
// relays among its Bootstrap addresses, and at others that its Directory knows, once
// it listens on a service: call Listen first. When ctx ends the wait, the error says
// what each relay lacking said.
func (n *Node) WaitReserved(ctx context.Context, k int) error {
	n.init()
	n.mu.Lock()
	if k > n.wanted {
		n.wanted = min(k, maxReservations)
		n.reservationsChanged()
	}
	n.mu.Unlock()
	for {
		n.mu.Lock()
		have, changed := len(n.reservations), n.reservedC
		hopeless := n.hopeless(k)
		n.mu.Unlock()
		if have >= k {
			return nil
		}
		if hopeless != nil {
			return &OpError{Op: "reserve", Err: hopeless}
		}
		select {
		case <-changed:
		case <-n.ctx.Done():
			return errNodeClosed
		case <-ctx.Done():
			return &OpError{Op: "reserve", Err: n.whyNotReserved(context.Cause(ctx))}
		}
	}
}

// hopeless says why there will never be k reservations, if so. mu is held.
func (n *Node) hopeless(k int) error {
	known := make(map[identity.ID]bool)
	for _, b := range n.Bootstrap {
		if _, id, ok, err := transport.SplitPeer(b); err == nil && ok && id != n.id {
			known[id] = true
		}
	}
	switch {
	case n.closed:
		return errNodeClosed
	case n.seeksRelays() && k > maxReservations:
		return fmt.Errorf("%d relays are wanted, and %d is the most", k, maxReservations)
	case !n.seeksRelays() && k > len(known):
		return fmt.Errorf("%d relays are wanted, and Bootstrap names %d", k, len(known))
	case !n.reserves && k > 0:
		return errors.New("a node reserves once it listens: call Listen first")
	}
	return nil
}

func (n *Node) whyNotReserved(cause error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for id, err := range n.refusals {
		if err != nil && n.reservations[id] == nil {
			cause = fmt.Errorf("%w; relay %s: %w", cause, id.Short(), err)
		}
	}
	switch {
	case !n.seeksRelays():
	case n.seekErr != nil:
		cause = fmt.Errorf("%w; asked for relays: %w", cause, n.seekErr)
	case len(n.found)+len(n.relayRests) == 0:
		cause = fmt.Errorf("%w; the directory knows no relay that this node could use", cause)
	}
	return cause
}
