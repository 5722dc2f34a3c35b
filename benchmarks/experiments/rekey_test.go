package experiments

import (
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/splitmesh/splitmesh/internal/rekey"
	"github.com/splitmesh/splitmesh/internal/session"
	"github.com/splitmesh/splitmesh/splitter"
)

// A contest measures several things in turns, so that whatever else the machine
// does meets all of them alike. It returns, for each, its value over the first
// one's in the same round: the median of the rounds, which should be even in
// number, as every second one goes the other way round.
func contest(rounds int, measure ...func() float64) []float64 {
	ratios := make([][]float64, len(measure))
	for round := range rounds {
		values := make([]float64, len(measure))
		for turn := range measure {
			i := turn
			if round%2 == 1 {
				i = len(measure) - 1 - turn
			}
			values[i] = measure[i]()
		}
		for i, v := range values {
			ratios[i] = append(ratios[i], v/values[0])
		}
	}
	var out []float64
	for _, r := range ratios {
		out = append(out, median(r))
	}
	return out
}

// median is the middle of the values, or the mean of the two there.
func median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

func TestContest(t *testing.T) {
	drift := 1.0 // each measurement finds the machine a little slower
	slower := func(by float64) func() float64 {
		return func() float64 {
			drift *= 0.97
			return drift / by
		}
	}
	got := contest(30, slower(1), slower(2), slower(4))
	for i, want := range []float64{1, 0.5, 0.25} {
		if got[i] < want*0.99 || got[i] > want*1.01 {
			t.Errorf("%v, want %v of the first", got[i], want)
		}
	}
	if m := median([]float64{4, 1, 3, 2}); m != 2.5 {
		t.Errorf("median %v", m)
	}
}

// A runner sends over a session on a socket, as fast as the machine can.
type runner struct {
	t         *testing.T
	s         *sessions
	near, far *session.Stream
	sent      uint64
	every     uint64 // bytes between two rekeys
}

// newRunner makes one that rekeys after each every bytes.
func newRunner(t *testing.T, every uint64) *runner {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		a.Close()
		t.Fatal(err)
	}
	r := &runner{t: t, every: every}
	r.s = newSessions(t, session.Config{Policy: throughput(1), Rekey: rekey.Limits{Bytes: every}}, [2]net.Conn{a, b})
	r.near, r.far = r.s.open(t, splitter.Bulk)
	return r
}

// run sends that many bytes and returns how many a second got there.
func (r *runner) run(size int64) float64 {
	start := time.Now()
	done := make(chan struct{})
	go func() { // ends with the bytes, or the session
		defer close(done)
		b := make([]byte, block)
		for left := size; left > 0; left -= block {
			if _, err := r.near.Write(b); err != nil {
				return
			}
		}
	}()
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, io.LimitReader(struct{ io.Reader }{r.far}, size), make([]byte, block)); err != nil {
		r.t.Error(err)
	}
	took := time.Since(start)
	<-done
	r.sent += uint64(size)
	return float64(size) / took.Seconds()
}

// check looks whether keys have changed about as often as they should: a change
// takes a round trip, in which bytes pass.
func (r *runner) check() (note string) {
	r.t.Helper()
	paths := r.s.near.Stats().Paths
	if want := r.sent / r.every / 4; len(paths) != 1 || uint64(paths[0].Epoch) < want {
		r.t.Errorf("after %d bytes the paths are %+v: want an epoch of %d or more", r.sent, paths, want)
	}
	return fmt.Sprintf("%d changes in %d MiB", paths[0].Epoch, r.sent>>20)
}

// TestRekey: new keys cost next to nothing, on a socket of this machine.
func TestRekey(t *testing.T) {
	size, rounds := scale[int64](256<<20, 4<<20), scale(16, 2)
	unit := scale[uint64](1<<20, 64<<10)
	never, rare, often := newRunner(t, 1<<40), newRunner(t, 64*unit), newRunner(t, 8*unit)
	warm := func(r *runner) func() float64 { return func() float64 { return r.run(size) } }
	contest(2, warm(never), warm(rare), warm(often))
	got := contest(rounds, warm(never), warm(rare), warm(often))
	never.check()
	results := []Result{
		{Name: "REKEY_64M", Value: 1 - got[1], Unit: "of the throughput", Bar: atMost(0.03), Note: rare.check()},
		{Name: "REKEY_8M", Value: 1 - got[2], Unit: "of the throughput", Bar: atMost(0.08), Note: often.check()},
	}
	report(t, results...)
	chart{
		file: "rekey", title: "Throughput with new keys, over that without", y: "×",
		bars: got, names: []string{"never", "every 64 MiB", "every 8 MiB"}, limits: []float64{0.97, 0.92},
	}.draw(t, results...)
}
