package program_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/splitmesh/splitmesh/examples/internal/config"
	"github.com/splitmesh/splitmesh/examples/internal/program"
)

type settings struct {
	Name string      `name:"name" help:"what it is called"`
	File string      `name:"file" help:"what it reads"`
	Log  program.Log `name:"log"`
}

// Check implements config.Checker.
func (s *settings) Check() []config.Problem {
	if _, err := os.Stat(s.File); s.File != "" && err != nil {
		return []config.Problem{{Path: "file", Text: err.Error()}}
	}
	return nil
}

// run runs a program whose command "greet" needs its state and says its name.
func run(t *testing.T, args ...string) (status int, out, errs string) {
	t.Helper()
	s := &settings{Name: "nobody", Log: program.DefaultLog()}
	p := &program.Program{
		Name: "meshtest", Short: "A program to be tested", Long: "It greets.", Settings: s, Log: &s.Log,
		Unit: &program.Unit{Run: "greet", Reload: true, Capabilities: "CAP_NET_ADMIN", Devices: []string{"/dev/net/tun"}},
		Commands: func(a *program.App) []*cobra.Command {
			return []*cobra.Command{a.WithSettings(&cobra.Command{
				Use: "greet", Short: "Greet",
				RunE: func(c *cobra.Command, _ []string) error {
					st, err := a.Open()
					if err != nil {
						return err
					}
					defer st.Close()
					a.Log.Debug("greeting", "dir", st.Dir)
					_, err = fmt.Fprintln(a.Out, "I am", s.Name)
					return err
				},
			})}
		},
	}
	var o, e bytes.Buffer
	status = p.Run(context.Background(), args, strings.NewReader(""), &o, &e)
	return status, o.String(), e.String()
}

// TestCommands: what each says, and the exit status.
func TestCommands(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", dir)
	bad := filepath.Join(dir, "bad.yaml")
	if err := os.WriteFile(bad, []byte("name: a\nlog: {format: xml}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	state, none := "--state="+filepath.Join(dir, "state"), filepath.Join(dir, "none")
	for _, tt := range []struct {
		args      []string
		status    int
		out, errs string
	}{
		{[]string{"greet", state}, program.OK, "I am nobody\n", ""},
		{[]string{"greet", state, "--name=ann"}, program.OK, "I am ann\n", ""},
		{[]string{"greet", state, "--log.level=debug"}, program.OK, "I am nobody\n", "msg=greeting"},
		{[]string{"greet", state, "--log.level=debug", "--log.format=json"}, program.OK, "I am nobody\n", `"msg":"greeting"`},
		{[]string{"greet", "--config", bad}, program.Settings, "", bad + `:2:15: log.format: "xml" is none of: text, json`},
		{[]string{"config", "check", "--config", bad}, program.Settings, "", bad + ":2:15"},
		{[]string{"config", "check"}, program.OK, "in order", ""},
		{[]string{"config", "print", "--name=ann"}, program.OK, "name: ann", ""},
		{[]string{"config", "print", "--config", bad}, program.OK, "format: xml", bad + `:2:15: log.format: "xml" is none of`},
		{[]string{"config", "check", "--file", none}, program.Settings, "", "--file: file: stat " + none},
		{[]string{"config", "print", "--file", none}, program.OK, "file: " + none, "--file: file: stat " + none},
		{[]string{"config", "print", "--config", bad, "--file", none}, program.OK, "format: xml", "is none of: text, json\n  --file: file: stat " + none},
		{[]string{"config", "print", "--log.level=loud"}, program.Settings, "", "--log.level: "},
		{[]string{"greet", "--config", none}, program.Settings, "", "no such file"},
		{[]string{"gret"}, program.Usage, "", "unknown command"},
		{[]string{"greet", "--nam=x"}, program.Usage, "", "See meshtest greet --help"},
		{[]string{"greet", "me"}, program.Usage, "", "unknown command"},
		{[]string{"version"}, program.OK, "meshtest ", ""},
		{[]string{"--help"}, program.OK, "Exit statuses", ""},
		{[]string{"--help"}, program.OK, "--log.level, MESHTEST_LOG_LEVEL, level in", ""},
		{[]string{"unit"}, program.OK, "DeviceAllow=/dev/net/tun rw", ""},
		{[]string{"completion", "bash"}, program.OK, "bash completion", ""},
	} {
		status, out, errs := run(t, tt.args...)
		if status != tt.status || !strings.Contains(out, tt.out) || !strings.Contains(errs, tt.errs) {
			t.Errorf("%q: status %d\n%s\n%s", tt.args, status, out, errs)
		}
	}
}

// TestSecondInstance is refused while the first lives.
func TestSecondInstance(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	a := &program.App{Program: &program.Program{Name: "meshtest"}}
	t.Setenv("STATE_DIRECTORY", dir)
	first, err := a.Open()
	if err != nil {
		t.Fatal(err)
	}
	if status, _, errs := run(t, "greet"); status != program.Busy || !strings.Contains(errs, "another meshtest uses "+dir) {
		t.Errorf("status %d: %s", status, errs)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if status, _, errs := run(t, "greet"); status != program.OK {
		t.Errorf("status %d: %s", status, errs)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if status, _, errs := run(t, "greet", "--state="+filepath.Join(dir, "file")); status == program.OK {
		t.Error("a file is taken for a directory", errs)
	}
}

// TestOpenToOthers: a state directory to which others may write is refused, and one made in it is not.
func TestOpenToOthers(t *testing.T) {
	dir := t.TempDir()
	for mode, want := range map[os.FileMode]int{0o777: program.Settings, 0o1777: program.Settings, 0o770: program.Settings, 0o755: program.OK, 0o700: program.OK} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		if status, _, errs := run(t, "greet", "--state", dir); status != want {
			t.Errorf("%o: status %d, want %d: %s", mode, status, want, errs)
		}
		if status, _, errs := run(t, "greet", "--state", filepath.Join(dir, "meshtest")); status != program.OK {
			t.Errorf("in one of %o: status %d: %s", mode, status, errs)
		}
	}
}

func TestStatus(t *testing.T) {
	for want, err := range map[int]error{
		program.OK: nil, program.Failed: errors.New("x"), program.Busy: fmt.Errorf("a: %w", os.NewSyscallError("bind", syscall.EADDRINUSE)),
		program.Forbidden: os.ErrPermission, program.NoSpace: &os.PathError{Op: "write", Err: syscall.ENOSPC},
		program.NotRunning: fmt.Errorf("b: %w", &program.Error{Status: program.NotRunning, Err: errors.New("x")}),
	} {
		if got := program.Status(err); got != want {
			t.Errorf("%v: %d, want %d", err, got, want)
		}
	}
	if got := program.Status(program.Listening("node", syscall.EADDRINUSE)); got != program.Busy {
		t.Error(got)
	}
}

// TestDocs: there is a page for each command.
func TestDocs(t *testing.T) {
	s := &settings{Log: program.DefaultLog()}
	p := &program.Program{Name: "meshtest", Short: "A program", Settings: s, Log: &s.Log, Commands: func(*program.App) []*cobra.Command { return nil }}
	dir := t.TempDir()
	if err := p.Docs(dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"meshtest", "meshtest_config_check", "meshtest_completion_bash"} {
		if _, err := os.Stat(filepath.Join(dir, name+".md")); err != nil {
			t.Error(err)
		}
	}
}

// TestTable: what others wrote does not reach the terminal as a command.
func TestTable(t *testing.T) {
	var b bytes.Buffer
	table := program.NewTable(&b, "NAME", "STATE")
	table.Row("a\x1b[2J", "x\ny")
	table.Row("longer name", "z\u202e")
	if err := table.Flush(); err != nil {
		t.Fatal(err)
	}
	if want := "NAME         STATE\na·[2J        x·y\nlonger name  z·\n"; b.String() != want {
		t.Errorf("%q", b.String())
	}
}

// TestShowJSON: what a terminal would obey or hide is escaped, and read as it was.
func TestShowJSON(t *testing.T) {
	const hostile = "ü \x1b[2J \u009b31m \u202e \u200b \U000e0041 \x7f \n <&>"
	var b bytes.Buffer
	if err := program.ShowJSON(&b, map[string]string{"text": hostile}); err != nil {
		t.Fatal(err)
	}
	for _, r := range strings.TrimPrefix(strings.TrimSuffix(b.String(), "\n}\n"), "{\n") {
		if !unicode.IsPrint(r) {
			t.Errorf("%q is printed: %s", r, b.String())
		}
	}
	var back map[string]string
	if err := json.Unmarshal(b.Bytes(), &back); err != nil || back["text"] != hostile {
		t.Errorf("%q, %v", back, err)
	}
}
