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
	if got := s.Records(noon.Add(time.Minute)); len(got) != 3 || s.Len() != 3 {
		t.Errorf("%d records", len(got))
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
	if len(got) != MaxGroup || got[0].ID != keys[4].ID() || got[1].ID != keys[3].ID() {
		t.Errorf("%d records, of %v", len(got), got)
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
	s.Expire(noon.Add(2 * time.Hour))
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
