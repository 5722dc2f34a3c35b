package packet

import (
	"encoding/binary"
	"errors"
)

// VnetSize is that of struct virtio_net_hdr, which stands before each packet that a device reads or writes: it says
// what the kernel has left undone, or leaves to us: the checksum, and cutting the packet into segments.
const VnetSize = 10

// HeaderSize is that of a frame's header: a kind, the packet's length in 3 bytes, and the size of its segments in 2.
const HeaderSize = 6

// A Kind says what a frame holds.
type Kind uint8

// The kinds of frames.
const (
	Whole    Kind = iota // a packet
	Partial              // a packet of TCP or UDP whose checksum covers its pseudo-header alone
	Segments             // the same, of TCP, and to be cut into segments
	Echo                 // no packet, but bytes to be sent back
)

const (
	needsChecksum = 1 // VIRTIO_NET_HDR_F_NEEDS_CSUM
	gsoNone       = 0
	gsoTCPv4      = 1
	gsoTCPv6      = 4
	// minSegment is the least that TCP of Linux would send, but for the last one.
	minSegment = 48
)

// ErrOffload reports a packet that can't be sent as what it says it is.
var ErrOffload = errors.New("the packet's checksum or segments are not those of TCP or UDP")

// checksumAt is where in the header of TCP or UDP its checksum is; 0: neither.
func (p *Packet) checksumAt() int {
	switch {
	case p.Fragment:
		return 0
	case p.Proto == TCP:
		return 16
	case p.Proto == UDP:
		return 6
	}
	return 0
}

// Seal turns what a device read, a virtio header and the packet p, into a frame: it begins 4 bytes later. It completes a
// checksum that the other end could not.
func (p *Packet) Seal(b []byte) (frame []byte, err error) {
	pkt := b[VnetSize:]
	h := header{kind: Whole, size: len(pkt)}
	start, at := int(binary.NativeEndian.Uint16(b[6:])), int(binary.NativeEndian.Uint16(b[8:]))
	partial := b[0]&needsChecksum != 0
	switch gso := b[1]; {
	case gso != gsoNone:
		if h.segment = binary.NativeEndian.Uint16(b[4:]); !partial || start != p.Header || !p.segmentable(gso, h.segment) {
			return nil, ErrOffload
		}
		h.kind = Segments
	case partial && at > 0 && start == p.Header && at == p.checksumAt():
		h.kind = Partial
	case partial:
		if start+at+2 > len(pkt) || p.Fragment {
			return nil, ErrOffload
		}
		binary.BigEndian.PutUint16(pkt[start+at:], ^fold(sum(0, pkt[start:])))
	}
	frame = b[VnetSize-HeaderSize:]
	h.put(frame)
	return frame, nil
}

// Open turns a frame that came into what a device writes: room has VnetSize bytes and then the packet p. The frame is
// not to be trusted.
func (p *Packet) Open(room []byte, kind Kind, segment uint16) error {
	clear(room[:VnetSize])
	if kind == Whole {
		return nil
	}
	at := p.checksumAt()
	if at == 0 || kind > Segments {
		return ErrOffload
	}
	room[0] = needsChecksum
	binary.NativeEndian.PutUint16(room[6:], uint16(p.Header))
	binary.NativeEndian.PutUint16(room[8:], uint16(at))
	if kind == Partial {
		return nil
	}
	room[1] = gsoTCPv4
	if p.Src.Is6() {
		room[1] = gsoTCPv6
	}
	if !p.segmentable(room[1], segment) {
		return ErrOffload
	}
	length := p.Header + int(room[VnetSize+p.Header+12]>>4)*4
	binary.NativeEndian.PutUint16(room[2:], uint16(length))
	binary.NativeEndian.PutUint16(room[4:], segment)
	return nil
}

func (p *Packet) segmentable(gso uint8, segment uint16) bool {
	return p.checksumAt() == 16 && segment >= minSegment && (gso == gsoTCPv4 && p.Src.Is4() || gso == gsoTCPv6 && p.Src.Is6())
}

type header struct {
	kind    Kind
	size    int
	segment uint16
}

func (h *header) put(b []byte) {
	binary.BigEndian.PutUint32(b, uint32(h.kind)<<24|uint32(h.size))
	binary.BigEndian.PutUint16(b[4:], h.segment)
}

// PutHeader writes the header of a frame without segments.
func PutHeader(b []byte, kind Kind, size int) { (&header{kind: kind, size: size}).put(b) }

// ErrFrame reports a frame that no packet fits.
var ErrFrame = errors.New("a frame is of no known kind, or too long")

// ReadHeader reads the header of a frame, of which it checks that its size can be.
func ReadHeader(b []byte) (kind Kind, size int, segment uint16, err error) {
	n := binary.BigEndian.Uint32(b)
	kind, size, segment = Kind(n>>24), int(n&0xffffff), binary.BigEndian.Uint16(b[4:])
	if kind > Echo || size > MaxSize {
		return 0, 0, 0, ErrFrame
	}
	return kind, size, segment, nil
}

// sum adds 16-bit words, the last one filled up.
func sum(s uint64, b []byte) uint64 {
	for ; len(b) >= 4; b = b[4:] {
		s += uint64(binary.BigEndian.Uint32(b))
	}
	if len(b) >= 2 {
		s += uint64(binary.BigEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		s += uint64(b[0]) << 8
	}
	return s
}

// fold makes the ones' complement sum of 16 bits.
func fold(s uint64) uint16 {
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}
