//go:build !js

package websocket

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"
)

// The opcodes of RFC 6455 §5.2. From opClose on they are control frames.
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xa
)

const (
	// maxFrameHeader is the longest header, in bytes: of a masked frame with a
	// length of 64 bits.
	maxFrameHeader = 14
	// maxControl is the longest payload of a control frame.
	maxControl = 125
)

// A header is what a frame begins with, RFC 6455 §5.2.
type header struct {
	op     byte
	fin    bool // the message's last frame
	masked bool
	key    uint32 // of the mask, the first byte lowest
	length uint64 // of the payload
}

// A protocolError is what no peer of ours does; the connection ends with status.
type protocolError struct {
	status status
	text   string
}

func (e *protocolError) Error() string { return "protocol error: " + e.text }

func violation(format string, args ...any) error {
	return &protocolError{statusProtocolError, fmt.Sprintf(format, args...)}
}

// parseHeader reads the header that b begins with, and its size; fromClient says
// who sent it. The size is 0 while b does not hold all of it. What put would not
// write is refused as soon as it is there.
func parseHeader(b []byte, fromClient bool) (h header, size int, err error) {
	if len(b) < 2 {
		return header{}, 0, nil
	}
	h = header{op: b[0] & 0x0f, fin: b[0]&0x80 != 0, masked: b[1]&0x80 != 0, length: uint64(b[1] & 0x7f)}
	switch {
	case b[0]&0x70 != 0:
		return header{}, 0, violation("a frame with reserved bits (rsv) came, which no extension asked for")
	case h.op > opBinary && h.op < opClose || h.op > opPong:
		return header{}, 0, violation("a frame of the unknown opcode %#x came", h.op)
	case fromClient && !h.masked:
		return header{}, 0, violation("an unmasked frame came from a client")
	case !fromClient && h.masked:
		return header{}, 0, violation("a masked frame came from a server")
	case h.op >= opClose && !h.fin:
		return header{}, 0, violation("a control frame came in fragments")
	case h.op >= opClose && h.length > maxControl:
		return header{}, 0, violation("a control frame of over %d bytes came", maxControl)
	}
	size = 2
	if h.length >= 126 { // the length follows
		least := uint64(126)
		size = 4
		if h.length == 127 {
			size, least = 10, 1<<16
		}
		if len(b) < size {
			return header{}, 0, nil
		}
		if size == 4 {
			h.length = uint64(binary.BigEndian.Uint16(b[2:]))
		} else {
			h.length = binary.BigEndian.Uint64(b[2:])
		}
		if h.length < least || h.length > 1<<63-1 {
			return header{}, 0, violation("a frame whose length is not in its shortest form came")
		}
	}
	if h.masked {
		if len(b) < size+4 {
			return header{}, 0, nil
		}
		h.key = binary.LittleEndian.Uint32(b[size:])
		size += 4
	}
	return h, size, nil
}

// size is how many bytes put writes.
func (h *header) size() int {
	n := 2
	switch {
	case h.length > 0xffff:
		n = 10
	case h.length >= 126:
		n = 4
	}
	if h.masked {
		n += 4
	}
	return n
}

// put writes h to the front of b and returns its size.
func (h *header) put(b []byte) int {
	b[0], b[1] = h.op, 0
	if h.fin {
		b[0] |= 0x80
	}
	n := 2
	switch {
	case h.length > 0xffff:
		b[1], n = 127, 10
		binary.BigEndian.PutUint64(b[2:], h.length)
	case h.length >= 126:
		b[1], n = 126, 4
		binary.BigEndian.PutUint16(b[2:], uint16(h.length))
	default:
		b[1] = byte(h.length)
	}
	if h.masked {
		b[1] |= 0x80
		binary.LittleEndian.PutUint32(b[n:], h.key)
		n += 4
	}
	return n
}

// A closeError is the close frame that came.
type closeError struct {
	status status
	reason string
}

func (e *closeError) Error() string {
	if e.reason == "" {
		return fmt.Sprintf("status %d", e.status)
	}
	return fmt.Sprintf("status %d, %q", e.status, e.reason)
}

// parseClose reads the payload of a close frame, RFC 6455 §5.5.1 and §7.4. It
// returns a *closeError, or the protocolError that the payload is.
func parseClose(b []byte) error {
	if len(b) == 0 {
		return &closeError{status: statusNone}
	}
	if len(b) == 1 {
		return violation("a close frame with half a status came")
	}
	e := &closeError{status: status(binary.BigEndian.Uint16(b)), reason: string(b[2:])}
	switch {
	case e.status >= 3000 && e.status < 5000:
	case e.status < 1000, e.status > 1014, e.status == 1004, e.status == statusNone, e.status == 1006:
		return violation("a close frame with the status %d came, which is not to be sent", e.status)
	}
	if !utf8.ValidString(e.reason) {
		return violation("a close frame came whose reason is no UTF-8")
	}
	return e
}
