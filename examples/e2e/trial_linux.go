package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// A trial is one run of a scenario.
type trial struct {
	*options
	*lines
	*programs
	ctx   context.Context
	name  string
	dir   string // for states and logs
	large string // for what may be
	w     *world // nil: it has none
}

// say tells what is being done.
func (t *trial) say(format string, args ...any) {
	fmt.Fprintf(t.log, "# %s: %s\n", t.name, fmt.Sprintf(format, args...))
}

// end takes everything away; of a trial that failed it shows what the programs said last.
func (t *trial) end(failed bool) (err error) {
	if t.w != nil {
		err = t.w.close()
	}
	logs, globErr := filepath.Glob(filepath.Join(t.dir, "*.log"))
	err = errors.Join(err, globErr)
	for _, path := range logs {
		if t.logs != "" {
			err = errors.Join(err, copyFile(path, filepath.Join(t.logs, t.name+"-"+filepath.Base(path))))
		}
		if failed {
			fmt.Fprintf(t.log, "# %s said last:\n%s", strings.TrimSuffix(filepath.Base(path), ".log"), tail(path, 2000))
		}
	}
	return errors.Join(err, os.RemoveAll(t.dir), os.RemoveAll(t.large))
}

func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err == nil {
		err = errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, b, 0o600))
	}
	return err
}

// tail is the end of a file.
func tail(path string, n int) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error() + "\n"
	}
	return string(b[max(0, len(b)-n):])
}

// command is one of the machine that all is on. It ends with ctx, and its children with it.
func command(ctx context.Context, args ...string) *exec.Cmd {
	path, err := toolPath(args[0])
	if err != nil {
		path = args[0] // which will fail, and say so
	}
	c := exec.CommandContext(ctx, path, args[1:]...)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	c.WaitDelay = 5 * time.Second
	for _, v := range os.Environ() { // settings of this machine are not meant
		if name, _, _ := strings.Cut(v, "="); !strings.HasPrefix(name, "MESH") && !strings.HasPrefix(name, "SPLITMESH") {
			c.Env = append(c.Env, v)
		}
	}
	return c
}

// output runs a command and returns what it prints. Its errors hold what it complains about.
func output(c *exec.Cmd) (string, error) {
	var out, errs strings.Builder
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		text := strings.TrimSpace(errs.String())
		if text == "" {
			text = strings.TrimSpace(out.String())
		}
		return out.String(), fmt.Errorf("%s: %w: %s", strings.Join(c.Args, " "), err, text[max(0, len(text)-2000):])
	}
	return out.String(), nil
}

// follow runs a command and hands on each line that it prints, errors included.
func follow(c *exec.Cmd, line func(string)) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	c.Stdout, c.Stderr = w, w
	err = c.Start()
	w.Close()
	if err != nil {
		return err
	}
	for s := bufio.NewReader(r); ; {
		text, err := s.ReadString('\n')
		if text != "" {
			line(strings.TrimRight(text, "\n"))
		}
		if err != nil {
			break
		}
	}
	_, _ = io.Copy(io.Discard, r) // nothing is left
	if err := c.Wait(); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(c.Args, " "), err)
	}
	return nil
}

// build makes a program of the tree.
func build(ctx context.Context, root, what, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { // ordinary users run it
		return err
	}
	c := command(ctx, "go", "build", "-o", path, what)
	c.Dir = root
	_, err := output(c)
	return err
}

// treeRoot is where the clone is in which this runs.
func treeRoot(ctx context.Context) (string, error) {
	work, err := output(command(ctx, "go", "env", "GOWORK"))
	if work = strings.TrimSpace(work); err == nil && (work == "" || work == "off") {
		err = errors.New("this is no clone of splitmesh with its go.work: run make e2e in one")
	}
	return filepath.Dir(work), err
}

// until tries until it succeeds.
func until(ctx context.Context, patience time.Duration, what string, try func() error) error {
	over := time.NewTimer(patience)
	defer over.Stop()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-again.C:
		case <-over.C:
			return fmt.Errorf("%s, within %v: %w", what, patience, err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
