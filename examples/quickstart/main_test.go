package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// mainVariable makes the test's binary the program itself.
const mainVariable = "SPLITMESH_QUICKSTART_TEST_MAIN"

// TestMain plays the roles, as main does: what the tests start is this binary.
func TestMain(m *testing.M) {
	if os.Getenv(roleVariable) != "" || os.Getenv(mainVariable) != "" {
		main()
	}
	// A role in which the race detector finds something ends at once, and the
	// game is lost.
	os.Setenv("GORACE", "halt_on_error=1 atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	goleak.VerifyTestMain(m)
}

// testFile is a file of noise, and its SHA-256.
func testFile(t *testing.T, size int) (name, sum string) {
	t.Helper()
	data := make([]byte, size)
	rand.NewChaCha8([32]byte{1}).Read(data)
	name = filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return name, fmt.Sprintf("%x", sha256.Sum256(data))
}

// program runs the program in this process; the roles are processes of their own.
func program(ctx context.Context, args ...string) (status int, stdout, stderr string) {
	var out, errs bytes.Buffer
	status = run(ctx, args, &out, &errs)
	return status, out.String(), errs.String()
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return lines[len(lines)-1]
}

var pass = regexp.MustCompile(`^PASS sha256=([0-9a-f]{64}) bytes=(\d+) relays=(\d) largest-share=(\d+\.\d)% killed=([01]) seconds=\d+\.\d\d$`)

func TestPasses(t *testing.T) {
	file, sum := testFile(t, 6<<20+12345)
	out := filepath.Join(t.TempDir(), "out")
	for _, tt := range []struct {
		name   string
		args   []string
		sum    string
		bytes  string
		relays string
		killed string
		shows  []string
	}{
		{
			name: "random data", args: []string{"-size", "8MiB"}, bytes: "8388608", relays: "3", killed: "1",
			shows: []string{"sending 8 MiB of random data over 3 relays", "killed (process ", "took its place: its first bytes arrived ", "(spare)", "(killed)", "100%"},
		},
		{
			name: "a file that is kept", args: []string{"-out", out, file}, sum: sum, bytes: "6303801", relays: "3", killed: "1",
			shows: []string{file},
		},
		{name: "two relays", args: []string{"-relays", "2", "-size=4MiB"}, bytes: "4194304", relays: "2", killed: "1"},
		{name: "seven relays", args: []string{"-relays", "7", "-size=7MiB"}, bytes: "7340032", relays: "7", killed: "1"},
		{name: "one relay that lives", args: []string{"-relays", "1", "-kill=false", "-size=4MiB"}, bytes: "4194304", relays: "1", killed: "0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, stdout, stderr := program(t.Context(), tt.args...)
			got := pass.FindStringSubmatch(strings.TrimSuffix(stdout, "\n"))
			if status != statusPass || got == nil {
				t.Fatalf("status %d\n%s%s", status, stderr, stdout)
			}
			if got[2] != tt.bytes || got[3] != tt.relays || got[5] != tt.killed || tt.sum != "" && got[1] != tt.sum {
				t.Error(stdout)
			}
			for _, want := range tt.shows {
				if !strings.Contains(stderr, want) {
					t.Errorf("no %q in\n%s", want, stderr)
				}
			}
		})
	}
	kept, err := os.ReadFile(out)
	if got := fmt.Sprintf("%x", sha256.Sum256(kept)); err != nil || got != sum {
		t.Errorf("what was kept: %s, %v", got, err)
	}
}

// TestRepeat kills ten random relays, one after the other.
func TestRepeat(t *testing.T) {
	status, stdout, stderr := program(t.Context(), "-repeat", "10", "-size", "4MiB")
	lines := strings.Split(strings.TrimSuffix(stdout, "\n"), "\n")
	if status != statusPass || stderr != "" || len(lines) != 11 {
		t.Fatalf("status %d\n%s%s", status, stderr, stdout)
	}
	for i, l := range lines[:10] {
		if !strings.HasPrefix(l, fmt.Sprintf("%d/10 PASS sha256=", i+1)) || !strings.Contains(l, "% to go; relay ") {
			t.Error(l)
		}
	}
	if !regexp.MustCompile(`^PASS runs=10 bytes=41943040 relays=3 largest-share=\d+\.\d% killed=10 seconds=\d+\.\d\d$`).MatchString(lines[10]) {
		t.Error(lines[10])
	}
}

func TestBadInput(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, size int64, mode os.FileMode) string {
		name = filepath.Join(dir, name)
		f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY, mode)
		if err == nil {
			err = f.Truncate(size)
			f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		return name
	}
	file, _ := testFile(t, 4<<20)
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"no such flag", []string{"-no-such-flag"}, "-no-such-flag; -h shows"},
		{"size without number", []string{"-size", "MiB"}, `"MiB" is not a size`},
		{"unit that is none", []string{"-size", "12XB"}, `"12XB" has no unit`},
		{"too small", []string{"-size", "1MiB"}, "want 4 MiB to 1 TiB"},
		{"too large", []string{"-size", "2TiB"}, "want 4 MiB to 1 TiB"},
		{"no relays", []string{"-relays", "0"}, "-relays is 0, want 1 to 7"},
		{"many relays", []string{"-relays", "8"}, "-relays is 8, want 1 to 7"},
		{"the only relay killed", []string{"-relays", "1"}, "add -kill=false"},
		{"repeat", []string{"-repeat", "0"}, "-repeat is 0, want 1 to 10000"},
		{"repeat and keep", []string{"-repeat", "2", "-out", "x"}, "leave out -repeat"},
		{"two files", []string{"a", "b"}, "one FILE at most"},
		{"flag behind the file", []string{"a", "-kill=false"}, "after the flags"},
		{"empty name", []string{""}, "the name of FILE is empty"},
		{"size of a file", []string{"-size", "8MiB", file}, "a FILE has its own"},
		{"no file", []string{filepath.Join(dir, "nothing")}, "there is no file " + filepath.Join(dir, "nothing")},
		{"name too long", []string{strings.Repeat("x", 5000)}, "can't look at the file"},
		{"directory", []string{dir}, dir + " is a directory"},
		{"device", []string{os.DevNull}, os.DevNull + " is not a regular file"},
		{"empty", []string{write("empty", 0, 0o600)}, "is empty: there is nothing to send"},
		{"short", []string{write("short", 1000, 0o600)}, "has 1000 B: for the relays' shares to say something it needs 4 MiB to 1 TiB"},
		{"out exists", []string{"-out", file, file}, "-out: can't create a new file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, stdout, stderr := program(t.Context(), tt.args...)
			if status != statusFail || !strings.HasPrefix(stdout, "FAIL: ") || !strings.Contains(stdout, tt.want) || strings.Count(stdout, "\n") != 1 {
				t.Errorf("status %d, %s, want %q\n%s", status, stdout, tt.want, stderr)
			}
		})
	}
	if got, err := os.Stat(file); err != nil || got.Size() != 4<<20 {
		t.Error("the file that was not to be written over was:", err)
	}
}

func TestHelp(t *testing.T) {
	status, stdout, stderr := program(t.Context(), "-h")
	if status != statusPass || stdout != "" || !strings.Contains(stderr, "usage: quickstart [flags] [FILE]") {
		t.Errorf("status %d\n%s%s", status, stdout, stderr)
	}
}

// play plays one game with something done to it at half time.
func play(t *testing.T, args []string, half func(ctx context.Context, g *game) error) (*score, error) {
	t.Helper()
	o, err := parseArgs(args, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	o.half = half
	return o.once(t.Context(), newDisplay(io.Discard))
}

// TestFileChangesMeanwhile has the file change when half of it has arrived.
func TestFileChangesMeanwhile(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(f *os.File) error
		want   string
	}{
		{"grows", func(f *os.File) error { return f.Truncate(32<<20 + 1) }, "grew while it was sent: it had 33554432 bytes, and now 33554433"},
		{"shrinks", func(f *os.File) error { return f.Truncate(1 << 20) }, "shrank while it was sent: it had 33554432 bytes, and now "},
		{"is written to", func(f *os.File) error {
			_, err := f.WriteAt([]byte("x"), 0)
			return errors.Join(err, os.Chtimes(f.Name(), time.Time{}, time.Unix(1, 0)))
		}, "was written to while it was sent"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			name, _ := testFile(t, 32<<20)
			out := filepath.Join(t.TempDir(), "out")
			_, err := play(t, []string{"-kill=false", "-out", out, name}, func(context.Context, *game) error {
				f, err := os.OpenFile(name, os.O_WRONLY, 0)
				if err != nil {
					return err
				}
				defer f.Close()
				return tt.change(f)
			})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if _, err := os.Stat(out); !errors.Is(err, os.ErrNotExist) {
				t.Error("a part of the file was kept:", err)
			}
		})
	}
}

// TestLosses has something go wrong at half time that nobody asked for.
func TestLosses(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(g *game)
		want string
	}{
		// The one that is left may be the first to say so.
		{"receiver ends", func(g *game) { g.receiver.cmd.Process.Kill() }, "the receiver ended|the sender: "},
		{"sender ends", func(g *game) { g.sender.cmd.Process.Kill() }, "the sender ended|the receiver: "},
		{"relay ends", func(g *game) { g.relays[1].cmd.Process.Kill() }, "relay B ended"},
		{"no relay is left to take the place", func(g *game) {
			g.o.stall = time.Second
			for i, r := range g.relays {
				if i < 2 {
					r.kill()
				}
			}
		}, "nothing has arrived for 1s"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := play(t, []string{"-kill=false", "-size", "32MiB"}, func(_ context.Context, g *game) error {
				tt.do(g)
				return nil
			})
			if err == nil || !regexp.MustCompile(tt.want).MatchString(err.Error()) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}
