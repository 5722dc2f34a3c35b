package tun

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/splitmesh/splitmesh/examples/internal/program"
)

// The kernel may leave to us: checksums, and cutting TCP over IPv4 and IPv6 (TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6).
const offload = 1 | 2 | 4

// A Device is one of the kernel's. It lives until it is closed, or the process ends.
type Device struct {
	file  *os.File
	name  string
	link  netlink.Link
	addrs []netip.Addr
	ports []uint16
	held  bool // whether what it routed is to have no way when it is closed
}

// Open makes the device and configures it.
func Open(c Config) (*Device, error) {
	held, err := left()
	if err != nil {
		return nil, explain(c.Name, err)
	}
	d, err := open(c.Name)
	if err != nil {
		return nil, explain(c.Name, err)
	}
	d.held = held
	if err := d.configure(c); err != nil {
		return nil, errors.Join(explain(c.Name, err), d.Close())
	}
	return d, nil
}

func open(name string) (*Device, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: "/dev/net/tun", Err: err}
	}
	ifr, err := unix.NewIfreq(name)
	if err == nil {
		ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
	}
	if err == nil {
		err = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, offload)
	}
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return &Device{file: os.NewFile(uintptr(fd), "/dev/net/tun"), name: ifr.Name()}, nil
}

const privileges = "It needs CAP_NET_ADMIN, and CAP_NET_BIND_SERVICE for names: run it as root, as the service that the command unit prints, or after setcap cap_net_admin,cap_net_bind_service+ep."

// explain says what to do about an error.
func explain(name string, err error) error {
	what := fmt.Errorf("network device %s: %w", name, err)
	switch {
	case errors.Is(err, errRuns):
		return &program.Error{Status: program.Busy, Err: what, Hint: "End that one first, by meshvpn down with its --state; another network namespace has room for another one."}
	case errors.Is(err, errNoAddr):
		return &program.Error{Status: program.Failed, Err: what, Hint: "The kernel has no IPv6 (see sysctl net.ipv6.conf.all.disable_ipv6): have addresses of IPv4 by --tun.ipv4, or enable it."}
	case errors.Is(err, fs.ErrPermission) && isPath(err):
		return &program.Error{Status: program.Forbidden, Err: what, Hint: "This user may not open the device: have its mode be 0666, as udev sets it (chmod 666 /dev/net/tun), and the container let it be used.\n" + privileges}
	case errors.Is(err, fs.ErrPermission):
		return &program.Error{Status: program.Forbidden, Err: what, Hint: privileges}
	case errors.Is(err, unix.EBUSY):
		return &program.Error{Status: program.Busy, Err: what, Hint: "Another program has a device of that name: choose another one with --tun.name."}
	case errors.Is(err, unix.EINVAL):
		return &program.Error{Status: program.Failed, Err: what, Hint: "A device of another kind may have that name: choose another one with --tun.name."}
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV):
		return &program.Error{Status: program.Failed, Err: what, Hint: "The kernel needs its module tun (modprobe tun), a container the device /dev/net/tun."}
	}
	return what
}

// isPath is whether an error is about opening the device's file.
func isPath(err error) bool {
	_, ok := errors.AsType[*fs.PathError](err)
	return ok
}

// configure gives the device its addresses and routes.
func (d *Device) configure(c Config) error {
	var err error
	if d.link, err = netlink.LinkByName(d.name); err != nil {
		return err
	}
	if err := netlink.LinkSetMTU(d.link, c.MTU); err != nil {
		return fmt.Errorf("MTU %d: %w", c.MTU, err)
	}
	for _, a := range c.Addrs {
		switch err := d.address(a); {
		case err == nil, errors.Is(err, fs.ErrExist): // a device that outlives processes has it still
			d.addrs = append(d.addrs, a)
		case a.Is4() || !noIPv6(err):
			return fmt.Errorf("address %v: %w", a, err)
		}
	}
	if len(d.addrs) == 0 && len(c.Addrs) > 0 {
		return errNoAddr
	}
	d.ports = slices.Clone(c.Ports)
	return d.Route(c.Nets)
}

var errNoAddr = errors.New("it can have no address")

// noIPv6 is whether an error says that the kernel has none, or has it disabled.
func noIPv6(err error) bool {
	return errors.Is(err, unix.EACCES) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT)
}

// address gives the device an address. Where IPv6 is disabled it is enabled for the device, if that may be.
func (d *Device) address(a netip.Addr) error {
	addr := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(a, a.BitLen())), Flags: unix.IFA_F_NODAD}
	err := netlink.AddrAdd(d.link, addr)
	if a.Is6() && errors.Is(err, unix.EACCES) && os.WriteFile("/proc/sys/net/ipv6/conf/"+d.name+"/disable_ipv6", []byte("0"), 0) == nil {
		err = netlink.AddrAdd(d.link, addr)
	}
	return err
}

// Name is the device's.
func (d *Device) Name() string { return d.name }

// Addrs are the addresses that it has.
func (d *Device) Addrs() []netip.Addr { return slices.Clone(d.addrs) }

// Read reads one packet behind a virtio header.
func (d *Device) Read(b []byte) (int, error) { return d.file.Read(b) }

// Write writes one.
func (d *Device) Write(b []byte) (int, error) { return d.file.Write(b) }

// Hold has what is routed to the device go nowhere once it is closed, until the next Open or Restore. It is so from the
// start if an earlier process has left it so.
func (d *Device) Hold() { d.held = true }

// Held is whether that is so.
func (d *Device) Held() bool { return d.held }

// Close removes the device, and with it its addresses and routes; but not one that was made to outlive processes.
func (d *Device) Close() error {
	err := d.file.Close()
	if !d.held {
		err = errors.Join(err, remove())
	}
	return err
}

// Dialer dials past the device, even where everything is routed to it, and never by it: what the mesh sends would come
// back as a packet to be sent.
func (d *Device) Dialer() *net.Dialer {
	return &net.Dialer{Control: func(_, address string, c syscall.RawConn) error {
		if err := d.past(address); err != nil {
			return err
		}
		var err error
		failed := c.Control(func(fd uintptr) {
			err = os.NewSyscallError("SO_MARK", unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, mark))
		})
		return errors.Join(failed, err)
	}}
}

// past is an error if what is marked would go to an address by the device.
func (d *Device) past(address string) error {
	a, err := netip.ParseAddrPort(address)
	if err != nil || a.Addr().IsLinkLocalUnicast() {
		return nil //nolint:nilerr // the device has no part in it
	}
	routes, err := netlink.RouteGetWithOptions(a.Addr().Unmap().AsSlice(), &netlink.RouteGetOptions{Mark: mark})
	if err != nil {
		return nil //nolint:nilerr // the dial will say the same
	}
	for _, r := range routes {
		if r.LinkIndex == d.link.Attrs().Index {
			return ErrItself
		}
	}
	return nil
}

// Strict are the other devices on which the kernel drops what comes from where it would not send (rp_filter 1): if all of
// IPv4 is routed to this one, what comes for the mesh.
func (d *Device) Strict() (names []string) {
	const conf = "/proc/sys/net/ipv4/conf/"
	value := func(name string) int {
		b, err := os.ReadFile(conf + name + "/rp_filter")
		if err != nil {
			return 0
		}
		n, _ := strconv.Atoi(strings.TrimSpace(string(b))) // it is a number
		return n
	}
	all, err := os.ReadDir(conf)
	if err != nil {
		return nil
	}
	for _, e := range all {
		if name := e.Name(); !slices.Contains([]string{"all", "default", "lo", d.name}, name) && max(value("all"), value(name)) == 1 {
			names = append(names, name)
		}
	}
	return names
}
