//go:build !race

package session

import (
	"io"
	"testing"

	"github.com/splitmesh/splitmesh/internal/mux"
)

// TestNoAllocations: in the long run a frame allocates nothing at either end. (Under
// the race detector sync.Pool forgets some of what it is given.)
func TestNoAllocations(t *testing.T) {
	for _, size := range []int{1, mux.ChunkSize, 200_000} {
		p := newPair(t, nil)
		p.joinTCP(t, 0)
		here, there := p.stream(t)
		go func() { // ends with the session
			for b := make([]byte, size); ; {
				if _, err := io.ReadFull(there, b); err != nil {
					return
				}
				there.Write(b)
			}
		}()
		b := make([]byte, size)
		turn := func() {
			here.Write(b)
			io.ReadFull(here, b)
		}
		for range 500 { // windows, pools and queues grow
			turn()
		}
		if n := testing.AllocsPerRun(2000, turn); n > 0 {
			t.Errorf("%d bytes there and back: %v allocations", size, n)
		}
	}
}
