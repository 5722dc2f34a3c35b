package mdns

import (
	"fmt"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
)

const (
	maxKept      = 4096 // records of peers that somebody here published or asked for
	maxOverheard = 1024 // records of others
)

// A cache holds what is known, of each peer the newest record. What was merely overheard gives way to more of the same;
// what is kept, because somebody here wants it, does not.
type cache struct {
	kept, overheard map[identity.ID]*entry
	// names holds who was first to be heard with each name.
	names map[string]identity.ID
}

// An entry is what is known of a peer. Its record is replaced, never changed.
type entry struct {
	record *registry.Record
	at     time.Time // when it was last heard
}

func newCache() cache {
	return cache{make(map[identity.ID]*entry), make(map[identity.ID]*entry), make(map[string]identity.ID)}
}

// find returns what is known of id, or nil.
func (c *cache) find(id identity.ID) *entry {
	if e := c.kept[id]; e != nil {
		return e
	}
	return c.overheard[id]
}

// keep puts r, which passed Check, in the place of an older record of its peer, from where nobody else's displaces it.
func (c *cache) keep(now time.Time, r *registry.Record) error {
	old := c.find(r.ID)
	if err := c.refuses(old, r); err != nil {
		return err
	}
	if c.kept[r.ID] == nil && !c.makeRoom(now) {
		return fmt.Errorf("%w (it holds %d records)", registry.ErrFull, len(c.kept))
	}
	delete(c.overheard, r.ID)
	c.kept[r.ID] = &entry{r, now}
	c.rename(now, old, r)
	return nil
}

// overhear puts r, which passed Check, in the place of an older record of its peer, or of one overheard of another.
func (c *cache) overhear(now time.Time, r *registry.Record) error {
	if c.kept[r.ID] != nil {
		return c.keep(now, r)
	}
	old := c.overheard[r.ID]
	if err := c.refuses(old, r); err != nil {
		return err
	}
	if old == nil && len(c.overheard) >= maxOverheard {
		for id, e := range c.overheard { // whichever comes first: nobody who floods can choose
			c.forget(c.overheard, id, e)
			break
		}
	}
	c.overheard[r.ID] = &entry{r, now}
	c.rename(now, old, r)
	return nil
}

// want keeps what was overheard of id, if there is room.
func (c *cache) want(now time.Time, id identity.ID) {
	if e := c.overheard[id]; e != nil && c.makeRoom(now) {
		delete(c.overheard, id)
		c.kept[id] = e
	}
}

// refuses says why r may not take the place of old, which may be nil.
func (c *cache) refuses(old *entry, r *registry.Record) error {
	if old == nil || r.Equal(old.record) || r.Newer(old.record) {
		return nil
	}
	if old.record.Revoked {
		return fmt.Errorf("%w: the key was revoked for good; make a new one", registry.ErrRollback)
	}
	return fmt.Errorf("%w, made at %s", registry.ErrRollback, time.UnixMilli(old.record.Sequence).UTC().Format(time.RFC3339))
}

// makeRoom reports whether one more can be kept. For that it forgets those whose record, and any older one, must have
// expired.
func (c *cache) makeRoom(now time.Time) bool {
	if len(c.kept) < maxKept {
		return true
	}
	for id, e := range c.kept {
		if !e.record.Revoked && over(now, e.record) {
			c.forget(c.kept, id, e)
		}
	}
	return len(c.kept) < maxKept
}

func (c *cache) forget(from map[identity.ID]*entry, id identity.ID, e *entry) {
	delete(from, id)
	if c.names[e.record.Name] == id {
		delete(c.names, e.record.Name)
	}
}

// over reports whether r, and any older record of its peer, must have expired.
func over(now time.Time, r *registry.Record) bool {
	return r.Sequence <= now.Add(-registry.MaxLife).UnixMilli()
}

// rename gives r's peer the name in r, unless another has it, and takes from it that of the record before.
func (c *cache) rename(now time.Time, before *entry, r *registry.Record) {
	if before != nil && before.record.Name != r.Name && c.names[before.record.Name] == r.ID {
		delete(c.names, before.record.Name)
	}
	if r.Name == "" {
		return
	}
	if _, taken := c.holder(now, r.Name); !taken {
		c.names[r.Name] = r.ID
	}
}

// holder returns whose name is, if anybody's.
func (c *cache) holder(now time.Time, name string) (id identity.ID, ok bool) {
	if id, ok = c.names[name]; ok {
		ok = !over(now, c.find(id).record)
	}
	return id, ok
}
