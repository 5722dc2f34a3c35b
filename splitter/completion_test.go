package splitter

import (
	"math/rand/v2"
	"testing"
	"time"
)

const ms = time.Millisecond

// TestAggregation: the bars of throughput over paths of every kind. What the
// test is worth shows by the contrast: the shortest queue fails it.
func TestAggregation(t *testing.T) {
	tests := []struct {
		name  string
		paths func() []*simPath
		alone float64 // Mbit/s to compare with
		bar   float64
	}{
		{"three equal", func() []*simPath {
			return []*simPath{mbit(100, 20*ms), mbit(100, 20*ms), mbit(100, 20*ms)}
		}, 100, 2.9},
		{"100, 50 and 10", func() []*simPath {
			return []*simPath{mbit(100, 10*ms), mbit(50, 10*ms), mbit(10, 10*ms)}
		}, 160, 0.95},
		{"100, 50 and 10 with jitter", func() []*simPath {
			p := []*simPath{mbit(100, 10*ms), mbit(50, 10*ms), mbit(10, 10*ms)}
			for _, q := range p {
				q.jitter = 2 * ms
			}
			return p
		}, 160, 0.94},
		{"fast beside slow", func() []*simPath {
			return []*simPath{mbit(100, 10*ms), mbit(10, 100*ms)}
		}, 100, 0.97},
		{"fast beside very slow", func() []*simPath {
			return []*simPath{mbit(100, 10*ms), mbit(1, 300*ms)}
		}, 100, 0.97},
		{"five of many kinds", func() []*simPath {
			return []*simPath{mbit(200, 5*ms), mbit(100, 10*ms), mbit(50, 30*ms), mbit(20, 20*ms), mbit(10, 50*ms)}
		}, 380, 0.93},
	}
	for _, test := range tests {
		rate := func(sch Scheduler) (float64, *sim) {
			s := newSim(sch, test.paths()...)
			s.run(2 * time.Second)
			return s.run(10*time.Second) / (test.alone * 1e6 / 8), s
		}
		got, s := rate(EarliestCompletion{})
		other, o := rate(ShortestQueue{})
		t.Logf("%s: %.3f, out of order ≤ %d KiB, p99 %v (shortest queue: %.3f, %d KiB, p99 %v)", test.name, got, s.held>>10, s.p99(), other, o.held>>10, o.p99())
		if got < test.bar {
			t.Errorf("%s: %.3f × what there is, want %v", test.name, got, test.bar)
		}
		if s.idle {
			t.Errorf("%s: the scheduler waits for nothing", test.name)
		}
	}
}

// TestSlowPathHoldsNobodyUp: with a slow path beside it, a fast one's blocks are
// as soon there as without, whether the application writes all it can or paces
// itself. The shortest queue shows that this can fail.
func TestSlowPathHoldsNobodyUp(t *testing.T) {
	const bar = 1.15
	fast := func() *simPath { return mbit(100, 10*ms) }
	slow := func() *simPath { return mbit(10, 100*ms) }
	for _, load := range []float64{0.1, 0.5, 0.9, 2} {
		p99 := func(sch Scheduler, paths ...*simPath) time.Duration {
			s := newSim(sch, paths...)
			if load < 1 {
				s.wants = func(now time.Duration) int {
					return int(load*12.5e6*now.Seconds()) / (2 * simSize) * (2 * simSize)
				}
			}
			s.run(2 * time.Second)
			s.latency = nil
			s.run(20 * time.Second)
			return s.p99()
		}
		alone := p99(EarliestCompletion{}, fast())
		got := p99(EarliestCompletion{}, fast(), slow())
		other := p99(ShortestQueue{}, fast(), slow())
		t.Logf("load %v: alone %v, with the slow path %v, by shortest queue %v", load, alone, got, other)
		if float64(got) > bar*float64(alone) {
			t.Errorf("load %v: p99 %v beside a slow path, %v alone", load, got, alone)
		}
		if float64(other) < 1.25*float64(alone) {
			t.Errorf("load %v: the shortest queue passes too (%v), so this shows nothing", load, other)
		}
	}
}

// TestTrickleTakesTurns: single segments, each acknowledged before the next.
func TestTrickleTakesTurns(t *testing.T) {
	s := newSim(EarliestCompletion{}, mbit(100, 20*ms), mbit(100, 20*ms), mbit(100, 21*ms))
	s.wants = func(now time.Duration) int { return int(now/(50*ms)) * simSize }
	s.run(15 * time.Second)
	for i, p := range s.paths {
		if n := p.carried / simSize; n < 90 || n > 110 {
			t.Errorf("path %d carried %d of 300", i, n)
		}
	}
}

// TestMaxShareHolds: with a policy that allows no relay more than 0.6, the paths
// carry what the slower one allows, and nothing waits for ever.
func TestMaxShareHolds(t *testing.T) {
	s := newSim(EarliestCompletion{}, mbit(100, 10*ms), mbit(20, 40*ms))
	s.most = 0.6
	s.run(2 * time.Second)
	if got, want := s.run(10*time.Second), 20e6/8/0.4; got < 0.85*want {
		t.Errorf("%.0f bytes a second, the shares allow %.0f", got, want)
	}
	if s.idle {
		t.Error("the scheduler waits for nothing")
	}
}

func TestEarliestCompletion(t *testing.T) {
	fast := Path{InFlight: 64 << 10, Window: 256 << 10, SRTT: 10 * ms, MinRTT: 10 * ms, Rate: 12.5e6}
	slow := Path{Window: 256 << 10, SRTT: 100 * ms, MinRTT: 100 * ms, Rate: 1.25e6}
	with := func(p Path, f func(*Path)) Path { f(&p); return p }
	full := with(fast, func(p *Path) { p.InFlight = 250 << 10 })
	const big = 1 << 20
	tests := []struct {
		name    string
		paths   []Path
		backlog int
		path    int
		ahead   [2]int // least and most
	}{
		{"none", nil, big, -1, [2]int{}},
		{"all barred", []Path{with(fast, func(p *Path) { p.Barred = true })}, big, -1, [2]int{}},
		{"the faster", []Path{slow, fast}, big, 1, [2]int{}},
		{"fast is full, little to send", []Path{slow, full}, 64 << 10, -1, [2]int{}},
		// (76 − 18.6) ms × 12.5 MB/s
		{"fast is full, much to send", []Path{slow, full}, big, 0, [2]int{690e3, 750e3}},
		{"what varies puts it further back", []Path{with(slow, func(p *Path) { p.RTTVar = 10 * ms }), full}, big, 0, [2]int{815e3, 875e3}},
		{"fast is barred", []Path{slow, with(fast, func(p *Path) { p.Barred = true })}, 1 << 10, 0, [2]int{}},
		{"fast's queue is longer than the slow way", []Path{slow, with(full, func(p *Path) { p.InFlight, p.Window = 2<<20, 2<<20 })}, big, 0, [2]int{}},
		{"equal: who carried less", []Path{with(fast, func(p *Path) { p.Carried = 2 }), with(fast, func(p *Path) { p.Carried = 1; p.MinRTT += ms / 2 })}, big, 1, [2]int{}},
		{"equal: the open one", []Path{full, with(full, func(p *Path) { p.Window = big; p.Carried = 9 })}, 1 << 10, 1, [2]int{}},
		{"nothing is known", []Path{{Window: 128 << 10, Carried: 1}, {Window: 128 << 10}}, big, 1, [2]int{}},
		{"an unknown path is tried", []Path{with(fast, func(p *Path) { p.Carried = 1 }), {Window: 128 << 10}}, big, 1, [2]int{}},
		{"an unknown rate is bounded by the window", []Path{full, with(slow, func(p *Path) { p.Rate = 0; p.Window = 72 << 10 })}, 64 << 10, -1, [2]int{}},
		{"two slower: the sooner of them", []Path{full, slow, with(slow, func(p *Path) { p.MinRTT = 60 * ms })}, big, 2, [2]int{440e3, 500e3}},
	}
	for _, test := range tests {
		path, ahead := EarliestCompletion{}.Next(time.Time{}, Job{Size: 32 << 10, Backlog: test.backlog}, test.paths)
		if path != test.path || ahead < test.ahead[0] || ahead > test.ahead[1] {
			t.Errorf("%s: path %d, %d ahead; want %d, %v", test.name, path, ahead, test.path, test.ahead)
		}
	}
}

// TestNextIsSound: whatever the paths, only an open one is picked, within the
// backlog, and to wait there is something to wait for.
func TestNextIsSound(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	for range 200_000 {
		paths := make([]Path, rng.IntN(20))
		free := false
		for i := range paths {
			paths[i] = Path{
				InFlight: rng.IntN(3) * rng.IntN(1<<20), Window: rng.IntN(1 << 20), MinRTT: time.Duration(rng.IntN(3)) * time.Duration(rng.IntN(1e9)),
				RTTVar: time.Duration(rng.IntN(1e8)), Rate: float64(rng.IntN(3)) * rng.Float64() * 1e8, Carried: rng.IntN(3), Barred: rng.IntN(4) == 0,
			}
			free = free || i < maxPaths && !paths[i].Barred
		}
		j := Job{Size: 1 + rng.IntN(36<<10)}
		j.Backlog = j.Size + rng.IntN(1<<20)
		path, ahead := EarliestCompletion{}.Next(time.Time{}, j, paths)
		if path >= 0 && (!paths[path].Open(j.Size) || ahead < 0 || ahead+j.Size > j.Backlog) {
			t.Fatalf("%+v: path %d, %d ahead of %+v", paths, path, ahead, j)
		}
		if path >= 0 || !free {
			continue
		}
		flying := 0
		for i := range paths {
			if !paths[i].Barred {
				flying += paths[i].InFlight
			}
		}
		if flying == 0 {
			t.Fatalf("%+v: waits for nothing", paths)
		}
	}
}

func TestNextAllocatesNothing(t *testing.T) {
	paths := make([]Path, 8)
	for i := range paths {
		paths[i] = Path{InFlight: i << 16, Window: 1 << 19, MinRTT: time.Duration(i) * ms, Rate: 1e6}
	}
	var s Scheduler = EarliestCompletion{}
	if n := testing.AllocsPerRun(100, func() { s.Next(time.Time{}, Job{Size: 1 << 10, Backlog: 1 << 20}, paths) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkNext(b *testing.B) {
	paths := make([]Path, 8)
	for i := range paths {
		paths[i] = Path{InFlight: 1 << 19, Window: 1 << 19, MinRTT: time.Duration(i+1) * ms, Rate: 1e6}
	}
	paths[7].InFlight = 0
	for b.Loop() {
		EarliestCompletion{}.Next(time.Time{}, Job{Size: 1 << 10, Backlog: 1 << 20}, paths)
	}
}
