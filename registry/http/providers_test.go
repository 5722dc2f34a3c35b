package httpregistry

import (
	"net/http/httptest"
	"testing"
	"time"

	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/registry/memory"
	"github.com/splitmesh/splitmesh/registry/registrytest"
)

// From wherever in the list one begins, all who relay are found.
func TestProviders(t *testing.T) {
	dir := memory.New()
	const relays = 3
	for range relays {
		if err := dir.Publish(t.Context(), registrytest.Signed(t, registrytest.Key(t), time.Now())); err != nil {
			t.Fatal(err)
		}
	}
	s := httptest.NewServer(NewHandler(dir, Options{}))
	defer s.Close()
	c := &Client{URL: s.URL}
	for range 20 {
		if found, err := registry.Providers(t.Context(), c, registry.CapRelay); err != nil || len(found) != relays {
			t.Fatalf("%d found, %v", len(found), err)
		}
	}
}
