// Package registrytest is what every implementation of [registry.Directory] and [registry.Authority] must pass.
//
// An implementation's own test is a few lines:
//
//	func TestDirectory(t *testing.T) {
//		registrytest.TestDirectory(t, func(t *testing.T, now func() time.Time) registry.Directory {
//			return &memory.Directory{Now: now}
//		})
//	}
//
// Time is the suite's: it hands the implementation a clock, and moves that.
package registrytest

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
)

// A Clock is a time that only moves when it is told to. It is safe for concurrent use.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock returns a clock that stands at noon of 1 June 2026, UTC.
func NewClock() *Clock { return &Clock{now: time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)} }

// Now returns the clock's time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the clock by d, which may be negative.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// Key returns a new key.
func Key(t testing.TB) *identity.Key {
	t.Helper()
	k, err := identity.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Draft returns an unsigned record that is made at the time at and lives a day, with two addresses.
func Draft(t testing.TB, at time.Time) *registry.Record {
	t.Helper()
	return &registry.Record{
		Sequence:     at.UnixMilli(),
		Expires:      at.Add(24 * time.Hour).UnixMilli(),
		Addrs:        []multiaddr.Multiaddr{Addr(t, "/ip4/192.0.2.1/tcp/443/wss"), Addr(t, "/ip6/2001:db8::1/tcp/4001")},
		Capabilities: []string{registry.CapDHTServer, registry.CapRelay},
		Operator:     "example",
	}
}

// Addr parses a multiaddr.
func Addr(t testing.TB, s string) multiaddr.Multiaddr {
	t.Helper()
	a, err := multiaddr.NewMultiaddr(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// Signed returns the record of [Draft], signed.
func Signed(t testing.TB, k *identity.Key, at time.Time) *registry.Record {
	t.Helper()
	return sign(t, k, Draft(t, at))
}

// Revocation returns k's revocation of itself.
func Revocation(t testing.TB, k *identity.Key, at time.Time) *registry.Record {
	t.Helper()
	return sign(t, k, &registry.Record{Sequence: at.UnixMilli(), Expires: at.Add(24 * time.Hour).UnixMilli(), Revoked: true})
}

func sign(t testing.TB, k *identity.Key, r *registry.Record) *registry.Record {
	t.Helper()
	if err := r.Sign(k); err != nil {
		t.Fatal(err)
	}
	return r
}

// wantError checks that err is want and says whose record it is about.
func wantError(t *testing.T, err, want error, id identity.ID) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error is %v, want %v", err, want)
	}
	var re *registry.RecordError
	if !errors.As(err, &re) {
		t.Fatalf("error is a %T, want a *registry.RecordError", err)
	}
	if re.ID != id {
		t.Errorf("the error is about %v, want %v", re.ID, id)
	}
}
