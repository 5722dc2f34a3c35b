package kad

import (
	"errors"
	"testing"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
)

func put(t *testing.T, s *Store, r *registry.Record, want error) {
	t.Helper()
	if err := s.Put(r, PeerKey(r.ID), r.ID, 0, noon); !errors.Is(err, want) || (want == nil) != (err == nil) {
		t.Fatalf("Put: %v; want %v", err, want)
	}
}

func TestStoreNewestWins(t *testing.T) {
	s, k := NewStore(), newKey(t)
	old, now := signed(t, k, noon.Add(-time.Minute), nil), signed(t, k, noon, nil)
	put(t, s, now, nil)
	put(t, s, now, nil)
	put(t, s, old, registry.ErrRollback)
	if got := s.Get(PeerKey(k.ID()), noon); !got.Equal(now) || s.Len() != 1 {
		t.Errorf("Get is %v", got)
	}
	put(t, s, signed(t, k, noon.Add(time.Hour), nil), registry.ErrFuture)
	put(t, s, signed(t, k, noon.Add(-2*time.Hour), nil), registry.ErrExpired)
	put(t, s, &registry.Record{ID: k.ID()}, registry.ErrBadSignature)
	revoked := signed(t, k, noon, func(r *registry.Record) { r.Addrs, r.Capabilities, r.Revoked = nil, nil, true })
	put(t, s, revoked, nil)
	put(t, s, signed(t, k, noon.Add(time.Minute), nil), registry.ErrRollback)
	if got := s.Get(PeerKey(k.ID()), noon.Add(300*24*time.Hour)); !got.Equal(revoked) {
		t.Errorf("the revocation is %v", got)
	}
	again := signed(t, k, noon.Add(time.Minute), nil)
	if err := s.Put(again, PeerKey(k.ID()), k.ID(), 0, noon.Add(59*time.Minute)); !errors.Is(err, registry.ErrRollback) {
		t.Errorf("a record of a revoked key: %v", err)
	}
	s.Expire(noon.Add(RevocationLife + time.Hour))
	if s.Len() != 0 || s.Get(PeerKey(k.ID()), noon) != nil {
		t.Error("a revocation is kept for over a year")
	}
	if err := s.Put(revoked, PeerKey(k.ID()), k.ID(), 0, noon.Add(RevocationLife+time.Hour)); !errors.Is(err, registry.ErrExpired) {
		t.Errorf("a revocation of last year: %v", err)
	}
}

func TestStoreIsBounded(t *testing.T) {
	s := NewStore()
	s.MaxRecords = 3
	far := signed(t, newKey(t), noon, nil)
	if err := s.Put(far, PeerKey(far.ID), far.ID, farther, noon); !errors.Is(err, ErrFar) {
		t.Errorf("a record to which others are closer: %v", err)
	}
	short := signed(t, newKey(t), noon, func(r *registry.Record) { r.Expires = noon.Add(time.Minute).UnixMilli() })
	put(t, s, short, nil)
	for range 2 {
		put(t, s, signed(t, newKey(t), noon, nil), nil)
	}
	last := signed(t, newKey(t), noon, nil)
	put(t, s, last, ErrFull)
	if err := s.Put(last, PeerKey(last.ID), last.ID, 0, noon.Add(time.Minute)); err != nil {
		t.Errorf("what has expired keeps its place: %v", err)
	}
	if s.Len() != 3 {
		t.Errorf("%d records", s.Len())
	}
	// What one peer brings of others is bounded, its own record is not.
	s = NewStore()
	from := newKey(t)
	s.shares[from.ID()] = MaxShare
	other := signed(t, newKey(t), noon, nil)
	if err := s.Put(other, PeerKey(other.ID), from.ID(), 0, noon); !errors.Is(err, ErrShare) {
		t.Errorf("one more record by the same: %v", err)
	}
	put(t, s, signed(t, from, noon, nil), nil)
}

// A record that has expired keeps an older one out that has not.
func TestStoreResurrectsNothing(t *testing.T) {
	s, k := NewStore(), newKey(t)
	old := signed(t, k, noon.Add(-time.Minute), func(r *registry.Record) { r.Expires = noon.Add(40 * time.Hour).UnixMilli() })
	put(t, s, signed(t, k, noon, func(r *registry.Record) { r.Expires = noon.Add(time.Minute).UnixMilli() }), nil)
	later := noon.Add(time.Hour)
	s.Expire(later)
	if err := s.Put(old, PeerKey(k.ID()), k.ID(), 0, later); !errors.Is(err, registry.ErrRollback) || s.Get(PeerKey(k.ID()), later) != nil {
		t.Errorf("an older record: %v", err)
	}
	if s.Expire(noon.Add(registry.MaxLife)); s.Len() != 0 {
		t.Error("kept when no older one can be valid")
	}
}

// When the store is full, who brought most has to make room, for whom it did not bring all; and so have revocations.
func TestStoreYields(t *testing.T) {
	s := NewStore()
	s.MaxRecords = 4
	flooder, victim := newKey(t), newKey(t)
	of := func(k *identity.Key) *registry.Record { return signed(t, k, noon, nil) }
	bring := func(r *registry.Record, from *identity.Key) error {
		return s.Put(r, PeerKey(r.ID), from.ID(), 0, noon)
	}
	mine := of(victim)
	for _, r := range []*registry.Record{mine, of(newKey(t)), of(newKey(t)), of(newKey(t))} {
		if err := bring(r, flooder); err != nil {
			t.Fatal(err)
		}
	}
	if err := bring(mine, victim); err != nil || s.shares[flooder.ID()] != 3 || s.shares[victim.ID()] != 1 {
		t.Fatalf("a peer brings its own record: %v, %v", err, s.shares)
	}
	for range 2 {
		put(t, s, of(newKey(t)), nil)
	}
	put(t, s, of(newKey(t)), ErrFull)
	if err := bring(of(newKey(t)), flooder); !errors.Is(err, ErrFull) {
		t.Errorf("who brought most brings more: %v", err)
	}
	if s.Len() != 4 || s.Get(PeerKey(victim.ID()), noon) == nil || s.shares[flooder.ID()] != 1 {
		t.Errorf("%d records, by %v", s.Len(), s.shares)
	}
	s = NewStore()
	s.MaxRecords = 3
	revoked := func(at time.Time) *registry.Record {
		return signed(t, newKey(t), at, func(r *registry.Record) { r.Addrs, r.Capabilities, r.Revoked = nil, nil, true })
	}
	first, fresh := revoked(noon.Add(-72*time.Hour)), revoked(noon)
	for _, r := range []*registry.Record{revoked(noon.Add(-50 * time.Hour)), first, fresh} {
		put(t, s, r, nil)
	}
	put(t, s, revoked(noon), ErrFull)
	put(t, s, of(newKey(t)), nil)
	if s.Get(PeerKey(first.ID), noon) != nil {
		t.Error("the revocation made first is still there")
	}
	put(t, s, of(newKey(t)), nil)
	put(t, s, of(newKey(t)), ErrFull)
	if s.Get(PeerKey(fresh.ID), noon) == nil {
		t.Error("a revocation of today gave way")
	}
}

// What nobody brings is due once in a while.
func TestStoreNeglected(t *testing.T) {
	s := NewStore()
	put(t, s, signed(t, newKey(t), noon, nil), nil)
	put(t, s, signed(t, newKey(t), noon, nil), nil)
	due := func(after time.Duration, n int) int {
		return len(s.Neglected(noon.Add(after), 30*time.Minute, n))
	}
	if due(29*time.Minute, 9) != 0 || due(30*time.Minute, 1) != 1 || due(31*time.Minute, 9) != 1 || due(31*time.Minute, 9) != 0 || due(2*time.Hour, 9) != 0 {
		t.Error("due too early, too often, or when it has expired")
	}
}

func TestStoreCapabilities(t *testing.T) {
	s, relay := NewStore(), CapabilityKey(registry.CapRelay)
	var keys []*identity.Key
	records := func() (n int) { return len(s.Under(relay, K, noon)) }
	for i := range 5 {
		k := newKey(t)
		keys = append(keys, k)
		r := signed(t, k, noon.Add(time.Duration(i)*time.Second), func(r *registry.Record) { r.Capabilities = []string{registry.CapRelay} })
		if err := s.Put(r, relay, k.ID(), 0, noon); err != nil {
			t.Fatal(err)
		}
	}
	// All are of one network.
	got := s.Under(relay, K, noon)
	if len(got) != MaxGroup || got[0].ID == got[1].ID {
		t.Errorf("%d records, of %v", len(got), got)
	}
	// Who made its record last does not push the others out.
	found := make(map[identity.ID]bool)
	for range 200 {
		for _, r := range s.Under(relay, K, noon) {
			found[r.ID] = true
		}
	}
	if len(found) != 5 {
		t.Errorf("%d of 5 are ever found", len(found))
	}
	another := signed(t, newKey(t), noon, func(r *registry.Record) { r.Capabilities = []string{registry.CapRelay} })
	if err := s.Put(another, relay, keys[0].ID(), 0, noon); !errors.Is(err, registry.ErrMalformed) {
		t.Errorf("brought by another: %v", err)
	}
	plain := signed(t, newKey(t), noon, nil)
	if err := s.Put(plain, relay, plain.ID, 0, noon); !errors.Is(err, registry.ErrMalformed) {
		t.Errorf("a record of no relay under relay: %v", err)
	}
	// Who does not relay any more is not found there, nor who has been revoked or has expired.
	for i, k := range keys[:4] {
		r := signed(t, k, noon.Add(time.Minute), func(r *registry.Record) {
			if r.Capabilities = nil; i == 0 {
				r.Addrs, r.Revoked = nil, true
			}
		})
		put(t, s, r, nil)
	}
	if records() != 1 || s.Len() != 5 {
		t.Errorf("%d are found, of %d", records(), s.Len())
	}
	if got := s.Under(relay, K, noon.Add(2*time.Hour)); len(got) != 0 {
		t.Errorf("%d that have expired are found", len(got))
	}
	s.Expire(noon.Add(registry.MaxLife + time.Hour))
	if len(s.by) != 0 || s.Len() != 1 || len(s.shares) != 1 {
		t.Errorf("left behind: %v, %d records, %v", s.by, s.Len(), s.shares)
	}
	for len(s.by[relay]) < provided {
		if s.by[relay] == nil {
			s.by[relay] = make(map[Key]*item)
		}
		s.by[relay][Key{byte(len(s.by[relay])), 1}] = new(item)
	}
	full := signed(t, newKey(t), noon, func(r *registry.Record) { r.Capabilities = []string{registry.CapRelay} })
	if err := s.Put(full, relay, full.ID, 0, noon); !errors.Is(err, ErrFull) {
		t.Errorf("one more relay than may be kept: %v", err)
	}
}
