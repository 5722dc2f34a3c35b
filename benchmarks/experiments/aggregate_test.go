package experiments

import (
	"testing"
	"testing/synctest"
	"time"
)

// measure transfers over relays with links of the given shapes, for about as
// long as it takes at their nominal rates.
func measure(t *testing.T, span time.Duration, shapes ...shape) *transfer {
	t.Helper()
	var x *transfer
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, shapes...)
		w.mustConnect(throughput(len(shapes)))
		size := 0
		for _, s := range shapes {
			size += s.bytes(span)
		}
		x = w.transfer(size)
	})
	if x.err != nil {
		t.Errorf("over %v: %v", shapes, x.err)
	}
	return x
}

// steady is the goodput without the beginning and the end, in Mbit/s.
func (x *transfer) steady() float64 { return x.or(x.rate(x.took/5, x.took*9/10)) }

// TestAggregate: paths carry together what each carries alone.
func TestAggregate(t *testing.T) {
	span := scale(12*time.Second, 500*time.Millisecond)
	const rtt = 20 * time.Millisecond
	fast, middle, slow := shape{mbit: 100, rtt: rtt}, shape{mbit: 50, rtt: rtt}, shape{mbit: 10, rtt: rtt}

	one := measure(t, span, fast)
	three := measure(t, span, fast, fast, fast)
	equal := []Result{
		{Name: "EQUAL_3", Value: three.whole() / one.whole(), Unit: "×", Bar: atLeast(2.85), Note: three.note()},
		{Name: "EQUAL_3_STEADY", Value: three.steady() / one.steady(), Unit: "×", Bar: atLeast(2.85), Note: three.note()},
	}
	report(t, equal...)

	alone, aloneSteady := one.whole(), one.steady()
	var others []*transfer
	for _, s := range []shape{middle, slow} {
		x := measure(t, span, s)
		alone += x.whole()
		aloneSteady += x.steady()
		others = append(others, x)
	}
	sum := measure(t, span, fast, middle, slow)
	unequal := []Result{
		{Name: "UNEQUAL_SUM", Value: sum.whole() / alone, Unit: "of the sum", Bar: atLeast(0.93), Note: sum.note()},
		{Name: "UNEQUAL_SUM_STEADY", Value: sum.steady() / aloneSteady, Unit: "of the sum", Bar: atLeast(0.93), Note: sum.note()},
	}
	report(t, unequal...)

	const every = 250 * time.Millisecond
	chart{
		file: "aggregate-equal", title: "Three paths of 100 Mbit/s, 20 ms", x: "time, s", y: "goodput, Mbit/s",
		lines: []line{{"three paths", three.curve(every)}, {"one path", one.curve(every)}},
	}.draw(t, equal...)
	chart{
		file: "aggregate-unequal", title: "Paths of 100, 50 and 10 Mbit/s, all 20 ms", x: "time, s", y: "goodput, Mbit/s",
		lines: []line{{"all three", sum.curve(every)}, {"100 alone", one.curve(every)}, {"50 alone", others[0].curve(every)}, {"10 alone", others[1].curve(every)}},
	}.draw(t, unequal...)
}
