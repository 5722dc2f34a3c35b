package main

import (
	"bytes"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestBlock(t *testing.T) {
	g := won()
	g.received.Bytes = g.o.size / 2
	for _, tt := range []struct {
		name  string
		width int
		color bool
		want  []string
	}{
		{"wide", 70, false, []string{
			"  relay A   16.7%     1 MiB  killed       ███░░░░░░░░░░░░░░░░░",
			"  relay B   33.3%   2.0 MiB  0 B/s        ███████░░░░░░░░░░░░░",
			"  relay C   33.3%     2 MiB  0 B/s        ███████░░░░░░░░░░░░░",
			"  relay D   16.7%     1 MiB  0 B/s        ███░░░░░░░░░░░░░░░░░",
			"  arrived   50.0%     3 MiB  of 6 MiB     ██████████░░░░░░░░░░",
		}},
		{"narrow", 30, true, []string{
			"  relay A   16.7%     1 MiB  ",
			"  relay B   33.3%   2.0 MiB  ",
			"  relay C   33.3%     2 MiB  ",
			"  relay D   16.7%     1 MiB  ",
			"  arrived   50.0%     3 MiB  ",
		}},
		{"in color", 60, true, []string{
			"  relay A   16.7%     1 MiB  killed       \x1b[31m██\x1b[0m░░░░░░░░",
			"  relay B   33.3%   2.0 MiB  0 B/s        \x1b[32m███\x1b[0m░░░░░░░",
			"  relay C   33.3%     2 MiB  0 B/s        \x1b[32m███\x1b[0m░░░░░░░",
			"  relay D   16.7%     1 MiB  0 B/s        \x1b[32m██\x1b[0m░░░░░░░░",
			"  arrived   50.0%     3 MiB  of 6 MiB     █████░░░░░",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDisplay(io.Discard)
			d.width, d.color = tt.width, tt.color
			got := d.block(g)
			for i := range max(len(got), len(tt.want)) {
				if i >= len(got) || i >= len(tt.want) || strings.TrimRight(got[i], " ") != strings.TrimRight(tt.want[i], " ") {
					t.Fatalf("\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
				}
			}
		})
	}
}

// TestRedraws shows that what is said goes above the block, which stands alone.
func TestRedraws(t *testing.T) {
	var out bytes.Buffer
	d := newDisplay(&out)
	if d.width != 0 {
		t.Fatal("a buffer was taken for a terminal")
	}
	d.width = 60
	g := won()
	g.victim.cmd = exec.Command("true")
	g.crew.procs = nil
	d.progress(g) // the end of the game: drawn at once
	d.progress(g)
	d.say("a line")
	d.progress(g)
	d.finish()
	if up := strings.Count(out.String(), "\x1b[5A\x1b[J"); up != 2 {
		t.Errorf("%d redraws: %q", up, out.String())
	}
	if !strings.Contains(out.String(), "\x1b[5A\x1b[Ja line\n  relay A") {
		t.Errorf("%q", out.String())
	}
}

func TestPlainLines(t *testing.T) {
	var out bytes.Buffer
	d := newDisplay(&out)
	g := won()
	g.began = time.Now()
	g.gotAll = nil
	g.o.size = 10 << 20
	g.sent.Relays = g.sent.Relays[:3]
	d.last = g.began
	for tenths := range int64(11) {
		g.received.Bytes = tenths * g.o.size / 10
		d.progress(g)
		d.progress(g) // nothing new
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 10 {
		t.Fatalf("%d lines:\n%s", len(lines), out.String())
	}
	if want := "A 20.0% (killed)  B 40.0% (0 B/s)  C 40.0% (0 B/s)  D  0.0% (spare)"; !strings.HasSuffix(lines[0], want) {
		t.Errorf("%q, want %q", lines[0], want)
	}
}

func TestRate(t *testing.T) {
	d := newDisplay(io.Discard)
	now := time.Unix(100, 0)
	for i := range uint64(10) {
		d.measure(now, &carried{ID: "a", Bytes: i * 100_000})
		now = now.Add(100 * time.Millisecond)
	}
	if got := d.rates["a"].perSecond; got < 999_999 || got > 1_000_001 {
		t.Errorf("%v bytes a second, want 1000000", got)
	}
	d.measure(now.Add(-99*time.Millisecond), &carried{ID: "a", Bytes: 1 << 40})
	if got := d.rates["a"].perSecond; got > 1_000_001 {
		t.Error("a sample over next to no time counts")
	}
}
