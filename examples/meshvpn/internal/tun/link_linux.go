package tun

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// mark is what the sockets of Dialer have, and the number of the table with the routes for all other packets. Both are
// "mv".
const mark = 0x6d76

// The rules' places, before that of the table main.
const (
	ruleMain = 5200 // main, but for its default route
	ruleOurs = 5201 // then ours, but for what is marked
)

// configure gives the device its addresses and routes.
func (d *Device) configure(c Config) error {
	link, err := netlink.LinkByName(d.name)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetMTU(link, c.MTU); err != nil {
		return fmt.Errorf("MTU %d: %w", c.MTU, err)
	}
	for _, a := range c.Addrs {
		addr := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(a, a.BitLen())), Flags: unix.IFA_F_NODAD}
		if err := netlink.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("address %v: %w", a, err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return err
	}
	for _, n := range c.Nets {
		if err := d.route(link, n, c.Addrs); err != nil {
			return fmt.Errorf("route to %v: %w", n, err)
		}
	}
	return nil
}

// route routes a network to the device. The node's own address is the source.
func (d *Device) route(link netlink.Link, n netip.Prefix, own []netip.Addr) error {
	r := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(n)}
	for _, a := range own {
		if a.Is4() == n.Addr().Is4() {
			r.Src = a.AsSlice()
		}
	}
	if r.Src == nil {
		return errors.New("the node has no address of that version")
	}
	if n.Bits() == 0 {
		r.Table = mark
		if err := d.addRules(n.Addr().Is4()); err != nil {
			return err
		}
	}
	err := netlink.RouteAdd(r)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: another device has it; leave it to one of them", err)
	}
	return err
}

func rules(family int) []*netlink.Rule {
	first, second := netlink.NewRule(), netlink.NewRule()
	first.Family, first.Priority, first.Table, first.SuppressPrefixlen = family, ruleMain, unix.RT_TABLE_MAIN, 0
	second.Family, second.Priority, second.Table, second.Mark, second.Invert = family, ruleOurs, mark, mark, true
	return []*netlink.Rule{first, second}
}

// addRules has packets that no other route fits go by our table.
func (d *Device) addRules(v4 bool) error {
	family := netlink.FAMILY_V6
	if v4 {
		family = netlink.FAMILY_V4
	}
	d.rules = true
	for _, r := range rules(family) {
		if err := netlink.RuleAdd(r); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("rule: %w", err)
		}
	}
	return nil
}

// removeRules removes those of our rules that are there. To find none takes no privilege.
func removeRules() (err error) {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		there, e := netlink.RuleList(family)
		if e != nil && !errors.Is(e, unix.EAFNOSUPPORT) {
			err = errors.Join(err, fmt.Errorf("rules: %w", e))
		}
		for _, r := range rules(family) {
			if !slices.ContainsFunc(there, func(x netlink.Rule) bool { return x.Priority == r.Priority && x.Table == r.Table }) {
				continue
			}
			if e := netlink.RuleDel(r); e != nil {
				err = errors.Join(err, fmt.Errorf("rule %d: %w", r.Priority, e))
			}
		}
	}
	return err
}

// Restore takes back what a process that crashed has left: all but the rules is gone with it.
func Restore() error { return removeRules() }

// Dialer dials past the device, even where everything is routed to it.
func Dialer() *net.Dialer {
	return &net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		failed := c.Control(func(fd uintptr) {
			err = os.NewSyscallError("SO_MARK", unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, mark))
		})
		return errors.Join(failed, err)
	}}
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
