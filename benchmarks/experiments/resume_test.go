package experiments

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/multiformats/go-multiaddr"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/splitter"
)

// TestResume: every path dies for half a minute, and both ends come back at
// other addresses.
func TestResume(t *testing.T) {
	const outage = 30 * time.Second
	span := scale(10*time.Second, time.Second)
	s := shape{mbit: 20, rtt: 30 * time.Millisecond}
	dies := span / 2
	var relayed, direct *transfer
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, s, s, s)
		w.mustConnect(throughput(2))
		relayed = w.transfer(3*s.bytes(span), w.outage(dies, outage)...)
	})
	synctest.Test(t, func(t *testing.T) {
		w := newDirectWorld(t, s)
		synctest.Wait() // until the listener has published where it is
		w.mustConnect(splitter.Policy{})
		direct = w.transfer(s.bytes(span), w.outage(dies, outage)...)
	})
	var results []Result
	for _, r := range []struct {
		name string
		x    *transfer
	}{{"RELAYED", relayed}, {"DIRECT", direct}} {
		gap, _ := r.x.gap(0, r.x.took)
		results = append(results,
			Result{Name: "RESUME_" + r.name + "_WRONG", Value: r.x.wrong(), Unit: "bytes lost or doubled", Bar: atMost(0), Note: r.x.noteOf("a pause of %v, %v of it dead", gap, outage)})
		if r.x.err != nil {
			t.Logf("%s: %v", r.name, r.x.err)
		}
	}
	report(t, results...)
	const every = 500 * time.Millisecond
	chart{
		file: "resume", title: "All paths dead for 30 s, both ends back at new addresses", x: "time, s", y: "goodput, Mbit/s",
		lines:  []line{{"over three relays", relayed.curve(every)}, {"directly", direct.curve(every)}},
		events: []float64{dies.Seconds(), (dies + outage).Seconds()},
	}.draw(t, results...)
}

// outage resets everything that either end is connected to and leaves them no
// network for so long. Then both are back, at addresses of which only the
// directory tells: what the ends dial from is new with each dial, and a listener
// has moved.
func (w *world) outage(at, long time.Duration) []event {
	return []event{
		{at, func() {
			for _, d := range w.doors {
				d.close()
			}
			for _, r := range w.relays {
				r.front.Cut()
				r.back.Cut()
			}
			if w.direct == nil {
				return
			}
			w.direct.Cut()
			if err := w.doors[1].move(w.within(), multiaddr.StringCast("/memory/5000")); err != nil {
				w.t.Error(err)
			}
		}},
		{at + long, func() {
			for _, d := range w.doors {
				d.open()
			}
			if w.direct != nil {
				w.republish()
			}
		}},
	}
}

// republish tells the directory where the listener listens now.
func (w *world) republish() {
	k := key(w.t, listens)
	now := time.Now()
	r := &registry.Record{
		Sequence: now.UnixMilli(), Expires: now.Add(time.Hour).UnixMilli(),
		Addrs: []multiaddr.Multiaddr{w.doors[1].at()},
	}
	if err := r.Sign(k); err != nil {
		w.t.Error(err)
		return
	}
	if err := w.dir.Publish(w.within(), r); err != nil {
		w.t.Error(err)
	}
}
