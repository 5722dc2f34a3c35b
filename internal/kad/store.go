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

	brought time.Time // last, or put forward by Neglected
}

// NewStore returns an empty store.
func NewStore() *Store {
	return &Store{items: make(map[Key]*item), shares: make(map[identity.ID]int), by: make(map[Key]map[Key]*item)}
}

// Len returns how many records there are.
func (s *Store) Len() int { return len(s.items) }

// Put stores a record that [registry.Parse] accepted, under its peer's key or, if under is that of a capability that it
// announces and its own peer brings it, under that as well. from is the peer that brings it, and closer how many contacts
// are closer to the key than we are. The newest record wins; an older one is refused with [registry.ErrRollback].
//
// When the store is full, one of those gives way that were brought by the peer that brought most, so that as many peers
// are needed to keep a record out as there are records.
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
	if !own && from != r.ID {
		return fmt.Errorf("%w: under a capability only its own peer brings a record", registry.ErrMalformed)
	}
	switch {
	case old != nil && old.record.Newer(r):
		return fmt.Errorf("%w, made at %s", registry.ErrRollback, time.UnixMilli(old.record.Sequence).UTC().Format(time.RFC3339))
	case closer >= farther:
		return ErrFar
	case old == nil && s.shares[from] >= MaxShare && from != r.ID:
		return ErrShare
	case !own && s.by[under][key] == nil && len(s.by[under]) >= provided:
		return ErrFull
	case old == nil && len(s.items) >= cmp.Or(s.MaxRecords, DefaultMaxRecords) && !s.expire(over, now) && !s.yield(r, from, now):
		return ErrFull
	}
	if old == nil {
		old = &item{key: key, from: from}
		s.items[key] = old
		s.shares[from]++
	} else if from == r.ID && old.from != from { // it does not hang on who brought it before
		s.unshare(old.from)
		old.from = from
		s.shares[from]++
	}
	old.record, old.brought = r, now
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
	s.unshare(it.from)
}

func (s *Store) unshare(from identity.ID) {
	if s.shares[from]--; s.shares[from] == 0 {
		delete(s.shares, from)
	}
}

// yield drops a record for r, which from brings, and reports whether there was one: of the peer that brought most, if that
// is more than from will have; or else, for what is no revocation itself, the revocation made first, if whatever it ended
// has expired since.
func (s *Store) yield(r *registry.Record, from identity.ID, now time.Time) bool {
	most, share := from, s.shares[from]+1
	for id, n := range s.shares {
		if n > share {
			most, share = id, n
		}
	}
	var worst *item
	for _, it := range s.items {
		switch rec := it.record; {
		case most != from && it.from == most:
			s.drop(it)
			return true
		case most == from && !r.Revoked && rec.Revoked && ended(rec, now) && (worst == nil || rec.Sequence < worst.record.Sequence):
			worst = it
		}
	}
	if worst != nil {
		s.drop(worst)
	}
	return worst != nil
}

// ended reports whether all records that r takes the place of have expired.
func ended(r *registry.Record, now time.Time) bool {
	return now.Sub(time.UnixMilli(r.Sequence)) >= registry.MaxLife
}

// over reports whether the record is of no use any more.
func over(r *registry.Record, now time.Time) bool {
	if r.Revoked {
		return now.Sub(time.UnixMilli(r.Sequence)) > RevocationLife
	}
	return r.Expires <= now.UnixMilli()
}

// gone reports whether the record is kept no longer: one that is over still keeps older ones out that are not.
func gone(r *registry.Record, now time.Time) bool { return over(r, now) && ended(r, now) }

func (s *Store) expire(is func(*registry.Record, time.Time) bool, now time.Time) (any bool) {
	for _, it := range s.items {
		if is(it.record, now) {
			s.drop(it)
			any = true
		}
	}
	return any
}

// Expire drops what is over, and no longer needed to tell that an older record is one.
func (s *Store) Expire(now time.Time) { s.expire(gone, now) }

// Get returns the record of the peer at k, or nil.
func (s *Store) Get(k Key, now time.Time) *registry.Record {
	if it := s.items[k]; it != nil && !over(it.record, now) {
		return it.record
	}
	return nil
}

// Under returns at most n records that are found under a capability's key, any of them, of one network at most
// [MaxGroup]: were it the newest, who makes a new one each second would be all that is found.
func (s *Store) Under(k Key, n int, now time.Time) []*registry.Record {
	var all []*Contact
	for _, it := range s.by[k] { // in an order that nobody chooses
		if !over(it.record, now) {
			all = append(all, &Contact{Group: GroupOf(it.record.Addrs), Record: it.record})
		}
	}
	var out []*registry.Record
	for _, c := range Spread(all, n) {
		out = append(out, c.Record)
	}
	return out
}

// Neglected returns at most n records that nobody has brought for so long, for who publishes them again: each once until
// then.
func (s *Store) Neglected(now time.Time, after time.Duration, n int) (out []*registry.Record) {
	for _, it := range s.items {
		if len(out) < n && !over(it.record, now) && now.Sub(it.brought) >= after {
			it.brought = now
			out = append(out, it.record)
		}
	}
	return out
}
