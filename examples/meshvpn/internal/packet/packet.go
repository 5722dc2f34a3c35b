// Package packet reads the headers of IP packets, gives super-packets a frame to travel in, and makes ICMP errors.
package packet

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// Protocols, as IANA numbers them.
const (
	ICMP   = 1
	TCP    = 6
	UDP    = 17
	ICMPv6 = 58
)

// Flags of TCP.
const (
	syn = 2
	ack = 16
)

// MaxSize is the most bytes that a packet has: one of IPv6 whose payload is as long as can be.
const MaxSize = 40 + 65535

// Errors of Parse.
var (
	ErrShort     = errors.New("the packet is shorter than its headers")
	ErrLength    = errors.New("the packet is not as long as it says")
	ErrVersion   = errors.New("the packet is neither IPv4 nor IPv6")
	ErrHeader    = errors.New("a header of the packet is not allowed, or makes no sense")
	ErrFragments = errors.New("a fragment overlaps the header before it, or does not hold it")
)

// maxExtensions is how many extension headers of IPv6 are passed over.
const maxExtensions = 8

// A Packet is what the headers of an IP packet say.
type Packet struct {
	Src, Dst netip.Addr
	// Proto is the protocol above IP and its extension headers, whose header begins at Header.
	Proto  uint8
	DSCP   uint8
	Header int
	// SrcPort and DstPort are those of TCP and UDP. Who asks for an echo has its identifier as a port. Otherwise they are 0.
	SrcPort, DstPort uint16
	// Type and Code are those of ICMP.
	Type, Code uint8
	// Begins is set for the packet that begins a connection of TCP.
	Begins bool
	// Fragment is set for a part of a packet, Later for one that is not the first; ID says of which packet.
	Fragment, Later bool
	ID              uint32
}

// Parse reads the headers of a whole packet. It allocates nothing and keeps nothing of b.
func Parse(b []byte) (p Packet, err error) {
	length, err := p.network(b)
	if err != nil {
		return p, err
	}
	if length != len(b) {
		return p, ErrLength
	}
	if p.Later {
		return p, nil
	}
	return p, p.transport(b[p.Header:])
}

// Quoted reads the beginning of a packet, as ICMP errors quote it.
func Quoted(b []byte) (p Packet, err error) {
	if _, err = p.network(b); err != nil {
		return p, err
	}
	if p.Later {
		return p, ErrFragments
	}
	switch b = b[p.Header:]; p.Proto {
	case TCP, UDP:
		if len(b) < 4 {
			return p, ErrShort
		}
		p.ports(b)
	case ICMP, ICMPv6:
		return p, p.icmp(b)
	}
	return p, nil
}

// network reads what is before the transport header, and returns how long the packet says it is.
func (p *Packet) network(b []byte) (length int, err error) {
	if len(b) < 20 {
		return 0, ErrShort
	}
	switch b[0] >> 4 {
	case 4:
		return p.v4(b)
	case 6:
		return p.v6(b)
	}
	return 0, ErrVersion
}

func (p *Packet) v4(b []byte) (int, error) {
	p.Header = int(b[0]&15) * 4
	if p.Header < 20 {
		return 0, ErrHeader
	}
	length := int(binary.BigEndian.Uint16(b[2:]))
	if len(b) < p.Header || length < p.Header {
		return 0, ErrShort
	}
	if isRouted(b[20:p.Header]) {
		return 0, ErrHeader
	}
	p.DSCP, p.Proto = b[1]>>2, b[9]
	p.Src, p.Dst = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
	at := binary.BigEndian.Uint16(b[6:])
	return length, p.fragment(at&0x1fff, at&0x2000 != 0, uint32(binary.BigEndian.Uint16(b[4:])))
}

// isRouted is whether options of IPv4 are a route that the sender chose, which leads around our checks, or make no sense.
func isRouted(options []byte) bool {
	for len(options) > 0 && options[0] != 0 {
		switch {
		case options[0] == 1:
			options = options[1:]
		case options[0] == 131, options[0] == 137, len(options) < 2 || options[1] < 2 || int(options[1]) > len(options):
			return true
		default:
			options = options[options[1]:]
		}
	}
	return false
}

func (p *Packet) v6(b []byte) (int, error) {
	if len(b) < 40 {
		return 0, ErrShort
	}
	length := 40 + int(binary.BigEndian.Uint16(b[4:]))
	p.DSCP = uint8(binary.BigEndian.Uint16(b) >> 6 & 0x3f)
	p.Src, p.Dst = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
	p.Proto, p.Header = b[6], 40
	for range maxExtensions {
		rest := b[p.Header:]
		switch p.Proto {
		case 0, 60: // hop-by-hop and destination options
			if p.Fragment { // a later one could overwrite the ports behind them
				return 0, ErrHeader
			}
			if len(rest) < 8 || len(rest) < 8+int(rest[1])*8 {
				return 0, ErrShort
			}
			p.Proto, p.Header = rest[0], p.Header+8+int(rest[1])*8
		case 44:
			if len(rest) < 8 {
				return 0, ErrShort
			}
			if p.Fragment {
				return 0, ErrHeader
			}
			at := binary.BigEndian.Uint16(rest[2:])
			p.Proto, p.Header = rest[0], p.Header+8
			if err := p.fragment(at>>3, at&1 != 0, binary.BigEndian.Uint32(rest[4:])); err != nil || p.Later {
				return length, err
			}
		case 43: // a route that the sender chose
			return 0, ErrHeader
		default:
			return length, nil
		}
	}
	return 0, ErrHeader
}

// fragment takes note of what part of a packet this is, in units of 8 bytes. Those that could overwrite the ports of the
// first one are refused (RFC 3128): no network cuts so finely.
func (p *Packet) fragment(offset uint16, more bool, id uint32) error {
	p.Fragment, p.Later, p.ID = more || offset > 0, offset > 0, id
	if p.Later && offset < 3 {
		return ErrFragments
	}
	return nil
}

// transport reads the header above IP.
func (p *Packet) transport(b []byte) error {
	switch p.Proto {
	case TCP:
		if len(b) < 20 || len(b) < int(b[12]>>4)*4 || b[12]>>4 < 5 {
			return ErrShort
		}
		p.ports(b)
		p.Begins = b[13]&(syn|ack) == syn
	case UDP:
		if len(b) < 8 {
			return ErrShort
		}
		p.ports(b)
	case ICMP, ICMPv6:
		return p.icmp(b)
	}
	return nil
}

func (p *Packet) ports(b []byte) {
	p.SrcPort, p.DstPort = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
}

func (p *Packet) icmp(b []byte) error {
	if len(b) < 8 {
		return ErrShort
	}
	if (p.Proto == ICMP) != p.Src.Is4() {
		return ErrHeader
	}
	p.Type, p.Code = b[0], b[1]
	switch id := binary.BigEndian.Uint16(b[4:]); {
	case p.Proto == ICMP && p.Type == 8, p.Proto == ICMPv6 && p.Type == 128:
		p.SrcPort = id
	case p.Proto == ICMP && p.Type == 0, p.Proto == ICMPv6 && p.Type == 129:
		p.DstPort = id
	}
	return nil
}

// IsOfLink is whether it is for neighbours on one link alone: of routers, of other neighbours, or a redirect, which would
// have the receiver send its packets elsewhere.
func (p *Packet) IsOfLink() bool {
	return p.Proto == ICMP && (p.Type == 5 || p.Type == 9 || p.Type == 10) || p.Proto == ICMPv6 && (p.Type >= 130 && p.Type <= 137 || p.Type == 143)
}

// IsError is whether it is an ICMP error, which quotes the packet that it is about after 8 bytes. A later fragment has no
// type, and none is let in by what it quotes.
func (p *Packet) IsError() bool {
	if p.Later {
		return false
	}
	return p.Proto == ICMP && (p.Type == 3 || p.Type == 4 || p.Type == 5 || p.Type == 11 || p.Type == 12) || p.Proto == ICMPv6 && p.Type < 128
}

// IsUnicast is whether it goes from one to one.
func (p *Packet) IsUnicast() bool {
	one := func(a netip.Addr) bool {
		return !a.IsMulticast() && !a.IsUnspecified() && !a.IsLoopback() && !a.IsLinkLocalUnicast() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
	}
	return one(p.Src) && one(p.Dst) && !p.Src.Is4In6() && !p.Dst.Is4In6()
}
