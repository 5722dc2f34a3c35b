package registrytest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
)

// An AuthorityUnderTest is an authority with the means of changing what it says, which differ from one to the next.
type AuthorityUnderTest struct {
	registry.Authority
	// Admit makes the key Active from now until the time given, at most [registry.MaxLife] ahead. Admitting one whose
	// time is over makes it Active again; one that was revoked stays so, and then Admit may fail or do nothing.
	Admit func(t *testing.T, k *identity.Key, until time.Time)
	// Revoke makes the key Revoked.
	Revoke func(t *testing.T, k *identity.Key)
}

// A NewAuthority returns an authority that has admitted nobody and asks now for the time.
type NewAuthority func(t *testing.T, now func() time.Time) AuthorityUnderTest

// TestAuthority checks all that [registry.Authority] promises.
func TestAuthority(t *testing.T, newAuthority NewAuthority) {
	for _, tc := range []struct {
		name string
		test func(*testing.T, *authorityTest)
	}{
		{"Unknown", unknown},
		{"ActiveUntilExpired", activeUntilExpired},
		{"RevokedForGood", revokedForGood},
		{"ContextDone", standingContextDone},
		{"Concurrency", standingConcurrency},
	} {
		t.Run(tc.name, func(t *testing.T) {
			clock := NewClock()
			tc.test(t, &authorityTest{newAuthority(t, clock.Now), clock, Key(t)})
		})
	}
}

type authorityTest struct {
	AuthorityUnderTest
	clock *Clock
	key   *identity.Key
}

func (a *authorityTest) is(t *testing.T, id identity.ID, want registry.Standing) {
	t.Helper()
	if got, err := a.Standing(t.Context(), id); got != want || err != nil {
		t.Fatalf("Standing is %v, %v; want %v", got, err, want)
	}
}

func (a *authorityTest) admit(t *testing.T, d time.Duration) {
	t.Helper()
	a.Admit(t, a.key, a.clock.Now().Add(d))
}

func unknown(t *testing.T, a *authorityTest) {
	a.is(t, a.key.ID(), registry.Unknown)
	a.admit(t, time.Hour)
	a.is(t, Key(t).ID(), registry.Unknown)
	a.is(t, identity.ID{}, registry.Unknown)
}

func activeUntilExpired(t *testing.T, a *authorityTest) {
	a.admit(t, time.Hour)
	a.is(t, a.key.ID(), registry.Active)
	a.clock.Advance(time.Hour - time.Second)
	a.is(t, a.key.ID(), registry.Active)
	a.clock.Advance(time.Second)
	a.is(t, a.key.ID(), registry.Expired)
	a.admit(t, time.Hour)
	a.is(t, a.key.ID(), registry.Active)
}

func revokedForGood(t *testing.T, a *authorityTest) {
	other := Key(t)
	a.Admit(t, other, a.clock.Now().Add(registry.MaxLife))
	a.admit(t, time.Hour)
	a.Revoke(t, a.key)
	a.is(t, a.key.ID(), registry.Revoked)
	a.clock.Advance(time.Minute)
	a.admit(t, time.Hour)
	a.is(t, a.key.ID(), registry.Revoked)
	a.is(t, other.ID(), registry.Active)
	a.clock.Advance(90 * 24 * time.Hour)
	a.is(t, a.key.ID(), registry.Revoked)
}

func standingContextDone(t *testing.T, a *authorityTest) {
	a.admit(t, time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := a.Standing(ctx, a.key.ID()); got != registry.Unknown || !errors.Is(err, context.Canceled) {
		t.Errorf("Standing is %v, %v; want unknown and context.Canceled", got, err)
	}
}

// standingConcurrency asks while a peer is admitted and then revoked: the standing never goes back.
func standingConcurrency(t *testing.T, a *authorityTest) {
	var wg sync.WaitGroup
	order := map[registry.Standing]int{registry.Unknown: 0, registry.Active: 1, registry.Revoked: 2}
	for range 4 {
		wg.Go(func() { // ends after as many questions
			last := registry.Unknown
			for range 200 {
				s, err := a.Standing(t.Context(), a.key.ID())
				if err != nil || s == registry.Expired || order[s] < order[last] {
					t.Errorf("Standing is %v, %v after %v", s, err, last)
					return
				}
				last = s
			}
		})
	}
	a.admit(t, time.Hour)
	a.Revoke(t, a.key)
	wg.Wait()
	a.is(t, a.key.ID(), registry.Revoked)
}
