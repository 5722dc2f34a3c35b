package dht

import (
	"container/list"
	"crypto/sha256"
	"errors"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
)

// recent remembers the newest record of each of the peers that were seen last, and spares the work of checking a
// signature again. It is not safe for concurrent use.
type recent struct {
	most   int
	order  list.List // of *seen, the one used last in front
	byID   map[identity.ID]*list.Element
	byHash map[[sha256.Size]byte]*list.Element
}

type seen struct {
	record *registry.Record
	hash   [sha256.Size]byte
}

func newRecent(most int) *recent {
	return &recent{most: most, byID: make(map[identity.ID]*list.Element), byHash: make(map[[sha256.Size]byte]*list.Element)}
}

// parse returns the record that b is, and whether it is no older than the newest of its peer. One that is from the future
// is not remembered: it would take the place of what comes until then.
func (c *recent) parse(b []byte, now time.Time) (r *registry.Record, newest bool, err error) {
	if e := c.byHash[sha256.Sum256(b)]; e != nil && len(b) <= registry.MaxSize {
		c.order.MoveToFront(e)
		return e.Value.(*seen).record, true, nil
	}
	if r, err = registry.Parse(b); err != nil {
		return nil, false, err
	}
	return r, !errors.Is(r.Check(now), registry.ErrFuture) && c.add(r), nil
}

// add remembers r, and reports whether it is no older than what is known.
func (c *recent) add(r *registry.Record) (newest bool) {
	e := c.byID[r.ID]
	if e == nil {
		if c.order.Len() == c.most {
			c.drop(c.order.Back())
		}
		e = c.order.PushFront(new(seen))
		c.byID[r.ID] = e
	}
	c.order.MoveToFront(e)
	s := e.Value.(*seen)
	if s.record != nil && !r.Newer(s.record) {
		return r.Equal(s.record)
	}
	delete(c.byHash, s.hash)
	s.record, s.hash = r, sha256.Sum256(r.Marshal())
	c.byHash[s.hash] = e
	return true
}

// get returns the newest record of the peer that is remembered, or nil.
func (c *recent) get(id identity.ID) *registry.Record {
	if e := c.byID[id]; e != nil {
		return e.Value.(*seen).record
	}
	return nil
}

func (c *recent) drop(e *list.Element) {
	s := c.order.Remove(e).(*seen)
	delete(c.byID, s.record.ID)
	delete(c.byHash, s.hash)
}
