package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"time"

	"github.com/multiformats/go-multiaddr"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/splitter"
)

// The commands of processes that this one starts. They print a line when they are
// ready, one of JSON for each line on stdin, and end with stdin.
const (
	relayCommand = "serve-relay" // prints its address, answers with its footprint
	dialCommand  = "serve-dials" // N ADDR PEER HEAP: has so many nodes, and does as serveDials says
)

// asChild reports whether the arguments are those of such a process, and is it.
func asChild(args []string) (bool, error) {
	switch {
	case len(args) == 1 && args[0] == relayCommand:
		return true, serveRelay()
	case len(args) == 5 && args[0] == dialCommand:
		return true, serveDials(args[1], args[2], args[3], args[4])
	}
	return false, nil
}

func serveRelay() error {
	_, _ = openFiles(8192)
	const many = 1 << 20
	n := &mesh.Node{
		ListenAddrs: []multiaddr.Multiaddr{onLoopback},
		Relay:       &mesh.RelayConfig{MaxReservations: many, MaxCircuits: many, MaxCircuitsPerPeer: many, MaxCircuitsPerNetwork: many},
	}
	defer n.Close()
	if err := n.Start(context.Background()); err != nil {
		return err
	}
	return answer(n.Addrs()[0].String(), func(string) (any, error) {
		f := settled()
		f.Carried = float64(n.Stats().Relay.Bytes)
		return f, nil
	})
}

// serveDials dials when it is told "dial"; "echo" is answered by how many sessions
// do, "footprint" by that, once its heap profile is in the file named.
func serveDials(count, at, peer, heap string) error {
	profile(heap)
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	addr, err := multiaddr.NewMultiaddr(at)
	if err != nil {
		return err
	}
	_, _ = openFiles(n + 200)
	ctx := context.Background()
	var all nodes
	defer all.close()
	diallers, err := all.start(ctx, n, func(int) *mesh.Node { return &mesh.Node{Bootstrap: []multiaddr.Multiaddr{addr}} })
	if err != nil {
		return err
	}
	conns := make([]net.Conn, n)
	return answer("ready", func(what string) (any, error) {
		switch what {
		case "dial":
			return n, each(ctx, n, atOnce, func(i int) (err error) {
				if conns[i], err = diallers[i].Dial(ctx, peer); err == nil {
					_, err = conns[i].Write(make([]byte, 8))
				}
				return err
			})
		case "footprint":
			return settled(), writeHeap(heap)
		}
		alive := 0
		for _, c := range conns {
			_ = c.SetDeadline(time.Now().Add(patience))
			if ask(c) == nil {
				alive++
			}
			_ = c.SetDeadline(time.Time{}) // whose timers are not to be counted
		}
		return alive, nil
	})
}

func answer(ready string, with func(what string) (any, error)) error {
	signal.Ignore(os.Interrupt) // which the terminal sends to all
	fmt.Println(ready)
	for s := bufio.NewScanner(os.Stdin); s.Scan(); {
		v, err := with(s.Text())
		if err != nil {
			return err
		}
		if err := json.NewEncoder(os.Stdout).Encode(v); err != nil {
			return err
		}
	}
	return nil
}

// A child is such a process.
type child struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *bufio.Reader
	ready string
}

func newChild(args ...string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.Command(self, args...)}
	c.cmd.Stderr = os.Stderr
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	if c.ready, err = c.out.ReadString('\n'); err != nil {
		c.end()
		return nil, fmt.Errorf("%s: %w", args[0], err)
	}
	c.ready = c.ready[:len(c.ready)-1]
	return c, nil
}

// ask has the process do what it is told, and puts the answer into v, if not nil.
func (c *child) ask(what string, v any) error {
	if _, err := io.WriteString(c.in, what+"\n"); err != nil {
		return err
	}
	line, err := c.out.ReadBytes('\n')
	if err != nil || v == nil {
		return err
	}
	return json.Unmarshal(line, v)
}

// end waits for the process; it is killed when it takes too long.
func (c *child) end() {
	c.in.Close()
	t := time.AfterFunc(patience, func() { _ = c.cmd.Process.Kill() })
	defer t.Stop()
	_ = c.cmd.Wait()
}

// A web is listeners and diallers, each of these with a circuit to each of those.
// The relays are processes of their own, and listeners reserve at one each.
type web struct {
	relays       []*child
	all          nodes
	full, others []*link
}

func (w *web) close() {
	w.all.close()
	for _, r := range w.relays {
		r.end()
	}
}

// weave dials n circuits, those that busy picks for bulk.
func (w *web) weave(ctx context.Context, n, listeners int, busy func(i int) bool) error {
	var boot []multiaddr.Multiaddr
	for _, r := range w.relays {
		a, err := multiaddr.NewMultiaddr(r.ready)
		if err != nil {
			return err
		}
		boot = append(boot, a)
	}
	servers, err := w.all.start(ctx, listeners, func(i int) *mesh.Node { return &mesh.Node{Bootstrap: boot[i%len(boot):][:1]} })
	if err != nil {
		return err
	}
	halls := make([]*hall, listeners)
	if err := each(ctx, listeners, atOnce, func(i int) (err error) {
		if halls[i], err = newHall(servers[i]); err != nil {
			return err
		}
		return servers[i].WaitReserved(ctx, 1)
	}); err != nil {
		return err
	}
	diallers, err := w.all.start(ctx, (n+listeners-1)/listeners, func(int) *mesh.Node { return &mesh.Node{Bootstrap: boot} })
	if err != nil {
		return err
	}
	links := make([]*link, n)
	if err := each(ctx, n, atOnce, func(i int) (err error) {
		d := &mesh.Dialer{Node: diallers[i/listeners], RelayedOnly: true, Paths: 1, Split: splitter.Policy{MinPaths: 1}}
		if busy(i) {
			d.Class = splitter.Bulk
		}
		links[i], err = halls[i%listeners].pair(ctx, d)
		return err
	}); err != nil {
		return err
	}
	for i, l := range links {
		if busy(i) {
			w.full = append(w.full, l)
		} else {
			w.others = append(w.others, l)
		}
	}
	return nil
}

func circuits(ctx context.Context, _ options, n int) ([]float64, error) {
	r, err := newChild(relayCommand)
	if err != nil {
		return nil, err
	}
	w := &web{relays: []*child{r}}
	defer w.close()
	var before, idle, full footprint
	if err := r.ask("", &before); err != nil {
		return nil, err
	}
	listeners := (n + 99) / 100
	if err := w.weave(ctx, n, listeners, func(i int) bool { return (i+i/10)%10 == 0 }); err != nil {
		return nil, err
	}
	pause(ctx, 2*time.Second)
	if err := r.ask("", &idle); err != nil {
		return nil, err
	}
	rate, _, took, err := busy(ctx, w.full, w.others, 3*time.Second, func() error { return r.ask("", &full) })
	each := 1024 * float64(n)
	return []float64{
		(idle.Bytes - before.Bytes) / each, (full.Bytes - before.Bytes) / each, (full.RSS - before.RSS) / each,
		(full.Goroutines - before.Goroutines) / float64(n), rate, quantile(took, 0.5), quantile(took, 0.99),
		(full.CPU - idle.CPU).Seconds() / ((full.Carried - idle.Carried) / 1e9),
	}, err
}

func relays(ctx context.Context, _ options, n int) ([]float64, error) {
	w := new(web)
	defer w.close()
	var errs []error
	for range n {
		r, err := newChild(relayCommand)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		w.relays = append(w.relays, r)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if err := w.weave(ctx, 72, 8, func(i int) bool { return i < 64 }); err != nil {
		return nil, err
	}
	rate, _, took, err := busy(ctx, w.full, w.others, 3*time.Second, nil)
	return []float64{rate, quantile(took, 0.5), quantile(took, 0.99)}, err
}
