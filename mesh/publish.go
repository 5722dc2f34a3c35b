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
)

const (
	recordLife     = 24 * time.Hour
	publishTimeout = 10 * time.Second
	// A record that was not taken is published again after minRepublish, twice as long
	// each time, up to maxRepublish.
	minRepublish = time.Second
	maxRepublish = 5 * time.Minute
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
	var retry pace
	for {
		wait := recordLife / 3
		switch err := n.publishRecord(); {
		case err == nil:
			retry = pace{}
		case n.ctx.Err() != nil:
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
		t := time.NewTimer(wait)
		select {
		case <-n.moved:
		case <-t.C:
		case <-n.ctx.Done():
			t.Stop()
			return
		}
		t.Stop()
	}
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
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	n.lastSequence = max(now.UnixMilli(), n.lastSequence+1)
	rec := &registry.Record{ID: n.id, Sequence: n.lastSequence, Expires: now.Add(recordLife).UnixMilli(), Operator: n.Operator, Network: n.Network, Name: n.Name}
	rec.Capabilities = append(rec.Capabilities, n.Capabilities...)
	if n.relay != nil && !n.relay.draining() {
		rec.Capabilities = append(rec.Capabilities, registry.CapRelay)
	}
	for _, l := range n.arrivals {
		rec.Addrs = append(rec.Addrs, dialable(l.Multiaddr(), net.InterfaceAddrs)...)
	}
	for _, a := range n.observed {
		if !slices.ContainsFunc(rec.Addrs, a.Equal) {
			rec.Addrs = append(rec.Addrs, a)
		}
	}
	rec.Addrs = append(rec.Addrs, n.circuits()...)
	rec.Addrs = rec.Addrs[:min(len(rec.Addrs), registry.MaxAddrs)]
	return rec
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
