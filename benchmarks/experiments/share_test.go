package experiments

import (
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splitmesh/splitmesh/internal/session"
	"github.com/splitmesh/splitmesh/splitter"
	"github.com/splitmesh/splitmesh/transport/link"
	"gonum.org/v1/plot/plotter"
)

// A witness schedules as another does, and notes what it decided: so much for
// that path. Nothing else tells in which order a session sends on several paths
// at one moment of virtual time.
type witness struct {
	splitter.Scheduler

	mu      sync.Mutex // guards the rest
	decided []decision
}

// A decision is bytes sent on the path of that id.
type decision struct {
	path  uint32
	bytes int
}

// Next notes the scheduler's decision.
func (w *witness) Next(now time.Time, j splitter.Job, paths []splitter.Path) (path, ahead int) {
	path, ahead = w.Scheduler.Next(now, j, paths)
	if path >= 0 {
		w.mu.Lock()
		w.decided = append(w.decided, decision{paths[path].ID, j.Size})
		w.mu.Unlock()
	}
	return path, ahead
}

// TestMaxShare: no relay carries more than 0.6 of any MiB, whatever the paths'
// speeds, and after one has died. What counts are segments with their headers, in
// the order of sending, and the links have to confirm that they carried no more;
// acknowledgements, and the 24 bytes of a frame's header and seal, come on top.
// A mesh would not let a witness in.
func TestMaxShare(t *testing.T) {
	span := scale(20*time.Second, time.Second)
	shapes := []shape{{mbit: 100, rtt: 10 * time.Millisecond}, {mbit: 20, rtt: 40 * time.Millisecond}, {mbit: 5, rtt: 80 * time.Millisecond}}
	policy := splitter.Policy{Purpose: splitter.Throughput, MinPaths: 2, MaxShare: 0.6}
	var x *transfer
	by := &witness{Scheduler: splitter.EarliestCompletion{}}
	var carried []uint64
	synctest.Test(t, func(t *testing.T) {
		var links []*link.Link
		var conns [][2]net.Conn
		for _, s := range shapes {
			l := s.link()
			a, b := l.Pipe(nil, nil).Conns()
			links, conns = append(links, l), append(conns, [2]net.Conn{a, b})
		}
		s := newSessions(t, session.Config{Policy: policy, Scheduler: by}, conns...)
		near, far := s.open(t, splitter.Bulk)
		// The fast one waits for the others, and after the death for the slowest.
		size := shape{mbit: 50}.bytes(span/2) + shape{mbit: 10}.bytes(span/2)
		x = &transfer{size: size}
		x.carry(near, far, event{span / 2, links[1].Cut})
		for _, l := range links {
			up, _ := l.Carried()
			carried = append(carried, up)
		}
	})
	if x.err != nil {
		t.Error(x.err)
	}
	most, given, curves := shares(by.decided, len(shapes))
	for i, n := range carried { // a hundredth more for frames and acknowledgements
		if n > uint64(given[i])*101/100+64<<10 {
			t.Errorf("link %d carried %d bytes, the scheduler gave it %d", i, n, given[i])
		}
	}
	results := []Result{
		{Name: "MAXSHARE", Value: x.or(most), Unit: "of a MiB", Bar: atMost(0.6), Note: x.note()},
		{Name: "MAXSHARE_WRONG", Value: x.wrong(), Unit: "bytes lost or doubled", Bar: atMost(0), Note: x.note()},
	}
	report(t, results...)
	c := chart{file: "max-share", title: "Share of each relay in the MiB up to there; the second dies half-way", x: "sent, MiB", y: "share", limits: []float64{0.6}}
	for i, p := range curves {
		c.lines = append(c.lines, line{shapes[i].String(), p})
	}
	c.draw(t, results...)
}

// shares returns the greatest part of any ShareSpan consecutive bytes that one
// path carried, what each was given in all, and each one's part over what was sent.
func shares(decided []decision, paths int) (most float64, given []int, curves []plotter.XYs) {
	curves, given = make([]plotter.XYs, paths), make([]int, paths)
	held := make([]int, paths) // of the window, which holds total bytes
	window, total, sent, drawn := decided[:0:0], 0, 0, 0
	for _, d := range decided {
		i := int(d.path - session.FirstPath)
		window = append(window, d)
		held[i] += d.bytes
		given[i] += d.bytes
		total += d.bytes
		sent += d.bytes
		for total > splitter.ShareSpan {
			first := &window[0]
			n := min(total-splitter.ShareSpan, first.bytes)
			held[first.path-session.FirstPath] -= n
			total -= n
			if first.bytes -= n; first.bytes == 0 {
				window = window[1:]
			}
		}
		if total < splitter.ShareSpan {
			continue
		}
		most = max(most, float64(slices.Max(held))/splitter.ShareSpan)
		if sent-drawn >= splitter.ShareSpan/8 {
			drawn = sent
			for i := range curves {
				curves[i] = append(curves[i], plotter.XY{X: float64(sent) / (1 << 20), Y: float64(held[i]) / splitter.ShareSpan})
			}
		}
	}
	return most, given, curves
}

func TestShares(t *testing.T) {
	const a, b = session.FirstPath, session.FirstPath + 1
	const half = splitter.ShareSpan / 2
	for _, tt := range []struct {
		decided []decision
		want    float64
	}{
		{nil, 0},
		{[]decision{{a, half}}, 0}, // less than a span says nothing
		{[]decision{{a, half}, {b, half}}, 0.5},
		{[]decision{{a, half}, {b, half}, {b, half / 2}}, 0.75},
		{[]decision{{a, half}, {b, half}, {a, half}, {a, half}}, 1},
		{[]decision{{a, 3 * half}, {b, half}}, 1},
	} {
		if most, _, _ := shares(tt.decided, 2); most != tt.want {
			t.Errorf("%v: %v, want %v", tt.decided, most, tt.want)
		}
	}
}
