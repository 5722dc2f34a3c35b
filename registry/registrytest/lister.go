package registrytest

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
)

// testLister checks what [registry.Lister] promises, of directories that are one.
func testLister(t *testing.T, newDirectory NewDirectory) {
	for _, tc := range []struct {
		name string
		test func(*testing.T, *listerTest)
	}{
		{"Empty", listEmpty},
		{"Pages", listPages},
		{"Capability", listCapability},
		{"WhatLookupReturns", listWhatLookupReturns},
		{"NoAliases", listNoAliases},
		{"ContextDone", listContextDone},
		{"Concurrency", listConcurrency},
	} {
		t.Run(tc.name, func(t *testing.T) {
			clock := NewClock()
			tc.test(t, &listerTest{newDirectory(t, clock.Now).(registry.Lister), clock})
		})
	}
}

type listerTest struct {
	registry.Lister
	clock *Clock
}

// publish publishes records of n new peers, and returns them ascending by ID.
func (l *listerTest) publish(t *testing.T, n int, change func(i int, r *registry.Record)) []*registry.Record {
	t.Helper()
	var all []*registry.Record
	for i := range n {
		r := Draft(t, l.clock.Now())
		if change != nil {
			change(i, r)
		}
		sign(t, Key(t), r)
		if err := l.Publish(t.Context(), r); err != nil {
			t.Fatalf("Publish: %v", err)
		}
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b *registry.Record) int { return a.ID.Compare(b.ID) })
	return all
}

// all reads every page, and checks what holds for each.
func (l *listerTest) all(t *testing.T, n int, capability string) []*registry.Record {
	var all []*registry.Record
	for after := (identity.ID{}); ; {
		page, next, err := l.List(t.Context(), after, n, capability)
		if err != nil {
			t.Errorf("List: %v", err)
			return nil
		}
		if len(page) > n {
			t.Errorf("List returns %d records, and was asked for %d", len(page), n)
			return nil
		}
		for _, r := range page {
			if r.ID.Compare(after) <= 0 {
				t.Errorf("%v stands behind %v", r.ID, after)
				return nil
			}
			after = r.ID
		}
		if all = append(all, page...); next.IsZero() {
			return all
		}
		if len(page) == 0 && next.Compare(after) <= 0 || next.Compare(after) < 0 {
			t.Errorf("the page after %v is to be after %v", after, next)
			return nil
		}
		after = next
	}
}

func (l *listerTest) lists(t *testing.T, n int, capability string, want []*registry.Record) {
	t.Helper()
	if got := l.all(t, n, capability); !slices.EqualFunc(got, want, (*registry.Record).Equal) {
		t.Errorf("%d at a time of %q: %d records, want %d, or not the same", n, capability, len(got), len(want))
	}
}

func listEmpty(t *testing.T, l *listerTest) {
	l.lists(t, 10, "", nil)
	l.lists(t, 10, registry.CapRelay, nil)
}

func listPages(t *testing.T, l *listerTest) {
	want := l.publish(t, 24, nil)
	for _, n := range []int{1, 7, 8, 23, 24, 25, 1 << 30} {
		l.lists(t, n, "", want)
	}
	// Any peer may be where it begins, known or not, and the last has nothing after it.
	for range 8 {
		after := Key(t).ID()
		i := slices.IndexFunc(want, func(r *registry.Record) bool { return r.ID.Compare(after) > 0 })
		if page, _, err := l.List(t.Context(), after, 1, ""); err != nil || i >= 0 && (len(page) != 1 || !page[0].Equal(want[i])) {
			t.Errorf("List after %v: %v, %v; want number %d", after, page, err, i)
		}
	}
	if page, next, err := l.List(t.Context(), want[len(want)-1].ID, 1, ""); err != nil || len(page) != 0 || !next.IsZero() {
		t.Errorf("List after the last: %v, %v, %v", page, next, err)
	}
}

func listCapability(t *testing.T, l *listerTest) {
	all := l.publish(t, 20, func(i int, r *registry.Record) {
		if r.Capabilities = nil; i%3 == 0 {
			r.Capabilities = []string{registry.CapExit, "x"}
		}
	})
	var exits []*registry.Record
	for _, r := range all {
		if r.Has(registry.CapExit) {
			exits = append(exits, r)
		}
	}
	for _, n := range []int{1, 3, 100} {
		l.lists(t, n, registry.CapExit, exits)
		l.lists(t, n, registry.CapRelay, nil)
		l.lists(t, n, "", all)
	}
}

func listWhatLookupReturns(t *testing.T, l *listerTest) {
	want := l.publish(t, 6, func(i int, r *registry.Record) {
		if i%2 == 0 {
			r.Expires = l.clock.Now().Add(time.Hour).UnixMilli()
		}
	})
	key := Key(t)
	if err := l.Publish(t.Context(), Signed(t, key, l.clock.Now())); err != nil {
		t.Fatal(err)
	}
	revocation := Revocation(t, key, l.clock.Now())
	if err := l.Publish(t.Context(), revocation); err != nil {
		t.Fatal(err)
	}
	l.clock.Advance(time.Hour)
	want = append(slices.DeleteFunc(want, func(r *registry.Record) bool { return r.Check(l.clock.Now()) != nil }), revocation)
	slices.SortFunc(want, func(a, b *registry.Record) int { return a.ID.Compare(b.ID) })
	l.lists(t, 2, "", want)
	l.clock.Advance(24 * time.Hour)
	l.lists(t, 2, "", []*registry.Record{revocation})
}

func listNoAliases(t *testing.T, l *listerTest) {
	want := l.publish(t, 1, nil)
	page, _, err := l.List(t.Context(), identity.ID{}, 1, "")
	if err != nil || len(page) != 1 {
		t.Fatalf("List: %v, %v", page, err)
	}
	page[0].Addrs[0] = Addr(t, "/ip4/203.0.113.9/tcp/443")
	page[0].Capabilities[0] = "scribble"
	page[0].Revoked = true
	l.lists(t, 1, "", want)
}

func listContextDone(t *testing.T, l *listerTest) {
	l.publish(t, 1, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	page, _, err := l.List(ctx, identity.ID{}, 1, "")
	if wantError(t, err, context.Canceled, identity.ID{}); page != nil {
		t.Errorf("List returns %v and an error", page)
	}
}

// listConcurrency reads while peers come: those that were there are in every reading, once.
func listConcurrency(t *testing.T, l *listerTest) {
	was := l.publish(t, 16, nil)
	newcomers := make([]*registry.Record, 32)
	for i := range newcomers {
		newcomers[i] = Signed(t, Key(t), l.clock.Now())
	}
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { // ends after as many readings
			for range 8 {
				seen := map[identity.ID]int{}
				for _, r := range l.all(t, 5, "") {
					seen[r.ID]++
				}
				for _, r := range was {
					if seen[r.ID] != 1 {
						t.Errorf("%v is listed %d times", r.ID, seen[r.ID])
					}
				}
			}
		})
	}
	wg.Go(func() { // ends with the newcomers
		for _, r := range newcomers {
			if err := l.Publish(t.Context(), r); err != nil {
				t.Errorf("Publish: %v", err)
			}
		}
	})
	wg.Wait()
}
