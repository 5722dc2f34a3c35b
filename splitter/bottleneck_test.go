package splitter

import (
	"math/rand/v2"
	"testing"
	"time"
)

// A queue is a FIFO that cross traffic fills in bursts, in virtual time.
type queue struct {
	rng  *rand.Rand
	load float64 // of the capacity, at present
	left int     // steps until that changes
	wait time.Duration
}

const queueStep = 10 * ms

func (q *queue) step() {
	if q.left--; q.left < 0 {
		q.load = 0.3 + 1.2*q.rng.Float64()
		q.left = int(q.rng.ExpFloat64() * 40)
	}
	q.wait = min(max(0, q.wait+time.Duration((q.load-1)*float64(queueStep))), 100*ms)
}

// watch feeds d of two paths' samples, of which the second has its own queue
// unless shared, with queues of depth × 100 ms, and returns whether they are taken for one group.
func watch(seed uint64, d time.Duration, shared bool, depth float64) bool {
	rng := rand.New(rand.NewPCG(seed, 1))
	queues := []*queue{{rng: rng}, {rng: rng}}
	bases := []time.Duration{20 * ms, 70 * ms}
	var b Bottlenecks
	begin := time.Unix(1e9, 0)
	for at := time.Duration(0); at < d; at += queueStep {
		for i, q := range queues {
			q.step()
			if rng.IntN(3) == 0 {
				continue // no sample now
			}
			wait := q.wait
			if shared {
				wait = queues[0].wait
			}
			wait = time.Duration(float64(wait) * depth)
			noise := time.Duration(rng.ExpFloat64() * depth * float64(2*ms))
			// A sample tells of the queue half a round trip ago.
			b.Add(uint32(i), begin.Add(at+bases[i]/2), bases[i]+wait+noise)
		}
	}
	g := b.Groups()
	return g[0] == g[1]
}

// TestBottlenecks: how often one queue is taken for two and two for one, over
// 100 seeds.
func TestBottlenecks(t *testing.T) {
	tests := []struct {
		name        string
		d           time.Duration
		shared      bool
		depth       float64
		least, most int // times grouped
	}{
		{"shared, 8 s", 8 * time.Second, true, 1, 95, 100},
		{"shared, 30 s", 30 * time.Second, true, 1, 99, 100},
		{"apart, 8 s", 8 * time.Second, false, 1, 0, 1},
		{"apart, 30 s", 30 * time.Second, false, 1, 0, 1},
		{"shared, no queue to speak of", 30 * time.Second, true, 0.005, 0, 0},
		{"shared, too soon", 3 * time.Second, true, 1, 0, 0},
	}
	for _, test := range tests {
		n := 0
		for seed := range uint64(100) {
			if watch(seed, test.d, test.shared, test.depth) {
				n++
			}
		}
		t.Logf("%s: grouped in %d of 100", test.name, n)
		if n < test.least || n > test.most {
			t.Errorf("%s: grouped in %d of 100, want %d to %d", test.name, n, test.least, test.most)
		}
	}
}

// TestBottlenecksAreBounded: ids without end and clocks that jump cost no memory.
func TestBottlenecksAreBounded(t *testing.T) {
	var b Bottlenecks
	now := time.Unix(1e9, 0)
	for id := range uint32(10_000) {
		b.Add(id, now.Add(time.Duration(id)*time.Hour), ms)
		b.Add(id, now, ms)
	}
	if n := len(b.Groups()); n != maxPaths {
		t.Errorf("%d paths are remembered, want %d", n, maxPaths)
	}
	b.Forget(9_999)
	g := b.Groups()
	if _, ok := g[9_999]; ok || len(g) != maxPaths-1 {
		t.Errorf("%v after one was forgotten", g)
	}
}
