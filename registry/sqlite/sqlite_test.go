package sqlite_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/registry/memory"
	"github.com/splitmesh/splitmesh/registry/registrytest"
	"github.com/splitmesh/splitmesh/registry/sqlite"
)

func TestDirectory(t *testing.T) {
	registrytest.TestDirectory(t, func(t *testing.T, now func() time.Time) registry.Directory {
		return open(t, newPath(t), sqlite.Options{Now: now})
	})
}

func TestAuthority(t *testing.T) {
	registrytest.TestAuthority(t, func(t *testing.T, now func() time.Time) registrytest.AuthorityUnderTest {
		d := open(t, newPath(t), sqlite.Options{Now: now})
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

func TestFullKeepsWhoeverIsThere(t *testing.T) {
	d, k := newSmall(t, 2), keys(t, 4)
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
	d, k := newSmall(t, 2), keys(t, 4)
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

// A directory that is opened with fewer places than it holds keeps who is live, and shrinks when it may.
func TestFewerPlaces(t *testing.T) {
	path, clock, k := newPath(t), registrytest.NewClock(), keys(t, 8)
	d := small{open(t, path, sqlite.Options{Now: clock.Now}), path, clock}
	for _, key := range k[:6] {
		d.publish(t, d.signed(t, key), nil)
		clock.Advance(time.Second)
	}
	d.Directory = open(t, path, sqlite.Options{MaxRecords: 3, Now: clock.Now})
	d.publish(t, d.signed(t, k[6]), registry.ErrFull)
	clock.Advance(registry.MaxLife - 4*time.Second) // three have lost their places, and four would have to go
	d.publish(t, d.signed(t, k[6]), registry.ErrFull)
	for _, key := range k[:6] {
		d.is(t, key, registry.Expired)
	}
	clock.Advance(time.Second)
	d.publish(t, d.signed(t, k[6]), nil)
	for _, key := range k[:4] {
		d.is(t, key, registry.Unknown)
	}
	d.is(t, k[4], registry.Expired)
	d.is(t, k[5], registry.Expired)
	d.is(t, k[6], registry.Active)
}

// TestAsMemory does the same to a directory in memory and to one in a file, at random, and wants the same answers.
func TestAsMemory(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { asMemory(t, rand.New(rand.NewPCG(seed, 0))) })
	}
}

func asMemory(t *testing.T, random *rand.Rand) {
	const places, steps = 5, 120
	clock, k := registrytest.NewClock(), keys(t, 2*places)
	path := newPath(t)
	file := open(t, path, sqlite.Options{MaxRecords: places, Now: clock.Now})
	model := &memory.Directory{MaxRecords: places, Now: clock.Now}
	names := []string{"", "", "ann", "bob", "cy"}
	var published []*registry.Record
	for step := range steps {
		key := k[random.IntN(len(k))]
		at := clock.Now().Add(time.Duration(step) * time.Microsecond * 1000) // no two alike
		var r *registry.Record
		switch n := random.IntN(20); {
		case n == 0:
			r = registrytest.Revocation(t, key, at)
		case n < 4 && len(published) > 0:
			r = published[random.IntN(len(published))]
		default:
			r = named(t, key, at, names[random.IntN(len(names))])
		}
		published = append(published, r)
		want, got := model.Publish(t.Context(), r), file.Publish(t.Context(), r)
		if kind(want) != kind(got) {
			t.Fatalf("step %d: Publish: %v, want %v", step, got, want)
		}
		switch n := random.IntN(30); {
		case n == 0:
			clock.Advance(-time.Hour)
		case n == 1:
			if err := file.Close(); err != nil {
				t.Fatal(err)
			}
			file = open(t, path, sqlite.Options{MaxRecords: places, Now: clock.Now})
		default:
			clock.Advance(time.Duration(random.Int64N(int64(registry.MaxLife / 8))))
		}
		for _, key := range k {
			want, wantErr := model.Lookup(t.Context(), key.ID())
			got, err := file.Lookup(t.Context(), key.ID())
			if kind(err) != kind(wantErr) || err == nil && !got.Equal(want) {
				t.Fatalf("step %d: Lookup: %v, %v; want %v, %v", step, got, err, want, wantErr)
			}
			wantStanding, _ := model.Standing(t.Context(), key.ID())
			if got, err := file.Standing(t.Context(), key.ID()); got != wantStanding || err != nil {
				t.Fatalf("step %d: Standing: %v, %v; want %v", step, got, err, wantStanding)
			}
		}
		for _, name := range names {
			want, wantErr := model.Resolve(t.Context(), name)
			if got, err := file.Resolve(t.Context(), name); got != want || kind(err) != kind(wantErr) {
				t.Fatalf("step %d: Resolve: %v, %v; want %v, %v", step, got, err, want, wantErr)
			}
		}
	}
	for _, capability := range []string{"", registry.CapRelay, registry.CapExit} {
		want, _, wantErr := model.List(t.Context(), identity.ID{}, 100, capability)
		got, _, err := file.List(t.Context(), identity.ID{}, 100, capability)
		if err != nil || wantErr != nil || !slices.EqualFunc(got, want, (*registry.Record).Equal) {
			t.Fatalf("List of %q: %v, %v; want %v, %v", capability, got, err, want, wantErr)
		}
	}
	db := raw(t, path)
	if total, count := query[int](t, db, `SELECT records FROM total`), query[int](t, db, `SELECT count(*) FROM records`); total != count || count > places {
		t.Errorf("the total is %d, and there are %d", total, count)
	}
}

// kind tells errors apart as a caller would.
func kind(err error) (k string) {
	for _, e := range []error{
		registry.ErrNotFound, registry.ErrExpired, registry.ErrFuture, registry.ErrRollback, registry.ErrNameTaken,
		registry.ErrFull,
	} {
		if errors.Is(err, e) {
			k += e.Error() + "; "
		}
	}
	if k == "" && err != nil {
		return err.Error()
	}
	return k
}

// A search for what few have looks at so many records at a time, and goes on behind them.
func TestListOfFew(t *testing.T) {
	const most, all = 1024, 2*1024 + 10
	path, clock := newPath(t), registrytest.NewClock()
	d := open(t, path, sqlite.Options{Now: clock.Now})
	tx, err := raw(t, path).Begin()
	if err != nil {
		t.Fatal(err)
	}
	k := keys(t, all)
	slices.SortFunc(k, func(a, b *identity.Key) int { return a.ID().Compare(b.ID()) })
	for i, k := range k {
		r := &registry.Record{Sequence: clock.Now().UnixMilli(), Expires: clock.Now().Add(time.Hour).UnixMilli()}
		if i == all-2 {
			r.Capabilities = []string{registry.CapExit}
		}
		if err := r.Sign(k); err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(`INSERT INTO records VALUES (NULL, ?, ?, NULL, 0, ?)`, r.ID[:], r.Sequence, r.Marshal()); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	after := identity.ID{}
	for _, want := range []int{most - 1, 2*most - 1} {
		page, next, err := d.List(t.Context(), after, 10, registry.CapExit)
		if err != nil || len(page) != 0 || next != k[want].ID() {
			t.Fatalf("%d records, the next page after %v, %v; want none, and %v", len(page), next, err, k[want].ID())
		}
		after = next
	}
	page, next, err := d.List(t.Context(), after, 10, registry.CapExit)
	if err != nil || len(page) != 1 || page[0].ID != k[all-2].ID() || !next.IsZero() {
		t.Fatalf("%v, %v, %v; want the one that there is", page, next, err)
	}
	if page, _, err := d.List(t.Context(), identity.ID{}, 1<<30, ""); err != nil || len(page) != most {
		t.Errorf("%d records in a page, %v", len(page), err)
	}
}
