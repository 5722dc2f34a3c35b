//go:build !linux

package tun

import (
	"errors"
	"net"
	"net/netip"
	"runtime"

	"github.com/splitmesh/splitmesh/examples/internal/program"
)

// A Device can't be had here.
type Device struct{}

// Open says so.
func Open(Config) (*Device, error) {
	return nil, &program.Error{
		Status: program.Failed, Err: errors.New("a network device on " + runtime.GOOS + ": only Linux has the kind that is needed"),
		Hint: "Peers' services are reached without one: see the commands of meshvpn that need no device.",
	}
}

// Name is nothing.
func (d *Device) Name() string { return "" }

// Addrs are none.
func (d *Device) Addrs() []netip.Addr { return nil }

// Route fails.
func (d *Device) Route([]netip.Prefix) error { return net.ErrClosed }

// Strict are none.
func (d *Device) Strict() []string { return nil }

// Read fails.
func (d *Device) Read([]byte) (int, error) { return 0, net.ErrClosed }

// Write fails.
func (d *Device) Write([]byte) (int, error) { return 0, net.ErrClosed }

// Hold does nothing.
func (d *Device) Hold() {}

// Held is never so.
func (d *Device) Held() bool { return false }

// Close does nothing.
func (d *Device) Close() error { return nil }

// Dialer dials as usual.
func (d *Device) Dialer() *net.Dialer { return new(net.Dialer) }

// Restore has nothing to take back.
func Restore() error { return nil }

// Runs is never so.
func Runs() bool { return false }
