package handshake

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"testing"
)

func key(n int) (k [32]byte) {
	binary.BigEndian.PutUint64(k[:], uint64(n))
	return k
}

func TestReplayCache(t *testing.T) {
	var c ReplayCache
	const n = 3*replayGeneration + 100
	for i := range n {
		if !c.add(key(i)) {
			t.Fatalf("%d is new, but known", i)
		}
		if len(c.young) > replayGeneration || len(c.old) > replayGeneration {
			t.Fatalf("after %d: %d and %d", i, len(c.young), len(c.old))
		}
	}
	for i := n - 1; i >= n-replayGeneration; i-- {
		if c.add(key(i)) {
			t.Fatalf("%d of %d is forgotten", i, n)
		}
	}
	if !c.add(key(0)) {
		t.Error("the first is still known: the cache is not bounded")
	}
}

// Of any number who bring the same opening at once, one gets through.
func TestReplayCacheRace(t *testing.T) {
	var c ReplayCache
	var wg sync.WaitGroup
	var through atomic.Int32
	for range 8 {
		wg.Go(func() {
			for i := range 1000 {
				if c.add(key(i)) {
					through.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if through.Load() != 1000 {
		t.Errorf("%d got through, want 1000", through.Load())
	}
}
