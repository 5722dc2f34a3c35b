package session

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestFifo: it holds what a plain slice would, forgets what it gave, keeps no large
// array when it rests empty, and allocates nothing in the long run.
func TestFifo(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var f fifo[*int]
	var want []*int
	for step := range 10_000 {
		if r.IntN(2) == 0 || len(want) == 0 {
			for range r.IntN(1 + step/100) {
				x := new(int)
				f.push(x)
				want = append(want, x)
			}
		} else {
			n := r.IntN(len(want) + 1)
			f.drop(n)
			want = want[n:]
		}
		if f.len() != len(want) || !slices.Equal(f.items(), want) {
			t.Fatalf("step %d: %d items, want %d", step, f.len(), len(want))
		}
		for i, x := range f.all[:cap(f.all)] {
			if (i < f.head || i >= len(f.all)) && x != nil {
				t.Fatalf("step %d: item %d, which is not in the queue, is held", step, i)
			}
		}
	}
	f.drop(f.len())
	f.rest()
	if cap(f.all) > keepEmpty {
		t.Errorf("empty, it keeps %d places", cap(f.all))
	}
	for range 40 {
		f.push(nil)
	}
	if f.rest(); f.len() != 40 {
		t.Errorf("%d items after a rest", f.len())
	}
	if n := testing.AllocsPerRun(10_000, func() { f.push(nil); f.drop(1) }); n > 0 {
		t.Errorf("%v allocations an item", n)
	}
}
