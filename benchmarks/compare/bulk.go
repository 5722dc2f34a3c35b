package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// A load is streams that carry bytes in one direction, all at once.
type load struct {
	from, to []stream
	size     int // of a Write
	pattern  []byte
	buffers  [][]byte // of the receivers
}

// period is that of the bytes sent: byte i of a stream is i % period.
const period = 251

// readSize is the receivers' buffer. It is that of a large Write, so that no
// system is held back by what it can't hand over at once.
const readSize = 256 << 10

// bulk measures the rate of n streams.
func bulk(n, size int, back bool) func(context.Context, *world, plan) (figures, error) {
	return func(ctx context.Context, w *world, p plan) (figures, error) {
		c, err := w.client(ctx)
		if err != nil {
			return nil, err
		}
		defer c.close()
		l := &load{size: size, pattern: make([]byte, size+period)}
		for i := range l.pattern {
			l.pattern[i] = byte(i % period)
		}
		for range n {
			near, far, err := w.pair(ctx, c)
			if err != nil {
				return nil, err
			}
			if back {
				near, far = far, near
			}
			l.from, l.to = append(l.from, near), append(l.to, far)
			l.buffers = append(l.buffers, make([]byte, max(readSize/n, 32<<10)))
		}
		return l.measure(p)
	}
}

// measure warms up with more and more bytes, until their rate says how many
// take as long as is to be measured.
func (l *load) measure(p plan) (figures, error) {
	each := max(int64(64<<10), 4*int64(l.size)) / int64(len(l.from))
	for spent := time.Duration(0); ; each *= 2 {
		took, err := l.move(each)
		if err != nil {
			return nil, err
		}
		if spent += took; spent >= p.warm {
			each = max(each, int64(float64(each)*p.measure.Seconds()/took.Seconds()))
			break
		}
	}
	m, err := begin(p)
	if err != nil {
		return nil, err
	}
	took, err := l.move(each)
	if err != nil {
		return nil, err
	}
	return m.end(took, each*int64(len(l.from))), nil
}

// move sends so many bytes over each stream and returns how long it took until
// the last receiver had its last.
func (l *load) move(each int64) (time.Duration, error) {
	errs := make(chan error, 2*len(l.from))
	var received sync.WaitGroup
	start := time.Now()
	for i := range l.from {
		received.Go(func() {
			if err := l.receive(i, each); err != nil {
				errs <- err
				l.from[i].Close() // its sender may wait for room
			}
		})
		go func() { errs <- l.send(i, each) }() // ends with its last Write
	}
	received.Wait()
	took := time.Since(start)
	for range l.from {
		if err := <-errs; err != nil {
			return 0, err
		}
	}
	return took, nil
}

func (l *load) send(i int, n int64) error {
	for at := int64(0); at < n; {
		k, phase := min(n-at, int64(l.size)), at%period
		if _, err := l.from[i].Write(l.pattern[phase : phase+k]); err != nil {
			return fmt.Errorf("sending: %w", err)
		}
		at += k
	}
	return nil
}

// receive takes n bytes and looks at the first and the last of each Read.
func (l *load) receive(i int, n int64) error {
	buf := l.buffers[i]
	for at := int64(0); at < n; {
		k, err := l.to[i].Read(buf)
		if k > 0 && (buf[0] != byte(at%period) || buf[k-1] != byte((at+int64(k)-1)%period)) {
			return fmt.Errorf("what arrives after %d bytes is not what was sent", at)
		}
		at += int64(k)
		if at > n {
			return fmt.Errorf("%d bytes arrived, %d were sent", at, n)
		}
		if err != nil && at < n {
			return fmt.Errorf("receiving, after %d bytes of %d: %w", at, n, err)
		}
	}
	return nil
}

// roundTrips measures a byte there and back.
func roundTrips(ctx context.Context, w *world, p plan) (figures, error) {
	c, err := w.client(ctx)
	if err != nil {
		return nil, err
	}
	defer c.close()
	near, far, err := w.pair(ctx, c)
	if err != nil {
		return nil, err
	}
	go echo(far, -1) // ends with the stream
	defer near.Close()
	one := make([]byte, 1)
	for start := time.Now(); time.Since(start) < p.warm; {
		if err := ask(near, one); err != nil {
			return nil, err
		}
	}
	took := make([]time.Duration, 0, 1<<17)
	m, err := begin(p)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	for last := start; last.Sub(start) < p.measure; {
		if err := ask(near, one); err != nil {
			return nil, err
		}
		now := time.Now()
		took = append(took, now.Sub(last))
		last = now
	}
	f := m.end(time.Since(start), 0)
	slices.Sort(took)
	f[micros], f[micros99] = float64(quantile(took, 0.5))/1e3, float64(quantile(took, 0.99))/1e3
	return f, nil
}
