package registrytest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
)

// testNamer checks what [registry.Namer] promises, of directories that are one.
func testNamer(t *testing.T, newDirectory NewDirectory) {
	for _, tc := range []struct {
		name string
		test func(*testing.T, *namerTest)
	}{
		{"Nobody", nobody},
		{"GivenOnce", givenOnce},
		{"GivenUp", givenUp},
		{"Revoked", nameOfRevoked},
		{"HeldForALife", heldForALife},
		{"ContextDone", resolveContextDone},
	} {
		t.Run(tc.name, func(t *testing.T) {
			clock := NewClock()
			tc.test(t, &namerTest{newDirectory(t, clock.Now).(registry.Namer), clock, Key(t), Key(t)})
		})
	}
}

type namerTest struct {
	registry.Namer
	clock  *Clock
	ann, b *identity.Key
}

// call publishes a record of k's that is made now, with the name.
func (n *namerTest) call(t *testing.T, k *identity.Key, name string) error {
	t.Helper()
	n.clock.Advance(time.Second)
	r := Draft(t, n.clock.Now())
	r.Name = name
	return n.Publish(t.Context(), sign(t, k, r))
}

func (n *namerTest) is(t *testing.T, name string, want *identity.Key) {
	t.Helper()
	got, err := n.Resolve(t.Context(), name)
	if want == nil {
		wantError(t, err, registry.ErrNotFound, identity.ID{})
	} else if got != want.ID() || err != nil {
		t.Fatalf("%q is %v, %v; want %v", name, got, err, want.ID())
	}
}

func (n *namerTest) must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func nobody(t *testing.T, n *namerTest) {
	n.must(t, n.call(t, n.ann, ""))
	for _, name := range []string{"ann", "", "Ann", "a.b", n.ann.ID().String(), string(make([]byte, 1<<20))} {
		n.is(t, name, nil)
	}
}

func givenOnce(t *testing.T, n *namerTest) {
	n.must(t, n.call(t, n.ann, "ann"))
	n.must(t, n.call(t, n.b, "bob"))
	wantError(t, n.call(t, n.b, "ann"), registry.ErrNameTaken, n.b.ID())
	n.is(t, "ann", n.ann)
	n.is(t, "bob", n.b) // the record before counts
	n.must(t, n.call(t, n.ann, "ann"))
	n.is(t, "ann", n.ann)
	if r, err := n.Lookup(t.Context(), n.b.ID()); err != nil || r.Name != "bob" {
		t.Errorf("Lookup after a refusal: %+v, %v", r, err)
	}
}

func givenUp(t *testing.T, n *namerTest) {
	n.must(t, n.call(t, n.ann, "ann"))
	n.must(t, n.call(t, n.ann, "anna"))
	n.is(t, "ann", nil)
	n.must(t, n.call(t, n.b, "ann"))
	n.is(t, "ann", n.b)
	n.is(t, "anna", n.ann)
	wantError(t, n.call(t, n.ann, "ann"), registry.ErrNameTaken, n.ann.ID())
	n.must(t, n.call(t, n.ann, ""))
	n.is(t, "anna", nil)
}

func nameOfRevoked(t *testing.T, n *namerTest) {
	n.must(t, n.call(t, n.ann, "ann"))
	n.clock.Advance(time.Second)
	n.must(t, n.Publish(t.Context(), Revocation(t, n.ann, n.clock.Now())))
	n.is(t, "ann", nil)
	n.must(t, n.call(t, n.b, "ann"))
	n.is(t, "ann", n.b)
}

func heldForALife(t *testing.T, n *namerTest) {
	n.must(t, n.call(t, n.ann, "ann"))
	n.clock.Advance(registry.MaxLife - 2*time.Second) // the record has expired: its peer may come back
	wantError(t, n.call(t, n.b, "ann"), registry.ErrNameTaken, n.b.ID())
	n.is(t, "ann", n.ann)
	n.clock.Advance(2 * time.Second)
	n.is(t, "ann", nil)
	n.must(t, n.call(t, n.b, "ann"))
	n.is(t, "ann", n.b)
	wantError(t, n.call(t, n.ann, "ann"), registry.ErrNameTaken, n.ann.ID())
}

func resolveContextDone(t *testing.T, n *namerTest) {
	n.must(t, n.call(t, n.ann, "ann"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := n.Resolve(ctx, "ann"); !errors.Is(err, context.Canceled) {
		t.Errorf("Resolve: %v; want context.Canceled", err)
	}
}
