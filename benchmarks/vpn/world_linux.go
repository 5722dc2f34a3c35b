package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A world is three network namespaces and the cables between them.
type world struct {
	dir     string
	a, b, r string // namespaces
}

func newWorld() (w *world, err error) {
	dir, err := os.MkdirTemp("", "vpn-*")
	if err != nil {
		return nil, err
	}
	name := func(s string) string { return fmt.Sprintf("vpn-%d-%s", os.Getpid(), s) }
	w = &world{dir, name("a"), name("b"), name("r")}
	for _, ns := range []string{w.a, w.b, w.r} {
		err = errors.Join(err, ip("netns", "add", ns), ip("-n", ns, "link", "set", "lo", "up"))
	}
	err = errors.Join(err,
		cable(w.a, "10.9.3.1/24", w.b, "10.9.3.2/24", "direct"),
		cable(w.a, "10.9.1.2/24", w.r, "10.9.1.1/24", "left"),
		cable(w.b, "10.9.2.2/24", w.r, "10.9.2.1/24", "right"),
		// r routes what wireguard-go sends. The ends of meshvpn listen nowhere when they are to meet in r.
		ip("netns", "exec", w.r, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"),
		ip("-n", w.a, "route", "add", "10.9.2.0/24", "via", "10.9.1.1"),
		ip("-n", w.b, "route", "add", "10.9.1.0/24", "via", "10.9.2.1"))
	if err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

func (w *world) close() error {
	return errors.Join(ip("netns", "del", w.a), ip("netns", "del", w.b), ip("netns", "del", w.r), os.RemoveAll(w.dir))
}

func ip(args ...string) error {
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

func cable(ns1, addr1, ns2, addr2, dev string) error {
	return errors.Join(
		ip("-n", ns1, "link", "add", dev, "type", "veth", "peer", "name", dev, "netns", ns2),
		ip("-n", ns1, "addr", "add", addr1, "dev", dev), ip("-n", ns1, "link", "set", dev, "up"),
		ip("-n", ns2, "addr", "add", addr2, "dev", dev), ip("-n", ns2, "link", "set", dev, "up"))
}

// A tunnel is two processes that carry packets, from a to an address at b.
type tunnel struct {
	name, addr string
	processes  []*exec.Cmd
}

// start starts a process of the tunnel in a namespace.
func (t *tunnel) start(ns string, stdin string, args ...string) error {
	c := exec.Command("ip", append([]string{"netns", "exec", ns}, args...)...)
	c.Stdin, c.Stdout, c.Stderr = strings.NewReader(stdin), os.Stderr, os.Stderr
	err := c.Start()
	if err == nil {
		t.processes = append(t.processes, c)
	}
	return err
}

func (t *tunnel) stop() (err error) {
	for _, c := range t.processes {
		err = errors.Join(err, c.Process.Signal(os.Interrupt), c.Wait())
	}
	return err
}

// inside runs f on a thread that lives in a namespace; sockets stay there.
func inside(ns string, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread is not one for others
		file, err := os.Open("/run/netns/" + ns)
		if err == nil {
			defer file.Close()
			err = unix.Setns(int(file.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// warmup is how long a connection has before it is measured.
const warmup = time.Second

// cpu is how long the tunnel's processes have computed so far, in them and in the kernel for them.
func (t *tunnel) cpu() (sum time.Duration, err error) {
	const tick = time.Second / 100 // USER_HZ
	for _, c := range t.processes {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.Process.Pid))
		if err != nil {
			return 0, err
		}
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		for _, f := range fields[11:13] { // utime, stime
			n, err := strconv.Atoi(f)
			if err != nil {
				return 0, err
			}
			sum += time.Duration(n) * tick
		}
	}
	return sum, nil
}

// carry sends over one TCP connection through the tunnel. It returns the rate at which it arrives, in MB/s, and how much
// arrives for a second of the processes' computing, in MB.
func (w *world) carry(t *tunnel, span time.Duration) (rate, perCPU float64, err error) {
	var l net.Listener
	if err := inside(w.b, func() (err error) { l, err = net.Listen("tcp", net.JoinHostPort(t.addr, "80")); return err }); err != nil {
		return 0, 0, err
	}
	defer l.Close()
	var out net.Conn
	err = until(10*time.Second, func() error {
		return inside(w.a, func() (err error) {
			out, err = net.DialTimeout("tcp", l.Addr().String(), 2*time.Second)
			return err
		})
	})
	if err != nil {
		return 0, 0, err
	}
	defer out.Close()
	go func() { // ends with the connection
		for b := make([]byte, 256<<10); ; {
			if _, err := out.Write(b); err != nil {
				return
			}
		}
	}()
	in, err := l.Accept()
	if err != nil {
		return 0, 0, err
	}
	defer in.Close()
	b := make([]byte, 256<<10)
	receive := func(span time.Duration) (n int, took time.Duration, err error) {
		for began := time.Now(); took < span; took = time.Since(began) {
			if err := in.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
				return 0, 0, err
			}
			k, err := in.Read(b)
			if err != nil {
				return 0, 0, err
			}
			n += k
		}
		return n, took, nil
	}
	if _, _, err := receive(warmup); err != nil {
		return 0, 0, err
	}
	before, err := t.cpu()
	if err != nil {
		return 0, 0, err
	}
	n, took, err := receive(span)
	if err != nil {
		return 0, 0, err
	}
	after, err := t.cpu()
	return float64(n) / 1e6 / took.Seconds(), float64(n) / 1e6 / (after - before).Seconds(), err
}

// until tries until it succeeds.
func until(patience time.Duration, try func() error) error {
	over := time.After(patience)
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-again.C:
		case <-over:
			return err
		}
	}
}

// interrupted waits for the end.
func interrupted() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	<-ctx.Done()
}
