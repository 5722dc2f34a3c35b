package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
)

// A bar is what a figure, or a ratio of two, has to reach.
type bar struct {
	name string
	over subject  // the figure
	by   *subject // what it is divided by. Nil: nothing
	most bool     // whether it may be at most so much, not at least
	want float64
}

const (
	meshWS     = "splitmesh-ws"
	meshRelay1 = "splitmesh-relay1-ws"
)

// bars are what the project demands of itself.
var bars = []bar{
	ratio("WS_OVER_LIBP2P_WS_OUT", "bulk-out", meshWS, "libp2p-ws", 2.5),
	ratio("WS_OVER_LIBP2P_WS_BACK", "bulk-back", meshWS, "libp2p-ws", 1.8),
	ratio("WS_OVER_LIBP2P_TCP_OUT", "bulk-out", meshWS, "libp2p-tcp", 1.8),
	ratio("WS_OVER_LIBP2P_TCP_BACK", "bulk-back", meshWS, "libp2p-tcp", 1.8),
	ratio("WS_OVER_TLS_OUT", "bulk-out", meshWS, "tls", 0.85),
	ratio("WS_OVER_TLS_BACK", "bulk-back", meshWS, "tls", 0.85),
	ratio("CHACHA_OVER_LIBP2P_TCP_OUT", "bulk-out", "splitmesh-ws-chacha", "libp2p-tcp", 1.2),
	ratio("CHACHA_OVER_LIBP2P_TCP_BACK", "bulk-back", "splitmesh-ws-chacha", "libp2p-tcp", 1.2),
	ratio("RELAY1_OVER_LIBP2P_RELAY_WS_OUT", "bulk-out", meshRelay1, "libp2p-relay-ws", 4),
	ratio("RELAY1_OVER_LIBP2P_RELAY_WS_BACK", "bulk-back", meshRelay1, "libp2p-relay-ws", 4),
	value("RELAY1_CPU_SECONDS_A_GB", subject{"bulk-out", meshRelay1, cpuPerGB}, true, 2.2),
	ratio("SPLIT3_OVER_RELAY1", "bulk-out", "splitmesh-relay3-ws", meshRelay1, 0.9),
	ratio("SECRECY_OVER_RELAY1", "bulk-out", "splitmesh-secrecy-2of3", meshRelay1, 0.35),
	between("STREAMS100_OVER_ONE", subject{"streams100", meshWS, rate}, subject{"bulk-out", meshWS, rate}, false, 0.9),
	between("FIRST_BYTE_OVER_LIBP2P_WS", subject{"connect", meshWS, millis}, subject{"connect", "libp2p-ws", millis}, true, 0.6),
	between("ROUND_TRIP_OVER_LIBP2P_WS", subject{"roundtrip", meshWS, micros}, subject{"roundtrip", "libp2p-ws", micros}, true, 1),
	value("IDLE_KIB", subject{"idle", meshWS, memory}, true, 32),
	value("IDLE_GOROUTINES", subject{"idle", meshWS, goroutines}, true, 3),
	value("DIALS_A_SECOND", subject{"dials", meshWS, dialRate}, false, 500),
	value("DIALS_P99_MS", subject{"dials", meshWS, millis99}, true, 100),
	value("DIAL_FAILURES", subject{"dials", meshWS, failures}, true, 0),
}

// ratio is of the rates of two systems, at least so much.
func ratio(name, kase, over, by string, want float64) bar {
	return between(name, subject{kase, over, rate}, subject{kase, by, rate}, false, want)
}

func between(name string, over, by subject, most bool, want float64) bar {
	return bar{name: name, over: over, by: &by, most: most, want: want}
}

func value(name string, of subject, most bool, want float64) bar {
	return bar{name: name, over: of, most: most, want: want}
}

// needs says whether the bar is about p.
func (b *bar) needs(p pairing) bool {
	is := func(of *subject) bool { return of != nil && of.kase == p.kase.name && of.system == p.system.name }
	return is(&b.over) || is(b.by)
}

// needed says whether any bar is about p.
func needed(p pairing) bool {
	return slices.ContainsFunc(bars, func(b bar) bool { return b.needs(p) })
}

// of computes the bar's figure; there is none when something was not sampled.
func (b *bar) of(sum summary) (x float64, ok bool) {
	over, ok := sum[b.over]
	if !ok || b.by == nil {
		return over.Median, ok
	}
	by, ok := sum[*b.by]
	if !ok || by.Median == 0 {
		return 0, false
	}
	return over.Median / by.Median, true
}

// noisy says that the bar's figure comes from samples that were disturbed.
func (b *bar) noisy(sum summary) bool {
	return sum[b.over].Noisy || b.by != nil && sum[*b.by].Noisy
}

func reaches(x, want float64, most bool) bool {
	if most {
		return x <= want
	}
	return x >= want
}

// line is what is printed of the bar.
func (b *bar) line(x float64, noisy bool) string {
	kind, sign, verdict := "ratio", "≥", "ok"
	if b.by == nil {
		kind = "value"
	}
	if b.most {
		sign = "≤"
	}
	if !reaches(x, b.want, b.most) {
		verdict = "SHORT"
	}
	if noisy {
		verdict += " noisy"
	}
	return fmt.Sprintf("%s %s = %v (bar %s %g) %s", kind, b.name, math.Round(1000*x)/1000, sign, b.want, verdict)
}

// floors are how far figures may fall, or rise where small ones are good, before
// somebody must have broken something: by name of the bar. They are far from
// what is measured, and of no times, so that another machine, and a busy one,
// stays within them.
type floors map[string]float64

func parseFloors(text []byte) (floors, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	var f floors
	if err := dec.Decode(&f); err != nil {
		return nil, err
	}
	if dec.More() {
		return nil, fmt.Errorf("something follows the floors")
	}
	for _, name := range byName(f) {
		if barNamed(name) == nil {
			return nil, fmt.Errorf("no bar is called %q", name)
		}
	}
	return f, nil
}

func readFloors(file string) (floors, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	f, err := parseFloors(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return f, nil
}

func barNamed(name string) *bar {
	for i := range bars {
		if bars[i].name == name {
			return &bars[i]
		}
	}
	return nil
}

// broken says which floors a run fell through, and what they are of. What was not
// measured fell through too, unless only some things were asked for.
func (f floors) broken(sum summary, some bool) (lines []string, of []*bar) {
	for _, name := range byName(f) {
		b := barNamed(name)
		noise := ""
		if b.noisy(sum) {
			noise = ", which noisy samples say"
		}
		switch x, ok := b.of(sum); {
		case !ok && !some:
			lines, of = append(lines, name+" was not measured"), append(of, b)
		case ok && !reaches(x, f[name], b.most):
			lines, of = append(lines, fmt.Sprintf("%s = %.3g is worse than its floor of %g%s", name, x, f[name], noise)), append(of, b)
		}
	}
	return lines, of
}

// measured is how many of the floors are of something that was.
func (f floors) measured(sum summary) (n int) {
	for name := range f {
		if _, ok := barNamed(name).of(sum); ok {
			n++
		}
	}
	return n
}
