package padding_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/splitmesh/splitmesh/splitter/padding"
)

var start = time.Unix(1e9, 0)

func seeded(seed byte) rand.Source { return rand.NewChaCha8([32]byte{seed}) }

func framework(t testing.TB, c padding.Config) *padding.Framework {
	t.Helper()
	f, err := padding.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// burst pads 3 cells, 10 ms apart, on the path of each normal cell sent.
func burst(target padding.Target) padding.Machine {
	m := padding.Machine{States: make([]padding.State, 2)}
	m.States[0].On[padding.NormalSent] = []padding.Transition{{To: 1, Probability: 1}}
	m.States[1].On[padding.PaddingSent] = []padding.Transition{{To: 1, Probability: 1}}
	m.States[1].On[padding.LimitReached] = []padding.Transition{{To: 0, Probability: 1}}
	m.States[1].Pad = &padding.Pad{
		Timeout: padding.Dist{Kind: padding.Uniform, A: 0.01, B: 0.01, Max: 1},
		Cells:   padding.Dist{Kind: padding.Uniform, A: 3, B: 3, Max: 3},
		Target:  target,
	}
	return m
}

func TestBurst(t *testing.T) {
	f := framework(t, padding.Config{Machines: []padding.Machine{burst(padding.SamePath)}, CellBytes: 100})
	paths := []uint32{7, 8, 9}
	ev := padding.Event{Kind: padding.NormalSent, Path: 8, Bytes: 500}
	now := start
	for cell := range 3 {
		got := f.Handle(now, ev, paths, nil)
		want := []padding.Action{{Kind: padding.Schedule, Path: 8, At: now.Add(10 * time.Millisecond), Bytes: 100}}
		if !slices.Equal(got, want) {
			t.Fatalf("cell %d: got %+v, want %+v", cell, got, want)
		}
		now = got[0].At
		ev = padding.Event{Kind: padding.PaddingSent, Path: 8}
	}
	if got := f.Handle(now, ev, paths, nil); len(got) != 0 {
		t.Fatalf("a burst of 3 goes on: %+v", got)
	}
	if got := f.Handle(now, ev, paths, nil); len(got) != 0 || f.Padded() != 300 {
		t.Fatalf("padding that was not scheduled counts: %+v, %d bytes", got, f.Padded())
	}
}

func TestPathGone(t *testing.T) {
	f := framework(t, padding.Config{Machines: []padding.Machine{burst(padding.SamePath)}})
	normal := padding.Event{Kind: padding.NormalSent, Path: 8, Bytes: 500}
	f.Handle(start, normal, []uint32{7, 8}, nil)
	got := f.Handle(start, padding.Event{Kind: padding.BlockingBegan, Path: 7}, []uint32{7}, nil)
	if want := []padding.Action{{Kind: padding.Cancel}}; !slices.Equal(got, want) {
		t.Fatalf("got %+v, want a cancel", got)
	}
	if got = f.Handle(start, padding.Event{Kind: padding.PaddingSent, Path: 8}, []uint32{7}, nil); len(got) != 0 || f.Padded() != 0 {
		t.Fatalf("what was cancelled counts as sent: %+v, %d", got, f.Padded())
	}
	if got = f.Handle(start, normal, []uint32{7}, nil); len(got) != 0 {
		t.Fatalf("pads on a path that is gone: %+v", got)
	}
	if got = f.Handle(start, normal, []uint32{7, 8}, nil); len(got) != 1 {
		t.Fatalf("does not begin again: %+v", got)
	}
}

// A transition out of a state that pads cancels what it had scheduled.
func TestCancelAndEnd(t *testing.T) {
	m := burst(padding.DrawnPath)
	m.States[1].On[padding.NormalReceived] = []padding.Transition{{To: padding.End, Probability: 1}}
	f := framework(t, padding.Config{Machines: []padding.Machine{m}, Source: seeded(1)})
	paths := []uint32{1, 2, 3}
	got := f.Handle(start, padding.Event{Kind: padding.NormalSent, Path: 9, Bytes: 1}, paths, nil)
	if len(got) != 1 || !slices.Contains(paths, got[0].Path) {
		t.Fatalf("got %+v, want one cell on one of %v", got, paths)
	}
	got = f.Handle(start, padding.Event{Kind: padding.NormalReceived}, paths, nil)
	if want := []padding.Action{{Kind: padding.Cancel}}; !slices.Equal(got, want) {
		t.Fatalf("got %+v, want a cancel", got)
	}
	for kind := range padding.Kind(20) {
		if got := f.Handle(start, padding.Event{Kind: kind, Path: 1, Bytes: 1}, paths, nil); len(got) != 0 {
			t.Fatalf("a machine at its end does %+v", got)
		}
	}
}

func TestBudgetStopsAndBeginsAgain(t *testing.T) {
	f := framework(t, padding.Config{
		Machines: []padding.Machine{burst(padding.SamePath)}, CellBytes: 100, MaxFraction: 0.1, Allowance: -1,
	})
	ev := padding.Event{Kind: padding.NormalSent, Path: 1, Bytes: 500}
	for cell := range 2 * 3 * 10 {
		got := f.Handle(start, ev, []uint32{1}, nil)
		if want := cell%2 == 1; (len(got) == 1) != want {
			t.Fatalf("normal cell %d: %+v", cell, got)
		}
		for len(got) > 0 {
			got = f.Handle(start, padding.Event{Kind: padding.PaddingSent}, []uint32{1}, nil)
		}
	}
	if f.Padded() != 3000 {
		t.Fatalf("%d bytes padded on 30,000, want the tenth", f.Padded())
	}
}

// What one machine has scheduled is no longer there for another.
func TestBudgetCountsWhatIsScheduled(t *testing.T) {
	m := burst(padding.SamePath)
	f := framework(t, padding.Config{Machines: []padding.Machine{m, m, m}, CellBytes: 100, MaxFraction: 0.1, Allowance: 200})
	got := f.Handle(start, padding.Event{Kind: padding.NormalSent, Path: 1, Bytes: 500}, []uint32{1}, nil)
	if len(got) != 2 || got[0].Machine != 0 || got[1].Machine != 1 {
		t.Fatalf("got %+v, want a cell each of machines 0 and 1, on a budget of 250 bytes", got)
	}
}

func TestRefused(t *testing.T) {
	ok := padding.Dist{Max: 1}
	with := func(change func(m *padding.Machine)) padding.Machine {
		m := burst(padding.SamePath)
		change(&m)
		return m
	}
	pad := func(p padding.Pad) padding.Machine {
		return padding.Machine{States: []padding.State{{Pad: &p}}}
	}
	to := func(on ...padding.Transition) padding.Machine {
		return with(func(m *padding.Machine) { m.States[0].On[padding.NormalSent] = on })
	}
	for _, tt := range []struct {
		m   padding.Machine
		err string
	}{
		{padding.Machine{}, "0 states"},
		{padding.Machine{States: make([]padding.State, 65)}, "65 states"},
		{to(padding.Transition{To: 2, Probability: 1}), "state 2 of 2"},
		{to(padding.Transition{To: -2, Probability: 1}), "state -2 of 2"},
		{to(padding.Transition{To: 1}), "probability 0"},
		{to(padding.Transition{To: 1, Probability: 1.1}), "probability 1.1"},
		{to(padding.Transition{To: 1, Probability: math.NaN()}), "probability NaN"},
		{to(padding.Transition{To: 1, Probability: 0.6}, padding.Transition{Probability: 0.6}), "add up to 1.2"},
		{to(make([]padding.Transition, 17)...), "17 transitions"},
		{pad(padding.Pad{Timeout: ok, Cells: ok, Target: 2}), "target 2"},
		{pad(padding.Pad{Timeout: ok}), "cells: parameters"},
		{pad(padding.Pad{Cells: ok}), "timeout: parameters"},
		{pad(padding.Pad{Cells: ok, Timeout: padding.Dist{A: math.Inf(1), B: 1, Max: 1}}), "finite"},
		{pad(padding.Pad{Cells: ok, Timeout: padding.Dist{Max: 3601}}), "at most 3600"},
		{pad(padding.Pad{Cells: ok, Timeout: padding.Dist{A: 2, B: 1, Max: 1}}), "uniform from 2 to 1"},
		{pad(padding.Pad{Cells: ok, Timeout: padding.Dist{Kind: padding.Exponential, Max: 1}}), "exponential of mean 0"},
		{pad(padding.Pad{Cells: ok, Timeout: padding.Dist{Kind: padding.LogNormal, B: -1, Max: 1}}), "deviation -1"},
		{pad(padding.Pad{Cells: ok, Timeout: padding.Dist{Kind: 3, Max: 1}}), "unknown distribution 3"},
	} {
		t.Run(tt.err, func(t *testing.T) {
			_, err := padding.New(padding.Config{Machines: []padding.Machine{burst(padding.SamePath), tt.m}})
			if !errors.Is(err, padding.ErrMachine) || !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("error %v, want ErrMachine with %q", err, tt.err)
			}
		})
	}
	for _, c := range []padding.Config{
		{CellBytes: -1}, {CellBytes: 1 << 20}, {MaxFraction: -1}, {MaxFraction: 1.5}, {MaxFraction: math.NaN()},
		{Machines: make([]padding.Machine, 9)},
	} {
		if _, err := padding.New(c); err == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
}

// The same seed and events make the same actions; no seed makes others.
func TestDeterminism(t *testing.T) {
	run := func(s rand.Source) string {
		f := framework(t, padding.Config{Machines: padding.Unlinkability(), Source: s})
		var all []padding.Action
		for i := range 3000 {
			got := f.Handle(start.Add(time.Duration(i)), padding.Event{Kind: padding.Kind(i % 2), Bytes: 536}, []uint32{1, 2, 3, 4, 5}, nil)
			for len(got) > 0 {
				all = append(all, got...)
				got = f.Handle(got[0].At, padding.Event{Kind: padding.PaddingSent}, []uint32{1, 2, 3, 4, 5}, nil)
			}
		}
		if len(all) == 0 {
			t.Fatal("the default machines never pad")
		}
		return fmt.Sprint(all)
	}
	one, again, unseeded, other := run(seeded(1)), run(seeded(1)), run(nil), run(nil)
	if one != again {
		t.Fatal("one seed, two sequences")
	}
	if unseeded == other {
		t.Fatal("two frameworks do the same without a seed")
	}
}

// FuzzBudget plays any events to any machines, and keeps the timers as a caller
// would; at times it doesn't heed a cancel, and tells of padding never sent.
func FuzzBudget(f *testing.F) {
	f.Add(uint64(1), []byte{0, 0, 2, 0, 2, 1, 2, 2, 2})
	f.Add(uint64(2), []byte("\x00\x10\x20\x02\x12\x22\x00\x01\x04\x05\x03\x02\xff"))
	f.Add(uint64(3), make([]byte, 400))
	f.Fuzz(func(t *testing.T, seed uint64, events []byte) {
		chance := rand.New(rand.NewPCG(seed, 0))
		c := padding.Config{
			CellBytes: 1 + chance.IntN(600), MaxFraction: 0.01 + 0.9*chance.Float64(), Allowance: chance.IntN(3000) - 10,
			Source: rand.NewPCG(seed, 1),
		}
		for range chance.IntN(padding.MaxMachines + 1) {
			c.Machines = append(c.Machines, machine(chance))
		}
		fw := framework(t, c)
		scheduled := make([]bool, len(c.Machines))
		var normal, sent int
		for _, e := range events {
			ev := padding.Event{Kind: padding.Kind(e & 7), Path: uint32(e >> 3 & 3), Bytes: chance.IntN(700) - 1, Machine: int(e>>4) - 1}
			switch ev.Kind {
			case padding.NormalSent, padding.NormalReceived:
				normal += max(ev.Bytes, 0)
			case padding.PaddingSent:
				if ev.Machine >= 0 && ev.Machine < len(scheduled) && scheduled[ev.Machine] {
					scheduled[ev.Machine] = false
					sent += c.CellBytes
				}
			}
			paths := []uint32{0, 1, 2, 3}[:chance.IntN(5)]
			seen := map[int]bool{}
			for _, a := range fw.Handle(start, ev, paths, nil) {
				if seen[a.Machine] {
					t.Fatalf("two actions of machine %d at once", a.Machine)
				}
				seen[a.Machine] = true
				if a.Kind == padding.Schedule && (a.At.Before(start) || !slices.Contains(paths, a.Path) || a.Bytes != c.CellBytes) {
					t.Fatalf("%+v with paths %v", a, paths)
				}
				if a.Kind == padding.Cancel && !scheduled[a.Machine] {
					t.Fatalf("machine %d cancels what it had not scheduled", a.Machine)
				}
				scheduled[a.Machine] = a.Kind == padding.Schedule
			}
			reserved := 0
			for _, s := range scheduled {
				if s {
					reserved += c.CellBytes
				}
			}
			if budget := c.MaxFraction*float64(normal) + float64(max(c.Allowance, 0)); sent+reserved > 0 && float64(sent+reserved) > budget+16<<10*bit(c.Allowance == 0) {
				t.Fatalf("%d bytes sent and %d scheduled of %.0f", sent, reserved, budget)
			}
			if fw.Padded() != int64(sent) {
				t.Fatalf("counts %d bytes, want %d", fw.Padded(), sent)
			}
		}
	})
}

func bit(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// machine makes any well-formed machine.
func machine(chance *rand.Rand) padding.Machine {
	m := padding.Machine{States: make([]padding.State, 1+chance.IntN(4))}
	for i := range m.States {
		s := &m.States[i]
		for kind := range s.On {
			for range chance.IntN(3) {
				s.On[kind] = append(s.On[kind], padding.Transition{To: chance.IntN(len(m.States)+1) - 1, Probability: 0.5})
			}
		}
		if chance.IntN(3) > 0 {
			s.Pad = &padding.Pad{
				Timeout: padding.Dist{Kind: padding.DistKind(chance.IntN(3)), A: 0.1, B: 0.2, Max: 1},
				Cells:   padding.Dist{Kind: padding.LogNormal, A: 1, B: 1, Max: 10},
				Target:  padding.Target(chance.IntN(2)),
			}
		}
	}
	return m
}
