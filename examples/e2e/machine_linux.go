package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A machine is a network namespace, with a directory of its own.
type machine struct {
	t         *trial
	name, dir string
	processes []*process
}

func newMachine(t *trial, name string) (*machine, error) {
	m := &machine{t: t, name: name, dir: filepath.Join(t.dir, name)}
	if err := os.Mkdir(m.dir, 0o755); err != nil { // ordinary users have theirs below it
		return nil, err
	}
	if _, err := output(command(t.ctx, "ip", "netns", "add", name)); err != nil {
		return nil, err
	}
	// Who is to forward nothing may have inherited that it does.
	_, err := m.output("sh", "-c", "ip link set lo up && echo 0 >/proc/sys/net/ipv4/ip_forward")
	return m, err
}

// command is one that runs on the machine.
func (m *machine) command(ctx context.Context, args ...string) *exec.Cmd {
	if path, err := toolPath(args[0]); err == nil {
		args = append([]string{path}, args[1:]...)
	}
	return command(ctx, append([]string{"ip", "netns", "exec", m.name}, args...)...)
}

func (m *machine) output(args ...string) (string, error) { return output(m.command(m.t.ctx, args...)) }

// ip runs commands of ip(8), one on each line.
func (m *machine) ip(lines string) error {
	c := command(m.t.ctx, "ip", "-n", m.name, "-batch", "-")
	c.Stdin = strings.NewReader(lines)
	_, err := output(c)
	return err
}

// A process runs until it is stopped.
type process struct {
	name   string
	cmd    *exec.Cmd
	out    string // the file with what it prints
	log    string // and the one with its errors
	ended  chan struct{}
	err    error // when it has ended
	killed bool  // by us, in the midst of its work
	lax    bool  // its exit status is of no interest
}

// start runs a process. It ends with the machine.
func (m *machine) start(name string, args ...string) (*process, error) {
	return m.begin(name, m.command(context.WithoutCancel(m.t.ctx), args...)) // close ends it, in order
}

func (m *machine) begin(name string, c *exec.Cmd) (*process, error) {
	base := filepath.Join(m.t.dir, m.name+"-"+name)
	p := &process{name: m.name + "-" + name, cmd: c, out: base + ".out", log: base + ".log", ended: make(chan struct{})}
	out, err := os.Create(p.out)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	c.Stdout, c.Stderr = out, log
	if err := c.Start(); err != nil {
		return nil, err
	}
	go func() { // ends with the process
		p.err = c.Wait()
		close(p.ended)
	}()
	m.processes = append(m.processes, p)
	return p, nil
}

// says waits for a line of what the process prints, and returns the text.
func (p *process) says(ctx context.Context, word string) (text string, err error) {
	err = until(ctx, 30*time.Second, fmt.Sprintf("%s says %q", p.name, word), func() error {
		b, err := os.ReadFile(p.out)
		if text = string(b); err == nil && (!strings.Contains(text, word) || !strings.HasSuffix(text, "\n")) {
			err = fmt.Errorf("it says %q\n%s", text, tail(p.log, 1000))
		}
		return err
	})
	return text, err
}

// kill is kill -9.
func (p *process) kill() error {
	p.killed = true
	err := p.cmd.Process.Kill()
	<-p.ended
	return err
}

const stopPatience = 20 * time.Second

// stop tells the process to end, and waits.
func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-p.ended:
	case <-time.After(stopPatience):
		_ = p.cmd.Process.Kill()
		<-p.ended
		if !p.lax {
			return fmt.Errorf("%s has not ended within %v of SIGTERM", p.name, stopPatience)
		}
	}
	if p.err != nil && !p.killed && !p.lax {
		return fmt.Errorf("%s: %w:\n%s", p.name, p.err, tail(p.log, 1000))
	}
	return nil
}

// close ends what runs on the machine, what was begun last first.
func (m *machine) close() (err error) {
	for i := len(m.processes) - 1; i >= 0; i-- {
		err = errors.Join(err, m.processes[i].stop())
	}
	ctx := context.WithoutCancel(m.t.ctx)
	left, pidsErr := output(command(ctx, "ip", "netns", "pids", m.name)) // such as sessions of sshd
	err = errors.Join(err, pidsErr)
	for _, pid := range strings.Fields(left) {
		_, _ = output(command(ctx, "kill", "-9", pid)) // it may end by itself meanwhile
	}
	_, delErr := output(command(ctx, "ip", "netns", "del", m.name))
	return errors.Join(err, delErr)
}

// inside runs f on a thread that lives in the namespace. Sockets stay in the one that they were made in.
func (m *machine) inside(f func() error) error {
	done := make(chan error)
	go func() { // ends with f, and the thread with it
		runtime.LockOSThread() // for good: the thread is not one for others
		ns, err := os.Open("/run/netns/" + m.name)
		if err == nil {
			defer ns.Close()
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// Dial connects from the machine; it is of proxy.Dialer.
func (m *machine) Dial(network, addr string) (c net.Conn, err error) {
	err = m.inside(func() (err error) { c, err = net.DialTimeout(network, addr, 20*time.Second); return err })
	return c, err
}

func (m *machine) listen(addr string) (l net.Listener, err error) {
	err = m.inside(func() (err error) { l, err = net.Listen("tcp", addr); return err })
	return l, err
}
