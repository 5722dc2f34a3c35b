package registrytest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
)

// A NewDirectory returns an empty directory that asks now for the time. What it needs to close goes into t.Cleanup.
type NewDirectory func(t *testing.T, now func() time.Time) registry.Directory

// TestDirectory checks all that [registry.Directory] promises, and of a directory that is more what [registry.Namer],
// [registry.Lister] and [registry.Providers] promise beyond that.
func TestDirectory(t *testing.T, newDirectory NewDirectory) {
	for _, tc := range []struct {
		name string
		test func(*testing.T, *directoryTest)
	}{
		{"NotFound", notFound},
		{"PublishAndLookup", publishAndLookup},
		{"Again", again},
		{"NewestWins", newestWins},
		{"RollbackRefused", rollbackRefused},
		{"ExpiredRefused", expiredRefused},
		{"Expires", expires},
		{"FutureRefused", futureRefused},
		{"UnsignedRefused", unsignedRefused},
		{"ForgedRefused", forgedRefused},
		{"NoAliases", noAliases},
		{"RevocationIsFinal", revocationIsFinal},
		{"RevocationOfUnknown", revocationOfUnknown},
		{"ContextDone", contextDone},
		{"Concurrency", concurrency},
	} {
		t.Run(tc.name, func(t *testing.T) {
			clock := NewClock()
			tc.test(t, &directoryTest{newDirectory(t, clock.Now), clock, Key(t)})
		})
	}
	d := newDirectory(t, NewClock().Now)
	if _, ok := d.(registry.Namer); ok {
		t.Run("Namer", func(t *testing.T) { testNamer(t, newDirectory) })
	}
	if _, ok := d.(registry.Lister); ok {
		t.Run("Lister", func(t *testing.T) { testLister(t, newDirectory) })
	}
	if registry.CanFind(d) {
		t.Run("Providers", func(t *testing.T) { testProviders(t, newDirectory) })
	}
}

type directoryTest struct {
	registry.Directory
	clock *Clock
	key   *identity.Key
}

func (d *directoryTest) publish(t *testing.T, r *registry.Record) {
	t.Helper()
	if err := d.Publish(t.Context(), r); err != nil {
		t.Fatalf("Publish: %v", err)
	}
}

// refuse checks that r is refused with want, and that Lookup still returns before, or nothing when that is nil.
func (d *directoryTest) refuse(t *testing.T, r *registry.Record, want error, before *registry.Record) {
	t.Helper()
	wantError(t, d.Publish(t.Context(), r), want, r.ID)
	if before != nil {
		d.holds(t, before)
	} else {
		d.holdsNothing(t, r.ID)
	}
}

func (d *directoryTest) holds(t *testing.T, want *registry.Record) {
	t.Helper()
	got, err := d.Lookup(t.Context(), want.ID)
	if err != nil {
		t.Fatalf("Lookup: %v", err)
	}
	if !got.Equal(want) {
		t.Fatalf("Lookup returns %+v, want %+v", got, want)
	}
	if err := got.Check(d.clock.Now()); err != nil {
		t.Fatalf("Lookup returns a record that does not pass Check: %v", err)
	}
}

func (d *directoryTest) holdsNothing(t *testing.T, id identity.ID) {
	t.Helper()
	got, err := d.Lookup(t.Context(), id)
	if got != nil {
		t.Errorf("Lookup returns %+v with %v", got, err)
	}
	wantError(t, err, registry.ErrNotFound, id)
}

func notFound(t *testing.T, d *directoryTest) {
	d.holdsNothing(t, d.key.ID())
	d.publish(t, Signed(t, d.key, d.clock.Now()))
	d.holdsNothing(t, Key(t).ID())
	d.holdsNothing(t, identity.ID{})
}

func publishAndLookup(t *testing.T, d *directoryTest) {
	mine, others := Signed(t, d.key, d.clock.Now()), Signed(t, Key(t), d.clock.Now())
	d.publish(t, mine)
	d.publish(t, others)
	d.holds(t, mine)
	d.holds(t, others)
}

func again(t *testing.T, d *directoryTest) {
	r := Signed(t, d.key, d.clock.Now())
	d.publish(t, r)
	d.publish(t, r)
	parsed, err := registry.Parse(r.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	d.publish(t, parsed)
	d.holds(t, r)
}

func newestWins(t *testing.T, d *directoryTest) {
	for i := range 3 {
		r := Signed(t, d.key, d.clock.Now().Add(time.Duration(i)*time.Millisecond))
		d.publish(t, r)
		d.holds(t, r)
	}
}

func rollbackRefused(t *testing.T, d *directoryTest) {
	now := d.clock.Now()
	older, newer := Signed(t, d.key, now.Add(-time.Millisecond)), Draft(t, now)
	newer.Expires = now.Add(time.Hour).UnixMilli()
	sign(t, d.key, newer)
	d.publish(t, older)
	d.publish(t, newer)
	d.refuse(t, older, registry.ErrRollback, newer)
	// The newer one ends first. The older one does not come to life again.
	d.clock.Advance(2 * time.Hour)
	d.refuse(t, older, registry.ErrRollback, nil)

	// Of two records with one Sequence, one wins in either order.
	now = d.clock.Now()
	low, high := Signed(t, d.key, now), Draft(t, now)
	high.Operator = "another"
	if sign(t, d.key, high); !high.Newer(low) {
		low, high = high, low
	}
	d.publish(t, low)
	d.publish(t, high)
	d.refuse(t, low, registry.ErrRollback, high)
}

func expiredRefused(t *testing.T, d *directoryTest) {
	r := Signed(t, d.key, d.clock.Now())
	d.clock.Advance(24 * time.Hour)
	d.refuse(t, r, registry.ErrExpired, nil)
}

func expires(t *testing.T, d *directoryTest) {
	r := Signed(t, d.key, d.clock.Now())
	d.publish(t, r)
	d.clock.Advance(24*time.Hour - time.Millisecond)
	d.holds(t, r)
	d.clock.Advance(time.Millisecond)
	d.holdsNothing(t, r.ID)
	renewed := Signed(t, d.key, d.clock.Now())
	d.publish(t, renewed)
	d.holds(t, renewed)
}

func futureRefused(t *testing.T, d *directoryTest) {
	now := d.clock.Now()
	d.refuse(t, Signed(t, d.key, now.Add(registry.MaxSkew+time.Millisecond)), registry.ErrFuture, nil)
	edge := Signed(t, d.key, now.Add(registry.MaxSkew))
	d.publish(t, edge)
	d.holds(t, edge)
}

func unsignedRefused(t *testing.T, d *directoryTest) {
	r := Draft(t, d.clock.Now())
	r.ID = d.key.ID()
	d.refuse(t, r, registry.ErrBadSignature, nil)
}

// A forger who runs in this process holds a signed record and writes into it; one on the network is Parse's affair.
func forgedRefused(t *testing.T, d *directoryTest) {
	before := Signed(t, d.key, d.clock.Now())
	d.publish(t, before)
	victim := Signed(t, Key(t), d.clock.Now())
	d.publish(t, victim)
	for name, forge := range map[string]func(*registry.Record){
		"sequence":     func(r *registry.Record) { r.Sequence++ },
		"expires":      func(r *registry.Record) { r.Expires++ },
		"address":      func(r *registry.Record) { r.Addrs[0] = Addr(t, "/ip4/203.0.113.9/tcp/443") },
		"capabilities": func(r *registry.Record) { r.Capabilities = nil },
		"operator":     func(r *registry.Record) { r.Operator = "mallory" },
		"revoked":      func(r *registry.Record) { r.Revoked = true },
	} {
		t.Run(name, func(t *testing.T) {
			forged := Signed(t, d.key, d.clock.Now().Add(time.Second))
			forge(forged)
			d.refuse(t, forged, registry.ErrBadSignature, before)
		})
	}
	t.Run("wrong key", func(t *testing.T) {
		forged := Signed(t, d.key, d.clock.Now().Add(time.Second))
		forged.ID = victim.ID
		d.refuse(t, forged, registry.ErrBadSignature, victim)
	})
}

func noAliases(t *testing.T, d *directoryTest) {
	r := Signed(t, d.key, d.clock.Now())
	want, scribble := r.Clone(), func(r *registry.Record) {
		r.Addrs[0] = Addr(t, "/ip4/203.0.113.9/tcp/443")
		r.Addrs[1][0] = r.Addrs[0][0]
		r.Capabilities[0] = "scribble"
		r.Operator = "scribble"
		r.Revoked = true
	}
	d.publish(t, r)
	scribble(r)
	d.holds(t, want)
	got, err := d.Lookup(t.Context(), want.ID)
	if err != nil {
		t.Fatal(err)
	}
	scribble(got)
	for i, b := 0, got.Marshal(); i < len(b); i++ {
		b[i] = 0
	}
	d.holds(t, want)
}

func revocationIsFinal(t *testing.T, d *directoryTest) {
	now := d.clock.Now()
	d.publish(t, Signed(t, d.key, now))
	revocation := Revocation(t, d.key, now.Add(-time.Hour)) // even one made earlier
	d.publish(t, revocation)
	d.holds(t, revocation)
	d.refuse(t, Signed(t, d.key, now.Add(time.Minute)), registry.ErrRollback, revocation)
	d.clock.Advance(90 * 24 * time.Hour)
	d.holds(t, revocation)
	d.refuse(t, Signed(t, d.key, d.clock.Now()), registry.ErrRollback, revocation)
	d.publish(t, revocation)
}

func revocationOfUnknown(t *testing.T, d *directoryTest) {
	revocation := Revocation(t, d.key, d.clock.Now())
	d.publish(t, revocation)
	d.holds(t, revocation)
	d.refuse(t, Signed(t, d.key, d.clock.Now().Add(time.Second)), registry.ErrRollback, revocation)
}

func contextDone(t *testing.T, d *directoryTest) {
	before := Signed(t, d.key, d.clock.Now())
	d.publish(t, before)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantError(t, d.Publish(ctx, Signed(t, d.key, d.clock.Now().Add(time.Second))), context.Canceled, before.ID)
	got, err := d.Lookup(ctx, before.ID)
	wantError(t, err, context.Canceled, before.ID)
	if got != nil {
		t.Errorf("Lookup returns %+v and an error", got)
	}
	d.holds(t, before)
}

// concurrency has several publishers of one peer and readers who must never see it go back, while others come and go.
func concurrency(t *testing.T, d *directoryTest) {
	const publishers, each = 4, 25
	start := d.clock.Now()
	records := make([]*registry.Record, publishers*each)
	for i := range records {
		records[i] = Signed(t, d.key, start.Add(time.Duration(i)*time.Millisecond))
	}
	d.publish(t, records[0])
	var wg sync.WaitGroup
	for p := range publishers {
		wg.Go(func() { // ends with its share of the records
			for i := p; i < len(records); i += publishers {
				// Refused when another publisher was ahead; whether all is well shows in the end.
				_ = d.Publish(t.Context(), records[i])
			}
		})
		wg.Go(func() { // ends after as many other peers
			for i := range each {
				if err := d.roundTrip(t.Context(), start.Add(time.Duration(i)*time.Millisecond)); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() { // ends after as many lookups
			last := int64(0)
			for range each * publishers {
				r, err := d.Lookup(t.Context(), d.key.ID())
				if err != nil {
					t.Errorf("Lookup: %v", err)
					return
				}
				if r.Sequence < last {
					t.Errorf("sequence %d after %d", r.Sequence, last)
				}
				last = r.Sequence
			}
		})
	}
	wg.Wait()
	d.holds(t, records[len(records)-1])
}

// roundTrip publishes a new peer and looks it up.
func (d *directoryTest) roundTrip(ctx context.Context, at time.Time) error {
	k, err := identity.GenerateKey()
	if err != nil {
		return err
	}
	r := &registry.Record{Sequence: at.UnixMilli(), Expires: at.Add(time.Hour).UnixMilli()}
	if err := r.Sign(k); err != nil {
		return err
	}
	if err := d.Publish(ctx, r); err != nil {
		return err
	}
	got, err := d.Lookup(ctx, r.ID)
	if err != nil {
		return err
	}
	if !got.Equal(r) {
		return fmt.Errorf("looking up %v gives %+v", r.ID, got)
	}
	return nil
}
