package httpregistry_test

import (
	"testing"
	"time"

	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/registry/memory"
	"github.com/splitmesh/splitmesh/registry/registrytest"
)

// TestProviders: peers are found by what they do, wherever the search begins. It once began at any 32 bytes, of which the
// server took one in sixteen for an ID.
func TestProviders(t *testing.T) {
	c := serve(t, memory.New(), time.Now)
	key, now := registrytest.Key(t), time.Now()
	r := &registry.Record{ID: key.ID(), Sequence: now.UnixMilli(), Expires: now.Add(time.Hour).UnixMilli(), Capabilities: []string{registry.CapRelay}}
	if err := r.Sign(key); err != nil {
		t.Fatal(err)
	}
	if err := c.Publish(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if found, err := registry.Providers(t.Context(), c, registry.CapRelay); err != nil || len(found) != 1 || found[0].ID != key.ID() {
			t.Fatalf("%v, %v", found, err)
		}
	}
}
