package experiments

import (
	"testing"
	"testing/synctest"
	"time"

	"gonum.org/v1/plot/plotter"
)

// TestSlowPath: a slow path beside a fast one does no harm. The sender writes as
// fast as it is let, so a block's latency includes its wait in Write for room.
func TestSlowPath(t *testing.T) {
	span := scale(15*time.Second, 500*time.Millisecond)
	fast, slow := shape{mbit: 100, rtt: 10 * time.Millisecond}, shape{mbit: 10, rtt: 100 * time.Millisecond}
	alone := measure(t, span, fast)
	var both *transfer
	var sent, again uint64
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fast, slow)
		w.mustConnect(throughput(2))
		both = w.transfer(fast.bytes(span) + slow.bytes(span))
		for _, c := range w.near.Carried() {
			sent += c.Sent
			again += c.ReSent
		}
	})
	if both.err != nil {
		t.Error(both.err)
	}
	from, to := both.took/5, both.took*9/10
	p99 := func(x *transfer) time.Duration { return quantile(x.latencies(x.took/5, x.took*9/10), 0.99) }
	results := []Result{
		{Name: "SLOW_PATH", Value: both.steady() / alone.steady(), Unit: "of the fast alone", Bar: atLeast(0.95), Note: both.note()},
		{Name: "SLOW_PATH_WORST_SECOND", Value: both.or(both.slowest(from, to, scale(time.Second, 100*time.Millisecond)) / alone.steady()), Unit: "of the fast alone", Bar: atLeast(0.95), Note: both.note()},
		{Name: "SLOW_PATH_P99", Value: both.or(milliseconds(p99(both)) / milliseconds(p99(alone))), Unit: "× the fast alone", Bar: atMost(1.25), Note: both.note()},
		{Name: "REDUNDANCY", Value: both.or(float64(again) / float64(sent)), Unit: "of the bytes sent", Bar: atMost(0.03), Note: both.note()},
	}
	report(t, results...)
	const every = 250 * time.Millisecond
	chart{
		file: "slow-path", title: "100 Mbit/s at 10 ms beside 10 Mbit/s at 100 ms", x: "time, s", y: "goodput, Mbit/s",
		lines: []line{{"both paths", both.curve(every)}, {"the fast path alone", alone.curve(every)}},
	}.draw(t, results[:2]...)
	chart{
		file: "slow-path-latency", title: "Latency of blocks of 64 KiB while saturated", x: "percentile", y: "ms from Write to the last byte read",
		lines: []line{{"both paths", both.percentiles()}, {"the fast path alone", alone.percentiles()}},
	}.draw(t, results[2:]...)
}

// percentiles is the distribution of the steady latencies, in ms.
func (x *transfer) percentiles() plotter.XYs {
	values := x.latencies(x.took/5, x.took*9/10)
	var out plotter.XYs
	for q := range 100 {
		out = append(out, plotter.XY{X: float64(q), Y: milliseconds(quantile(values, float64(q)/100))})
	}
	return out
}
