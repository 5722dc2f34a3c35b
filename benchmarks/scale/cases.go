package main

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/multiformats/go-multiaddr"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/splitter"
)

const (
	service  = "scale"
	atOnce   = 16               // dials at a time
	patience = 20 * time.Second // bounds what should take milliseconds
)

// onLoopback is where all who listen do.
var onLoopback = multiaddr.StringCast("/ip4/127.0.0.1/tcp/0/ws")

// A hall is a listening node that brings both ends of conns together: each begins
// with a token that only one dialler waits for. Token 0 comes from another process.
type hall struct {
	node    *mesh.Node
	addr    string
	last    atomic.Uint64
	mu      sync.Mutex // guards the rest
	waiting map[uint64]chan net.Conn
	strays  []net.Conn
}

func newHall(n *mesh.Node) (*hall, error) {
	l, err := n.Listen(service)
	if err != nil {
		return nil, err
	}
	h := &hall{node: n, addr: l.Addr().String(), waiting: make(map[uint64]chan net.Conn)}
	go func() { // ends with the node
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go h.seat(c)
		}
	}()
	return h, nil
}

func (h *hall) seat(c net.Conn) {
	var token [8]byte
	if _, err := io.ReadFull(c, token[:]); err != nil {
		c.Close()
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	id := binary.BigEndian.Uint64(token[:])
	if to := h.waiting[id]; to != nil {
		delete(h.waiting, id)
		to <- c
		return
	}
	h.strays = append(h.strays, c)
}

// A link is both ends of a conn.
type link struct{ near, far net.Conn }

// pair dials, and has a byte go there and back.
func (h *hall) pair(ctx context.Context, d *mesh.Dialer) (*link, error) {
	near, err := d.Dial(ctx, h.addr)
	if err != nil {
		return nil, err
	}
	id, far := h.last.Add(1), make(chan net.Conn, 1)
	h.mu.Lock()
	h.waiting[id] = far
	h.mu.Unlock()
	if _, err := near.Write(binary.BigEndian.AppendUint64(nil, id)); err != nil {
		return nil, err
	}
	select {
	case c := <-far:
		l := &link{near, c}
		_, err := l.ask()
		return l, err
	case <-time.After(patience):
		return nil, errors.New("the listener never got the conn")
	}
}

// ask sends a byte and waits for its echo.
func (l *link) ask() (time.Duration, error) {
	start := time.Now()
	_ = l.near.SetDeadline(start.Add(patience))
	_ = l.far.SetDeadline(start.Add(patience))
	go echo(l.far, 1)
	err := ask(l.near)
	took := time.Since(start)
	_ = l.near.SetDeadline(time.Time{}) // whose timers would keep what is closed
	_ = l.far.SetDeadline(time.Time{})
	return took, err
}

func ask(c net.Conn) error {
	one := []byte{1}
	if _, err := c.Write(one); err != nil {
		return err
	}
	_, err := io.ReadFull(c, one)
	return err
}

// echo sends back n bytes, one at a time.
func echo(c net.Conn, n int) {
	var one [1]byte
	for range n {
		if _, err := io.ReadFull(c, one[:]); err != nil {
			return
		}
		if _, err := c.Write(one[:]); err != nil {
			return
		}
	}
}

// echoes asks random links, one at a time, until so much time has passed.
func echoes(ctx context.Context, links []*link, d time.Duration) (took []time.Duration, err error) {
	if len(links) == 0 {
		pause(ctx, d)
	}
	for end := time.Now().Add(d); len(links) > 0 && time.Now().Before(end) && ctx.Err() == nil; {
		t, err := links[rand.IntN(len(links))].ask()
		if err != nil {
			return took, err
		}
		took = append(took, t)
	}
	slices.Sort(took)
	return took, ctx.Err()
}

// quantile of a sorted list in milliseconds; none when it is empty.
func quantile(sorted []time.Duration, q float64) float64 {
	if len(sorted) == 0 {
		return none
	}
	return float64(sorted[int(q*float64(len(sorted)-1))]) / float64(time.Millisecond)
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// each calls f for 0 to n-1, so many at a time, and returns the first error.
func each(ctx context.Context, n, parallel int, f func(i int) error) error {
	var next atomic.Int64
	errs := make(chan error, parallel)
	for range parallel {
		go func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := cmp.Or(ctx.Err(), f(i)); err != nil {
					next.Store(int64(n))
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	var first error
	for range parallel {
		first = cmp.Or(first, <-errs)
	}
	return first
}

// nodes are started in groups, and closed the last group first: diallers before
// listeners, and relays last.
type nodes [][]*mesh.Node

func (ns *nodes) start(ctx context.Context, n int, made func(i int) *mesh.Node) ([]*mesh.Node, error) {
	added := make([]*mesh.Node, n)
	for i := range added {
		added[i] = made(i)
	}
	*ns = append(*ns, added)
	return added, each(ctx, n, atOnce, func(i int) error { return added[i].Start(ctx) })
}

func (ns *nodes) close() {
	for _, group := range slices.Backward(*ns) {
		_ = each(context.Background(), len(group), 256, func(i int) error { return group[i].Close() })
	}
}

// first starts a listener and a first dialler, with whose link comes into being
// what all share: nobody counts that.
func first(ctx context.Context, all *nodes) (*hall, *link, error) {
	server, err := all.start(ctx, 1, func(int) *mesh.Node { return &mesh.Node{ListenAddrs: []multiaddr.Multiaddr{onLoopback}} })
	if err != nil {
		return nil, nil, err
	}
	h, err := newHall(server[0])
	if err != nil {
		return nil, nil, err
	}
	dialler, err := all.start(ctx, 1, func(int) *mesh.Node { return &mesh.Node{Bootstrap: server[0].Addrs()} })
	if err != nil {
		return nil, nil, err
	}
	l, err := h.pair(ctx, &mesh.Dialer{Node: dialler[0]})
	pause(ctx, 2*time.Second)
	return h, l, err
}

// sessions: what doesn't fit under the limit of open files is dialled by another
// process, and its half of the memory is not in the figures.
func sessions(ctx context.Context, o options, n int) ([]float64, error) {
	files, err := openFiles(2*n + 200)
	here := max(0, min(n, (files-200)/2))
	if here < n {
		o.say("%d open files and no more (%v): another process dials %d of the %d sessions", files, err, n-here, n)
	}
	var all nodes
	defer all.close()
	h, _, err := first(ctx, &all)
	if err != nil {
		return nil, err
	}
	bare := settled()
	diallers, err := all.start(ctx, here, func(int) *mesh.Node { return &mesh.Node{Bootstrap: h.node.Addrs()} })
	if err != nil {
		return nil, err
	}
	before := settled()
	links := make([]*link, here)
	start := time.Now()
	if err := each(ctx, here, atOnce, func(i int) (err error) {
		links[i], err = h.pair(ctx, &mesh.Dialer{Node: diallers[i]})
		return err
	}); err != nil {
		return nil, err
	}
	o.say("%d dials took %v", here, time.Since(start).Round(time.Millisecond))
	var away *child
	if here < n {
		if away, err = newChild(dialCommand, fmt.Sprint(n-here), h.node.Addrs()[0].String(), h.addr, ""); err != nil {
			return nil, err
		}
		defer away.end()
		if err := away.ask("dial", nil); err != nil {
			return nil, err
		}
	}
	pause(ctx, 2*time.Second) // what is given back when idle
	after, sides := settled(), float64(n+here)
	o.say("%.1f of the KiB a side are stacks", (after.Stacks-before.Stacks)/1024/sides)
	if err := writeHeap(o.heap); err != nil {
		return nil, err
	}
	idle := 5 * time.Second
	if n >= 1000 {
		// Sessions ask after 20 s of silence whether the other end lives, and WebSockets
		// every 25 s: less would miss one of them.
		idle = 50 * time.Second
	}
	busy, woken := used()
	pause(ctx, idle)
	later, wakeups := used()
	busy, woken = later-busy, wakeups-woken
	took, err := echoes(ctx, links, 2*time.Second)
	if err != nil {
		return nil, err
	}
	var alive atomic.Int64
	_ = each(ctx, here, atOnce, func(i int) error {
		if _, err := links[i].ask(); err == nil {
			alive.Add(1)
		}
		return nil
	})
	if away != nil {
		h.mu.Lock()
		for _, c := range h.strays {
			go echo(c, 1<<30)
		}
		h.mu.Unlock()
		var there int64
		if err := away.ask("echo", &there); err != nil {
			return nil, err
		}
		alive.Add(there)
	}
	return []float64{
		(after.Bytes - before.Bytes) / 1024 / sides,
		(after.Bytes - bare.Bytes) / 1024 / sides,
		(after.Goroutines - before.Goroutines) / sides,
		busy.Seconds() * 1000 / idle.Seconds() / (sides / 2) * 1000,
		quantile(took, 0.5), quantile(took, 0.99), float64(alive.Load()),
		float64(woken) / idle.Seconds() / sides,
	}, ctx.Err()
}

// busy keeps links full for so long while the others echo. during is called
// before they stop.
func busy(ctx context.Context, full, others []*link, d time.Duration, during func() error) (rate, cpuPerGB float64, took []time.Duration, err error) {
	var got atomic.Int64
	var wg sync.WaitGroup
	chunk := make([]byte, 64<<10)
	for _, l := range full {
		wg.Go(func() {
			for {
				if _, err := l.near.Write(chunk); err != nil {
					return
				}
			}
		})
		wg.Go(func() {
			for b := make([]byte, 32<<10); ; {
				n, err := l.far.Read(b)
				if got.Add(int64(n)); err != nil {
					return
				}
			}
		})
	}
	pause(ctx, time.Second) // windows grow
	start, bytes, cpu := time.Now(), got.Load(), cpuTime()
	took, err = echoes(ctx, others, d)
	mb := float64(got.Load()-bytes) / 1e6
	rate, cpuPerGB = mb/time.Since(start).Seconds(), (cpuTime()-cpu).Seconds()/(mb/1e3)
	if during != nil {
		err = cmp.Or(err, during())
	}
	for _, l := range full {
		l.far.Close() // or its node would wait to deliver the rest
		l.near.Close()
	}
	wg.Wait()
	return rate, cpuPerGB, took, err
}

func streams(ctx context.Context, _ options, n int) ([]float64, error) {
	var all nodes
	defer all.close()
	h, probe, err := first(ctx, &all)
	if err != nil {
		return nil, err
	}
	before := settled()
	links := make([]*link, n)
	if err := each(ctx, n, atOnce, func(i int) (err error) {
		links[i], err = h.pair(ctx, &mesh.Dialer{Node: all[1][0], Class: splitter.Bulk})
		return err
	}); err != nil {
		return nil, err
	}
	pause(ctx, 2*time.Second)
	after := settled()
	quiet, err := echoes(ctx, []*link{probe}, time.Second)
	if err != nil {
		return nil, err
	}
	rate, _, took, err := busy(ctx, links, []*link{probe}, time.Second, nil)
	return []float64{
		rate, (after.Bytes - before.Bytes) / 1024 / float64(2*n), quantile(took, 0.5), quantile(took, 0.99),
		quantile(quiet, 0.5), quantile(quiet, 0.99),
	}, err
}

func paths(ctx context.Context, _ options, n int) ([]float64, error) {
	var all nodes
	defer all.close()
	between, err := all.start(ctx, n, func(int) *mesh.Node {
		return &mesh.Node{ListenAddrs: []multiaddr.Multiaddr{onLoopback}, Relay: &mesh.RelayConfig{}}
	})
	if err != nil {
		return nil, err
	}
	var boot []multiaddr.Multiaddr
	for _, r := range between {
		boot = append(boot, r.Addrs()...)
	}
	ends, err := all.start(ctx, 2, func(int) *mesh.Node { return &mesh.Node{Bootstrap: boot} })
	if err != nil {
		return nil, err
	}
	h, err := newHall(ends[0])
	if err != nil {
		return nil, err
	}
	if err := ends[0].WaitReserved(ctx, n); err != nil {
		return nil, err
	}
	l, err := h.pair(ctx, &mesh.Dialer{Node: ends[1], RelayedOnly: true, Paths: n, Split: splitter.Policy{MinPaths: n}, Class: splitter.Bulk})
	if err != nil {
		return nil, err
	}
	if got := len(l.near.(*mesh.Conn).Paths()); got != n {
		return nil, fmt.Errorf("%d paths, want %d", got, n)
	}
	before := settled()
	var full footprint
	rate, cpu, _, err := busy(ctx, []*link{l}, nil, 2*time.Second, func() error { full = settled(); return nil })
	return []float64{rate, cpu, (full.Bytes - before.Bytes) / 1024}, err
}
