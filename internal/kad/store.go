package kad

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
)

// Why a record is not stored.
var (
	ErrFar   = errors.New("others are much closer to the record: store it there")
	ErrFull  = errors.New("the node stores as much as it may")
	ErrShare = errors.New("the node stores as much as it may of what this peer brings")
)

// Bounds of what a node stores for others.
const (
	DefaultMaxRecords = 8192 // some 8 MB of ordinary records
	// MaxShare is how many records of others one peer may have brought of those that are stored.
	MaxShare = 1024
	// farther is how many contacts may be closer to a record than the node that stores it: it has seen less than all.
	farther = 2 * K
	// provided is how many records there may be under one capability.
	provided = 256
	// RevocationLife is how long a revocation is kept.
	RevocationLife = 365 * 24 * time.Hour
)

// A Store is what a node keeps for others: records, each under its peer's key and under those of its capabilities. It is
// not safe for concurrent use.
type Store struct {
	// MaxRecords bounds the records; 0 means DefaultMaxRecords.
	MaxRecords int

	items  map[Key]*item         // by the peer's key
	shares map[identity.ID]int   // by who brought them
	by     map[Key]map[Key]*item // by capability
}

type item struct {
	key    Key
	record *registry.Record
	from   identity.ID
	under  []Key // capabilities under which it is found, too
}

// NewStore returns an empty store.
func NewStore() *Store {
	return &Store{items: make(map[Key]*item), shares: make(map[identity.ID]int), by: make(map[Key]map[Key]*item)}
}

// Len returns how many records there are.
func (s *Store) Len() int { return len(s.items) }

// Put stores a record that [registry.Parse] accepted, under its peer's key or, if under is that of a capability that it
// announces, under that as well. from is the peer that brings it, and closer how many contacts are closer to the key than
// we are. The newest record wins; an older one is refused with [registry.ErrRollback].
func (s *Store) Put(r *registry.Record, under Key, from identity.ID, closer int, now time.Time) error {
	if err := r.Check(now); err != nil {
		return err
	}
	if r.Revoked && now.Sub(time.UnixMilli(r.Sequence)) > RevocationLife {
		return fmt.Errorf("%w: the revocation is over a year old", registry.ErrExpired)
	}
	key := PeerKey(r.ID)
	own := under == key
	if !own && !slices.ContainsFunc(r.Capabilities, func(c string) bool { return CapabilityKey(c) == under }) {
		return fmt.Errorf("%w: the record does not belong under this key", registry.ErrMalformed)
	}
	old := s.items[key]
	switch {
	case old != nil && old.record.Newer(r):
		return fmt.Errorf("%w, made at %s", registry.ErrRollback, time.UnixMilli(old.record.Sequence).UTC().Format(time.RFC3339))
	case closer >= farther:
		return ErrFar
	case old == nil && s.shares[from] >= MaxShare && from != r.ID:
		return ErrShare
	case old == nil && len(s.items) >= cmp.Or(s.MaxRecords, DefaultMaxRecords) && !s.expire(now):
		return ErrFull
	case !own && s.by[under][key] == nil && len(s.by[under]) >= provided:
		return ErrFull
	}
	if old == nil {
		old = &item{key: key, from: from}
		s.items[key] = old
		s.shares[from]++
	}
	old.record = r
	if own {
		under = Key{}
	}
	s.index(old, under)
	return nil
}

// index finds the item under those keys of before, and the one given, whose capability the record still has.
func (s *Store) index(it *item, also Key) {
	keys := it.under
	if also != (Key{}) && !slices.Contains(keys, also) {
		keys = append(keys, also)
	}
	it.under = nil
	for _, k := range keys {
		if slices.ContainsFunc(it.record.Capabilities, func(c string) bool { return CapabilityKey(c) == k }) {
			if s.by[k] == nil {
				s.by[k] = make(map[Key]*item)
			}
			s.by[k][it.key] = it
			it.under = append(it.under, k)
		} else {
			s.unindex(k, it)
		}
	}
}

func (s *Store) unindex(k Key, it *item) {
	delete(s.by[k], it.key)
	if len(s.by[k]) == 0 {
		delete(s.by, k)
	}
}

func (s *Store) drop(it *item) {
	for _, k := range it.under {
		s.unindex(k, it)
	}
	delete(s.items, it.key)
	if s.shares[it.from]--; s.shares[it.from] == 0 {
		delete(s.shares, it.from)
	}
}

// over reports whether the record is kept no longer.
func over(r *registry.Record, now time.Time) bool {
	if r.Revoked {
		return now.Sub(time.UnixMilli(r.Sequence)) > RevocationLife
	}
	return r.Expires <= now.UnixMilli()
}

// expire drops what is over, and reports whether that was anything.
func (s *Store) expire(now time.Time) (any bool) {
	for _, it := range s.items {
		if over(it.record, now) {
			s.drop(it)
			any = true
		}
	}
	return any
}

// Expire drops what is over.
func (s *Store) Expire(now time.Time) { s.expire(now) }

// Get returns the record of the peer at k, or nil.
func (s *Store) Get(k Key, now time.Time) *registry.Record {
	if it := s.items[k]; it != nil && !over(it.record, now) {
		return it.record
	}
	return nil
}

// Under returns at most n records that are found under a capability's key, the newest first, of one network at most
// [MaxGroup].
func (s *Store) Under(k Key, n int, now time.Time) []*registry.Record {
	var all []*Contact
	for _, it := range s.by[k] {
		if !over(it.record, now) {
			all = append(all, &Contact{Group: GroupOf(it.record.Addrs), Record: it.record})
		}
	}
	slices.SortFunc(all, func(a, b *Contact) int {
		return cmp.Or(cmp.Compare(b.Record.Sequence, a.Record.Sequence), a.Record.ID.Compare(b.Record.ID))
	})
	var out []*registry.Record
	for _, c := range Spread(all, n) {
		out = append(out, c.Record)
	}
	return out
}

// Records returns all records that are kept, for who publishes them again.
func (s *Store) Records(now time.Time) []*registry.Record {
	out := make([]*registry.Record, 0, len(s.items))
	for _, it := range s.items {
		if !over(it.record, now) {
			out = append(out, it.record)
		}
	}
	return out
}
