package experiments

import (
	"flag"
	"fmt"
	"strconv"
	"testing"

	"go.uber.org/goleak"
)

var (
	full = flag.Bool("experiments", false, "run the experiments in full, hold them against their bars, and draw them into docs/experiments")
	seed = flag.Uint64("seed", 1, "what the data, and the chance of the experiments, begin with")
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scale is the first value in a full run and the second in a short one.
func scale[T any](inFull, short T) T {
	if *full {
		return inFull
	}
	return short
}

// A bar is what a figure has to pass.
type bar struct {
	most  bool // the limit is the most, not the least
	limit float64
}

func atLeast(x float64) bar { return bar{false, x} }
func atMost(x float64) bar  { return bar{true, x} }

func (b bar) passed(v float64) bool {
	if b.most {
		return v <= b.limit
	}
	return v >= b.limit
}

func (b bar) String() string {
	if b.most {
		return "≤ " + number(b.limit)
	}
	return "≥ " + number(b.limit)
}

// number writes v with four digits that count.
func number(v float64) string { return strconv.FormatFloat(v, 'g', 4, 64) }

// A Result is one figure of an experiment.
type Result struct {
	Name  string // in capitals
	Value float64
	Unit  string // × for a ratio; empty for a plain number
	Bar   bar
	Note  string // what else there is to know, such as an error
}

// OK reports whether the figure passed its bar.
func (r Result) OK() bool { return r.Bar.passed(r.Value) }

func (r Result) String() string {
	s := fmt.Sprintf("%s = %s", r.Name, number(r.Value))
	if r.Unit != "" {
		s += " " + r.Unit
	}
	s += fmt.Sprintf(" (bar %v, seed %d) ", r.Bar, *seed)
	if r.OK() {
		s += "ok"
	} else {
		s += "FAILED"
	}
	if r.Note != "" {
		s += ": " + r.Note
	}
	return s
}

// report prints figures and, in a full run, fails the test for those that do not
// pass. A short run is too short for the bars.
func report(t testing.TB, results ...Result) {
	t.Helper()
	for _, r := range results {
		if !*full {
			t.Logf("short: %v", r)
			continue
		}
		fmt.Println(r)
		if !r.OK() {
			t.Errorf("%s missed its bar", r.Name)
		}
	}
}

func TestResult(t *testing.T) {
	for want, r := range map[string]Result{
		"A = 2.853 × (bar ≥ 2.85, seed 1) ok":                    {Name: "A", Value: 2.8529, Unit: "×", Bar: atLeast(2.85)},
		"B = 0.031 (bar ≤ 0.03, seed 1) FAILED: 3 of 100":        {Name: "B", Value: 0.031, Bar: atMost(0.03), Note: "3 of 100"},
		"C = 0 bytes (bar ≤ 0, seed 1) ok":                       {Name: "C", Unit: "bytes", Bar: atMost(0)},
		"D = 1231 ms (bar ≤ 1230, seed 1) FAILED":                {Name: "D", Value: 1231, Unit: "ms", Bar: atMost(1230)},
		"E = 2.8 × (bar ≥ 2.85, seed 1) FAILED: of what one did": {Name: "E", Value: 2.8, Unit: "×", Bar: atLeast(2.85), Note: "of what one did"},
	} {
		if *seed == 1 && r.String() != want {
			t.Errorf("%q, want %q", r, want)
		}
	}
}
