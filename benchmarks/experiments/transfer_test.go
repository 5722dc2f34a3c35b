package experiments

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"gonum.org/v1/plot/plotter"
)

// block is how many bytes a transfer writes at once.
const block = 64 << 10

// An event happens in the middle of a transfer.
type event struct {
	at time.Duration // since the first Write
	do func()
}

// A transfer is what was seen of one: when each block's Write began, and how
// much the receiver had when.
type transfer struct {
	size    int
	content uint64               // which; see content
	pause   func() time.Duration // between two Writes; nil: none
	start   time.Time
	began   []time.Duration // of each block's Write
	arrived []arrival       // in order
	took    time.Duration   // until the receiver read the end
	err     error           // of either end, or of what arrived
}

// An arrival is a Read that returned something.
type arrival struct {
	at    time.Duration
	total int // bytes read so far, this Read's included
}

var errOther = errors.New("what arrived is not what was sent")

// content is what a transfer carries; each number gives another.
func content(number uint64) *rand.ChaCha8 {
	var s [32]byte
	for i := range 8 {
		s[i], s[8+i] = byte(*seed>>(8*i)), byte(number>>(8*i))
	}
	return rand.NewChaCha8(s)
}

// A stream is one end of what a transfer goes over: a conn, or what a session
// calls a stream.
type stream interface {
	io.ReadWriteCloser
	CloseWrite() error
	SetDeadline(time.Time) error
}

// transfer sends size bytes from the dialler to the listener.
func (w *world) transfer(size int, events ...event) *transfer {
	x := &transfer{size: size}
	x.carry(w.near, w.far, events...)
	return x
}

// carry sends from one end to the other, as fast as the bytes are taken unless
// the transfer has pauses, while the events happen.
func (x *transfer) carry(near, far stream, events ...event) {
	x.start = time.Now()
	// Whatever happens, both ends give up.
	near.SetDeadline(x.start.Add(patience))
	far.SetDeadline(x.start.Add(patience))
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var sendErr error
	wg.Go(func() { sendErr = x.send(near) })       // ends with the bytes or the deadline
	wg.Go(func() { happen(ctx, x.start, events) }) // ends with ctx
	x.err = x.receive(far)
	x.took = time.Since(x.start)
	cancel()
	if x.err != nil {
		near.Close() // send may be waiting for a reader
		far.Close()
	}
	wg.Wait()
	if x.err == nil {
		x.err = sendErr
	}
}

// happen lets events happen, each at its time, until ctx ends, and waits for them.
func happen(ctx context.Context, start time.Time, events []event) {
	var wg sync.WaitGroup
	defer wg.Wait()
	events = slices.Clone(events)
	slices.SortStableFunc(events, func(a, b event) int { return int(a.at - b.at) })
	for _, e := range events {
		if !wait(ctx, time.Until(start.Add(e.at))) {
			return
		}
		wg.Go(e.do) // ends by itself
	}
}

// wait waits for d. It reports false when ctx ended before.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// send writes the content in blocks.
func (x *transfer) send(c stream) error {
	b := make([]byte, block)
	from := content(x.content)
	for left := x.size; left > 0; left -= len(b) {
		b = b[:min(len(b), left)]
		from.Read(b)
		x.began = append(x.began, time.Since(x.start))
		if _, err := c.Write(b); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		if x.pause != nil {
			wait(context.Background(), x.pause())
		}
	}
	return c.CloseWrite()
}

// receive reads to the end and compares.
func (x *transfer) receive(c stream) error {
	b, want := make([]byte, block), make([]byte, block)
	total, of := 0, content(x.content)
	for {
		n, err := c.Read(b)
		if n > 0 {
			total += n
			x.arrived = append(x.arrived, arrival{time.Since(x.start), total})
			of.Read(want[:n])
			if !bytes.Equal(b[:n], want[:n]) {
				return fmt.Errorf("%w: the %d bytes that end at byte %d", errOther, n, total)
			}
		}
		if err == io.EOF && total == x.size {
			return nil
		}
		if err != nil {
			return fmt.Errorf("after %d of %d bytes: read: %w", total, x.size, err)
		}
	}
}

// or is a figure of the transfer: no number, which passes no bar, if it failed.
func (x *transfer) or(v float64) float64 {
	if x.err != nil {
		return math.NaN()
	}
	return v
}

// note is the error's text, for a figure.
func (x *transfer) note() string {
	if x.err == nil {
		return ""
	}
	return x.err.Error()
}

// received is how much had arrived by then.
func (x *transfer) received(by time.Duration) int {
	i, _ := slices.BinarySearchFunc(x.arrived, by+1, func(a arrival, t time.Duration) int { return int(a.at - t) })
	if i == 0 {
		return 0
	}
	return x.arrived[i-1].total
}

// rate is the goodput from one moment to another, in Mbit/s.
func (x *transfer) rate(from, to time.Duration) float64 {
	return float64(x.received(to)-x.received(from)) * 8 / 1e6 / (to - from).Seconds()
}

// whole is the goodput from the first Write to the last Read, in Mbit/s.
func (x *transfer) whole() float64 {
	return x.or(float64(x.size) * 8 / 1e6 / x.took.Seconds())
}

// slowest is the least goodput of any span between two moments, looked at every
// tenth of it.
func (x *transfer) slowest(from, to, span time.Duration) float64 {
	least := x.rate(from, from+span)
	for at := from; at+span <= to; at += span / 10 {
		least = min(least, x.rate(at, at+span))
	}
	return least
}

// gap is the longest time without an arrival in [from, to], and when it began.
func (x *transfer) gap(from, to time.Duration) (longest, since time.Duration) {
	last := from
	look := func(at time.Duration) {
		if at-last > longest {
			longest, since = at-last, last
		}
		last = at
	}
	for _, a := range x.arrived {
		if a.at > from && a.at < to {
			look(a.at)
		}
	}
	look(to)
	return longest, since
}

// latencies are how long each block took from its Write's beginning to the Read
// of its last byte, for blocks begun in [from, to).
func (x *transfer) latencies(from, to time.Duration) []time.Duration {
	var out []time.Duration
	i := 0
	for k, began := range x.began {
		end := min((k+1)*block, x.size)
		for i < len(x.arrived) && x.arrived[i].total < end {
			i++
		}
		if i == len(x.arrived) {
			break
		}
		if began >= from && began < to {
			out = append(out, x.arrived[i].at-began)
		}
	}
	return out
}

// quantile is the q-th of the values, 0 if there are none.
func quantile(values []time.Duration, q float64) time.Duration {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// curve is the goodput over time in Mbit/s, over spans of that length.
func (x *transfer) curve(span time.Duration) plotter.XYs {
	var out plotter.XYs
	for at := time.Duration(0); at+span <= x.took; at += span {
		out = append(out, plotter.XY{X: (at + span/2).Seconds(), Y: x.rate(at, at+span)})
	}
	return out
}

// milliseconds is d for a figure.
func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
