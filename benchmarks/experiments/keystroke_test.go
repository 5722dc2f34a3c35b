package experiments

import (
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splitmesh/splitmesh/internal/session"
	"github.com/splitmesh/splitmesh/splitter"
	"gonum.org/v1/plot/plotter"
)

// keystrokes sends single bytes, one each tenth of a second, over a direct path
// and returns how long each took to come back. With a file, another stream, of
// the class that files have, fills the path in the meantime.
func keystrokes(t *testing.T, s shape, n int, file bool) (took []time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		a, b := s.link().Pipe(nil, nil).Conns()
		both := newSessions(t, session.Config{Policy: throughput(1)}, [2]net.Conn{a, b})
		near, far := both.open(t, splitter.Interactive)
		var wg sync.WaitGroup
		wg.Go(func() { io.Copy(far, far) }) // the echo; ends with the stream
		if file {
			from, to := both.open(t, splitter.Bulk)
			wg.Go(func() { // ends with the stream
				for b, err := make([]byte, block), error(nil); err == nil; {
					_, err = from.Write(b)
				}
			})
			wg.Go(func() { io.Copy(io.Discard, to) }) // likewise
			defer wg.Wait()
			defer to.Close()
			defer from.Close()
			time.Sleep(2 * time.Second) // virtual: until the path is full
		}
		near.SetDeadline(time.Now().Add(patience))
		for range n {
			start := time.Now()
			if _, err := near.Write([]byte{'k'}); err != nil {
				t.Error(err)
				break
			}
			if _, err := io.ReadFull(near, make([]byte, 1)); err != nil {
				t.Error(err)
				break
			}
			took = append(took, time.Since(start))
			time.Sleep(100 * time.Millisecond) // virtual
		}
		near.Close()
		if !file {
			wg.Wait()
		}
	})
	return took
}

// TestKeystroke: a file that fills the path does not make who types wait.
func TestKeystroke(t *testing.T) {
	s := shape{mbit: 100, rtt: 20 * time.Millisecond}
	n := scale(200, 10)
	alone, beside := keystrokes(t, s, n, false), keystrokes(t, s, n, true)
	ratio := func(q float64) float64 {
		return milliseconds(quantile(beside, q)) / milliseconds(quantile(alone, q))
	}
	results := []Result{
		{Name: "KEYSTROKE", Value: ratio(0.5), Unit: "× alone", Bar: atMost(1.5), Note: fmt.Sprintf("the median; %s × at the 99th percentile", number(ratio(0.99)))},
	}
	report(t, results...)
	curve := func(took []time.Duration) (out plotter.XYs) {
		for i, d := range took {
			out = append(out, plotter.XY{X: float64(i), Y: milliseconds(d)})
		}
		return out
	}
	chart{
		file: "keystroke", title: "A byte's way there and back on a path of 100 Mbit/s, 20 ms", x: "keystroke", y: "ms",
		lines: []line{{"beside a file", curve(beside)}, {"alone", curve(alone)}},
	}.draw(t, results...)
}
