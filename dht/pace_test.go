package dht

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A node that has much to ask at once, as when it has lost all its peers, is no flooder: it asks any other node no more at
// once than that answers.
func TestManyQueriesAtOnce(t *testing.T) {
	for _, rate := range []int{DefaultRate, 10} {
		synctest.Test(t, func(t *testing.T) {
			f := newFabric(time.Now)
			to := f.node(t, Config{Rate: rate})
			n := f.node(t, Config{Client: true})
			r := to.record(t)
			var asking sync.WaitGroup
			var answered atomic.Int32
			for range 5000 {
				asking.Go(func() {
					if _, err := n.DHT.call(t.Context(), to.ID(), r, &query{Op: opPing}); err == nil {
						answered.Add(1)
					}
				})
			}
			asking.Wait()
			if k := int(answered.Load()); k < 4*rate || len(to.blocks) > 0 {
				t.Errorf("rate %d: %d were answered, blocked: %v", rate, k, to.blocks)
			}
		})
	}
}
