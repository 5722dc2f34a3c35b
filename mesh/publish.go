package mesh

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/transport"
)

const (
	recordLife     = 24 * time.Hour
	publishTimeout = 10 * time.Second
	// A record that was not taken is published again after minRepublish, twice as long
	// each time, up to maxRepublish.
	minRepublish = time.Second
	maxRepublish = 5 * time.Minute
	// Of changes that follow each other the next is published minChange later, twice as
	// long each time, up to maxChange.
	minChange = 5 * time.Millisecond
	maxChange = time.Minute
	// lookEvery is how often a node that listens everywhere looks where that is.
	lookEvery = 10 * time.Second
	// maxAddrBytes is what the addresses of a record take at most, of registry.MaxSize: what
	// the rest can leave them.
	maxAddrBytes = 3000
)

// publish has the record published soon.
func (n *Node) publish() {
	select {
	case n.moved <- struct{}{}:
	default:
	}
}

// keepPublished tells the directory where the node is: when that has changed, long
// before the record expires, and again when it failed.
func (n *Node) keepPublished() {
	var retry, changes pace
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	if !n.everywhere() {
		look.Stop()
	}
	for {
		select {
		case <-n.moved: // until now: it is in what is published
		default:
		}
		wait := recordLife / 3
		own := n.ownAddrs()
		err := n.publishRecord()
		n.mu.Lock()
		n.unpublished = err
		closing := n.closed
		n.mu.Unlock()
		switch {
		case err == nil:
			retry = pace{}
		case closing: // what the record was sent over may be closed already
			return
		default:
			if retry.wait == 0 {
				n.log.Warn("record not published; it will be tried again", "err", err)
			} else {
				n.log.Debug("record not published", "err", err)
			}
			retry.next(minRepublish, maxRepublish)
			wait = retry.left()
		}
		if time.Since(changes.at) > maxChange {
			changes = pace{} // the next is published soon
		}
		changes.next(minChange, maxChange)
		due := time.After(wait)
		for waiting := true; waiting; {
			select {
			case <-due:
				waiting = false
			case <-look.C:
				if !slices.EqualFunc(own, n.ownAddrs(), multiaddr.Multiaddr.Equal) {
					n.publish()
				}
			case <-n.moved:
				select { // who keeps us moving is not to keep us publishing
				case <-time.After(changes.left()):
				case <-n.ctx.Done():
					return
				}
				waiting = false
			case <-n.ctx.Done():
				return
			}
		}
	}
}

// everywhere reports whether the node listens at whatever addresses the machine has.
func (n *Node) everywhere() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.ContainsFunc(n.arrivals, func(l transport.Listener) bool {
		host, ok := hostOf(l.Multiaddr())
		return ok && host.IsUnspecified()
	})
}

// ownAddrs are those at which others may dial the listeners.
func (n *Node) ownAddrs() (own []multiaddr.Multiaddr) {
	n.mu.Lock()
	arrivals := slices.Clone(n.arrivals)
	n.mu.Unlock()
	for _, l := range arrivals {
		own = append(own, dialable(l.Multiaddr(), n.interfaces)...)
	}
	return own
}

// publishRecord publishes the record as it is now, unless there is no way to the node.
func (n *Node) publishRecord() error {
	ctx, cancel := context.WithTimeout(n.ctx, publishTimeout)
	defer cancel()
	rec, err := n.Record()
	if err != nil || len(rec.Addrs) == 0 {
		return err
	}
	err = n.Directory.Publish(ctx, rec)
	if errors.Is(err, registry.ErrNameTaken) {
		// To be found by the ID matters more. The name is tried again each time.
		nameless := n.record()
		nameless.Name = ""
		if signErr := nameless.Sign(n.key); signErr != nil {
			return signErr
		}
		return errors.Join(err, n.Directory.Publish(ctx, nameless))
	}
	if !errors.Is(err, registry.ErrRollback) {
		return err
	}
	// Our clock went back, or another run of this node is ahead: go on from there.
	known, lookupErr := n.lookup(ctx, n.id)
	if lookupErr != nil || known.Sequence < rec.Sequence {
		return errors.Join(err, lookupErr)
	}
	n.mu.Lock()
	n.lastSequence = max(n.lastSequence, known.Sequence)
	n.mu.Unlock()
	if rec, err = n.Record(); err != nil {
		return err
	}
	return n.Directory.Publish(ctx, rec)
}

// Record returns a signed record of where the node is now and what it does for others, as it publishes: for who serves
// it elsewhere, such as with registry/bootstrap.Handler. It is valid for a day; each is newer than the one before.
func (n *Node) Record() (*registry.Record, error) {
	n.init()
	if n.key == nil {
		return nil, &OpError{Op: "record", Err: errors.New("the node has no key: none could be made")}
	}
	rec := n.record()
	if err := rec.Sign(n.key); err != nil {
		return nil, &OpError{Op: "record", Err: err}
	}
	return rec, nil
}

// record says where the node is now, unsigned.
func (n *Node) record() *registry.Record {
	own := n.ownAddrs()
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	if n.lastSequence > now.Add(registry.MaxSkew).UnixMilli() {
		n.lastSequence = 0 // the clock was ahead, and nobody took what was made then
	}
	n.lastSequence = max(now.UnixMilli(), n.lastSequence+1)
	rec := &registry.Record{ID: n.id, Sequence: n.lastSequence, Expires: now.Add(recordLife).UnixMilli(), Operator: n.Operator, Network: n.Network, Name: n.Name}
	rec.Capabilities = append(rec.Capabilities, n.Capabilities...)
	if n.relay != nil && !n.relay.draining() {
		rec.Capabilities = append(rec.Capabilities, registry.CapRelay)
	}
	rec.Addrs = fitting(own, append(slices.Clone(n.observed), n.circuits()...))
	return rec
}

// fitting are the addresses that a record has room for, own ones first. However many
// interfaces there are, half of it is for how others say to reach us; and one that is too
// long, which is a relay's, leaves the room to the next.
func fitting(own, others []multiaddr.Multiaddr) (out []multiaddr.Multiaddr) {
	own = own[:min(len(own), registry.MaxAddrs-min(len(others), registry.MaxAddrs/2))]
	size := 0
	for _, a := range slices.Concat(own, others) {
		n := len(a.Bytes())
		if len(out) < registry.MaxAddrs && len(a) <= registry.MaxComponents && size+n <= maxAddrBytes && !slices.ContainsFunc(out, a.Equal) {
			out, size = append(out, a), size+n
		}
	}
	return out
}

// dialable returns what others may dial of an address that is listened on: itself or, for an unspecified host, those of
// this machine's interfaces, public ones first. Loopback and link-local ones are of no use to others.
func dialable(a multiaddr.Multiaddr, interfaces func() ([]net.Addr, error)) []multiaddr.Multiaddr {
	host, ok := hostOf(a)
	if !ok || !host.IsUnspecified() {
		return []multiaddr.Multiaddr{a}
	}
	all, err := interfaces()
	if err != nil {
		return nil
	}
	var found []netip.Addr
	for _, i := range all {
		p, err := netip.ParsePrefix(i.String())
		if err != nil {
			continue
		}
		ip := p.Addr().Unmap().WithZone("")
		// A socket on :: takes IPv4, too, unless the system was told otherwise.
		if ip.Is6() && host.Is4() || ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsMulticast() {
			continue
		}
		found = append(found, ip)
	}
	slices.SortStableFunc(found, func(a, b netip.Addr) int {
		switch {
		case a.IsPrivate() == b.IsPrivate():
			return 0
		case b.IsPrivate():
			return -1
		}
		return 1
	})
	var out []multiaddr.Multiaddr
	for _, ip := range found {
		out = append(out, withHost(a, ip))
	}
	return out
}

// hostOf returns the IP address that a begins with.
func hostOf(a multiaddr.Multiaddr) (ip netip.Addr, ok bool) {
	if len(a) == 0 || a[0].Code() != multiaddr.P_IP4 && a[0].Code() != multiaddr.P_IP6 {
		return ip, false
	}
	ip, ok = netip.AddrFromSlice(a[0].RawValue())
	return ip.Unmap(), ok
}
