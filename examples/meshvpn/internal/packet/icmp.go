package packet

import (
	"encoding/binary"
	"net/netip"
)

// A Reason is why a packet can't be delivered.
type Reason uint8

// Reasons.
const (
	NoRoute    Reason = iota // nobody has the address
	NoHost                   // its owner can't be reached
	Prohibited               // it is not allowed
)

// The code of each reason in the two protocols (RFC 792 and 1812; RFC 4443).
var codes = [...]struct{ v4, v6 uint8 }{NoRoute: {0, 0}, NoHost: {1, 3}, Prohibited: {13, 1}}

// maxQuoted bounds what an error quotes, so that it is never longer than the least MTU of either protocol.
const maxQuoted = 500

// Unreachable makes the ICMP error that tells the sender of a packet why it was not delivered, with VnetSize bytes before
// it. It is nil for packets that must cause no error (RFC 1122 3.2.2, RFC 4443 2.4). It comes from where the packet was
// to go: an address of the node itself would be taken for forged.
func (p *Packet) Unreachable(b []byte, why Reason) []byte {
	if p.IsError() || p.Later || !p.IsUnicast() {
		return nil
	}
	quoted := b[:min(len(b), maxQuoted)]
	if p.Src.Is4() {
		out := make([]byte, VnetSize+20+8+len(quoted))
		ip := out[VnetSize:]
		ip[0], ip[8], ip[9] = 4<<4|5, 64, ICMP
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
		putAddrs(ip[12:], p.Dst, p.Src)
		binary.BigEndian.PutUint16(ip[10:], ^fold(sum(0, ip[:20])))
		icmp := ip[20:]
		icmp[0], icmp[1] = 3, codes[why].v4
		copy(icmp[8:], quoted)
		binary.BigEndian.PutUint16(icmp[2:], ^fold(sum(0, icmp)))
		return out
	}
	out := make([]byte, VnetSize+40+8+len(quoted))
	ip := out[VnetSize:]
	icmp := ip[40:]
	ip[0], ip[6], ip[7] = 6<<4, ICMPv6, 64
	binary.BigEndian.PutUint16(ip[4:], uint16(len(icmp)))
	putAddrs(ip[8:], p.Dst, p.Src)
	icmp[0], icmp[1] = 1, codes[why].v6
	copy(icmp[8:], quoted)
	binary.BigEndian.PutUint16(icmp[2:], ^fold(sum(uint64(len(icmp))+ICMPv6, ip[8:])))
	return out
}

func putAddrs(b []byte, src, dst netip.Addr) {
	n := copy(b, src.AsSlice())
	copy(b[n:], dst.AsSlice())
}
