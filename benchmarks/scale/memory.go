package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"time"

	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/splitter"
)

// A footprint is what a process holds after its garbage was collected.
type footprint struct {
	Bytes, Stacks, RSS, Goroutines float64
	Carried                        float64 // bytes, by a relay, both ways together
	CPU                            time.Duration
}

func settled() footprint {
	for range 3 { // pools survive one
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	f := footprint{Bytes: float64(m.HeapAlloc + m.StackInuse), Stacks: float64(m.StackInuse), Goroutines: float64(runtime.NumGoroutine()), CPU: cpuTime()}
	if statm, err := os.ReadFile("/proc/self/statm"); err == nil {
		var size, resident float64
		_, _ = fmt.Sscan(string(statm), &size, &resident)
		f.RSS = resident * float64(os.Getpagesize())
	}
	return f
}

// profile makes heap profiles finer than usual, if there is a file for one: the
// structures are small.
func profile(heap string) {
	if heap != "" {
		runtime.MemProfileRate = 1024
	}
}

// writeHeap writes the heap profile to the file, if there is one.
func writeHeap(file string) error {
	if file == "" {
		return nil
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(pprof.Lookup("heap").WriteTo(f, 0), f.Close())
}

// sides is sessions with the two sides in processes of their own: the mean of both
// hides that they differ. The diallers' heap profile goes beside the other.
func sides(ctx context.Context, o options, n int) ([]float64, error) {
	if _, err := openFiles(n + 200); err != nil {
		return nil, fmt.Errorf("open files: %w", err)
	}
	var all nodes
	defer all.close()
	h, _, err := first(ctx, &all)
	if err != nil {
		return nil, err
	}
	heap := o.heap
	if heap != "" {
		heap += ".dialler"
	}
	away, err := newChild(dialCommand, fmt.Sprint(n), h.node.Addrs()[0].String(), h.addr, heap)
	if err != nil {
		return nil, err
	}
	defer away.end()
	var there, there2 footprint
	if err := away.ask("footprint", &there); err != nil {
		return nil, err
	}
	here := settled()
	if err := away.ask("dial", nil); err != nil {
		return nil, err
	}
	if err := h.seated(ctx, n); err != nil {
		return nil, err
	}
	h.mu.Lock()
	for _, c := range h.strays {
		go echo(c, 1)
	}
	h.mu.Unlock()
	var alive int
	if err := away.ask("echo", &alive); err != nil {
		return nil, err
	}
	if alive != n {
		return nil, fmt.Errorf("%d of %d sessions echo", alive, n)
	}
	pause(ctx, 2*time.Second)
	here2 := settled()
	if err := errors.Join(away.ask("footprint", &there2), writeHeap(o.heap)); err != nil {
		return nil, err
	}
	one := float64(n)
	return []float64{
		(here2.Bytes - here.Bytes) / 1024 / one, (here2.Stacks - here.Stacks) / 1024 / one, (here2.Goroutines - here.Goroutines) / one,
		(there2.Bytes - there.Bytes) / 1024 / one, (there2.Stacks - there.Stacks) / 1024 / one, (there2.Goroutines - there.Goroutines) / one,
	}, ctx.Err()
}

// seated waits until n conns from other processes are there.
func (h *hall) seated(ctx context.Context, n int) error {
	for end := time.Now().Add(patience); ctx.Err() == nil; pause(ctx, 10*time.Millisecond) {
		h.mu.Lock()
		have := len(h.strays)
		h.mu.Unlock()
		if have >= n {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("%d of %d conns came", have, n)
		}
	}
	return ctx.Err()
}

// rest is how long busy streams have been idle when what they hold is looked at
// again: every path and session has been asked by then whether it lives.
const rest = 25 * time.Second

// buffers fills n streams of a session for a while, lets them be, and looks at what
// is held before, meanwhile and afterwards. None is closed.
func buffers(ctx context.Context, _ options, n int) ([]float64, error) {
	var all nodes
	defer all.close()
	h, _, err := first(ctx, &all)
	if err != nil {
		return nil, err
	}
	links := make([]*link, n)
	if err := each(ctx, n, atOnce, func(i int) (err error) {
		links[i], err = h.pair(ctx, &mesh.Dialer{Node: all[1][0], Class: splitter.Bulk})
		return err
	}); err != nil {
		return nil, err
	}
	pause(ctx, 2*time.Second)
	debug.FreeOSMemory()
	before := settled()
	var full footprint
	if err := flood(links, func() {
		pause(ctx, 2*time.Second)
		full = settled()
	}); err != nil {
		return nil, err
	}
	pause(ctx, rest)
	debug.FreeOSMemory()
	after := settled()
	const mib = 1 << 20
	return []float64{
		before.Bytes / mib, full.Bytes / mib, after.Bytes / mib, before.RSS / mib, full.RSS / mib, after.RSS / mib,
	}, ctx.Err()
}

// flood keeps links full until during returns, and until all has arrived. They stay
// open. It holds little itself: what is written is one for all, what is read is in
// pieces.
func flood(links []*link, during func()) error {
	const size, piece = 64 << 10, 2 << 10
	chunk, last := make([]byte, size), bytes.Repeat([]byte{1}, size)
	var stop atomic.Bool
	var wg sync.WaitGroup
	errs := make(chan error, 2*len(links))
	for _, l := range links {
		wg.Go(func() {
			for ended := false; !ended; {
				next := chunk
				if ended = stop.Load(); ended {
					next = last
				}
				if _, err := l.near.Write(next); err != nil {
					l.near.Close() // or the other end would wait for more
					errs <- err
					return
				}
			}
		})
		wg.Go(func() {
			b := make([]byte, piece)
			for n, ended := 0, false; !ended || n%size != 0; n += piece {
				if _, err := io.ReadFull(l.far, b); err != nil {
					l.far.Close()
					errs <- err
					return
				}
				ended = b[0] == last[0]
			}
		})
	}
	during()
	stop.Store(true)
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}
