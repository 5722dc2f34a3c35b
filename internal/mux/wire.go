package mux

import "encoding/binary"

// HeaderSize is the length of a frame's header in bytes: version 8 bits, type
// 8, flags 16, stream id 32 and length 32, big-endian.
const HeaderSize = 12

const (
	typeData         = 0 // length bytes of payload follow
	typeWindowUpdate = 1 // length is what the sender's peer may send more
	typePing         = 2 // length is an opaque value to be echoed
	typeGoAway       = 3 // length is the reason, a goAway constant
)

const (
	flagSYN  = 1 << iota // begins a stream; in a ping, asks
	flagACK              // accepts a stream; in a ping, answers
	flagFIN              // the sender will send no more data
	flagRST              // ends the stream in both directions at once
	allFlags = 1<<iota - 1
)

const (
	goAwayNormal   = 0
	goAwayProtocol = 1
	goAwayInternal = 2
)

type header struct {
	version uint8
	kind    uint8
	flags   uint16
	stream  uint32
	length  uint32
}

func parseHeader(p []byte) header {
	_ = p[HeaderSize-1]
	return header{
		version: p[0],
		kind:    p[1],
		flags:   binary.BigEndian.Uint16(p[2:]),
		stream:  binary.BigEndian.Uint32(p[4:]),
		length:  binary.BigEndian.Uint32(p[8:]),
	}
}

func (h header) put(p *[HeaderSize]byte) {
	p[0], p[1] = h.version, h.kind
	binary.BigEndian.PutUint16(p[2:], h.flags)
	binary.BigEndian.PutUint32(p[4:], h.stream)
	binary.BigEndian.PutUint32(p[8:], h.length)
}

func (h header) append(dst []byte) []byte {
	var p [HeaderSize]byte
	h.put(&p)
	return append(dst, p[:]...)
}
