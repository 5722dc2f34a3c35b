// Package tun makes the network device by which the kernel's packets reach the mesh, and gives it its addresses and
// routes. Only Linux has one; elsewhere Open says so.
//
// Packets go through it as the kernel has them: up to 64 KiB of a TCP connection at once, behind a virtio header that
// says how to cut them into segments of the MTU, and that the checksum is yet to be made.
package tun

import "net/netip"

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
	// Addrs are the node's own.
	Addrs []netip.Addr
	// Nets are routed to the device. One that is everything (0.0.0.0/0 or ::/0) is for what has no other route than the
	// default one, and not for what is dialled by Dialer.
	Nets []netip.Prefix
}
