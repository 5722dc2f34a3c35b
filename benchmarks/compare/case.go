package main

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"time"
)

// A kase is what is measured of systems. (case is a word of the language.)
type kase struct {
	name  string
	about string
	unit  string // of the main figure, which is also its name
	small bool   // a small main figure is a good one
	// rounds bounds the rounds in which it is sampled. 0: all.
	rounds int
	// quiet says that the figures don't depend on what else the machine does.
	quiet bool
	link  link // between dialler and listener, or relay
	takes func(*system) bool
	run   func(ctx context.Context, w *world, p plan) (figures, error)
}

// figures are what a sample found, by their units.
type figures map[string]float64

// The units of figures. Those of costs count all parties together.
const (
	rate       = "MB/s"
	cpuPerGB   = "CPU s/GB"
	writesMB   = "writes/MB" // system calls
	allocsMiB  = "allocs/MiB"
	allocated  = "KiB/MiB" // allocated
	millis     = "ms"      // the median
	millis99   = "ms p99"
	micros     = "µs"
	micros99   = "µs p99"
	memory     = "KiB a side"
	goroutines = "goroutines a side"
	dialRate   = "dials/s"
	failures   = "failures"
)

// units are all of them, in the order of the columns.
var units = []string{
	rate, cpuPerGB, writesMB, allocsMiB, allocated, millis, millis99, micros, micros99, memory, goroutines,
	dialRate, failures,
}

// A plan is how long and how much to measure.
type plan struct {
	warm, measure time.Duration
	dials         time.Duration // for how long to dial without a pause
	idle          int           // connections
	profile       string        // the file for a CPU profile of what is measured
}

func planOf(quick bool) plan {
	if quick {
		return plan{warm: 100 * time.Millisecond, measure: 250 * time.Millisecond, dials: 2 * time.Second, idle: 200}
	}
	return plan{warm: 300 * time.Millisecond, measure: 700 * time.Millisecond, dials: 10 * time.Second, idle: 1000}
}

const bulkSize = 256 << 10 // of a Write

var cases = slices.Concat([]kase{
	{name: "bulk-out", about: "one stream, dialler to listener, writes of 256 KiB", unit: rate, takes: all, run: bulk(1, bulkSize, false)},
	{name: "bulk-back", about: "one stream, listener to dialler, writes of 256 KiB", unit: rate, takes: all, run: bulk(1, bulkSize, true)},
	{name: "streams100", about: "100 streams of one connection at once, dialler to listener", unit: rate, takes: muxed, run: bulk(100, bulkSize, false)},
	{name: "roundtrip", about: "a byte and its echo on an open stream", unit: micros, small: true, takes: all, run: roundTrips},
	{name: "connect", about: "a new connection, to the first byte echoed", unit: millis, small: true, takes: all, run: connects},
	{name: "idle", about: "a connection that waits, with one stream", unit: memory, small: true, rounds: 2, quiet: true, takes: scales, run: idle},
	{name: "dials", about: "16 who connect, have a byte echoed and close, without a pause", unit: dialRate, rounds: 2, takes: scales, run: dials},
}, sweep(), shaped())

// sweep is one stream with other sizes of Write.
func sweep() (ks []kase) {
	for _, s := range []struct {
		name string
		size int
	}{{"1", 1}, {"64", 64}, {"1K", 1 << 10}, {"16K", 16 << 10}, {"64K", 64 << 10}, {"1M", 1 << 20}} {
		ks = append(ks, kase{
			name: "write-" + s.name, about: "one stream, dialler to listener, writes of " + s.name + "B",
			unit: rate, rounds: 3, takes: writesOf(s.size), run: bulk(1, s.size, false),
		})
	}
	return ks
}

// shaped is one stream, and its beginning, over emulated links.
func shaped() (ks []kase) {
	for _, l := range []link{{mbit: 200, rtt: 20 * time.Millisecond}, {mbit: 1000, rtt: 5 * time.Millisecond}} {
		ks = append(
			ks,
			kase{name: "bulk-" + l.String(), about: "one stream, dialler to listener", unit: rate, rounds: 3, link: l, takes: overTheLink, run: bulk(1, bulkSize, false)},
			kase{name: "connect-" + l.String(), about: "a new connection, to the first byte echoed", unit: millis, small: true, rounds: 3, link: l, takes: overTheLink, run: connects},
		)
	}
	return ks
}

func all(*system) bool           { return true }
func muxed(s *system) bool       { return !s.one }
func overTheLink(s *system) bool { return !s.udp }

// scales is for what makes many connections: without relays, whose limits and
// costs are another matter, and where a second dialler need not wait for the first.
func scales(s *system) bool { return s.relays == 0 && s.name != "wireguard-tun" }

func caseNamed(name string) (*kase, error) {
	for i := range cases {
		if cases[i].name == name {
			return &cases[i], nil
		}
	}
	return nil, fmt.Errorf("no case is called %q", name)
}

// writesOf leaves out netstack for small writes: within seconds its TCP stalls, and
// moves a few bytes a second from then on.
func writesOf(size int) func(*system) bool {
	return func(s *system) bool { return size >= 1<<10 || s.name != "wireguard-netstack" }
}

// A pairing is one case of one system.
type pairing struct {
	kase   *kase
	system *system
}

func (p pairing) String() string { return p.kase.name + "/" + p.system.name }

// pairings are all that match only, or those that the bars need.
func pairings(quick bool, only *regexp.Regexp) (ps []pairing) {
	for k := range cases {
		for s := range systems {
			p := pairing{&cases[k], &systems[s]}
			switch {
			case !p.kase.takes(p.system):
			case only != nil && !only.MatchString(p.String()):
			case only == nil && quick && !needed(p):
			default:
				ps = append(ps, p)
			}
		}
	}
	return ps
}
