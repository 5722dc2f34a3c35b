package identity_test

import (
	"errors"
	"testing"

	"github.com/splitmesh/splitmesh/identity"
)

// TestRemembered: a key whose neighbour was read before it is still checked, and is
// itself, and one that is refused stays so.
func TestRemembered(t *testing.T) {
	// Many more keys than there are places, so that each place has had several.
	ids := make([]identity.ID, 5000)
	forms := make(map[identity.ID][32]byte)
	for i := range ids {
		ids[i] = newKey(t).ID()
		forms[ids[i]] = ids[i].X25519() // before NewID has seen it
	}
	for range 2 {
		for _, id := range ids {
			got, err := identity.NewID(id[:])
			if err != nil || got != id || got.X25519() != forms[id] {
				t.Fatalf("NewID(%x) = %v, %v, with the form %x", id[:], got, err, got.X25519())
			}
			// As near a neighbour as there is: in the same place, and another key, or none.
			other := id
			other[identity.Size-1] ^= 0x80
			if got, err := identity.NewID(other[:]); err != nil || got != other {
				t.Fatalf("the negation: %v, %v", got, err)
			}
			other[identity.Size-2] ^= 1
			if got, err := identity.NewID(other[:]); err == nil && got != other || err != nil && !got.IsZero() {
				t.Fatalf("a neighbour: %v, %v", got, err)
			}
		}
	}
	mixed := identity.ID(unhex(t, "b295d84331495bd29d5c572fd590f28c9acdea88e21dbc59c53fb75e74a625d6"))
	for range 3 {
		if _, err := identity.NewID(mixed[:]); !errors.Is(err, identity.ErrMixedOrder) {
			t.Fatal(err)
		}
	}
}

// BenchmarkNewIDFirst reads keys that were not read of late.
func BenchmarkNewIDFirst(b *testing.B) {
	ids := make([]identity.ID, 5000)
	for i := range ids {
		ids[i] = newKey(b).ID()
	}
	for i := 0; b.Loop(); i++ {
		if _, err := identity.NewID(ids[i%len(ids)][:]); err != nil {
			b.Fatal(err)
		}
	}
}
