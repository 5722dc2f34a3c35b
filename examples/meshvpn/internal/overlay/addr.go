// Package overlay says which addresses peers have in the virtual network: both are derived from the peer's key, so that
// nobody hands them out, and a Book remembers whose they are.
package overlay

import (
	"crypto/sha256"
	"encoding/binary"
	"net/netip"

	"github.com/splitmesh/splitmesh/identity"
)

// The networks of the addresses. That of IPv6 is a unique local one (RFC 4193) that all meshes share: fd, and the first
// 40 bits of SHA-256("splitmesh vpn"). That of IPv4 is the shared address space of RFC 6598.
var (
	Net6 = netip.PrefixFrom(netip.AddrFrom16(net6()), 48)
	Net4 = netip.MustParsePrefix("100.64.0.0/10")
)

func net6() (b [16]byte) {
	h := sha256.Sum256([]byte("splitmesh vpn"))
	b[0] = 0xfd
	copy(b[1:6], h[:])
	return b
}

// V6 is the peer's IPv6 address: 80 bits of a hash of its key, which nobody meets by trying keys.
func V6(id identity.ID) netip.Addr {
	h := sha256.Sum256(append([]byte("splitmesh vpn v6"), id[:]...))
	b := net6()
	copy(b[6:], h[:])
	return netip.AddrFrom16(b)
}

// V4 is the IPv4 address that the peer would have: 22 bits at most, so that another may have the same, by chance or
// because it tried keys. The Book settles who gets it. The first and the last 256 of Net4 are nobody's.
func V4(id identity.ID) netip.Addr {
	h := sha256.Sum256(append([]byte("splitmesh vpn v4"), id[:]...))
	n := binary.BigEndian.Uint64(h[:])%(1<<22-2*256) + 256
	b := Net4.Addr().As4()
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+uint32(n))
	return netip.AddrFrom4(b)
}

// Inside is whether an address is of the virtual network.
func Inside(a netip.Addr) bool { return Net4.Contains(a) || Net6.Contains(a) }
