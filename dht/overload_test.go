package dht

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splitmesh/splitmesh/internal/kad"
)

// A machine runs all nodes of a fabric on so many processors: each query takes some of their time, and waits for its turn.
// It is done when its turn comes also if nobody waits for it any more.
type machine struct {
	query time.Duration

	mu   sync.Mutex
	free []time.Time // when each processor is
}

// work returns when a query that comes now is done, or ctx is.
func (m *machine) work(ctx context.Context) error {
	m.mu.Lock()
	i := slices.IndexFunc(m.free, slices.MinFunc(m.free, time.Time.Compare).Equal)
	if now := time.Now(); m.free[i].Before(now) {
		m.free[i] = now
	}
	m.free[i] = m.free[i].Add(m.query)
	done := m.free[i]
	m.mu.Unlock()
	t := time.NewTimer(time.Until(done))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A network of fifty nodes stands still for a minute, so that all are lost to all, on a machine that can answer more than
// they ask in peace, and less than all of them asking all. When it goes on they find each other, and come to rest.
func TestOverloadEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric(time.Now)
		nodes := f.cluster(t, 50)
		time.Sleep(time.Minute)
		resume := time.Now().Add(time.Minute)
		f.mu.Lock()
		f.load = &machine{query: 15 * time.Millisecond, free: []time.Time{resume, resume}}
		f.mu.Unlock()
		var looking sync.WaitGroup
		for _, n := range nodes {
			looking.Go(func() { // ends with the minute
				for time.Now().Before(resume) {
					_, _ = n.find(t.Context(), randomKey(), nil, kad.Rules{})
					time.Sleep(time.Second)
				}
			})
		}
		looking.Wait()
		count := func() (lost, contacts, queries int) {
			for _, n := range nodes {
				s := n.Stats()
				contacts, queries = contacts+s.Contacts, queries+int(s.Queries)
				n.DHT.mu.Lock()
				lost += len(n.lost)
				n.DHT.mu.Unlock()
			}
			return lost, contacts, queries
		}
		if lost, _, _ := count(); lost < len(nodes)*len(nodes)/2 {
			t.Fatalf("%d are lost to one another: too few to try anything", lost)
		}
		time.Sleep(10 * time.Minute)
		_, _, before := count()
		time.Sleep(time.Minute)
		lost, contacts, after := count()
		t.Logf("%d are lost to one another, %d known, and %d queries a minute", lost, contacts, after-before)
		if lost > 0 || contacts < len(nodes)*len(nodes)/2 || after-before > 20*len(nodes) {
			t.Errorf("it does not come to rest: %d are lost to one another, %d known, and %d queries a minute", lost, contacts, after-before)
		}
	})
}
