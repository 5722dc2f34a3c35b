//go:build !js

package websocket

import (
	"crypto/rand"
	"encoding/binary"
	"math/bits"
)

// xor writes src, masked or unmasked with key, to dst, which is as long and may be
// src itself (RFC 6455 §5.3). It returns the key for the bytes that follow.
//
// crypto/subtle's assembly, over a pattern of the key, is no faster than the words
// here; nothing else in the standard library does this with wide registers.
func xor(dst, src []byte, key uint32) uint32 {
	le, k := binary.LittleEndian, uint64(key)<<32|uint64(key)
	n := xorMany(dst, src, k)
	dst, src = dst[n:], src[n:]
	for len(src) >= 64 && len(dst) >= 64 {
		d, s := (*[64]byte)(dst), (*[64]byte)(src)
		le.PutUint64(d[0:], le.Uint64(s[0:])^k)
		le.PutUint64(d[8:], le.Uint64(s[8:])^k)
		le.PutUint64(d[16:], le.Uint64(s[16:])^k)
		le.PutUint64(d[24:], le.Uint64(s[24:])^k)
		le.PutUint64(d[32:], le.Uint64(s[32:])^k)
		le.PutUint64(d[40:], le.Uint64(s[40:])^k)
		le.PutUint64(d[48:], le.Uint64(s[48:])^k)
		le.PutUint64(d[56:], le.Uint64(s[56:])^k)
		dst, src = dst[64:], src[64:]
	}
	for len(src) >= 8 && len(dst) >= 8 {
		le.PutUint64(dst, le.Uint64(src)^k)
		dst, src = dst[8:], src[8:]
	}
	for i, b := range src {
		dst[i] = b ^ byte(key)
		key = bits.RotateLeft32(key, -8)
	}
	return key
}

// keys deals the masking keys of a connection. Nobody may be able to predict them
// (RFC 6455 §10.3): whoever chooses what a client sends could choose what an
// intermediary sees, and have it take that for an HTTP request. So they are the
// system's randomness, drawn for sixteen messages at a time.
type keys struct {
	drawn [64]byte
	used  int // bytes of drawn, plus one; 0 before the first draw
}

func (k *keys) next() uint32 {
	if k.used == 0 || k.used > len(k.drawn) {
		rand.Read(k.drawn[:])
		k.used = 1
	}
	key := binary.LittleEndian.Uint32(k.drawn[k.used-1:])
	k.used += 4
	return key
}
