package dht

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/internal/kad"
	"github.com/splitmesh/splitmesh/registry"
)

// A network that was cut in two comes together by those who were lost: a lookup alone would go on finding, in its own
// half, what was known before the cut.
//
// A network that has too much to do loses its nodes as well, and must not be kept down by asking for them. So, however many
// are lost, a node asks few of them at a time; late answers count; and what their coming back sets off comes the more
// seldom the more of them come and go.

const (
	// The last maxLost who did not answer are asked again after minSeek, or a lostPart of the time for which they are
	// lost, if that is more: those who were not asked for longest first, seekAtOnce each half minSeek. When one of them
	// answers, or when something is not found, reachAtOnce are asked, every reachAfter at most, and waited for until
	// reachTimeout.
	maxLost      = 64
	minSeek      = 4 * time.Second
	seekAtOnce   = 1
	lostPart     = 16
	reachAfter   = 5 * time.Second
	reachAtOnce  = 16
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

// seek asks the lost again. When one is back, others of them are asked, and our record is brought to who is closest now.
func (d *DHT) seek() {
	t := time.NewTimer(spread(minSeek / 2))
	defer t.Stop()
	bring := make(chan struct{}, 1)
	d.wg.Go(func() { d.bring(bring) }) // ends with ctx; Start's own count is held meanwhile
	for {
		select {
		case <-t.C:
			d.askAgain(d.due(time.Now()))
			t.Reset(spread(minSeek / 2))
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

// bring brings our record to who is closest whenever it is asked to, once in lookupTimeout at most, and half as often each
// time that it is asked to again at once.
func (d *DHT) bring(asked <-chan struct{}) {
	for wait := lookupTimeout; ; wait = min(2*wait, republishAfter) {
		quiet := time.Now()
		select {
		case <-asked:
		case <-d.ctx.Done():
			return
		}
		if time.Since(quiet) > wait {
			wait = lookupTimeout
		}
		d.putSelf()
		t := time.NewTimer(spread(wait))
		select {
		case <-t.C:
		case <-d.ctx.Done():
			t.Stop()
			return
		}
	}
}

// spread returns a time about as long as d, by a quarter more or less at random: nodes that began together do not go on
// together.
func spread(d time.Duration) time.Duration { return d - d/4 + d/2*time.Duration(randomKey()[0])/256 }

// due returns those of the lost who are to be asked again.
func (d *DHT) due(now time.Time) map[identity.ID]*registry.Record {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.longest(now, seekAtOnce, func(m *missed) bool { return now.Sub(m.asked) >= max(minSeek, now.Sub(m.since)/lostPart) })
}

// longest returns at most n of the lost of whom that holds, those who were not asked for longest, and notes that they are
// asked. mu is held.
func (d *DHT) longest(now time.Time, n int, holds func(*missed) bool) map[identity.ID]*registry.Record {
	var all []*missed
	for id, m := range d.lost {
		if m.Record.Check(d.cfg.Now()) != nil { // nobody is to be found by it any more
			delete(d.lost, id)
		} else if holds(m) {
			all = append(all, m)
		}
	}
	slices.SortFunc(all, func(a, b *missed) int { return a.asked.Compare(b.asked) })
	ask := make(map[identity.ID]*registry.Record)
	for _, m := range all[:min(n, len(all))] {
		m.asked = now
		ask[m.ID] = m.Record
	}
	return ask
}

// reach asks some of those who were lost, and the bootstrap nodes that are not known, whether they answer now, and reports
// whether any does. It does so every reachAfter at most.
func (d *DHT) reach(ctx context.Context) (any bool) {
	first := d.first() // of the network, which may take locks of its own
	d.mu.Lock()
	now := time.Now()
	if now.Sub(d.reached) < reachAfter {
		d.mu.Unlock()
		return false
	}
	d.reached = now
	ask := d.longest(now, reachAtOnce, func(*missed) bool { return true })
	for _, id := range first {
		if _, ok := ask[id]; !ok && id != d.net.ID() && !d.table.Has(kad.PeerKey(id)) {
			ask[id] = nil
		}
	}
	d.mu.Unlock()
	all, answered := d.askAgain(ask)
	t := time.NewTimer(reachTimeout)
	defer t.Stop()
	select {
	case <-all:
	case <-t.C:
	case <-ctx.Done():
	}
	return answered.Load()
}

// askAgain asks them, and does not wait: all is closed when each has answered or its time is over, and any tells whether
// one has answered. That one does not says nothing that was not known.
func (d *DHT) askAgain(who map[identity.ID]*registry.Record) (all <-chan struct{}, any *atomic.Bool) {
	done := make(chan struct{})
	any = new(atomic.Bool)
	if len(who) == 0 || !d.begin() {
		close(done)
		return done, any
	}
	go func() { // ends within queryTimeout
		defer d.wg.Done()
		defer close(done)
		ctx, cancel := context.WithTimeout(d.ctx, queryTimeout)
		defer cancel()
		var asking sync.WaitGroup
		for id, r := range who {
			asking.Go(func() { // ends with ctx
				if _, err := d.call(ctx, id, r, &query{Op: opPing}); err == nil {
					any.Store(true)
				}
			})
		}
		asking.Wait()
	}()
	return done, any
}
