package registry_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/registry/memory"
)

// published has dir know n peers that announce the capability.
func published(t *testing.T, dir registry.Directory, n int, capability string) {
	t.Helper()
	for range n {
		if err := dir.Publish(t.Context(), signed(t, capability)); err != nil {
			t.Fatal(err)
		}
	}
}

// signed returns the record of a new peer.
func signed(t *testing.T, capability string) *registry.Record {
	t.Helper()
	k, err := identity.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	r := &registry.Record{Sequence: now.UnixMilli(), Expires: now.Add(time.Hour).UnixMilli(), Capabilities: []string{capability}}
	if err := r.Sign(k); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestProvidersOfALister: all that announce the capability while they are few, once
// each; of many some, and over time everyone.
func TestProvidersOfALister(t *testing.T) {
	dir := memory.New()
	published(t, dir, 200, registry.CapExit)
	published(t, dir, 5, registry.CapRelay)
	for range 20 { // from a random place each time
		found, err := registry.Providers(t.Context(), dir, registry.CapRelay)
		if err != nil || len(found) != 5 {
			t.Fatalf("%d found, %v", len(found), err)
		}
	}
	ever := make(map[identity.ID]bool)
	for range 100 {
		found, err := registry.Providers(t.Context(), dir, registry.CapExit)
		if err != nil || len(found) != registry.MaxProviders {
			t.Fatalf("%d found, %v", len(found), err)
		}
		for _, r := range found {
			ever[r.ID] = true
		}
	}
	if len(ever) < 190 {
		t.Errorf("of 200, only %d were ever found", len(ever))
	}
	if found, err := registry.Providers(t.Context(), dir, "nobody"); err != nil || len(found) != 0 {
		t.Error(found, err)
	}
}

// A liar answers with what it likes.
type liar struct {
	registry.Directory
	list func(after identity.ID) ([]*registry.Record, identity.ID, error)
}

func (l *liar) List(_ context.Context, after identity.ID, _ int, _ string) ([]*registry.Record, identity.ID, error) {
	return l.list(after)
}

type finder struct {
	registry.Directory
	records []*registry.Record
	err     error
}

func (f *finder) Providers(context.Context, string) ([]*registry.Record, error) {
	return f.records, f.err
}

// TestProvidersOfLiars: what is forged, expired, of another kind or more than asked for
// is left out, and pages that never end do end.
func TestProvidersOfLiars(t *testing.T) {
	good := signed(t, registry.CapRelay)
	forged := signed(t, registry.CapRelay)
	forged.Operator = "somebody else"
	old := &registry.Record{Sequence: time.Now().Add(-2 * time.Hour).UnixMilli(), Expires: time.Now().Add(-time.Hour).UnixMilli(), Capabilities: []string{registry.CapRelay}}
	k, err := identity.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	if err := old.Sign(k); err != nil {
		t.Fatal(err)
	}
	why := errors.New("half of us is out of reach")
	found, err := registry.Providers(t.Context(), &finder{nil, []*registry.Record{good, forged, old, signed(t, registry.CapExit), good}, why}, registry.CapRelay)
	if !errors.Is(err, why) || len(found) != 1 || found[0].ID != good.ID {
		t.Errorf("%v, %v", found, err)
	}
	var many []*registry.Record
	for range registry.MaxProviders + 10 {
		many = append(many, signed(t, registry.CapRelay))
	}
	if found, err := registry.Providers(t.Context(), &finder{records: many}, registry.CapRelay); err != nil || len(found) != registry.MaxProviders {
		t.Error(len(found), err)
	}
	calls := 0
	step := func(after identity.ID) identity.ID {
		calls++
		for i := len(after) - 1; i >= 0; i-- { // to the next ID, with what is carried
			if after[i]++; after[i] != 0 {
				break
			}
		}
		return after
	}
	for name, l := range map[string]*liar{
		"endless":  {list: func(after identity.ID) ([]*registry.Record, identity.ID, error) { return nil, step(after), nil }},
		"standing": {list: func(after identity.ID) ([]*registry.Record, identity.ID, error) { calls++; return nil, after, nil }},
	} {
		calls = 0
		_, err := registry.Providers(t.Context(), l, registry.CapRelay)
		if calls > 8 || (name == "standing") != errors.Is(err, registry.ErrMalformed) {
			t.Errorf("%s: %d calls, %v", name, calls, err)
		}
	}
	if _, err := registry.Providers(t.Context(), struct{ registry.Directory }{}, registry.CapRelay); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
}
