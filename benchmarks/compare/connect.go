package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"
)

// firstByte dials with a fresh client and returns how long it took from there
// to the first byte echoed. Making the client and closing it don't count.
func firstByte(ctx context.Context, w *world) (took time.Duration, err error) {
	c, err := w.client(ctx)
	if err != nil {
		return 0, err
	}
	defer c.close()
	start := time.Now()
	s, err := c.open(ctx)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	if err := ask(s, make([]byte, 1)); err != nil {
		return 0, fmt.Errorf("the first byte: %w", err)
	}
	return time.Since(start), nil
}

// connects measures one new connection after the other.
func connects(ctx context.Context, w *world, p plan) (figures, error) {
	w.answer(-1)
	const fewest = 10
	for range 3 { // warms up
		if _, err := firstByte(ctx, w); err != nil {
			return nil, err
		}
	}
	m, err := begin(p)
	if err != nil {
		return nil, err
	}
	var took []time.Duration
	start := time.Now()
	for len(took) < fewest || time.Since(start) < p.measure {
		d, err := firstByte(ctx, w)
		if err != nil {
			return nil, err
		}
		took = append(took, d)
	}
	f := m.end(time.Since(start), 0)
	slices.Sort(took)
	f[millis], f[millis99] = float64(quantile(took, 0.5))/1e6, float64(quantile(took, 0.99))/1e6
	return f, nil
}

// diallers is how many dial at once.
const diallers = 16

// dials measures how many new connections there are in a second, and how long
// each took, when many are made at once. One that fails is counted.
func dials(ctx context.Context, w *world, p plan) (figures, error) {
	w.answer(-1)
	for range 3 {
		if _, err := firstByte(ctx, w); err != nil {
			return nil, err
		}
	}
	m, err := begin(p)
	if err != nil {
		return nil, err
	}
	var (
		mu     sync.Mutex // guards took and failed
		took   []time.Duration
		failed []error
		wg     sync.WaitGroup
	)
	start := time.Now()
	for range diallers {
		wg.Go(func() {
			for time.Since(start) < p.dials {
				d, err := firstByte(ctx, w)
				mu.Lock()
				if err != nil {
					failed = append(failed, err)
				} else {
					took = append(took, d)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	elapsed := time.Since(start)
	f := m.end(elapsed, 0)
	for i, err := range failed {
		if i < 3 {
			fmt.Fprintf(os.Stderr, "a dial failed: %v\n", err)
		}
	}
	if len(took) == 0 {
		return nil, errors.Join(append(failed, errors.New("no dial succeeded"))...)
	}
	slices.Sort(took)
	f[dialRate], f[failures] = float64(len(took))/elapsed.Seconds(), float64(len(failed))
	f[millis], f[millis99] = float64(quantile(took, 0.5))/1e6, float64(quantile(took, 0.99))/1e6
	return f, nil
}
