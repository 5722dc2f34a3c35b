package dht

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/internal/kad"
	"github.com/splitmesh/splitmesh/registry"
)

// A network that was cut in two comes together by those who were lost: a lookup alone would go on finding, in its own
// half, what was known before the cut.

const (
	// The last maxLost who did not answer are asked again after minSeek, or a lostPart of the time for which they are
	// lost, if that is more; and all at once when one of them answers, or when something is not found, every reachAfter
	// at most. They have reachTimeout to answer.
	maxLost      = 64
	minSeek      = 4 * time.Second
	lostPart     = 16
	reachAfter   = 5 * time.Second
	reachTimeout = 2 * time.Second
	// longLost is for how long a node must have been lost for its coming back to tell of a network that has.
	longLost = 15 * time.Second
)

// A missed node was in the table, and did not answer.
type missed struct {
	*kad.Contact
	since, asked time.Time
}

// lose notes that c did not answer; of too many, the one that is lost longest is given up. mu is held.
func (d *DHT) lose(c *kad.Contact) {
	now := time.Now()
	m := d.lost[c.ID]
	if m == nil {
		var oldest *missed
		for _, o := range d.lost {
			if oldest == nil || o.since.Before(oldest.since) {
				oldest = o
			}
		}
		if len(d.lost) == maxLost {
			delete(d.lost, oldest.ID)
		}
		m = &missed{since: now}
		d.lost[c.ID] = m
	}
	m.Contact, m.asked = c, now
}

// regain notes that the node is there, in case it was lost. mu is held.
func (d *DHT) regain(id identity.ID) {
	m := d.lost[id]
	if m == nil {
		return
	}
	delete(d.lost, id)
	if time.Since(m.since) < longLost { // it, or we, had too much to do
		return
	}
	select {
	case d.back <- struct{}{}:
	default:
	}
}

// seek asks the lost again. When one is back, all of them are asked, and our record is brought to who is closest now.
func (d *DHT) seek() {
	t := time.NewTicker(minSeek / 2)
	defer t.Stop()
	bring := make(chan struct{}, 1)
	d.wg.Go(func() { d.bring(bring) }) // ends with ctx; Start's own count is held meanwhile
	for {
		select {
		case <-t.C:
			d.askAgain(d.ctx, d.due(time.Now()))
		case <-d.back:
			d.reach(d.ctx)
			select {
			case bring <- struct{}{}:
			default: // it is to be brought anyway
			}
		case <-d.ctx.Done():
			return
		}
	}
}

// bring brings our record to who is closest whenever it is asked to, once in lookupTimeout at most.
func (d *DHT) bring(asked <-chan struct{}) {
	for {
		select {
		case <-asked:
		case <-d.ctx.Done():
			return
		}
		d.putSelf()
		t := time.NewTimer(lookupTimeout)
		select {
		case <-t.C:
		case <-d.ctx.Done():
			t.Stop()
			return
		}
	}
}

// due returns those of the lost who are to be asked again.
func (d *DHT) due(now time.Time) map[identity.ID]*registry.Record {
	d.mu.Lock()
	defer d.mu.Unlock()
	ask := make(map[identity.ID]*registry.Record)
	for id, m := range d.lost {
		if m.Record.Check(d.cfg.Now()) != nil { // nobody is to be found by it any more
			delete(d.lost, id)
		} else if now.Sub(m.asked) >= max(minSeek, now.Sub(m.since)/lostPart) {
			m.asked = now
			ask[id] = m.Record
		}
	}
	return ask
}

// reach asks those who were lost, and the bootstrap nodes that are not known, whether they answer now, and reports
// whether any does. It does so every reachAfter at most.
func (d *DHT) reach(ctx context.Context) (any bool) {
	d.mu.Lock()
	now := time.Now()
	if now.Sub(d.reached) < reachAfter {
		d.mu.Unlock()
		return false
	}
	d.reached = now
	ask := make(map[identity.ID]*registry.Record)
	for id, m := range d.lost {
		ask[id] = m.Record
	}
	for _, id := range d.cfg.Bootstrap {
		if _, ok := ask[id]; !ok && id != d.net.ID() && !d.table.Has(kad.PeerKey(id)) {
			ask[id] = nil
		}
	}
	d.mu.Unlock()
	return d.askAgain(ctx, ask)
}

// askAgain reports whether any of those who are asked answers within reachTimeout.
func (d *DHT) askAgain(ctx context.Context, who map[identity.ID]*registry.Record) bool {
	if len(who) == 0 || !d.begin() {
		return false
	}
	defer d.wg.Done()
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	defer context.AfterFunc(d.ctx, cancel)()
	var asking sync.WaitGroup
	var answered atomic.Bool
	for id, r := range who {
		asking.Go(func() { // ends with ctx
			if _, err := d.call(ctx, id, r, &query{Op: opPing}); err == nil {
				answered.Store(true)
			}
		})
	}
	asking.Wait()
	return answered.Load()
}
