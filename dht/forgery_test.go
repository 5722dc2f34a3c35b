package dht

import (
	"encoding/binary"
	"flag"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/internal/kad"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/registry/registrytest"
)

var tries = flag.Int("tries", 20_000, "forged records in TestForgeries")

// A node takes no record that is forged, stale, too large, of another key, rolled back or expired, whether it is brought
// one to keep or answered with it.
func TestForgeries(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	now := time.Now()
	f := newFabric(func() time.Time { return now })
	n := f.node(t, Config{})
	k, other := registrytest.Key(t), registrytest.Key(t)
	current := registrytest.Signed(t, k, now)
	key := kad.PeerKey(k.ID())
	if err := n.Publish(t.Context(), current); err != nil {
		t.Fatal(err)
	}
	sign := func(change func(*registry.Record)) []byte {
		r := registrytest.Draft(t, now)
		change(r)
		if err := r.Sign(k); err != nil {
			t.Fatal(err)
		}
		return r.Marshal()
	}
	theirs := registrytest.Signed(t, other, now).Marshal()
	mine := current.Marshal()
	// What is signed by the right key, and not to be taken all the same; or by another.
	fixed := [][]byte{
		sign(func(r *registry.Record) { r.Sequence -= 1000 }),
		sign(func(r *registry.Record) { r.Sequence, r.Expires = r.Sequence-2000, r.Sequence-1000 }),
		sign(func(r *registry.Record) {
			r.Sequence += registry.MaxSkew.Milliseconds() + 60_000
			r.Expires = r.Sequence + 1000
		}),
		theirs,
	}
	newer := [][]byte{sign(func(r *registry.Record) { r.Sequence += 1000 }), sign(func(r *registry.Record) { r.Addrs = []multiaddr.Multiaddr{r.Addrs[0]}; r.Sequence++ })}
	forge := func() []byte {
		base := slices.Clone([][]byte{mine, newer[0], newer[1], theirs}[rng.IntN(4)])
		switch rng.IntN(8) {
		case 0:
			return fixed[rng.IntN(len(fixed))]
		case 1: // bits
			for range 1 + rng.IntN(4) {
				base[rng.IntN(len(base))] ^= 1 << rng.IntN(8)
			}
		case 2: // cut, or longer
			if n := rng.IntN(2 * len(base)); n < len(base) {
				base = base[:n]
			} else {
				base = append(base, make([]byte, n-len(base)+1)...)
			}
		case 3: // another's signature, or payload
			at := len(base) - 64
			if rng.IntN(2) == 0 {
				copy(base[at:], theirs[len(theirs)-64:])
			} else {
				copy(base[:at], theirs)
			}
			if slices.Equal(base, theirs) {
				base[0] ^= 1
			}
		case 4: // a later sequence
			for i := range len(base) - 8 {
				if v := binary.BigEndian.Uint64(base[i:]); v > uint64(now.UnixMilli())-10_000 && v < uint64(now.UnixMilli())+10_000 {
					binary.BigEndian.PutUint64(base[i:], v+1+uint64(rng.IntN(1000)))
				}
			}
		case 5: // bytes moved
			i, j := rng.IntN(len(base)), rng.IntN(len(base))
			base[i], base[j] = base[j], base[i]^1
		case 6: // of any bytes
			base = make([]byte, rng.IntN(2*registry.MaxSize))
			for i := range base {
				base[i] = byte(rng.Uint32())
			}
		case 7: // a part repeated
			i := rng.IntN(len(base))
			base = slices.Concat(base[:i], base[i:], base[i:])
		}
		return base
	}
	genuine := func(b []byte) bool {
		return slices.ContainsFunc(append(newer, mine), func(g []byte) bool { return slices.Equal(g, b) })
	}
	accepted := 0
	for i := range *tries {
		b := forge()
		if genuine(b) {
			continue
		}
		if i%2 == 0 {
			if n.handle(&query{Op: opStore, Key: key[:], Record: b}, other.ID()).Verdict == vOK {
				accepted++
			}
			continue
		}
		s := &search{d: n.DHT, target: key, wanted: func(r *registry.Record) bool { return r.ID == k.ID() }, newest: map[identity.ID]*registry.Record{}, answers: map[identity.ID][]*registry.Record{}}
		s.heed(&kad.Contact{ID: other.ID(), Record: current}, &answer{Records: [][]byte{b}, Closer: [][]byte{b}})
		for _, r := range s.newest {
			if !r.Equal(current) {
				accepted++
			}
		}
	}
	if accepted != 0 {
		t.Errorf("%d accepted", accepted)
	}
	n.DHT.mu.Lock()
	kept := n.store.Get(key, now)
	n.DHT.mu.Unlock()
	if !kept.Equal(current) {
		t.Error("another record is kept than the one that was published")
	}
	t.Logf("FORGERIES_ACCEPTED = %d (bar ≤ 0): of %d", accepted, *tries)
}
