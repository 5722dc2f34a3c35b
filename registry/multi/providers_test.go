package multi_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/registry/memory"
	"github.com/splitmesh/splitmesh/registry/multi"
	"github.com/splitmesh/splitmesh/registry/registrytest"
)

// noFinder finds peers by ID only.
type noFinder struct{ registry.Directory }

// A failing finder fails to find.
type failing struct {
	registry.Directory
	err error
}

func (f failing) Providers(context.Context, string) ([]*registry.Record, error) { return nil, f.err }

// TestProviders: all that any directory names, each once and as it is now, but for the
// revoked; and failures only when nobody is found.
func TestProviders(t *testing.T) {
	now := time.Now()
	a, b, c := registrytest.Key(t), registrytest.Key(t), registrytest.Key(t)
	near, far := memory.New(), memory.New()
	publish := func(d registry.Directory, r *registry.Record) {
		t.Helper()
		if err := d.Publish(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	publish(near, registrytest.Signed(t, a, now.Add(-time.Minute)))
	publish(far, registrytest.Signed(t, a, now))
	publish(far, registrytest.Signed(t, b, now))
	publish(far, registrytest.Signed(t, c, now))
	publish(near, registrytest.Revocation(t, c, now))
	down := errors.New("out of reach")
	d := &multi.Directory{Directories: []registry.Directory{near, multi.ReadOnly(far), noFinder{memory.New()}, multi.ReadOnly(noFinder{memory.New()}), failing{memory.New(), down}}}
	defer d.Close()
	if _, err := d.Lookup(t.Context(), c.ID()); err != nil { // it is told of the revocation
		t.Fatal(err)
	}
	found, err := registry.Providers(t.Context(), d, registry.CapRelay)
	if err != nil || len(found) != 2 {
		t.Fatalf("%d found, %v", len(found), err)
	}
	for _, r := range found {
		if r.ID != a.ID() && r.ID != b.ID() || r.Sequence != now.UnixMilli() {
			t.Errorf("%s of %d", r.ID, r.Sequence)
		}
	}
	if found, err := d.Providers(t.Context(), registry.CapExit); !errors.Is(err, down) || len(found) != 0 {
		t.Errorf("%v, %v", found, err)
	}
	none := &multi.Directory{}
	defer none.Close()
	if found, err := none.Providers(t.Context(), registry.CapExit); err != nil || len(found) != 0 {
		t.Errorf("%v, %v", found, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Providers(ctx, registry.CapRelay); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	d.Close()
	if _, err := d.Providers(t.Context(), registry.CapRelay); err == nil {
		t.Error("closed, and it answers")
	}
}
