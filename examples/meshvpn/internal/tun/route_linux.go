package tun

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// mark is what the sockets of Dialer have, and the number of the table with the routes for all other packets. Both
	// are "mv".
	mark = 0x6d76
	// origin tells our routes from others (see rtnetlink(7), rtm_protocol).
	origin = 109
	// last is the metric of a route that counts when all others are gone.
	last = math.MaxInt32
)

// The rules' places, before that of the table main.
const (
	rulePorts = 5199 // what the node's own ports answer goes by main
	ruleMain  = 5200 // main, but for its default route
	ruleOurs  = 5201 // then ours, but for what is marked
)

var families = []int{netlink.FAMILY_V4, netlink.FAMILY_V6}

func familyOf(p netip.Prefix) int {
	if p.Addr().Is4() {
		return netlink.FAMILY_V4
	}
	return netlink.FAMILY_V6
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// toUs is the route of a network to the device. The node's own address is the source.
func (d *Device) toUs(n netip.Prefix) (*netlink.Route, error) {
	r := &netlink.Route{LinkIndex: d.link.Attrs().Index, Dst: ipNet(n), Table: tableOf(n), Protocol: origin}
	for _, a := range d.addrs {
		if a.Is4() == n.Addr().Is4() {
			r.Src = a.AsSlice()
			return r, nil
		}
	}
	return nil, errors.New("the node has no address of that version")
}

// nowhere is the route that a network has when the one to the device is gone.
func nowhere(n netip.Prefix) *netlink.Route {
	return &netlink.Route{Dst: ipNet(n), Table: tableOf(n), Protocol: origin, Type: unix.RTN_UNREACHABLE, Priority: last}
}

func tableOf(n netip.Prefix) int {
	if n.Bits() == 0 {
		return mark
	}
	return unix.RT_TABLE_MAIN
}

// Route routes the networks to the device, and no others. If it fails some may not be. It mends what went with the device
// when somebody set it down.
func (d *Device) Route(nets []netip.Prefix) error {
	for _, a := range d.addrs {
		if err := d.address(a); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("address %v: %w", a, err)
		}
	}
	if err := netlink.LinkSetUp(d.link); err != nil {
		return err
	}
	nets = slices.DeleteFunc(slices.Clone(nets), func(n netip.Prefix) bool {
		return n.Addr().Is6() && !slices.ContainsFunc(d.addrs, netip.Addr.Is6) // there is no IPv6 here
	})
	there, err := routes()
	if err != nil {
		return err
	}
	has := func(n netip.Prefix) bool {
		return slices.ContainsFunc(there, func(r netlink.Route) bool { return r.LinkIndex == d.link.Attrs().Index && is(&r, n) })
	}
	for _, n := range nets {
		r, err := d.toUs(n)
		if err == nil {
			err = netlink.RouteReplace(nowhere(n)) // first, so that nothing goes elsewhere meanwhile
		}
		if err == nil && !has(n) {
			err = netlink.RouteAdd(r)
		}
		if errors.Is(err, fs.ErrExist) {
			err = fmt.Errorf("%w: another device has it; leave it to one of them", err)
		}
		if err != nil {
			return fmt.Errorf("route to %v: %w", n, err)
		}
	}
	var all []*netlink.Rule
	for _, n := range nets {
		if n.Bits() == 0 {
			all = append(all, d.rules(familyOf(n))...)
		}
	}
	if err := setRules(all); err != nil {
		return err
	}
	for _, r := range there {
		if !slices.ContainsFunc(nets, func(n netip.Prefix) bool { return is(&r, n) }) {
			err = errors.Join(err, drop(&r))
		}
	}
	return err
}

// is is whether a route is that of a network.
func is(r *netlink.Route, n netip.Prefix) bool {
	p, ok := prefix(r)
	return ok && p == n && r.Table == tableOf(n)
}

func prefix(r *netlink.Route) (netip.Prefix, bool) {
	if r.Dst == nil {
		return netip.Prefix{}, false
	}
	a, ok := netip.AddrFromSlice(r.Dst.IP)
	bits, _ := r.Dst.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), bits), ok // some of IPv4 have the long form
}

// routes are all of ours, of an earlier process, too.
func routes() (out []netlink.Route, err error) {
	for _, family := range families {
		all, err := netlink.RouteListFiltered(family, &netlink.Route{Protocol: origin, Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
		if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
			return nil, fmt.Errorf("routes: %w", err)
		}
		out = append(out, all...)
	}
	return out, nil
}

func drop(r *netlink.Route) error {
	if err := netlink.RouteDel(r); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("route to %v: %w", r.Dst, err)
	}
	return nil
}

// rules have packets that no other route fits go by our table.
func (d *Device) rules(family int) (out []*netlink.Rule) {
	add := func(priority, table int) *netlink.Rule {
		r := netlink.NewRule()
		r.Family, r.Priority, r.Table = family, priority, table
		out = append(out, r)
		return r
	}
	for _, p := range d.ports {
		r := add(rulePorts, unix.RT_TABLE_MAIN)
		r.IPProto, r.Sport = unix.IPPROTO_TCP, netlink.NewRulePortRange(p, p)
	}
	add(ruleMain, unix.RT_TABLE_MAIN).SuppressPrefixlen = 0
	r := add(ruleOurs, mark)
	r.Mark, r.Invert = mark, true
	return out
}

// setRules has the rules be there, and no others of ours.
func setRules(want []*netlink.Rule) error {
	for _, r := range want {
		if err := netlink.RuleAdd(r); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("rule %d: %w", r.Priority, err)
		}
	}
	for _, family := range families {
		there, err := netlink.RuleList(family)
		if errors.Is(err, unix.EAFNOSUPPORT) {
			continue
		}
		if err != nil {
			return fmt.Errorf("rules: %w", err)
		}
		for _, r := range there {
			wanted := slices.ContainsFunc(want, func(w *netlink.Rule) bool {
				return w.Family == family && w.Priority == r.Priority && (w.Sport == nil || r.Sport != nil && *w.Sport == *r.Sport)
			})
			if wanted || !isOurs(&r) {
				continue
			}
			if err := netlink.RuleDel(&r); err != nil {
				return fmt.Errorf("rule %d: %w", r.Priority, err)
			}
		}
	}
	return nil
}

func isOurs(r *netlink.Rule) bool {
	switch r.Priority {
	case rulePorts:
		return r.Table == unix.RT_TABLE_MAIN && r.Sport != nil
	case ruleMain:
		return r.Table == unix.RT_TABLE_MAIN && r.SuppressPrefixlen == 0
	case ruleOurs:
		return r.Table == mark
	}
	return false
}

var errRuns = errors.New("another meshvpn is up here")

// left is whether an earlier process has left routes. It is an error if it still runs: somebody has its device open.
func left() (bool, error) {
	all, err := routes()
	if err != nil {
		return false, err
	}
	for _, r := range all {
		if r.Type != unix.RTN_UNICAST {
			continue
		}
		if link, err := netlink.LinkByIndex(r.LinkIndex); err == nil && link.Attrs().RawFlags&unix.IFF_RUNNING != 0 {
			return true, fmt.Errorf("%w, with the device %s", errRuns, link.Attrs().Name)
		}
	}
	return len(all) > 0, nil
}

// Runs is whether a process has a device with routes of ours.
func Runs() bool {
	_, err := left()
	return errors.Is(err, errRuns)
}

// remove removes routes and rules of ours, whoever made them.
func remove() error {
	err := setRules(nil)
	all, failed := routes()
	for _, r := range all {
		failed = errors.Join(failed, drop(&r))
	}
	return errors.Join(err, failed)
}

// Restore gives up what a process that ended has left. What one that runs has made stays. To find nothing takes no
// privilege.
func Restore() error {
	if _, err := left(); errors.Is(err, errRuns) {
		return nil
	} else if err != nil {
		return err
	}
	return remove()
}
