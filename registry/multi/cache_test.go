package multi_test

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/registry/multi"
	"github.com/splitmesh/splitmesh/registry/registrytest"
)

func TestRevocationWinsForGood(t *testing.T) {
	try(t, func(t *testing.T, d *trial) {
		older, newer := pair(t, d.key)
		revocation := registrytest.Revocation(t, d.key, time.Now().Add(-time.Hour))
		knows := (&far{delay: multi.DefaultGrace / 2}).holds(t, revocation)
		stale := (&far{}).holds(t, newer)
		d.over((&far{}).holds(t, older), knows, stale, &far{delay: time.Hour})
		d.MaxRecords = 1
		start := time.Now()
		d.gives(t, revocation)
		stood(t, start, knows.delay)
		calls := stale.asked()
		knows.err = errors.New("gone")
		// Records of others do not push it out, nor does time.
		for range 8 {
			other := registrytest.Signed(t, registrytest.Key(t), time.Now())
			stale.holds(t, other)
			d.gives(t, other)
		}
		pass(365 * 24 * time.Hour)
		stale.holds(t, registrytest.Signed(t, d.key, time.Now()))
		d.gives(t, revocation)
		asked(t, stale, calls+8)
		if err := d.Publish(t.Context(), registrytest.Signed(t, d.key, time.Now())); !errors.Is(err, registry.ErrRollback) {
			t.Errorf("Publish after a revocation: %v", err)
		}
	})
}

func TestRevocationsAreBounded(t *testing.T) {
	try(t, func(t *testing.T, d *trial) {
		there := new(far)
		d.over(there)
		d.MaxRevocations = 2
		var revoked []*registry.Record
		for range 3 {
			r := registrytest.Revocation(t, registrytest.Key(t), time.Now())
			there.holds(t, r)
			d.gives(t, r)
			revoked = append(revoked, r)
		}
		asked(t, there, 3)
		d.gives(t, revoked[2])
		d.gives(t, revoked[1])
		asked(t, there, 3)
		d.gives(t, revoked[0])
		asked(t, there, 4)
		d.gives(t, revoked[1]) // used later than revoked[2]
		asked(t, there, 4)
	})
}

func TestRollback(t *testing.T) {
	try(t, func(t *testing.T, d *trial) {
		older, newer := pair(t, d.key)
		honest, stale := (&far{}).holds(t, newer), (&far{}).holds(t, older)
		d.over(honest, stale)
		d.gives(t, newer)
		honest.err = errors.New("gone")
		pass(30 * time.Minute) // long enough to be looked up again
		d.gives(t, newer)
		synctest.Wait()
		d.gives(t, newer)
		if calls := stale.asked(); calls < 2 {
			t.Fatalf("the stale directory was asked %d times", calls)
		}
		// The newer one ends first. The older one does not come to life again.
		pass(time.Hour)
		honest.err = nil
		d.fails(t, d.key.ID(), registry.ErrNotFound)
		if err := d.Publish(t.Context(), older); !errors.Is(err, registry.ErrRollback) {
			t.Errorf("Publish of an older record: %v", err)
		}
		renewed := registrytest.Signed(t, d.key, time.Now())
		if err := d.Publish(t.Context(), renewed); err != nil {
			t.Fatal(err)
		}
		d.gives(t, renewed)
	})
}

func TestRefresh(t *testing.T) {
	try(t, func(t *testing.T, d *trial) {
		first := registrytest.Signed(t, d.key, time.Now())
		there := (&far{}).holds(t, first)
		d.over(there)
		d.gives(t, first)
		pass(time.Second)
		second := registrytest.Signed(t, d.key, time.Now())
		there.holds(t, second)
		there.delay = time.Second
		pass(multi.DefaultRefresh - time.Second - 1)
		d.gives(t, first)
		asked(t, there, 1)
		pass(1)
		for range 3 { // nobody waits, and one question is enough
			d.gives(t, first)
		}
		pass(there.delay)
		synctest.Wait()
		asked(t, there, 2)
		d.gives(t, second)
		asked(t, there, 2)
		// When it fails, what is there is good until it expires, and is asked for as seldom.
		there.err = errors.New("no route")
		pass(multi.DefaultRefresh)
		for range 3 {
			d.gives(t, second)
			pass(there.delay)
			synctest.Wait()
		}
		asked(t, there, 3)
		pass(24 * time.Hour)
		d.fails(t, d.key.ID(), there.err)
	})
	try(t, func(t *testing.T, d *trial) { // a quarter of a short life is enough
		record := registrytest.Draft(t, time.Now())
		record.Expires = time.Now().Add(4 * time.Second).UnixMilli()
		if err := record.Sign(d.key); err != nil {
			t.Fatal(err)
		}
		there := (&far{}).holds(t, record)
		d.over(there)
		d.gives(t, record)
		pass(time.Second - 1)
		d.gives(t, record)
		synctest.Wait()
		asked(t, there, 1)
		pass(1)
		d.gives(t, record)
		synctest.Wait()
		asked(t, there, 2)
	})
	try(t, func(t *testing.T, d *trial) { // what is old enough does not wait for a turn
		record := registrytest.Signed(t, d.key, time.Now())
		there := (&far{}).holds(t, record)
		d.over(there)
		d.MaxCalls = 1
		d.gives(t, record)
		pass(time.Hour)
		there.delay = time.Second
		var wg sync.WaitGroup
		wg.Go(func() { d.fails(t, registrytest.Key(t).ID(), registry.ErrNotFound) })
		synctest.Wait()
		start := time.Now()
		d.gives(t, record)
		stood(t, start, 0)
		asked(t, there, 2)
		wg.Wait()
	})
}

func TestMissesAreBrief(t *testing.T) {
	try(t, func(t *testing.T, d *trial) {
		there := new(far)
		d.over(there)
		d.fails(t, d.key.ID(), registry.ErrNotFound)
		record := registrytest.Signed(t, d.key, time.Now())
		there.holds(t, record)
		pass(multi.DefaultMissLife - 1)
		d.fails(t, d.key.ID(), registry.ErrNotFound)
		asked(t, there, 1)
		pass(1)
		d.gives(t, record)
	})
	try(t, func(t *testing.T, d *trial) { // what is published here is known here
		d.over(new(far))
		d.MaxRecords = 1
		d.fails(t, d.key.ID(), registry.ErrNotFound)
		record := registrytest.Signed(t, d.key, time.Now())
		if err := d.Publish(t.Context(), record); err != nil {
			t.Fatal(err)
		}
		d.gives(t, record)
		// That the record is pushed out does not bring the miss back.
		d.Publish(t.Context(), registrytest.Signed(t, registrytest.Key(t), time.Now()))
		d.gives(t, record)
	})
	try(t, func(t *testing.T, d *trial) {
		there := new(far)
		d.over(there)
		d.MissLife = -1
		d.fails(t, d.key.ID(), registry.ErrNotFound)
		d.fails(t, d.key.ID(), registry.ErrNotFound)
		asked(t, there, 2)
	})
}

func TestCacheIsBounded(t *testing.T) {
	try(t, func(t *testing.T, d *trial) {
		there := new(far)
		d.over(there)
		d.MaxRecords = 2
		var records []*registry.Record
		for range 3 {
			r := registrytest.Signed(t, registrytest.Key(t), time.Now())
			there.holds(t, r)
			records = append(records, r)
		}
		d.gives(t, records[0])
		d.gives(t, records[1])
		d.gives(t, records[0])
		asked(t, there, 2)
		d.gives(t, records[2]) // in the place of 1, which was not asked for since
		d.gives(t, records[0])
		asked(t, there, 3)
		d.gives(t, records[1])
		asked(t, there, 4)
		// Misses have places of their own, as many.
		unknown := []identity.ID{registrytest.Key(t).ID(), registrytest.Key(t).ID(), registrytest.Key(t).ID()}
		for _, id := range unknown {
			d.fails(t, id, registry.ErrNotFound)
		}
		d.gives(t, records[0])
		d.gives(t, records[1])
		d.fails(t, unknown[2], registry.ErrNotFound)
		d.fails(t, unknown[1], registry.ErrNotFound)
		asked(t, there, 7)
		d.fails(t, unknown[0], registry.ErrNotFound)
		asked(t, there, 8)
	})
}

func TestClockSetBack(t *testing.T) {
	clock := registrytest.NewClock()
	d := over(t, 1, clock.Now)
	k := registrytest.Key(t)
	if err := d.Publish(t.Context(), registrytest.Revocation(t, k, clock.Now())); err != nil {
		t.Fatal(err)
	}
	clock.Advance(-time.Hour)
	if r, err := d.Lookup(t.Context(), k.ID()); !errors.Is(err, registry.ErrNotFound) || !errors.Is(err, registry.ErrFuture) {
		t.Errorf("Lookup: %+v, %v", r, err)
	}
}
