package splitter

import (
	"crypto/subtle"
	"encoding/binary"
	"math/bits"
)

// The field GF(2^8) modulo x^8 + x^4 + x^3 + x^2 + 1, under both the erasure
// code and the sharing of keys. Addition is XOR. No table is indexed and no
// branch taken by what may be secret: the contents of shards. What is public,
// that is evaluation points and the coefficients made of them, may show in time.

// gfPoly is the modulus without its x^8.
const gfPoly = 0x1d

// gfMul returns a·b in constant time.
func gfMul(a, b byte) byte {
	var p byte
	for range 8 {
		p ^= a & -(b & 1)
		b >>= 1
		a = a<<1 ^ gfPoly&-(a>>7)
	}
	return p
}

// gfInv returns 1/a, which is a^254, and 0 for 0.
func gfInv(a byte) byte {
	p := a
	for range 6 { // a^(2^i − 1) for i = 2 to 7
		p = gfMul(gfMul(p, p), a)
	}
	return gfMul(p, p)
}

// gfMulWord returns the eight bytes of w, each times c, in time that depends on c
// alone: Horner's rule over the bits of c.
func gfMulWord(w uint64, c byte) uint64 {
	const low, high = 0x0101010101010101, 0x8080808080808080
	if c == 0 {
		return 0
	}
	p := w
	for bit := bits.Len8(c) - 2; bit >= 0; bit-- {
		p = (p&^high)<<1 ^ (p>>7&low)*gfPoly
		p ^= w & -uint64(c>>bit&1)
	}
	return p
}

// gfMulAdd adds c times src to dst, byte by byte; dst is at least as long.
func gfMulAdd(dst, src []byte, c byte) {
	if c == 1 {
		subtle.XORBytes(dst, dst, src)
		return
	}
	dst = dst[:len(src)]
	for len(src) >= 8 {
		w := binary.LittleEndian.Uint64(src)
		binary.LittleEndian.PutUint64(dst, binary.LittleEndian.Uint64(dst)^gfMulWord(w, c))
		src, dst = src[8:], dst[8:]
	}
	for i, b := range src {
		dst[i] ^= gfMul(b, c)
	}
}

// gfLagrange fills coefs so that f(at) is the sum of coefs[j]·f(points[j]) for
// every polynomial f of degree below len(points). The points are distinct.
func gfLagrange(coefs, points []byte, at byte) {
	for j, x := range points {
		above, below := byte(1), byte(1)
		for m, y := range points {
			if m != j {
				above, below = gfMul(above, at^y), gfMul(below, x^y)
			}
		}
		coefs[j] = gfMul(above, gfInv(below))
	}
}
