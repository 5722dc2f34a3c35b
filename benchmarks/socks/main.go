// Command socks measures what meshvpn carries without root, beside wireguard-go in the same place: from an application
// through meshvpn's SOCKS5 proxy to what a peer publishes, and over wireguard-go with netstack (gvisor's TCP).
//
//	go run ./socks            # in the directory benchmarks, as root
//
// meshvpn runs as its users have it, in two processes, with the application and the server in a third, so its bytes pass
// through three TCP connections of the kernel's; of wireguard-go only the tunnel is measured, in one process and with no
// proxy before it. Both are measured in turn, and the medians compared.
//
// All of it is in a network namespace of its own, in which TCP's congestion control is Linux's default. Another, such as
// BBR, paces what it sends by timers: on loopback, where there is nothing to be paced for, that takes a fifth off what
// meshvpn carries, and nothing off gvisor's TCP. "-congestion machine" measures in the machine's own network, which needs
// no root.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/splitmesh/splitmesh/benchmarks/internal/isolate"
)

// bar is the least ratio.
const bar = 8

func main() {
	var o options
	flag.IntVar(&o.rounds, "rounds", 5, "how often each is measured")
	flag.DurationVar(&o.span, "span", 2*time.Second, "how long each time")
	flag.IntVar(&o.streams, "streams", 1, "at once")
	flag.StringVar(&o.meshvpn, "meshvpn", "", "meshvpn's program (default: it is built)")
	flag.StringVar(&o.congestion, "congestion", "cubic", "of TCP, in a network namespace of its own; "+machine+": in the machine's")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := o.run(ctx)
	if err != nil && !errors.Is(err, errSaid) {
		fmt.Fprintln(os.Stderr, "socks:", err)
	}
	if err != nil {
		os.Exit(1)
	}
}

type options struct {
	rounds, streams int
	span            time.Duration
	meshvpn         string
	congestion      string
}

// machine is the congestion control of where this runs.
const machine = "machine"

const program = "github.com/splitmesh/splitmesh/examples/meshvpn"

func (o *options) run(ctx context.Context) error {
	if o.meshvpn == "" {
		dir, err := os.MkdirTemp("", "socks")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		o.meshvpn = filepath.Join(dir, "meshvpn")
		if out, err := exec.CommandContext(ctx, "go", "build", "-o", o.meshvpn, program).CombinedOutput(); err != nil {
			return fmt.Errorf("building meshvpn (from within the repository, or give it with -meshvpn): %w\n%s", err, out)
		}
	}
	if o.congestion == machine {
		return o.compare(ctx)
	}
	return o.runIsolated(ctx)
}

// script makes the network namespace that it is in one to measure in.
const script = `ip link set lo up || exit
if ! sysctl -qw net.ipv4.tcp_congestion_control="$1"; then
	sysctl net.ipv4.tcp_available_congestion_control
	exit 1
fi
shift
exec "$@"`

// runIsolated measures by this program in a network namespace of its own, which goes with it.
func (o *options) runIsolated(ctx context.Context) error {
	if !isolate.Can || os.Geteuid() != 0 {
		return errors.New("it needs root on Linux, to make a network namespace: or run it with -congestion " + machine)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "sh", "-c", script, "sh", o.congestion, self, "-congestion", machine, "-meshvpn", o.meshvpn,
		"-rounds", fmt.Sprint(o.rounds), "-span", o.span.String(), "-streams", fmt.Sprint(o.streams))
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	isolate.Isolate(cmd)
	err = cmd.Run()
	if _, ran := errors.AsType[*exec.ExitError](err); ran {
		return errSaid
	}
	return err
}

// errSaid is of a process that has said what went wrong.
var errSaid = errors.New("it has failed")

// A tunnel leads from an application to a sink.
type tunnel struct {
	name  string
	dial  func(context.Context) (net.Conn, error)
	sink  net.Listener
	close func()
	rates []float64 // MB/s
}

func (o *options) compare(ctx context.Context) (err error) {
	var all []*tunnel
	defer func() {
		for _, t := range all {
			t.close()
		}
	}()
	for _, start := range []func() (*tunnel, error){func() (*tunnel, error) { return startMeshVPN(o.meshvpn) }, startNetstack} {
		t, err := start()
		if err != nil {
			return err
		}
		all = append(all, t)
	}
	for round := range o.rounds + 1 { // the first warms up
		for _, t := range all {
			r, err := t.measure(ctx, o.streams, o.span)
			if err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
			if round > 0 {
				t.rates = append(t.rates, r)
			}
		}
	}
	for _, t := range all {
		slices.Sort(t.rates)
		fmt.Printf("%-20s %6.0f MB/s (%.0f to %.0f)\n", t.name, median(t.rates), t.rates[0], t.rates[len(t.rates)-1])
	}
	ratio := median(all[0].rates) / median(all[1].rates)
	fmt.Printf("SOCKS_OVER_WIREGUARD_NETSTACK = %.2f (bar >= %d)\n", ratio, bar)
	if ratio < bar {
		return errors.New("the bar is not met")
	}
	return nil
}

func median(sorted []float64) float64 { return sorted[len(sorted)/2] }

const (
	writeSize = 256 << 10
	period    = 251 // of the bytes sent
)

// measure sends for that long and returns the rate at which it all arrived.
func (t *tunnel) measure(ctx context.Context, streams int, span time.Duration) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*span+time.Minute)
	defer cancel()
	type result struct {
		n   int64
		err error
	}
	received, sent := make(chan result, streams), make(chan result, streams)
	for range streams {
		go func() { // ends with the stream
			c, err := t.sink.Accept()
			if err != nil {
				received <- result{0, err}
				return
			}
			defer c.Close()
			n, err := drain(c)
			received <- result{n, err}
		}()
		c, err := t.dial(ctx)
		if err != nil {
			return 0, err
		}
		defer c.Close()
		stop := context.AfterFunc(ctx, func() { c.Close() })
		defer stop()
		go func() { // ends with the stream
			n, err := fill(c, span)
			sent <- result{n, err}
		}()
	}
	start := time.Now()
	var total, all int64
	var errs []error
	for range streams {
		r := <-received
		total += r.n
		errs = append(errs, r.err)
	}
	took := time.Since(start)
	for range streams {
		r := <-sent
		all += r.n
		errs = append(errs, r.err)
	}
	if err := errors.Join(errs...); err != nil {
		return 0, err
	}
	if total != all {
		return 0, fmt.Errorf("%d bytes were sent, and %d arrived", all, total)
	}
	return float64(total) / 1e6 / took.Seconds(), nil
}

// fill writes for that long, and ends the stream.
func fill(c net.Conn, span time.Duration) (n int64, err error) {
	pattern := make([]byte, writeSize+period)
	for i := range pattern {
		pattern[i] = byte(i % period)
	}
	for start := time.Now(); time.Since(start) < span; {
		phase := n % period
		k, err := c.Write(pattern[phase : phase+writeSize])
		n += int64(k)
		if err != nil {
			return n, err
		}
	}
	return n, c.(interface{ CloseWrite() error }).CloseWrite()
}

// drain reads to the end, and looks at the first and the last byte of each Read.
func drain(c net.Conn) (n int64, err error) {
	buf := make([]byte, writeSize)
	for {
		k, err := c.Read(buf)
		if k > 0 && (buf[0] != byte(n%period) || buf[k-1] != byte((n+int64(k)-1)%period)) {
			return n, fmt.Errorf("what arrives after %d bytes is not what was sent", n)
		}
		n += int64(k)
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// word is the last word of a line.
func word(line string) string { f := strings.Fields(line); return f[len(f)-1] }
