package websocket

import "golang.org/x/sys/cpu"

// wide says that there are registers of 256 bits.
var wide = cpu.X86.HasAVX2

// xorAVX2 writes n bytes of src, a positive multiple of 128, combined with key to
// dst. It takes a quarter of the words' time.
//
//go:noescape
func xorAVX2(dst, src *byte, n int, key uint64)

// xorMany does what it can of xor, and returns how many bytes that is: a multiple
// of four.
func xorMany(dst, src []byte, key uint64) int {
	n := min(len(dst), len(src)) &^ 127
	if n == 0 || !wide {
		return 0
	}
	xorAVX2(&dst[0], &src[0], n, key)
	return n
}
