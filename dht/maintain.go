package dht

import (
	"sync"
	"time"

	"github.com/splitmesh/splitmesh/internal/kad"
)

// maxPings bounds the contacts that are asked each minute whether they live.
const maxPings = 16

// maintain keeps the table and what is stored up to date.
func (d *DHT) maintain() {
	alone := d.bootstrap() == 0
	d.boot()
	for wait, n := time.Second, 1; ; {
		next := tick
		if alone { // those whom we know may not be there yet
			next = wait
			wait = min(2*wait, tick)
		}
		t := time.NewTimer(spread(next))
		select {
		case <-t.C:
		case <-d.ctx.Done():
			t.Stop()
			return
		}
		if alone {
			alone = d.bootstrap() == 0
			continue
		}
		d.upkeep()
		if n++; n%10 == 0 {
			if err := d.save(); err != nil {
				d.log.Warn("the known nodes were not saved", "err", err)
			}
		}
	}
}

// bootstrap finds the neighbours, and returns how many contacts there are then: first those who were saved answer, or
// the bootstrap nodes, and then a lookup of our own key brings those who are near. They are given our record, which
// nobody may have taken before.
func (d *DHT) bootstrap() int {
	d.ping(d.load())
	_, _ = d.find(d.ctx, kad.PeerKey(d.net.ID()), nil, kad.Rules{})
	d.mu.Lock()
	n := d.table.Len()
	d.mu.Unlock()
	if n > 0 {
		d.putSelf()
	}
	return n
}

// putSelf stores our own record, if there is one, with those that are closest now.
func (d *DHT) putSelf() {
	d.mu.Lock()
	self := d.self
	d.selfPut = d.cfg.Now()
	d.mu.Unlock()
	if self == nil || self.Check(d.cfg.Now()) != nil {
		return
	}
	if err := d.put(d.ctx, self, kad.PeerKey(self.ID)); err != nil {
		d.log.Debug("own record not stored", "err", err)
	}
	for _, c := range self.Capabilities {
		_ = d.put(d.ctx, self, kad.CapabilityKey(c))
	}
}

// ping asks contacts whether they live, sixteen at once.
func (d *DHT) ping(contacts []*kad.Contact) {
	var asking sync.WaitGroup
	defer asking.Wait()
	room := make(chan struct{}, maxPings)
	for _, c := range contacts {
		select {
		case room <- struct{}{}:
		case <-d.ctx.Done():
			return
		}
		asking.Go(func() { // ends within queryTimeout
			_, _ = d.call(d.ctx, c.ID, c.Record, &query{Op: opPing})
			<-room
		})
	}
}

// upkeep is what is due each minute.
func (d *DHT) upkeep() {
	now := d.cfg.Now()
	d.mu.Lock()
	d.store.Expire(now)
	d.table.Expire(now)
	due := d.table.Questionable(now, maxPings)
	alone := d.table.Len() == 0
	target, stale := d.table.Refresh(now, refreshAfter, randomKey())
	again := d.store.Neglected(now, republishAfter, maxRepublished)
	selfDue := now.Sub(d.selfPut) >= republishAfter
	d.mu.Unlock()
	d.ping(due)
	if alone {
		d.bootstrap()
	} else if stale {
		_, _ = d.find(d.ctx, target, nil, kad.Rules{})
	}
	if selfDue {
		d.putSelf()
	}
	for _, r := range again {
		_ = d.put(d.ctx, r, kad.PeerKey(r.ID))
	}
}
