package main

import (
	"context"
	"runtime"
	"time"
)

// idle measures what a connection costs that has been used and waits. The
// clients are there before, so that only what connecting adds is counted, and
// half of that is each side's.
func idle(ctx context.Context, w *world, p plan) (figures, error) {
	kept := w.answer(1)
	for range 5 { // they bring into being what all connections share, and stay
		c, err := w.client(ctx)
		if err != nil {
			return nil, err
		}
		if _, err := used(ctx, c); err != nil {
			return nil, err
		}
	}
	clients := make([]client, p.idle)
	for i := range clients {
		c, err := w.client(ctx)
		if err != nil {
			return nil, err
		}
		clients[i] = c
	}
	before := settled(ctx)
	m, err := begin(p)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	streams := make([]stream, len(clients))
	for i, c := range clients {
		var err error
		if streams[i], err = used(ctx, c); err != nil {
			return nil, err
		}
	}
	f := m.end(time.Since(start), 0)
	after := settled(ctx)
	ends := 2 * float64(len(clients))
	f[memory] = (after.bytes - before.bytes) / 1024 / ends
	f[goroutines] = (after.goroutines - before.goroutines) / ends
	runtime.KeepAlive(streams) // all ends with the process
	runtime.KeepAlive(clients)
	runtime.KeepAlive(kept)
	return f, nil
}

// used returns a stream over which a byte went there and back.
func used(ctx context.Context, c client) (stream, error) {
	s, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	return s, ask(s, make([]byte, 1))
}

type footprint struct{ bytes, goroutines float64 }

// settled is what the process holds once timers have fired and pools are empty.
func settled(ctx context.Context) footprint {
	var best footprint
	for i := range 4 {
		if i > 0 {
			pause(ctx, 150*time.Millisecond)
		}
		runtime.GC()
		runtime.GC() // a pool survives one
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		f := footprint{float64(m.HeapInuse + m.StackInuse), float64(runtime.NumGoroutine())}
		if i == 0 || f.bytes < best.bytes {
			best = f
		}
	}
	return best
}
