package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/registry/etcd"
	"github.com/splitmesh/splitmesh/registry/registrytest"
)

// Several processes, which share nothing but etcd, publish one peer's records in any order: the newest is left.
func TestNewestWins(t *testing.T) {
	const processes, records = 4, 80
	members := start(t, 1)
	key, now := registrytest.Key(t), time.Now()
	all := make([]*registry.Record, records)
	for i := range all {
		draft := registrytest.Draft(t, now.Add(time.Duration(i)*time.Millisecond))
		draft.Name = []string{"", "ann", "anna"}[i%3]
		all[i] = signed(t, key, draft)
	}
	order := rand.Perm(records)
	var wg sync.WaitGroup
	var done [processes]*etcd.Directory
	for p := range processes {
		d := etcd.New(connect(t, members...), etcd.Options{Timeout: patience})
		done[p] = d
		wg.Go(func() { // ends with its share
			for i := p; i < records; i += processes {
				r := all[order[i]]
				if err := d.Publish(t.Context(), r); err != nil && !errors.Is(err, registry.ErrRollback) {
					t.Errorf("Publish: %v", err)
				}
				// Whether it was taken or refused: from now on there is nothing older.
				if got, err := d.Lookup(t.Context(), r.ID); err != nil || r.Newer(got) {
					t.Errorf("Lookup after sequence %d: %+v, %v", r.Sequence, got, err)
				}
			}
		})
	}
	wg.Wait()
	newest := all[records-1]
	for _, d := range done {
		holds(t, d, newest)
		for _, name := range []string{"ann", "anna"} {
			id, err := d.Resolve(t.Context(), name)
			if name == newest.Name && (id != newest.ID || err != nil) || name != newest.Name && !errors.Is(err, registry.ErrNotFound) {
				t.Errorf("%q is %v, %v, and the record says %q", name, id, err, newest.Name)
			}
		}
	}
}

// Of many peers that want one name at the same moment, one gets it.
func TestOneGetsTheName(t *testing.T) {
	members := start(t, 1)
	directories := make([]*etcd.Directory, 4)
	for i := range directories {
		directories[i] = etcd.New(connect(t, members...), etcd.Options{Timeout: patience})
	}
	for round := range 10 {
		name := fmt.Sprintf("ann-%d", round)
		var wg sync.WaitGroup
		var winners [8]bool
		var ids [8]identity.ID
		for i := range winners {
			r := called(t, registrytest.Key(t), name)
			ids[i] = r.ID
			wg.Go(func() { // ends when it knows
				err := directories[i%len(directories)].Publish(t.Context(), r)
				if winners[i] = err == nil; err != nil && !errors.Is(err, registry.ErrNameTaken) {
					t.Errorf("Publish: %v", err)
				}
			})
		}
		wg.Wait()
		holder, err := directories[0].Resolve(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		for i, won := range winners {
			if won != (ids[i] == holder) {
				t.Errorf("%v was told %v, and %v has the name", ids[i], won, holder)
			}
		}
	}
}

func TestRestart(t *testing.T) {
	members := start(t, 1)
	client := connect(t, members...)
	d := etcd.New(client, etcd.Options{Timeout: patience})
	hasty := etcd.New(client, etcd.Options{Timeout: 200 * time.Millisecond})
	var acknowledged []*registry.Record
	for i := range 30 {
		k := registrytest.Key(t)
		r := called(t, k, fmt.Sprintf("peer-%d", i))
		publish(t, d, r)
		if i%3 == 0 {
			r = registrytest.Revocation(t, k, time.Now())
			publish(t, d, r)
		}
		acknowledged = append(acknowledged, r)
	}

	members[0].kill()
	if _, err := hasty.Lookup(t.Context(), acknowledged[0].ID); err == nil || errors.Is(err, registry.ErrNotFound) {
		t.Errorf("Lookup without a server: %v", err)
	}
	late := called(t, registrytest.Key(t), "late")
	if err := hasty.Publish(t.Context(), late); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Publish without a server: %v", err)
	}
	members[0].start(t)
	members[0].await(t)

	publish(t, d, late)
	for i, r := range append(acknowledged, late) {
		holds(t, d, r)
		if id, err := d.Resolve(t.Context(), fmt.Sprintf("peer-%d", i)); !r.Revoked && r != late && (id != r.ID || err != nil) {
			t.Errorf("peer-%d is %v, %v", i, id, err)
		}
	}
}

// Of three members one is killed, the leader, while records are published and looked up.
func TestLosesAMember(t *testing.T) {
	const publishers, before, after = 3, 40, 40 // acknowledged in all
	members := start(t, 3)
	leader := 0
	for i, m := range members {
		status, err := connect(t, m).Status(t.Context(), m.endpoint)
		if err != nil {
			t.Fatal(err)
		}
		if status.Leader == status.Header.MemberId {
			leader = i
		}
	}

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var mu sync.Mutex
	var acknowledged []*registry.Record
	var killed atomic.Bool
	since := 0 // acknowledged since then
	enough, done := make(chan struct{}), make(chan struct{})
	note := func(r *registry.Record) {
		mu.Lock()
		defer mu.Unlock()
		acknowledged = append(acknowledged, r)
		if len(acknowledged) == before {
			close(enough)
		}
		if killed.Load() {
			if since++; since == after {
				close(done)
			}
		}
	}
	some := func() *registry.Record {
		mu.Lock()
		defer mu.Unlock()
		if len(acknowledged) == 0 {
			return nil
		}
		return acknowledged[rand.IntN(len(acknowledged))]
	}
	over := func() bool {
		select {
		case <-done:
			return true
		case <-ctx.Done():
			return true
		default:
			return false
		}
	}

	var wg sync.WaitGroup
	for range publishers {
		d := etcd.New(connect(t, members...), etcd.Options{})
		wg.Go(func() { // ends when enough were acknowledged, or time is up
			for !over() {
				r := registrytest.Signed(t, registrytest.Key(t), time.Now())
				// What the killed member had in hand may never be answered; all else is tried again.
				if err := d.Publish(ctx, r); err == nil {
					note(r)
				} else if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Publish: %v", err)
				}
			}
		})
		wg.Go(func() { // likewise
			for !over() {
				want := some()
				if want == nil {
					continue
				}
				if r, err := d.Lookup(ctx, want.ID); errors.Is(err, registry.ErrNotFound) || err == nil && !r.Equal(want) {
					t.Errorf("Lookup of what was acknowledged: %+v, %v", r, err)
					return
				}
			}
		})
	}
	select {
	case <-enough:
	case <-ctx.Done():
	}
	members[leader].kill()
	killed.Store(true)
	wg.Wait()
	if since < after {
		t.Fatalf("%d were acknowledged before the leader was killed, and then %d, want %d", len(acknowledged)-since, since, after)
	}
	d := etcd.New(connect(t, members...), etcd.Options{})
	for _, r := range acknowledged {
		holds(t, d, r)
	}
}
