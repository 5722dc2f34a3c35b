package dht

import (
	"context"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/internal/kad"
	"github.com/splitmesh/splitmesh/registry"
)

// A Result is what a lookup found, and what it took.
type Result struct {
	// Records are what was looked for, the newest of each peer.
	Records []*registry.Record
	// Hops is how many nodes were asked one after the other until the first answer with a record. Asked, Answered
	// and Failed count nodes.
	Hops, Asked, Answered, Failed int
	// Older is how many nodes answered with a record older than the newest, Without how many of those that ought
	// to have it answered without.
	Older, Without int
	Latency        time.Duration
	closest        []*kad.Contact
}

// A search is one lookup under way.
type search struct {
	d       *DHT
	target  kad.Key
	wanted  func(*registry.Record) bool
	newest  map[identity.ID]*registry.Record
	answers map[identity.ID][]*registry.Record // by who answered
}

// find looks target up. wanted says which records are looked for; nil: none, but the nodes that are closest. When
// nothing is found, the network may have been in two parts: if some who were lost answer again, it looks once more.
func (d *DHT) find(ctx context.Context, target kad.Key, wanted func(*registry.Record) bool, rules kad.Rules) (*Result, error) {
	res, err := d.findOnce(ctx, target, wanted, rules)
	if err == nil && wanted != nil && len(res.Records) == 0 && d.reach(ctx) {
		return d.findOnce(ctx, target, wanted, rules)
	}
	return res, err
}

func (d *DHT) findOnce(ctx context.Context, target kad.Key, wanted func(*registry.Record) bool, rules kad.Rules) (*Result, error) {
	if !d.begin() {
		return nil, net.ErrClosed
	}
	defer d.wg.Done()
	caller := ctx
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	defer context.AfterFunc(d.ctx, cancel)()
	start := time.Now()
	seeds := d.seeds(ctx, target)
	s := &search{d: d, target: target, wanted: wanted, newest: make(map[identity.ID]*registry.Record), answers: make(map[identity.ID][]*registry.Record)}
	l := kad.NewLookup(target, seeds, rules)
	d.mu.Lock()
	d.stats.Lookups++
	d.table.Looked(target, d.cfg.Now())
	s.keep(d.net.ID(), d.own(target))
	if c := d.table.Closest(target, 1); len(c) == 1 && c[0].Key == target {
		s.keep(d.net.ID(), []*registry.Record{c[0].Record})
	}
	d.mu.Unlock()
	s.run(ctx, l)
	st := l.Stats()
	res := &Result{Hops: st.Hops, Asked: st.Asked, Answered: st.Answered, Failed: st.Failed, Without: st.Without, Latency: time.Since(start), closest: l.Closest(2 * kad.K)}
	for _, r := range s.newest {
		res.Records = append(res.Records, r)
	}
	slices.SortFunc(res.Records, func(a, b *registry.Record) int { return a.ID.Compare(b.ID) })
	for _, rs := range s.answers {
		if slices.ContainsFunc(rs, func(r *registry.Record) bool { return s.newest[r.ID] != nil && s.newest[r.ID].Newer(r) }) {
			res.Older++
		}
	}
	switch {
	case len(res.Records) > 0:
		return res, nil
	case d.ctx.Err() != nil:
		return res, net.ErrClosed
	}
	return res, caller.Err() // when only we ran out of time, those who answered count
}

// run asks until the lookup is over, and returns when nobody is being asked. When half of the ways have ended, the others
// have as long again; then those that have ended ask whom the others keep waiting, and a little later it is over: who names
// nodes that do not answer stalls his own way only.
func (s *search) run(ctx context.Context, l *kad.Lookup) {
	ctx, cancel := context.WithCancel(ctx)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	type outcome struct {
		c *kad.Contact
		a *answer
	}
	outcomes := make(chan outcome)
	start := time.Now()
	var late <-chan time.Time
	freed := false
	for !l.Done() {
		if ended, of := l.Ended(); late == nil && ended > 0 && 2*ended >= of {
			late = time.After(max(queryTimeout, time.Since(start)))
		}
		for _, c := range l.Next() {
			asking.Go(func() { // ends with ctx
				a, err := s.d.call(ctx, c.ID, c.Record, &query{Op: opFind, Key: s.target[:]})
				if err != nil || a.Verdict != vOK {
					a = nil
				}
				select {
				case outcomes <- outcome{c, a}:
				case <-ctx.Done():
				}
			})
		}
		select {
		case o := <-outcomes:
			if o.a == nil {
				l.Failed(o.c)
				continue
			}
			closer, has := s.heed(o.c, o.a)
			l.Answered(o.c, closer, has)
		case <-late:
			if freed {
				return
			}
			freed, late = true, time.After(reachTimeout)
			l.Free()
		case <-ctx.Done():
			return
		}
	}
}

// heed takes in an answer. What in it is no record, or has expired, counts as not there.
func (s *search) heed(from *kad.Contact, a *answer) (closer []*kad.Contact, has bool) {
	d := s.d
	var records []*registry.Record
	for i, b := range slices.Concat(a.Records, a.Closer) {
		r, newest, err := d.parse(b)
		if err != nil || r.Check(d.cfg.Now()) != nil {
			continue
		}
		if i >= len(a.Records) {
			if c := d.contact(r); c != nil && newest && d.named(r, from.Record) {
				closer = append(closer, c)
			}
		}
		records = append(records, r)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return closer, s.keep(from.ID, records)
}

// keep notes those of the records that are looked for, and reports whether there are any. d.mu is held.
func (s *search) keep(from identity.ID, records []*registry.Record) (has bool) {
	if s.wanted == nil {
		return false
	}
	for _, r := range records {
		if !s.wanted(r) {
			continue
		}
		s.answers[from] = append(s.answers[from], r)
		if newest := s.d.newest(r.ID); newest != nil && newest.Newer(r) {
			if newest.Check(s.d.cfg.Now()) != nil || !s.wanted(newest) {
				continue
			}
			r = newest // which whoever answered may not know yet
		}
		has = true
		if r.Newer(s.newest[r.ID]) {
			s.newest[r.ID] = r
		}
	}
	return has
}

// own returns what this node has under the key. mu is held.
func (d *DHT) own(k kad.Key) []*registry.Record {
	now := d.cfg.Now()
	records := d.store.Under(k, kad.K, now)
	if r := d.store.Get(k, now); r != nil {
		records = append(records, r)
	}
	if d.self != nil && kad.PeerKey(d.self.ID) == k && d.self.Check(now) == nil {
		records = append(records, d.self)
	}
	return records
}

// seeds returns contacts to begin with, asking the bootstrap nodes when few are known.
func (d *DHT) seeds(ctx context.Context, target kad.Key) []*kad.Contact {
	d.mu.Lock()
	known := d.table.Closest(target, 2*kad.K)
	d.mu.Unlock()
	if len(known) > 0 {
		return known
	}
	var asking sync.WaitGroup
	for _, id := range d.first() {
		if id == d.net.ID() {
			continue
		}
		asking.Go(func() { // ends within queryTimeout
			if _, err := d.call(ctx, id, nil, &query{Op: opPing}); err != nil {
				d.log.Debug("bootstrap node does not answer", "node", id.Short(), "err", err)
			}
		})
	}
	asking.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.table.Closest(target, 2*kad.K)
}
