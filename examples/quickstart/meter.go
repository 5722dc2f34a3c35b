package main

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
)

// A meter reports to the parent how far a conn is, and takes the orders that
// come meanwhile.
type meter struct {
	parent *parent
	conn   *mesh.Conn
	count  func(*mesh.Carried) uint64 // which of the counters this end is about
	moved  atomic.Int64               // bytes of the file
	nudge  chan struct{}              // of size 1: report now
	goOn   chan struct{}              // closed when the parent says so
	stop   chan struct{}
	wg     sync.WaitGroup
}

// startMeter starts a goroutine that reports until finish is called.
func startMeter(p *parent, conn *mesh.Conn, count func(*mesh.Carried) uint64) *meter {
	m := &meter{
		parent: p, conn: conn, count: count,
		nudge: make(chan struct{}, 1), goOn: make(chan struct{}), stop: make(chan struct{}),
	}
	m.wg.Go(m.run)
	return m
}

func (m *meter) run() {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	going := false
	for {
		select {
		case <-tick.C:
		case <-m.nudge:
		case o := <-m.parent.orders:
			if o.GoOn && !going {
				going = true
				close(m.goOn)
			}
			if o.EveryMS > 0 {
				tick.Reset(time.Duration(o.EveryMS) * time.Millisecond)
			}
			continue
		case <-m.stop:
			return
		}
		now := m.now()
		m.parent.tell(report{Progress: &now})
	}
}

// now is the progress so far.
func (m *meter) now() progress {
	live := make(map[identity.ID]bool)
	for _, p := range m.conn.Paths() {
		live[p.Relay] = true
	}
	now := progress{Bytes: m.moved.Load()}
	for _, c := range m.conn.Carried() {
		name := "direct"
		if !c.Relay.IsZero() {
			name = c.Relay.String()
		}
		now.Relays = append(now.Relays, carried{ID: name, Bytes: m.count(&c), ReSent: c.ReSent, Live: live[c.Relay]})
	}
	return now
}

// report has the goroutine report now.
func (m *meter) report() {
	select {
	case m.nudge <- struct{}{}:
	default:
	}
}

// finish ends the reports with a last one.
func (m *meter) finish(sum string) {
	close(m.stop)
	m.wg.Wait()
	m.parent.tell(report{Done: &done{SHA256: sum, progress: m.now()}})
}
