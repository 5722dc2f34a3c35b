// Package tun makes the network device by which the kernel's packets reach the mesh, and gives it its addresses and
// routes. Only Linux has one; elsewhere Open says so.
//
// Packets go through it as the kernel has them: up to 64 KiB of a TCP connection at once, behind a virtio header that
// says how to cut them into segments of the MTU, and that the checksum is yet to be made.
//
// What was once routed to the device goes nowhere else, unless somebody gives it up: behind each route is one that has
// no way, which stays when the process is killed, until the next Open or Restore.
package tun

import (
	"errors"
	"net/netip"
)

// Bounds of a device's MTU: the least of IPv6, and the most of IPv4.
const (
	MinMTU = 1280
	MaxMTU = 65535
)

// A Config says what the device is to be.
type Config struct {
	// Name is the device's: at most 15 bytes.
	Name string
	MTU  int
	// Addrs are the node's own. Where there is no IPv6 those of IPv4 do, if there are any.
	Addrs []netip.Addr
	// Nets are routed to the device. One that is everything (0.0.0.0/0 or ::/0) is for what has no other route than the
	// default one, and not for what is dialled by the device's Dialer, nor for answers from TCP ports in Ports.
	Nets  []netip.Prefix
	Ports []uint16
}

// ErrItself is returned by a Dialer for an address that the device itself leads to.
var ErrItself = errors.New("the way there is the virtual network, which can't carry itself")
