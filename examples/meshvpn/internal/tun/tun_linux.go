package tun

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/splitmesh/splitmesh/examples/internal/program"
)

// The kernel may leave to us: checksums, and cutting TCP over IPv4 and IPv6 (TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6).
const offload = 1 | 2 | 4

// A Device is one of the kernel's. It lives until it is closed, or the process ends.
type Device struct {
	file  *os.File
	name  string
	rules bool // whether there are rules to be taken back
}

// Open makes the device and configures it.
func Open(c Config) (*Device, error) {
	d, err := open(c.Name)
	if err != nil {
		return nil, explain(c.Name, err)
	}
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

// explain says what to do about an error.
func explain(name string, err error) error {
	what := fmt.Errorf("network device %s: %w", name, err)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return &program.Error{Status: program.Forbidden, Err: what, Hint: "It needs CAP_NET_ADMIN: run it as root, as the service that the command unit prints, or after setcap cap_net_admin+ep."}
	case errors.Is(err, unix.EBUSY):
		return &program.Error{Status: program.Busy, Err: what, Hint: "Another program has a device of that name: choose another one with --tun.name."}
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV):
		return &program.Error{Status: program.Failed, Err: what, Hint: "The kernel needs its module tun (modprobe tun), a container the device /dev/net/tun."}
	}
	return what
}

// Name is the device's.
func (d *Device) Name() string { return d.name }

// Read reads one packet behind a virtio header.
func (d *Device) Read(b []byte) (int, error) { return d.file.Read(b) }

// Write writes one.
func (d *Device) Write(b []byte) (int, error) { return d.file.Write(b) }

// Close removes the device, and with it its addresses and routes.
func (d *Device) Close() error {
	err := d.file.Close()
	if d.rules {
		err = errors.Join(err, removeRules())
	}
	return err
}
