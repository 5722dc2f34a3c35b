package experiments

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gonum.org/v1/plot/plotter"
)

var only = flag.Int("schedule", -1, "run the schedule of this number alone")

// A plan is what happens in one schedule: transfers in both directions, while
// relays come and go.
type plan struct {
	shapes []shape
	size   int // in each direction
	pause  time.Duration
	rng    *rand.Rand
	span   time.Duration // all is well again by then
}

// newPlan draws the plan of that number.
func newPlan(number int, span time.Duration) *plan {
	rng := rand.New(rand.NewPCG(*seed, uint64(number)))
	p := &plan{rng: rng, span: span, size: 1 + rng.IntN(1<<20)}
	for range 2 + rng.IntN(4) {
		p.shapes = append(p.shapes, shape{
			mbit: 0.5 + 7.5*rng.Float64(), rtt: time.Duration(2+rng.IntN(100)) * time.Millisecond, buffer: 16<<10 + rng.IntN(256<<10),
		})
	}
	if rng.IntN(4) > 0 { // else as fast as can be
		p.pause = 2 * span / time.Duration(1+p.size/block)
	}
	return p
}

// events draws what happens to the world.
func (p *plan) events(w *world) []event {
	var out []event
	for range 3 + p.rng.IntN(15) {
		r := w.relays[p.rng.IntN(len(w.relays))]
		at := time.Duration(p.rng.Int64N(int64(p.span)))
		long := time.Duration(p.rng.Int64N(int64(p.span - at)))
		l := r.front
		if p.rng.IntN(3) == 0 {
			l = r.back
		}
		switch p.rng.IntN(6) {
		case 0:
			out = append(out, event{at, l.Cut})
		case 1, 2:
			out = append(out, event{at, l.BlackHole}, event{at + long, l.Heal})
		case 3: // a relay leaves, and joins later
			out = append(out, event{at, r.lose}, event{at + long, r.admit})
		case 4:
			out = append(out, event{at, func() { r.restart(long) }})
		case 5: // an end has no network for a while
			d := w.doors[p.rng.IntN(2)]
			out = append(out, event{at, func() {
				d.close()
				for _, r := range w.relays {
					r.linkTo(d.end).Cut()
				}
			}}, event{at + long, d.open})
		}
	}
	return out
}

// restart kills the relay and brings it back later, unless it is at that already.
func (r *relay) restart(after time.Duration) {
	if !r.busy.CompareAndSwap(false, true) {
		return
	}
	defer r.busy.Store(false)
	r.kill()
	wait(context.Background(), after)
	// On real sockets its port may be another's by now: then it stays away.
	if err := r.start(); err != nil && r.w.wire != nil {
		r.w.t.Error(err)
	}
}

// A fate is what became of a schedule.
type fate struct {
	err   error         // of either direction
	pause time.Duration // the longest that a receiver saw
}

// run carries both transfers through the world's misfortunes.
func (p *plan) run(w *world) (f fate) {
	// A single path has to be enough.
	if f.err = w.connect(throughput(1)); f.err != nil {
		return f
	}
	there := &transfer{size: p.size, content: 1, pause: p.pauses()}
	back := &transfer{size: p.size, content: 2, pause: p.pauses()}
	events := p.events(w)
	var wg sync.WaitGroup
	wg.Go(func() { there.carry(w.near, w.far, events...) })
	wg.Go(func() { back.carry(w.far, w.near) })
	wg.Wait()
	f.err = cmp.Or(there.err, back.err)
	if errors.Is(f.err, net.ErrClosed) { // because the other one failed
		f.err = cmp.Or(back.err, f.err)
	}
	for _, x := range []*transfer{there, back} {
		gap, _ := x.gap(0, x.took)
		f.pause = max(f.pause, gap)
	}
	return f
}

// pauses returns a sender's pauses, by a chance of its own.
func (p *plan) pauses() func() time.Duration {
	if p.pause == 0 {
		return nil
	}
	rng := rand.New(rand.NewPCG(p.rng.Uint64(), 0))
	return func() time.Duration { return time.Duration(rng.Int64N(int64(p.pause))) }
}

// each calls f with the numbers of the schedules.
func each(n int, f func(number int)) {
	for number := range n {
		if *only < 0 || *only == number {
			f(number)
		}
	}
}

// figures sums fates up.
func figures(name string, fates map[int]fate) []Result {
	lost := Result{Name: name + "_LOST", Unit: fmt.Sprintf("of %d schedules with bytes lost or doubled", len(fates)), Bar: atMost(0)}
	stuck := Result{Name: name + "_STUCK", Unit: fmt.Sprintf("of %d schedules stuck", len(fates)), Bar: atMost(0)}
	for _, number := range slices.Sorted(maps.Keys(fates)) {
		f := fates[number]
		if f.err == nil {
			continue
		}
		r := &lost
		if errors.Is(f.err, os.ErrDeadlineExceeded) {
			r = &stuck
		}
		if r.Value++; r.Note == "" {
			r.Note = fmt.Sprintf("the first is -schedule %d: %v", number, f.err)
		}
	}
	return []Result{lost, stuck}
}

// TestSchedules: whatever happens to paths, no byte is lost or doubled and
// nobody waits for ever.
func TestSchedules(t *testing.T) {
	fates := make(map[int]fate)
	var pauses plotter.XYs
	each(scale(1000, 20), func(number int) {
		synctest.Test(t, func(t *testing.T) {
			p := newPlan(number, 20*time.Second)
			f := p.run(newWorld(t, p.shapes...))
			fates[number] = f
			pauses = append(pauses, plotter.XY{X: float64(number), Y: f.pause.Seconds()})
		})
	})
	results := figures("SCHEDULES", fates)
	report(t, results...)
	chart{
		file: "schedules", title: "The longest pause of a receiver in each schedule", x: "schedule", y: "s",
		lines: []line{{"longest pause", pauses}},
	}.draw(t, results...)
}

// TestRealSchedules is TestSchedules on sockets, in real time.
func TestRealSchedules(t *testing.T) {
	fates := make(map[int]fate)
	each(scale(50, 2), func(number int) {
		t.Run(fmt.Sprint(number), func(t *testing.T) {
			p := newPlan(number, time.Second)
			fates[number] = p.run(newRealWorld(t, p.shapes...))
		})
	})
	report(t, figures("REAL_SCHEDULES", fates)...)
}
