package multi

import (
	"container/list"
	"fmt"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
)

// An lru holds a value for each of at most max IDs: those that were used last.
type lru[V any] struct {
	max   int
	order list.List // of item[V], the one used last in front
	items map[identity.ID]*list.Element
}

type item[V any] struct {
	id    identity.ID
	value V
}

func (l *lru[V]) get(id identity.ID) (v V, ok bool) {
	e, ok := l.items[id]
	if !ok {
		return v, false
	}
	l.order.MoveToFront(e)
	return e.Value.(item[V]).value, true
}

func (l *lru[V]) put(id identity.ID, v V) {
	l.drop(id)
	if l.items == nil {
		l.items = make(map[identity.ID]*list.Element)
	}
	l.items[id] = l.order.PushFront(item[V]{id, v})
	for len(l.items) > max(l.max, 0) {
		l.drop(l.order.Back().Value.(item[V]).id)
	}
}

func (l *lru[V]) drop(id identity.ID) {
	if e, ok := l.items[id]; ok {
		l.order.Remove(e)
		delete(l.items, id)
	}
}

// A cached record stays when it has expired, so that no older one takes its place.
type cached struct {
	record  *registry.Record // not changed
	refresh time.Time        // when it is to be looked up again
}

// A miss is why no directory knew a peer.
type miss struct {
	since time.Time
	err   error
}

// known returns the newest that is known of a peer, be it expired, or nil. d.mu is held.
func (d *Directory) known(id identity.ID) *registry.Record {
	if r, ok := d.revocations.get(id); ok {
		return r
	}
	if c, ok := d.records.get(id); ok {
		return c.record
	}
	return nil
}

// learn keeps r, which nobody changes any more, if nothing newer is known. It reports whether r is now what is known.
// d.mu is held.
func (d *Directory) learn(r *registry.Record, now time.Time) bool {
	known := d.known(r.ID)
	switch {
	case r.Equal(known):
		return true
	case !r.Newer(known):
		return false
	}
	d.misses.drop(r.ID)
	if r.Revoked {
		d.records.drop(r.ID)
		d.revocations.put(r.ID, r)
	} else {
		d.records.put(r.ID, &cached{r, d.refreshAt(r, now)})
	}
	return true
}

// refreshAt returns when a record that was looked up now is to be looked up again.
func (d *Directory) refreshAt(r *registry.Record, now time.Time) time.Time {
	left := time.UnixMilli(r.Expires).Sub(now)
	return now.Add(min(d.refresh, left/refreshPart))
}

// remembered returns what can be said of a peer without asking, and whether to ask. d.mu is held.
func (d *Directory) remembered(id identity.ID, now time.Time) (r *registry.Record, ask bool, err error) {
	if r, ok := d.revocations.get(id); ok {
		if err := r.Check(now); err != nil { // the clock was set back, and it is from the future now
			return nil, false, fmt.Errorf("%w: %w", registry.ErrNotFound, err)
		}
		return r, false, nil
	}
	if c, ok := d.records.get(id); ok && c.record.Check(now) == nil {
		return c.record, !now.Before(c.refresh), nil
	}
	if m, ok := d.misses.get(id); ok && !now.Before(m.since) && now.Sub(m.since) < d.missLife {
		return nil, false, m.err
	}
	return nil, true, nil
}

// isRevoked reports whether a revocation of the peer is remembered.
func (d *Directory) isRevoked(id identity.ID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.revocations.get(id)
	return ok
}
