package kad

import (
	"errors"
	"net/netip"
	"slices"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
)

// A Contact is a node that answers queries. It is not changed.
type Contact struct {
	ID     identity.ID
	Key    Key
	Group  netip.Prefix     // the network that it is in; those of none that we know count as one network
	Record *registry.Record // signed by it
}

var errNoServer = errors.New("the record is not one of a node that answers queries")

// NewContact makes a contact of a record that was checked and announces [registry.CapDHTServer].
func NewContact(r *registry.Record) (*Contact, error) {
	if r.Revoked || !r.Has(registry.CapDHTServer) {
		return nil, errNoServer
	}
	return &Contact{ID: r.ID, Key: PeerKey(r.ID), Group: GroupOf(r.Addrs), Record: r}, nil
}

// GroupOf returns the network of the first public IP address, or else of the first: the /24 of an IPv4, the /48 of an
// IPv6. An IPv6 address that has an IPv4 one in it (RFC 4291, RFC 6052, RFC 3056) counts as that. There is no network in
// an address by name, nor in one behind a relay.
func GroupOf(addrs []multiaddr.Multiaddr) (first netip.Prefix) {
	for _, a := range addrs {
		ip, ok := ipOf(a)
		switch {
		case ok && public(ip):
			return group(ip)
		case ok && !first.IsValid():
			first = group(ip)
		}
	}
	return first
}

// Met returns the contact as one that was met at a host, and is to be counted to that host's network: whoever was dialled
// there, or has dialled from where its record says to be. It returns nil for others, of whom only they themselves say
// where they are. Of hosts that are not public it is enough that the record has such an address; of none that is known,
// that it has no IP address, and so belongs to no network.
func (c *Contact) Met(host netip.Addr, dialled bool) *Contact {
	has := func(what func(netip.Addr) bool) bool {
		return slices.ContainsFunc(c.Record.Addrs, func(a multiaddr.Multiaddr) bool { ip, ok := ipOf(a); return ok && what(ip) })
	}
	switch {
	case !host.IsValid():
		if has(func(netip.Addr) bool { return true }) {
			return nil
		}
		return c
	case !public(host):
		if !has(func(ip netip.Addr) bool { return !public(ip) }) {
			return nil
		}
		return c
	case !dialled && !has(func(ip netip.Addr) bool { return group(ip) == group(host) }):
		return nil
	}
	met := *c
	met.Group = group(host)
	return &met
}

// Public reports whether addrs lead to the Internet: one of them is public, relays included, or a name.
func Public(addrs []multiaddr.Multiaddr) bool {
	for _, a := range addrs {
		if len(a) == 0 {
			continue
		}
		switch a[0].Code() {
		case multiaddr.P_IP4, multiaddr.P_IP6:
			if ip, ok := netip.AddrFromSlice(a[0].RawValue()); ok && public(ip) {
				return true
			}
		case multiaddr.P_DNS, multiaddr.P_DNS4, multiaddr.P_DNS6:
			return true
		}
	}
	return len(addrs) == 0
}

// Local reports whether addrs are those of a node that is in a private network, on a link or on this machine, and nowhere
// else.
func Local(addrs []multiaddr.Multiaddr) bool {
	for _, a := range addrs {
		if ip, ok := ipOf(a); !ok || public(ip) {
			return false
		}
	}
	return len(addrs) > 0
}

// shared is for the nodes of one provider (RFC 6598).
var shared = netip.MustParsePrefix("100.64.0.0/10")

func public(ip netip.Addr) bool {
	ip = plain(ip)
	return ip.IsGlobalUnicast() && !ip.IsPrivate() && !shared.Contains(ip)
}

// PrivateGroupOf is GroupOf where all are of one network that nobody else is in: each address that is not public is a
// network of its own.
func PrivateGroupOf(addrs []multiaddr.Multiaddr) netip.Prefix {
	for _, a := range addrs {
		if ip, ok := ipOf(a); ok && (ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast()) {
			return netip.PrefixFrom(ip, ip.BitLen())
		}
	}
	return GroupOf(addrs)
}

func ipOf(a multiaddr.Multiaddr) (ip netip.Addr, ok bool) {
	if len(a) == 0 || slices.ContainsFunc(a, func(c multiaddr.Component) bool { return c.Code() == multiaddr.P_CIRCUIT }) {
		return ip, false
	}
	if c := a[0].Code(); c != multiaddr.P_IP4 && c != multiaddr.P_IP6 {
		return ip, false
	}
	ip, ok = netip.AddrFromSlice(a[0].RawValue())
	return ip.Unmap(), ok
}

var (
	nat64   = netip.MustParsePrefix("64:ff9b::/96")
	sixTo4  = netip.MustParsePrefix("2002::/16")
	v4Group = 24
	v6Group = 48
)

// plain returns the IPv4 address in ip, if there is one.
func plain(ip netip.Addr) netip.Addr {
	if ip = ip.Unmap(); ip.Is6() {
		b := ip.As16()
		switch {
		case nat64.Contains(ip):
			return netip.AddrFrom4([4]byte(b[12:]))
		case sixTo4.Contains(ip):
			return netip.AddrFrom4([4]byte(b[2:6]))
		}
	}
	return ip
}

func group(ip netip.Addr) netip.Prefix {
	ip = plain(ip)
	n := v4Group
	if ip.Is6() {
		n = v6Group
	}
	p, _ := ip.Prefix(n) // n is in range
	return p
}

// Sort orders contacts by their distance to target, the closest first.
func Sort(target Key, cs []*Contact) {
	slices.SortFunc(cs, func(a, b *Contact) int { return target.Compare(a.Key, b.Key) })
}

// Spread returns the first n of the contacts, in their order, of which at most [MaxGroup] are of one network.
func Spread(cs []*Contact, n int) []*Contact {
	groups := make(map[netip.Prefix]int)
	out := make([]*Contact, 0, n)
	for _, c := range cs {
		if len(out) == n {
			break
		}
		if groups[c.Group] < MaxGroup {
			groups[c.Group]++
			out = append(out, c)
		}
	}
	return out
}
