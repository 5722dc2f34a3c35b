package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"go.uber.org/goleak"

	"github.com/splitmesh/splitmesh/examples/internal/program"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// run runs the program.
func runs(t *testing.T, args ...string) (status int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	status = newProgram().Run(t.Context(), args, strings.NewReader(""), &o, &e)
	return status, o.String(), e.String()
}

// TestNetwork: a network with slow links and relays that die talks, and ends by itself.
func TestNetwork(t *testing.T) {
	status, out, errs := runs(t, "--nodes=8", "--relays=3", "--delay=5ms", "--cuts=1s", "--every=100ms", "--for=4s")
	if status != program.OK || !strings.Contains(errs, "8 of 8 nodes are up") {
		t.Fatalf("status %d\n%s%s", status, out, errs)
	}
	for _, want := range []string{"Join it: SPLITMESH_BOOTSTRAP=/ip4/127.0.0.1/tcp/", "relays died", "hidden", "by relays"} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
}

// TestSettings: networks that can't be.
func TestSettings(t *testing.T) {
	for _, arg := range []string{"--nodes=2", "--nodes=1001", "--relays=0", "--relays=19", "--hidden=101", "--delay=-1s", "--rate=100", "--cuts=1ms", "--every=0s", "--for=-1s"} {
		name, _, _ := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
		if status, _, errs := runs(t, "--for=1s", arg); status != program.Settings || !strings.Contains(errs, name) {
			t.Errorf("%s: status %d, %s", arg, status, errs)
		}
	}
	if _, _, errs := runs(t, "--nodes=0"); strings.Contains(errs, "relays") {
		t.Errorf("of no nodes it says what relays there may be: %s", errs)
	}
}

// TestView: keys, sizes, and what a small terminal shows.
func TestView(t *testing.T) {
	s := &settings{Nodes: 12, Relays: 2, Hidden: 50, Every: 50 * time.Millisecond, Log: program.DefaultLog()}
	w := newWorld(s, nil)
	defer w.close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := w.start(ctx, func(int) {}); err != nil {
		t.Fatal(err)
	}
	m := &model{w: w, ctx: ctx}
	if m.Init() == nil {
		t.Error("nothing makes it show anything new")
	}
	m.Update(tea.WindowSizeMsg{Width: 40, Height: 14})
	lines := strings.Split(m.View().Content, "\n")
	if len(lines) > 14 || !strings.Contains(m.View().Content, "more") {
		t.Errorf("%d lines:\n%s", len(lines), m.View().Content)
	}
	for _, l := range lines {
		if len([]rune(l)) > 40 {
			t.Errorf("too wide: %q", l)
		}
	}
	m.Update(tea.KeyPressMsg{Code: 'c', Text: "c"})
	if f := w.tally.figures(); f.deaths != 1 {
		t.Error("no relay died")
	}
	if _, cmd := m.Update(tea.KeyPressMsg{Code: 'q', Text: "q"}); cmd == nil {
		t.Error("q does not end it")
	}
	cancel()
}
