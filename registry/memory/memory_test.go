package memory_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/registry/memory"
	"github.com/splitmesh/splitmesh/registry/registrytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDirectory(t *testing.T) {
	registrytest.TestDirectory(t, func(t *testing.T, now func() time.Time) registry.Directory {
		return &memory.Directory{Now: now}
	})
}

func TestAuthority(t *testing.T) {
	registrytest.TestAuthority(t, func(t *testing.T, now func() time.Time) registrytest.AuthorityUnderTest {
		d := &memory.Directory{Now: now}
		return registrytest.AuthorityUnderTest{
			Authority: d,
			Admit: func(t *testing.T, k *identity.Key, until time.Time) {
				r := registrytest.Draft(t, now())
				r.Expires = until.UnixMilli()
				if err := r.Sign(k); err != nil {
					t.Fatal(err)
				}
				if err := d.Publish(t.Context(), r); err != nil && !errors.Is(err, registry.ErrRollback) {
					t.Fatal(err)
				}
			},
			Revoke: func(t *testing.T, k *identity.Key) {
				if err := d.Publish(t.Context(), registrytest.Revocation(t, k, now())); err != nil {
					t.Fatal(err)
				}
			},
		}
	})
}

// A small directory, a clock, and the means of trying both.
type small struct {
	*memory.Directory
	clock *registrytest.Clock
}

func newSmall(places int) small {
	clock := registrytest.NewClock()
	return small{&memory.Directory{MaxRecords: places, Now: clock.Now}, clock}
}

func (s small) publish(t *testing.T, r *registry.Record, want error) {
	t.Helper()
	if err := s.Publish(t.Context(), r); !errors.Is(err, want) {
		t.Fatalf("Publish: %v, want %v", err, want)
	}
}

func (s small) signed(t *testing.T, k *identity.Key) *registry.Record {
	return registrytest.Signed(t, k, s.clock.Now())
}

func (s small) is(t *testing.T, k *identity.Key, want registry.Standing) {
	t.Helper()
	if got, err := s.Standing(t.Context(), k.ID()); got != want || err != nil {
		t.Fatalf("Standing: %v, %v; want %v", got, err, want)
	}
}

func keys(t *testing.T, n int) []*identity.Key {
	out := make([]*identity.Key, n)
	for i := range out {
		out[i] = registrytest.Key(t)
	}
	return out
}

func TestFullKeepsWhoeverIsThere(t *testing.T) {
	d, k := newSmall(2), keys(t, 4)
	d.publish(t, d.signed(t, k[0]), nil)
	d.clock.Advance(time.Hour)
	d.publish(t, d.signed(t, k[1]), nil)
	d.publish(t, d.signed(t, k[2]), registry.ErrFull)
	d.is(t, k[0], registry.Active)
	d.is(t, k[1], registry.Active)
	d.is(t, k[2], registry.Unknown)

	// Whoever is there may renew, and so grows younger than k[1].
	d.clock.Advance(time.Hour)
	d.publish(t, d.signed(t, k[0]), nil)

	// Expired is not enough: an older record of the same peer might still be valid.
	d.clock.Advance(25 * time.Hour)
	d.is(t, k[0], registry.Expired)
	d.publish(t, d.signed(t, k[2]), registry.ErrFull)

	// Once that is over, the oldest goes.
	d.clock.Advance(registry.MaxLife - 26*time.Hour - time.Millisecond)
	d.publish(t, d.signed(t, k[2]), registry.ErrFull)
	d.clock.Advance(time.Millisecond)
	d.publish(t, d.signed(t, k[2]), nil)
	d.is(t, k[0], registry.Expired)
	d.is(t, k[1], registry.Unknown)
	d.publish(t, d.signed(t, k[3]), registry.ErrFull)
}

func TestRevocationsKeepTheirPlace(t *testing.T) {
	d, k := newSmall(2), keys(t, 4)
	d.publish(t, d.signed(t, k[0]), nil)
	d.publish(t, registrytest.Revocation(t, k[1], d.clock.Now()), nil) // of one unknown: an ordinary place
	d.publish(t, registrytest.Revocation(t, k[0], d.clock.Now()), nil) // of one known: for good
	d.clock.Advance(time.Millisecond)
	d.publish(t, registrytest.Revocation(t, k[1], d.clock.Now()), nil)
	d.publish(t, registrytest.Revocation(t, k[0], d.clock.Now()), nil)
	d.publish(t, d.signed(t, k[2]), registry.ErrFull)
	d.clock.Advance(365 * 24 * time.Hour)
	d.publish(t, d.signed(t, k[2]), nil)
	d.is(t, k[0], registry.Revoked)
	d.is(t, k[1], registry.Unknown)
	d.publish(t, registrytest.Revocation(t, k[2], d.clock.Now()), nil)
	d.clock.Advance(365 * 24 * time.Hour)
	d.publish(t, d.signed(t, k[3]), registry.ErrFull) // nothing is left that can be given up
	d.is(t, k[0], registry.Revoked)
	d.is(t, k[2], registry.Revoked)
}

// Many peers come and go through few places: the oldest goes each time, and no more are held than may be.
func TestOldestGoesFirst(t *testing.T) {
	const places = 16
	d, k := newSmall(places), keys(t, 4*places)
	for i, key := range k {
		d.publish(t, d.signed(t, key), nil)
		if i%3 == 0 { // stays, while those around it go
			d.clock.Advance(time.Minute)
			d.publish(t, d.signed(t, key), nil)
		}
		known := 0
		for _, k := range k {
			if s, err := d.Standing(t.Context(), k.ID()); err != nil {
				t.Fatal(err)
			} else if s != registry.Unknown {
				known++
			}
		}
		if want := min(i+1, places); known != want {
			t.Fatalf("after %d: %d are known, want %d", i, known, want)
		}
		d.clock.Advance(registry.MaxLife / (places - 2))
	}
	for i, key := range k {
		if s, err := d.Standing(t.Context(), key.ID()); err != nil || (s != registry.Unknown) != (i >= len(k)-places) {
			t.Errorf("peer %d: %v, %v", i, s, err)
		}
	}
}

// Who lost a place is gone from the list, and who came back is in it once.
func TestListFollowsPlaces(t *testing.T) {
	d, k := newSmall(1), keys(t, 2)
	for i := range 4 {
		r := d.signed(t, k[i%2])
		d.publish(t, r, nil)
		if page, next, err := d.List(t.Context(), identity.ID{}, 10, ""); err != nil || len(page) != 1 || !page[0].Equal(r) || !next.IsZero() {
			t.Fatalf("List: %v, %v, %v", page, next, err)
		}
		d.clock.Advance(registry.MaxLife)
	}
	// Were the clock set back, the record before would be good again, but it is gone.
	d.clock.Advance(-2 * registry.MaxLife)
	if page, next, err := d.List(t.Context(), identity.ID{}, 10, ""); err != nil || len(page) != 0 || !next.IsZero() {
		t.Errorf("List: %v, %v, %v", page, next, err)
	}
}

// A search for what few have is cut into pieces: no call looks at more than 1,024 records, and none is missed.
func TestListLooksAtFew(t *testing.T) {
	d, k := newSmall(1100), keys(t, 1030)
	slices.SortFunc(k, func(a, b *identity.Key) int { return a.ID().Compare(b.ID()) })
	for i, key := range k {
		r := &registry.Record{Sequence: d.clock.Now().UnixMilli(), Expires: d.clock.Now().Add(time.Hour).UnixMilli()}
		if i == len(k)-1 {
			r.Capabilities = []string{registry.CapExit}
		}
		if err := r.Sign(key); err != nil {
			t.Fatal(err)
		}
		d.publish(t, r, nil)
	}
	page, next, err := d.List(t.Context(), identity.ID{}, 10, registry.CapExit)
	if err != nil || len(page) != 0 || next != k[1023].ID() {
		t.Fatalf("List: %v, %v, %v; want nothing, and to go on after %v", page, next, err, k[1023].ID())
	}
	page, next, err = d.List(t.Context(), next, 10, registry.CapExit)
	if err != nil || len(page) != 1 || page[0].ID != k[1029].ID() || !next.IsZero() {
		t.Fatalf("List: %v, %v, %v; want the last", page, next, err)
	}
}

func TestClockSetBack(t *testing.T) {
	d, k := newSmall(1), registrytest.Key(t)
	d.publish(t, d.signed(t, k), nil)
	d.clock.Advance(-time.Hour)
	d.is(t, k, registry.Unknown)
	if r, err := d.Lookup(t.Context(), k.ID()); !errors.Is(err, registry.ErrNotFound) || !errors.Is(err, registry.ErrFuture) {
		t.Errorf("Lookup: %v, %v", r, err)
	}
}

func TestLookupSaysExpired(t *testing.T) {
	d, k := newSmall(1), registrytest.Key(t)
	d.publish(t, d.signed(t, k), nil)
	d.clock.Advance(24 * time.Hour)
	if r, err := d.Lookup(t.Context(), k.ID()); r != nil || !errors.Is(err, registry.ErrNotFound) || !errors.Is(err, registry.ErrExpired) {
		t.Errorf("Lookup: %v, %v; want both ErrNotFound and ErrExpired", r, err)
	}
}

func ExampleNew() {
	directory := memory.New()
	key, err := identity.GenerateKey()
	if err != nil {
		fmt.Println(err)
		return
	}
	now := time.Now()
	r := &registry.Record{Sequence: now.UnixMilli(), Expires: now.Add(time.Hour).UnixMilli(), Capabilities: []string{registry.CapRelay}}
	if err := r.Sign(key); err != nil {
		fmt.Println(err)
		return
	}
	if err := directory.Publish(context.Background(), r); err != nil {
		fmt.Println(err)
		return
	}
	found, err := directory.Lookup(context.Background(), key.ID())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(found.Has(registry.CapRelay))
	// Output: true
}
