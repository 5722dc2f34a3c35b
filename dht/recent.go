package dht

import (
	"container/list"
	"crypto/sha256"
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

// known returns the record of which b, whose hash is given, is the encoding, if it is remembered.
func (c *recent) known(hash [sha256.Size]byte) *registry.Record {
	e := c.byHash[hash]
	if e == nil {
		return nil
	}
	return e.Value.(*seen).record
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
