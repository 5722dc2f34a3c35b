package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// runVariable has the test's program be e2e itself.
const runVariable = "SPLITMESH_E2E_TEST_RUN"

func TestMain(m *testing.M) {
	if os.Getenv(runVariable) != "" || len(os.Args) > 1 && os.Args[1] == webRole {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

// e2e is a run of the program with these arguments, whose files are below dir.
func e2e(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	if err := (&options{only: mustParse(t, args...).only}).possible(); err != nil {
		t.Skip(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	c := exec.CommandContext(ctx, self, args...)
	c.Env = append(os.Environ(), runVariable+"=1", "TMPDIR="+dir)
	return c
}

func mustParse(t *testing.T, args ...string) (o options) {
	t.Helper()
	if err := o.parse(args, io.Discard); err != nil {
		t.Fatal(err)
	}
	return o
}

// TestUser plays the shortest scenario.
func TestUser(t *testing.T) {
	dir := t.TempDir()
	c := e2e(t, dir, "-only", "user")
	var errs strings.Builder
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil || string(out) != "USER_PAGES = 3 (bar >= 3)\n" {
		t.Errorf("%v: %s\n%s", err, out, errs.String())
	}
	nothingLeft(t, dir)
}

// over is what is said when a scenario has been played.
var over = regexp.MustCompile(`(?m)^e2e: [0-9]+ of|^# drain: [0-9.ms]+s$`)

// TestEnds: a run that is told to end in the midst of a scenario, or killed, leaves no process; and told to, no file.
func TestEnds(t *testing.T) {
	for _, how := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(how.String(), func(t *testing.T) {
			dir := t.TempDir()
			c := e2e(t, dir, "-only", "drain")
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			c.Stderr = w
			err = c.Start()
			w.Close()
			if err != nil {
				t.Fatal(err)
			}
			var said bytes.Buffer
			for b := make([]byte, 4096); !strings.Contains(said.String(), "MiB, is drained"); {
				n, err := r.Read(b)
				said.Write(b[:n])
				if err != nil {
					t.Fatal(err, said.String())
				}
			}
			if len(processes(t, dir)) < 4 {
				t.Error("meshrelay and meshvpn don't run:", processes(t, dir))
			}
			if err := c.Process.Signal(how); err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(&said, r); err != nil {
				t.Error(err)
			}
			if err := c.Wait(); err == nil {
				t.Error("it says that all is well")
			}
			if over.MatchString(said.String()) {
				t.Errorf("it went on to the end: %s", said.String())
			}
			if how == syscall.SIGTERM {
				if c.ProcessState.ExitCode() != 1 || !strings.Contains(said.String(), "interrupted") {
					t.Errorf("%v: %s", c.ProcessState, said.String())
				}
				nothingLeft(t, dir)
			}
			for len(processes(t, dir)) > 0 { // the kernel is at it
				select {
				case <-time.After(10 * time.Millisecond):
				case <-t.Context().Done():
					t.Fatal(processes(t, dir))
				}
			}
		})
	}
}

// processes are those whose environment names dir.
func processes(t *testing.T, dir string) (found []string) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range all {
		b, _ := os.ReadFile(path) // it may have ended
		if bytes.Contains(b, []byte("TMPDIR="+dir)) {
			what, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
			found = append(found, strings.ReplaceAll(string(what), "\x00", " "))
		}
	}
	return found
}

func nothingLeft(t *testing.T, dir string) {
	t.Helper()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Error(left, err)
	}
	if left := processes(t, dir); len(left) > 0 {
		t.Error(left)
	}
}

// TestLines: a figure that misses its bar is marked and counted, whoever printed it.
func TestLines(t *testing.T) {
	var out strings.Builder
	l := &lines{out: &out}
	l.atLeast("A", 1, 1)
	l.atLeast("B", 0.999, 1)
	l.atMost("C", 0, 0)
	l.atMost("D", 2, 1)
	for line, figure := range map[string]bool{
		"E = 0.99 (bar >= 1.0)": true, "e = 1 (bar >= 1)": false, "F = (bar >= 1)": false, "# G = 1 (bar >= 1)": false, "H = 1.2.3 (bar >= 1)": false,
	} {
		if l.take(line) != figure {
			t.Error(line)
		}
	}
	want := "A = 1 (bar >= 1)\nB = 1.00 (bar >= 1) SHORT\nC = 0 (bar <= 0)\nD = 2 (bar <= 1) SHORT\nE = 0.99 (bar >= 1) SHORT\n"
	if out.String() != want || l.all != 5 || l.short != 3 {
		t.Errorf("%d of %d:\n%s", l.short, l.all, out.String())
	}
}

// TestFlags: wrong ones are told.
func TestFlags(t *testing.T) {
	for _, tt := range []struct {
		args string
		want string // of the error; empty: none
	}{
		{"", ""}, {"-quick", ""}, {"-only vpn|direct -scp-bytes 64MiB -span 2s", ""},
		{"-only nothing", "-only"}, {"-only (", "-only"}, {"-only load -quick", "-only"}, {"-scp-bytes much", "-scp-bytes"}, {"-scp-bytes 1", "-scp-bytes"},
		{"-circuits 1", "-circuits"}, {"-span 1ms", "-span"}, {"vpn", `"vpn" is no flag`}, {"-speed", "-speed"},
	} {
		var o options
		err := o.parse(strings.Fields(tt.args), io.Discard)
		if tt.want == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.args, err)
		}
	}
	if o := mustParse(t, "-only", "vpn|direct"); len(o.chosen()) != 2 || o.scpBytes != 1<<30 {
		t.Errorf("%+v", o)
	}
}

// TestIperf: what iperf3 prints is understood, and the longest time without anything found.
func TestIperf(t *testing.T) {
	var r iperf
	err := json.Unmarshal([]byte(`{"intervals": [{"sum": {"start": 0, "end": 0.1, "bytes": 7}}, {"sum": {"start": 0.1, "end": 0.2, "bytes": 0}},
		{"sum": {"start": 0.2, "end": 0.4, "bytes": 0}}, {"sum": {"start": 0.4, "end": 0.5, "bytes": 7}}, {"sum": {"start": 0.5, "end": 0.6, "bytes": 0}}],
		"end": {"sum_received": {"bytes": 14, "bits_per_second": 8e6}, "sum": {"packets": 200, "lost_packets": 3}}}`), &r)
	if err != nil || math.Abs(r.gap()-0.3) > 1e-9 || r.rate() != 1 || r.lost() != 1.5 {
		t.Error(err, r.gap(), r.rate(), r.lost())
	}
}
