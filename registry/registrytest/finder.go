package registrytest

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
)

// testProviders checks what [registry.Providers] promises, of directories that it can ask.
func testProviders(t *testing.T, newDirectory NewDirectory) {
	for _, tc := range []struct {
		name string
		test func(*testing.T, *finderTest)
	}{
		{"Nobody", noProviders},
		{"OfTheCapability", ofTheCapability},
		{"WhatLookupReturns", providersNow},
		{"Many", manyProviders},
		{"NoAliases", providersNoAliases},
		{"ContextDone", providersContextDone},
	} {
		t.Run(tc.name, func(t *testing.T) {
			clock := &Clock{now: time.Now()} // by which Providers goes
			tc.test(t, &finderTest{directoryTest{newDirectory(t, clock.Now), clock, Key(t)}})
		})
	}
}

type finderTest struct{ directoryTest }

// provider publishes a record of k's with the capabilities, in a network of its own: of one network some find few.
func (f *finderTest) provider(t *testing.T, k *identity.Key, network int, life time.Duration, capabilities ...string) *registry.Record {
	t.Helper()
	r := Draft(t, f.clock.Now())
	r.Addrs = []multiaddr.Multiaddr{Addr(t, fmt.Sprintf("/ip4/11.%d.0.1/tcp/443", network))}
	r.Expires = f.clock.Now().Add(life).UnixMilli()
	r.Capabilities = capabilities
	f.publish(t, sign(t, k, r))
	return r
}

// finds checks that Providers finds the records that are wanted, and no other.
func (f *finderTest) finds(t *testing.T, capability string, want ...*registry.Record) {
	t.Helper()
	got, err := registry.Providers(t.Context(), f.Directory, capability)
	if err != nil {
		t.Fatalf("Providers: %v", err)
	}
	byID := func(a, b *registry.Record) int { return a.ID.Compare(b.ID) }
	slices.SortFunc(got, byID)
	slices.SortFunc(want, byID)
	if !slices.EqualFunc(got, want, (*registry.Record).Equal) {
		t.Errorf("%d peers are found that are %q, want %d, or not the same", len(got), capability, len(want))
	}
}

func noProviders(t *testing.T, f *finderTest) {
	f.finds(t, registry.CapExit)
	f.provider(t, f.key, 1, time.Hour)
	f.finds(t, registry.CapExit)
}

func ofTheCapability(t *testing.T, f *finderTest) {
	var exits []*registry.Record
	for i := range 12 {
		switch i % 3 {
		case 0:
			exits = append(exits, f.provider(t, Key(t), i, time.Hour, registry.CapExit, "x"))
		case 1:
			f.provider(t, Key(t), i, time.Hour, registry.CapExit+"x")
		default:
			f.provider(t, Key(t), i, time.Hour)
		}
	}
	f.finds(t, registry.CapExit, exits...)
	f.finds(t, registry.CapRelay)
}

// Who ends, is revoked or does it no more is not found.
func providersNow(t *testing.T, f *finderTest) {
	still := f.provider(t, Key(t), 1, 24*time.Hour, registry.CapExit)
	f.provider(t, Key(t), 2, time.Hour, registry.CapExit)
	revoked, other := Key(t), Key(t)
	f.provider(t, revoked, 3, 24*time.Hour, registry.CapExit)
	f.provider(t, other, 4, 24*time.Hour, registry.CapExit)
	f.clock.Advance(time.Second)
	f.publish(t, Revocation(t, revoked, f.clock.Now()))
	f.provider(t, other, 4, 24*time.Hour, registry.CapRelay)
	f.clock.Advance(time.Hour)
	f.finds(t, registry.CapExit, still)
}

func manyProviders(t *testing.T, f *finderTest) {
	published := make(map[identity.ID]*registry.Record)
	for i := range registry.MaxProviders + 8 {
		r := f.provider(t, Key(t), i, time.Hour, registry.CapExit)
		published[r.ID] = r
	}
	got, err := registry.Providers(t.Context(), f.Directory, registry.CapExit)
	if err != nil || len(got) == 0 || len(got) > registry.MaxProviders {
		t.Fatalf("Providers: %d of %d, %v", len(got), len(published), err)
	}
	for _, r := range got {
		if !r.Equal(published[r.ID]) {
			t.Errorf("Providers: %v is a stranger, or found twice", r.ID)
		}
		delete(published, r.ID)
	}
}

func providersNoAliases(t *testing.T, f *finderTest) {
	want := f.provider(t, f.key, 1, time.Hour, registry.CapExit)
	got, err := registry.Providers(t.Context(), f.Directory, registry.CapExit)
	if err != nil || len(got) != 1 {
		t.Fatalf("Providers: %v, %v", got, err)
	}
	got[0].Addrs[0] = Addr(t, "/ip4/203.0.113.9/tcp/443")
	got[0].Capabilities[0] = "scribble"
	f.finds(t, registry.CapExit, want)
}

func providersContextDone(t *testing.T, f *finderTest) {
	f.provider(t, f.key, 1, time.Hour, registry.CapExit)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	got, err := registry.Providers(ctx, f.Directory, registry.CapExit)
	if wantError(t, err, context.Canceled, identity.ID{}); len(got) > 0 {
		t.Errorf("Providers returns %v and an error", got)
	}
}
