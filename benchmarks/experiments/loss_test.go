package experiments

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splitmesh/splitmesh/splitter"
)

// detection is the time that a session states for noticing that a path has
// fallen silent while data waits for its acknowledgement.
const detection = time.Second

// The ways to lose a path.
var losses = []struct {
	name string
	lose func(*relay)
}{
	{"RST", (*relay).lose},
	{"HOLE", func(r *relay) { r.front.BlackHole() }},
}

// loseFastest transfers over the shapes, of which the first is the fastest, and
// loses it when half the time is over.
func loseFastest(t *testing.T, span time.Duration, lose func(*relay), policy splitter.Policy, shapes ...shape) (x *transfer, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, shapes...)
		if err = w.connect(policy); err != nil {
			return
		}
		size := 0
		for i, s := range shapes {
			size += s.bytes(span / 2)
			if i > 0 {
				size += s.bytes(span / 2)
			}
		}
		if k := policy.K; k > 0 { // what is coded is more
			size = size * k / policy.N
		}
		x = w.transfer(size, event{span / 2, func() { lose(w.relays[0]) }})
	})
	return x, err
}

// TestLoss: the fastest of three paths is lost in the middle of a transfer.
func TestLoss(t *testing.T) {
	span := scale(12*time.Second, 2*time.Second)
	shapes := []shape{{mbit: 100, rtt: 20 * time.Millisecond}, {mbit: 50, rtt: 40 * time.Millisecond}, {mbit: 20, rtt: 60 * time.Millisecond}}
	if !*full {
		for i := range shapes {
			shapes[i].mbit /= 5
		}
	}
	const stall = 3*60*time.Millisecond + 50*time.Millisecond
	c := chart{file: "loss", title: "The fastest of three paths is lost (100, 50, 20 Mbit/s; 20, 40, 60 ms)", x: "time, s", y: "goodput, Mbit/s", events: []float64{(span / 2).Seconds()}}
	var results []Result
	for i, l := range losses {
		x, err := loseFastest(t, span, l.lose, throughput(2), shapes...)
		if err != nil {
			t.Fatal(err)
		}
		if x.err != nil {
			t.Errorf("%s: %v", l.name, x.err)
		}
		// A black hole holds the relay's last bytes too, so look from a little before.
		gap, since := x.gap(span/2-100*time.Millisecond, x.took)
		limit := stall
		if i == 1 {
			limit += detection
		}
		results = append(results,
			Result{Name: "LOSS_" + l.name + "_STALL", Value: x.or(milliseconds(gap)), Unit: "ms", Bar: atMost(milliseconds(limit)), Note: x.noteOf("at %v", since)},
			Result{Name: "LOSS_" + l.name + "_WRONG", Value: x.wrong(), Unit: "bytes lost or doubled", Bar: atMost(0), Note: x.note()})
		c.lines = append(c.lines, line{map[string]string{"RST": "by a reset", "HOLE": "by a black hole"}[l.name], x.curve(100 * time.Millisecond)})
	}
	report(t, results...)
	c.draw(t, results...)
}

// TestErasure: with any 3 of 4 shards enough, the loss of a path is no pause.
func TestErasure(t *testing.T) {
	span := scale(10*time.Second, time.Second)
	shapes := slices.Repeat([]shape{{mbit: 50, rtt: 40 * time.Millisecond}}, 4)
	policy := splitter.Policy{Purpose: splitter.Resilience, K: 3, N: 4}
	c := chart{file: "erasure", title: "Erasure 3 of 4: a path is lost", x: "time, s", y: "goodput, Mbit/s", events: []float64{(span / 2).Seconds()}}
	var results []Result
	for _, l := range losses {
		name := "ERASURE_" + l.name
		x, err := loseFastest(t, span, l.lose, policy, shapes...)
		if errors.Is(err, splitter.ErrPolicy) { // until sessions carry the purpose
			results = append(results, Result{Name: name, Value: math.NaN(), Unit: "× the normal largest gap", Bar: atMost(1.2), Note: err.Error()})
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if x.err != nil {
			t.Errorf("%s: %v", l.name, x.err)
		}
		// What the loss does shows within half a second of it. Before and after is
		// normal: with four paths, and with three.
		settled := min(span/2+500*time.Millisecond, x.took)
		before, _ := x.gap(span/10, span/2)
		later, _ := x.gap(settled, min(settled+2*time.Second, x.took))
		normal := max(before, later)
		after, since := x.gap(span/2-50*time.Millisecond, settled)
		results = append(results,
			Result{Name: name, Value: x.or(milliseconds(after) / milliseconds(normal)), Unit: "× the normal largest gap", Bar: atMost(1.2), Note: x.noteOf("%v at %v", after, since)},
			Result{Name: name + "_WRONG", Value: x.wrong(), Unit: "bytes lost or doubled", Bar: atMost(0), Note: x.note()})
		c.lines = append(c.lines, line{map[string]string{"RST": "by a reset", "HOLE": "by a black hole"}[l.name], x.curve(100 * time.Millisecond)})
	}
	report(t, results...)
	c.draw(t, results...)
}

// wrong counts the bytes that did not arrive as they were sent.
func (x *transfer) wrong() float64 {
	if x.err == nil {
		return 0
	}
	good := 0
	if n := len(x.arrived); n > 0 {
		good = x.arrived[n-1].total
	}
	if errors.Is(x.err, errOther) { // the last Read's are the first wrong ones
		good = 0
		if n := len(x.arrived); n > 1 {
			good = x.arrived[n-2].total
		}
	}
	return float64(max(x.size-good, 1))
}

// noteOf is note, or if there is none what else there is to say.
func (x *transfer) noteOf(format string, args ...any) string {
	if x.err != nil {
		return x.err.Error()
	}
	return fmt.Sprintf(format, args...)
}
