package splitter

import (
	"bytes"
	"testing"
)

// naiveMul is carry-less multiplication and long division, as in a textbook.
func naiveMul(a, b byte) byte {
	product := 0
	for i := range 8 {
		if b>>i&1 == 1 {
			product ^= int(a) << i
		}
	}
	for i := 14; i >= 8; i-- {
		if product>>i&1 == 1 {
			product ^= 0x11d << (i - 8)
		}
	}
	return byte(product)
}

func TestFieldMultiplies(t *testing.T) {
	for a := range 256 {
		for b := range 256 {
			want := naiveMul(byte(a), byte(b))
			if got := gfMul(byte(a), byte(b)); got != want {
				t.Fatalf("gfMul(%#x, %#x) = %#x, want %#x", a, b, got, want)
			}
			w := gfMulWord(uint64(a)*0x0100010001000100|uint64(b), byte(b))
			if byte(w>>8) != want || byte(w>>56) != want || byte(w>>16) != 0 || byte(w) != naiveMul(byte(b), byte(b)) {
				t.Fatalf("gfMulWord of %#x by %#x = %#x, want %#x in every other byte", a, b, w, want)
			}
		}
	}
}

func TestFieldInverts(t *testing.T) {
	if gfInv(0) != 0 {
		t.Error("1/0 is not 0")
	}
	for a := 1; a < 256; a++ {
		if naiveMul(byte(a), gfInv(byte(a))) != 1 {
			t.Errorf("%#x times its inverse is not 1", a)
		}
	}
}

func TestMulAddOfEveryLength(t *testing.T) {
	for n := range 40 {
		for c := range 256 {
			src, dst := make([]byte, n), make([]byte, n+3)
			want := make([]byte, n+3)
			for i := range dst {
				dst[i] = byte(i * 41)
				want[i] = dst[i]
				if i < n {
					src[i] = byte(i*97 + c)
					want[i] ^= naiveMul(src[i], byte(c))
				}
			}
			gfMulAdd(dst, src, byte(c))
			if !bytes.Equal(dst, want) {
				t.Fatalf("%d bytes times %#x: %x, want %x", n, c, dst, want)
			}
		}
	}
}
