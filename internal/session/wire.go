package session

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// The first sealed byte of a frame is its true type (docs/SPEC.md, "Inside the seal").
const (
	typeData  = 1 // lane 8, offset 64, bytes
	typeAck   = 2 // paths, lanes
	typeGram  = 3 // lane 8, stream 32, number 32, bytes
	typePing  = 4 // 8 opaque bytes
	typePong  = 5 // the ping's
	typePad   = 6 // zeros
	typeCell  = 8 // inner frames, each behind its length 16; zeros
	typeShard = 7 // lane 8, offset 64, generation 8, block's size 16, index 8, k 8, n 8, bytes
)

// Sizes in bytes.
const (
	dataHeader  = 1 + 1 + 8
	pathAckSize = 4 + 8 + 4
	laneAckSize = 1 + 8 + 8
	pingSize    = 1 + 8

	// maxSegment is the most bytes of a lane that one frame carries: a stream's
	// chunk of 32 KiB, with room for the headers of three nested circuits.
	maxSegment = 36<<10 - 256
	maxAckRows = 16
)

// A ProtocolError reports a peer that broke the protocol; the session ends.
type ProtocolError struct {
	What string
	Err  error
}

func (e *ProtocolError) Error() string {
	if e.Err != nil {
		return "peer broke the protocol: " + e.What + ": " + e.Err.Error()
	}
	return "peer broke the protocol: " + e.What
}

func (e *ProtocolError) Unwrap() error { return e.Err }

func violation(format string, args ...any) error {
	return &ProtocolError{What: fmt.Sprintf(format, args...)}
}

// putDataHeader writes the inner header of a data frame into b[:dataHeader].
func putDataHeader(b []byte, lane byte, offset uint64) {
	b[0], b[1] = typeData, lane
	binary.BigEndian.PutUint64(b[2:], offset)
}

// parseData splits the plaintext of a data frame.
func parseData(p []byte) (lane byte, offset uint64, payload []byte, err error) {
	if len(p) <= dataHeader {
		return 0, 0, nil, violation("data frame of %d bytes, want more than %d", len(p), dataHeader)
	}
	if len(p) > dataHeader+maxSegment {
		return 0, 0, nil, violation("data frame of %d bytes, want at most %d", len(p), dataHeader+maxSegment)
	}
	return p[1], binary.BigEndian.Uint64(p[2:]), p[dataHeader:], nil
}

// A pathAck says that every packet of a path up to Packet has arrived, the last
// of them Delay before the acknowledgement was written.
type pathAck struct {
	Path   uint32
	Packet uint64
	Delay  time.Duration // microseconds on the wire, at most 2^32−1
}

// A laneAck says that every byte of a lane below Offset has arrived and that
// bytes below Credit may be sent.
type laneAck struct {
	Lane           byte
	Offset, Credit uint64
}

// An ack is idempotent: the highest values win, whenever they come.
type ack struct {
	Paths []pathAck
	Lanes []laneAck
}

// appendAck appends the plaintext of an ack frame.
func appendAck(b []byte, a *ack) []byte {
	b = append(b, typeAck, byte(len(a.Paths)))
	for _, p := range a.Paths {
		b = binary.BigEndian.AppendUint32(b, p.Path)
		b = binary.BigEndian.AppendUint64(b, p.Packet)
		b = binary.BigEndian.AppendUint32(b, uint32(min(max(p.Delay.Microseconds(), 0), 1<<32-1)))
	}
	b = append(b, byte(len(a.Lanes)))
	for _, l := range a.Lanes {
		b = append(b, l.Lane)
		b = binary.BigEndian.AppendUint64(b, l.Offset)
		b = binary.BigEndian.AppendUint64(b, l.Credit)
	}
	return b
}

var errAckShape = errors.New("malformed acknowledgement")

// parseAck reads the plaintext of an ack frame into a, whose slices are reused.
func parseAck(p []byte, a *ack) error {
	a.Paths, a.Lanes = a.Paths[:0], a.Lanes[:0]
	if len(p) < 3 {
		return &ProtocolError{fmt.Sprintf("acknowledgement of %d bytes", len(p)), errAckShape}
	}
	n, rest := int(p[1]), p[2:]
	if n > maxAckRows || len(rest) < n*pathAckSize+1 {
		return &ProtocolError{fmt.Sprintf("acknowledgement of %d paths in %d bytes", n, len(p)), errAckShape}
	}
	for ; n > 0; n-- {
		a.Paths = append(a.Paths, pathAck{
			Path:   binary.BigEndian.Uint32(rest),
			Packet: binary.BigEndian.Uint64(rest[4:]),
			Delay:  time.Duration(binary.BigEndian.Uint32(rest[12:])) * time.Microsecond,
		})
		rest = rest[pathAckSize:]
	}
	n, rest = int(rest[0]), rest[1:]
	if n > maxAckRows || len(rest) != n*laneAckSize || n+len(a.Paths) == 0 {
		return &ProtocolError{fmt.Sprintf("acknowledgement of %d lanes in %d bytes", n, len(p)), errAckShape}
	}
	for ; n > 0; n-- {
		l := laneAck{rest[0], binary.BigEndian.Uint64(rest[1:]), binary.BigEndian.Uint64(rest[9:])}
		if l.Credit < l.Offset {
			return &ProtocolError{fmt.Sprintf("lane %#02x: credit %d below offset %d", l.Lane, l.Credit, l.Offset), errAckShape}
		}
		a.Lanes = append(a.Lanes, l)
		rest = rest[laneAckSize:]
	}
	return nil
}

// parsePing reads the plaintext of a ping or pong frame.
func parsePing(p []byte) (id [8]byte, err error) {
	if len(p) != pingSize {
		return id, violation("ping of %d bytes, want %d", len(p), pingSize)
	}
	return [8]byte(p[1:]), nil
}

// checkPad refuses padding that is not zeros.
func checkPad(p []byte) error {
	for i, c := range p[1:] {
		if c != 0 {
			return violation("byte %d of padding is not zero", i)
		}
	}
	return nil
}
