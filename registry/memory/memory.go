// Package memory is a directory of records in the memory of one process, for tests, for networks whose nodes share a
// process, and behind servers that keep records for others.
//
// The smallest program:
//
//	directory := memory.New()
//	node := &mesh.Node{Directory: directory}
//
// What the package promises: it holds at most MaxRecords records; a live record is never pushed out by another peer's;
// no peer can be rolled back to an older record while that could still be valid; and a revocation of a peer that it knew
// is kept for good.
package memory

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
)

// DefaultMaxRecords is how many records a [Directory] holds unless it is told otherwise. That takes 60 MB of ordinary
// records, 1 KB each, and at worst 1 GB, when all are as large as a record may be and their addresses as involved.
const DefaultMaxRecords = 65536

// A Directory implements [registry.Namer], [registry.Lister] and [registry.Authority]. Its zero value is ready for use. It must not be
// copied, and its exported fields are read-only after the first method call.
//
// As an Authority it admits whoever has published, so it keeps nobody out; it only tells whom it knows, whose record
// has expired, and who was revoked.
//
// A place is given up for a newcomer once its record, and any older one of the same peer, must have expired: a record's
// Sequence is then [registry.MaxLife] ago. The oldest goes first. A revocation that took the place of a record is never
// given up; one of a peer unknown here has an ordinary place. When no place can be given up, newcomers get [registry.ErrFull].
type Directory struct {
	// MaxRecords bounds the records held, revocations included. 0 means DefaultMaxRecords.
	MaxRecords int
	// Now is the clock. nil means time.Now.
	Now func() time.Time

	mu sync.RWMutex
	// entries holds a place for every known peer.
	entries map[identity.ID]*entry
	// names holds who was given each name that is in a record.
	names map[string]identity.ID
	// sorted holds the entries, ascending by ID.
	sorted []*entry
	// evictable orders the places that can be given up, the oldest Sequence first.
	evictable byAge
}

// An entry is a peer's place. Its record is replaced, never changed.
type entry struct {
	record *registry.Record
	// index is where byAge holds the entry, or kept for one that it does not.
	index int
}

// kept marks a revocation that is kept for good.
const kept = -1

// New returns an empty directory.
func New() *Directory { return new(Directory) }

func (d *Directory) now() time.Time {
	if d.Now == nil {
		return time.Now()
	}
	return d.Now()
}

// Publish implements [registry.Directory]. It takes O(log n), and for a newcomer moves up to n pointers.
func (d *Directory) Publish(ctx context.Context, r *registry.Record) error {
	fail := func(err error) error { return &registry.RecordError{Op: "publish", ID: r.ID, Err: err} }
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	now := d.now()
	if err := r.Check(now); err != nil {
		return fail(err)
	}
	mine := r.Clone()

	d.mu.Lock()
	defer d.mu.Unlock()
	if holder, ok := d.holder(r.Name, now); ok && holder != r.ID {
		return fail(fmt.Errorf("%w: %q is %s's", registry.ErrNameTaken, r.Name, holder))
	}
	if e := d.entries[r.ID]; e != nil {
		return d.replace(e, mine)
	}
	if !d.makeRoom(now) {
		return fail(fmt.Errorf("%w (it holds %d records)", registry.ErrFull, len(d.entries)))
	}
	if d.entries == nil {
		d.entries = make(map[identity.ID]*entry)
	}
	e := &entry{record: mine}
	d.entries[mine.ID] = e
	d.rename(mine.ID, "", mine.Name)
	heap.Push(&d.evictable, e)
	i, _ := d.search(mine.ID)
	d.sorted = slices.Insert(d.sorted, i, e)
	return nil
}

// replace puts r in the place of what e holds, if it is newer. d.mu is held.
func (d *Directory) replace(e *entry, r *registry.Record) error {
	old := e.record
	switch {
	case r.Equal(old):
		return nil
	case !r.Newer(old):
		err := fmt.Errorf("%w, made at %s", registry.ErrRollback, time.UnixMilli(old.Sequence).UTC().Format(time.RFC3339))
		if old.Revoked {
			err = fmt.Errorf("%w: the key was revoked for good; make a new one", registry.ErrRollback)
		}
		return &registry.RecordError{Op: "publish", ID: r.ID, Err: err}
	}
	e.record = r
	d.rename(r.ID, old.Name, r.Name)
	switch {
	case e.index == kept:
	case r.Revoked && !old.Revoked:
		heap.Remove(&d.evictable, e.index)
		e.index = kept
	default:
		heap.Fix(&d.evictable, e.index)
	}
	return nil
}

// makeRoom gives up a place if all are taken, and reports whether there is one now. d.mu is held.
func (d *Directory) makeRoom(now time.Time) bool {
	most := d.MaxRecords
	if most <= 0 {
		most = DefaultMaxRecords
	}
	if len(d.entries) < most {
		return true
	}
	if len(d.evictable) == 0 || d.evictable[0].record.Sequence > now.Add(-registry.MaxLife).UnixMilli() {
		return false
	}
	gone := heap.Pop(&d.evictable).(*entry).record
	delete(d.entries, gone.ID)
	d.rename(gone.ID, gone.Name, "")
	i, _ := d.search(gone.ID)
	d.sorted = slices.Delete(d.sorted, i, i+1)
	return true
}

// rename notes that id, which had the one name, has the other. d.mu is held.
func (d *Directory) rename(id identity.ID, from, to string) {
	if from != "" && d.names[from] == id {
		delete(d.names, from)
	}
	if to == "" {
		return
	}
	if d.names == nil {
		d.names = make(map[string]identity.ID)
	}
	d.names[to] = id
}

// holder returns whose name is, if anybody's. d.mu is held.
func (d *Directory) holder(name string, now time.Time) (id identity.ID, ok bool) {
	if id, ok = d.names[name]; ok {
		ok = d.entries[id].record.Sequence > now.Add(-registry.MaxLife).UnixMilli()
	}
	return id, ok
}

// Resolve implements [registry.Namer].
func (d *Directory) Resolve(ctx context.Context, name string) (identity.ID, error) {
	if err := ctx.Err(); err != nil {
		return identity.ID{}, &registry.RecordError{Op: "lookup", Field: "name", Err: err}
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	id, ok := d.holder(name, d.now())
	if !ok {
		return identity.ID{}, &registry.RecordError{Op: "lookup", Field: "name", Err: fmt.Errorf("%w: nobody is called %.40q here", registry.ErrNotFound, name)}
	}
	return id, nil
}

// known returns the record in id's place, which nobody may change, or nil.
func (d *Directory) known(id identity.ID) *registry.Record {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if e := d.entries[id]; e != nil {
		return e.record
	}
	return nil
}

// Lookup implements [registry.Directory]. For a peer whose record has expired the error wraps [registry.ErrExpired] as
// well as [registry.ErrNotFound].
func (d *Directory) Lookup(ctx context.Context, id identity.ID) (*registry.Record, error) {
	fail := func(err error) error { return &registry.RecordError{Op: "lookup", ID: id, Err: err} }
	if err := ctx.Err(); err != nil {
		return nil, fail(err)
	}
	r := d.known(id)
	if r == nil {
		return nil, fail(registry.ErrNotFound)
	}
	if err := r.Check(d.now()); err != nil {
		return nil, fail(fmt.Errorf("%w: %w", registry.ErrNotFound, err))
	}
	return r.Clone(), nil
}

// Standing implements [registry.Authority].
func (d *Directory) Standing(ctx context.Context, id identity.ID) (registry.Standing, error) {
	if err := ctx.Err(); err != nil {
		return registry.Unknown, &registry.RecordError{Op: "lookup", ID: id, Err: err}
	}
	r := d.known(id)
	if r == nil {
		return registry.Unknown, nil
	}
	switch err := r.Check(d.now()); {
	case r.Revoked:
		return registry.Revoked, nil
	case err == nil:
		return registry.Active, nil
	case errors.Is(err, registry.ErrExpired):
		return registry.Expired, nil
	default: // the clock was set back, and the record is from the future now
		return registry.Unknown, nil
	}
}

// byAge is a heap of entries, oldest Sequence first.
type byAge []*entry

func (h byAge) Len() int           { return len(h) }
func (h byAge) Less(i, j int) bool { return h[i].record.Sequence < h[j].record.Sequence }
func (h byAge) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *byAge) Push(x any) {
	e := x.(*entry)
	e.index = len(*h)
	*h = append(*h, e)
}

func (h *byAge) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return e
}
