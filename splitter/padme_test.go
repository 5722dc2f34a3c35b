package splitter_test

import (
	"math"
	"testing"

	"github.com/splitmesh/splitmesh/splitter"
)

// paperPadme is the algorithm as the paper writes it, with floating-point
// logarithms, which are exact enough for the small.
func paperPadme(l uint64) uint64 {
	if l < 2 {
		return l
	}
	e := math.Floor(math.Log2(float64(l)))
	s := math.Floor(math.Log2(e)) + 1
	if e == 0 {
		s = 0
	}
	z := e - s
	if z < 0 {
		z = 0
	}
	mask := uint64(math.Exp2(z)) - 1
	return (l + mask) &^ mask
}

func TestPadme(t *testing.T) {
	for _, tt := range []struct{ n, want uint64 }{
		{0, 0},
		{1, 1},
		{2, 2},
		{8, 8},
		{9, 10},
		{15, 16},
		{100, 104},
		{1000, 1024},
		{1 << 20, 1 << 20},
		{1<<20 + 1, 1<<20 + 1<<15},
		{1 << 63, 1 << 63},
		{1<<63 + 1, 1<<63 + 1<<57},
		{math.MaxUint64, math.MaxUint64}, // the next would be 2^64
	} {
		if got := splitter.Padme(tt.n); got != tt.want {
			t.Errorf("Padme(%d) = %d, want %d", tt.n, got, tt.want)
		}
	}
	for n := range uint64(1 << 17) {
		if got, want := splitter.Padme(n), paperPadme(n); got != want {
			t.Fatalf("Padme(%d) = %d, want %d as in the paper", n, got, want)
		}
	}
}

// The overhead is the paper's: never above 12 %, and lengths leak O(log log).
func FuzzPadme(f *testing.F) {
	for shift := range 64 {
		f.Add(uint64(1)<<shift - 1)
		f.Add(uint64(1)<<shift + 1)
	}
	f.Fuzz(func(t *testing.T, n uint64) {
		got := splitter.Padme(n)
		if got < n || float64(got-n) > 0.12*float64(n) {
			t.Fatalf("Padme(%d) = %d", n, got)
		}
		if again := splitter.Padme(got); again != got {
			t.Fatalf("Padme(%d) = %d, but that is padded to %d", n, got, again)
		}
		if n < math.MaxUint64 && splitter.Padme(n+1) < got && got != n {
			t.Fatalf("Padme(%d) = %d is above that of its successor", n, got)
		}
	})
}
