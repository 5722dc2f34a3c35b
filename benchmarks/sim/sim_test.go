package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The whole, in a small form: each figure has a line, each chart is drawn, and the same seed gives the same.
func TestRun(t *testing.T) {
	o, err := parse([]string{"-quick", "-seed", "3"})
	if err != nil {
		t.Fatal(err)
	}
	o.nodes, o.lookups, o.out = 120, 100, t.TempDir()
	var first, second bytes.Buffer
	for _, out := range []*bytes.Buffer{&first, &second} {
		if err := run(t.Context(), o, out, io.Discard); err != nil {
			t.Fatal(err)
		}
	}
	strip := func(s string) string { // what the heap holds is not the seed's
		var lines []string
		for l := range strings.Lines(s) {
			if !strings.HasPrefix(l, "SIM_KIB") {
				lines = append(lines, l)
			}
		}
		return strings.Join(lines, "")
	}
	if a, b := strip(first.String()), strip(second.String()); a != b {
		t.Errorf("the same seed gave\n%sand\n%s", a, b)
	}
	for _, name := range []string{
		"SIM_HOPS_MEAN", "SIM_HOPS_P99", "SIM_SUCCESS", "SIM_KIB_A_NODE", "SIM_LIARS_20", "SIM_LIARS_30", "SIM_LIARS_20_ONE_PATH", "SIM_CHURN", "SIM_ECLIPSE",
	} {
		if !strings.Contains(first.String(), "\n"+name+" = ") {
			t.Errorf("no line for %s", name)
		}
	}
	for _, file := range []string{"hops.svg", "liars.svg", "liars-hops.svg"} {
		if b, err := os.ReadFile(filepath.Join(o.out, file)); err != nil || !bytes.Contains(b, []byte("<svg")) {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := run(ctx, options{nodes: 100, lookups: 10, only: mustParse(t).only}, io.Discard, io.Discard); err == nil {
		t.Error("no error")
	}
}

func mustParse(t *testing.T) options {
	t.Helper()
	o, err := parse([]string{"-quick"})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestFlags(t *testing.T) {
	for _, args := range [][]string{{"-only", "("}, {"x"}, {"-nosuch"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}
