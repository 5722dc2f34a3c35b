package mesh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/multiformats/go-multiaddr"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/transport"
)

// A route is one way to a peer: its own address, or a relay.
type route struct {
	relay identity.ID         // zero: direct
	addr  multiaddr.Multiaddr // the peer's, or the relay's; nil when not known
	self  bool                // the peer is this node
	// What the route shares with others when it fails or spies.
	operator, group string
}

func (r *route) direct() bool { return r.relay.IsZero() }

// String names the route for people.
func (r *route) String() string {
	switch {
	case r.self:
		return "this node itself"
	case !r.direct():
		return "relay " + r.relay.Short()
	}
	return r.addr.String()
}

// carrier names who carries the route: the relay, with all others of its operator.
func (r *route) carrier() string {
	if r.operator != "" {
		return "operator " + r.operator
	}
	return string(r.relay[:])
}

// key tells routes apart: one for each relay, one for each direct address.
func (r *route) key() string {
	switch {
	case r.self:
		return "self"
	case r.direct():
		return r.addr.String()
	}
	return r.relay.String()
}

// routes returns the ways to the key's peer, the preferred first; see inOrder.
func (n *Node) routes(ctx context.Context, key linkKey, hints []multiaddr.Multiaddr) ([]route, error) {
	if key.peer == n.id {
		return []route{{self: true}}, nil
	}
	rec, err := n.lookup(ctx, key.peer)
	if errors.Is(err, ErrRevoked) {
		return nil, err
	}
	addrs := n.addrsOf(key.peer, hints, rec)
	found := n.sortRoutes(ctx, key, addrs)
	if len(found) == 0 {
		return nil, noRoute(key, len(addrs) > 0, n.Directory != nil, err)
	}
	return found, nil
}

// addrsOf are the addresses by which a peer may be reached: its own, and those of relays
// that may know it. rec may be nil.
func (n *Node) addrsOf(peer identity.ID, hints []multiaddr.Multiaddr, rec *registry.Record) (addrs []multiaddr.Multiaddr) {
	addrs = append(addrs, hints...)
	if book, ok := n.Names.(AddressBook); ok {
		for _, a := range book.Addrs(peer) {
			if _, id, named, err := transport.SplitPeer(a); err == nil && named && id == peer {
				addrs = append(addrs, a)
			}
		}
	}
	addrs = append(addrs, n.Bootstrap...)
	if rec != nil {
		addrs = append(addrs, worthDialling(rec.Addrs, n.interfaces)...)
	}
	return addrs
}

// noRoute says why there is no way to a peer. looked is what the directory said, nil if
// it was not asked or knows the peer.
func noRoute(key linkKey, addrs, directory bool, looked error) error {
	switch {
	case looked != nil:
		return fmt.Errorf("%w: %w", ErrNoRoute, looked)
	case key.relayedOnly && addrs:
		return fmt.Errorf("%w: no relay is known, and RelayedOnly allows no direct address", ErrNoRoute)
	case directory:
		return fmt.Errorf("%w: its record has no address that this node can dial", ErrNoRoute)
	case !addrs:
		return fmt.Errorf("%w: give the node addresses of relays or of the peer (Bootstrap, SPLITMESH_BOOTSTRAP), or a Directory", ErrNoRoute)
	}
	return ErrNoRoute
}

// sortRoutes makes routes of addresses: the peer's own, circuits to the peer, and
// every other node's as a relay that may know it.
func (n *Node) sortRoutes(ctx context.Context, key linkKey, addrs []multiaddr.Multiaddr) []route {
	var direct, relayed []route
	seen := make(map[string]bool)
	for _, a := range addrs {
		r := route{addr: a}
		if relay, target, ok, err := transport.SplitCircuit(a); err == nil && ok {
			if target != key.peer {
				continue
			}
			r.addr = relay
		}
		base, id, ok, err := transport.SplitPeer(r.addr)
		switch {
		case err != nil:
			continue
		case !ok:
			id = key.peer // a record's own address may leave it out
		}
		r.addr = base
		r.group = transport.NetworkGroup(base)
		if id != key.peer {
			r.relay = id
		}
		way := r.key()
		if id == n.id || seen[way] || r.direct() && (key.relayedOnly || !n.canDial(base)) || !r.direct() && key.hop {
			continue
		}
		seen[way] = true
		if r.direct() {
			direct = append(direct, r)
		} else {
			relayed = append(relayed, r)
		}
	}
	// Only who takes nothing but relays waits long to know who runs them: to look that up may take a node to which
	// this is the way. With a direct way nobody waits.
	patience := time.Duration(0)
	switch {
	case key.relayedOnly:
		patience = lookupTimeout
	case len(direct) == 0:
		patience = stagger
	}
	n.fillOperators(ctx, relayed, patience)
	return n.inOrder(nil, append(direct, relayed...), key.relayedOnly)
}

// worthDialling leaves out, of addresses of which some are public, those of private
// networks that this machine is not in: they lead elsewhere, if they are true at all.
func worthDialling(addrs []multiaddr.Multiaddr, interfaces func() ([]net.Addr, error)) (out []multiaddr.Multiaddr) {
	private := func(a multiaddr.Multiaddr) (netip.Addr, bool) {
		host, ok := hostOf(a)
		return host, ok && (!host.IsGlobalUnicast() || host.IsPrivate())
	}
	if !slices.ContainsFunc(addrs, func(a multiaddr.Multiaddr) bool { _, is := private(a); return !is }) {
		return addrs
	}
	var here []net.Addr
	for _, a := range addrs {
		host, is := private(a)
		if is && here == nil {
			here, _ = interfaces() // of none that can be told we are in none
		}
		onLink := func(i net.Addr) bool {
			p, err := netip.ParsePrefix(i.String())
			return err == nil && p.Contains(host) && host.IsPrivate()
		}
		if !is || slices.ContainsFunc(here, onLink) {
			out = append(out, a)
		}
	}
	return out
}

func (n *Node) canDial(addr multiaddr.Multiaddr) bool {
	for _, t := range n.transports {
		if t.CanDial(addr) {
			return true
		}
	}
	return false
}

// lookup asks the directory, and believes it only what id has signed; nil, nil
// when there is none. A revocation is ErrRevoked.
func (n *Node) lookup(ctx context.Context, id identity.ID) (*registry.Record, error) {
	if n.Directory == nil {
		return nil, nil
	}
	rec, err := n.Directory.Lookup(ctx, id)
	if err != nil {
		return nil, err
	}
	if rec.ID != id {
		return nil, fmt.Errorf("%w: the directory answers with the record of %s", registry.ErrNotFound, rec.ID.Short())
	}
	if err := rec.Check(time.Now()); err != nil {
		return nil, err
	}
	if rec.Revoked {
		return nil, ErrRevoked
	}
	return rec, nil
}

// dialRoute carries an opening over r.
func (n *Node) dialRoute(ctx context.Context, key linkKey, r *route, opening []byte) (net.Conn, error) {
	switch {
	case r.self:
		return n.dialSelf(opening)
	case !r.direct():
		return n.dialCircuit(ctx, r, key.peer, opening)
	}
	for _, t := range n.transports {
		if t.CanDial(r.addr) {
			return t.Dial(ctx, r.addr, opening)
		}
	}
	return nil, transport.ErrUnsupported
}
