package frame

import (
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"math"
	"testing"
)

// A recorder is the AEAD of a key that remembers which nonces it was used with.
type recorder struct {
	cipher.AEAD
	nonces *[]uint64 // of Seal
}

func (r recorder) Seal(dst, nonce, plaintext, additional []byte) []byte {
	*r.nonces = append(*r.nonces, binary.BigEndian.Uint64(nonce[4:]))
	return r.AEAD.Seal(dst, nonce, plaintext, additional)
}

// record makes s note the nonces of its present key.
func record(s *Sealer, nonces *[]uint64) { s.key.aead = recorder{s.key.aead, nonces} }

// A walk through six keys, each from its first frame to the refusal of the one
// after its last. In the middle of each key's 2^31 frames it takes one long
// step, for both ends; that every frame counts next up by one and left down by
// one is checked on all frames before and after. The numbers pass 2^32 on the
// way, where the header's sequence begins anew.
func TestWalkToTheLimit(t *testing.T) {
	const edge = 5 // frames that are sealed at each end of a key's life
	each(t, func(t *testing.T, suite Suite) {
		s, o := pair(t, suite, 0)
		used := map[uint64]uint32{} // nonce → the epoch that it was used in
		for epoch := uint32(0); epoch < 6; epoch++ {
			var nonces []uint64
			record(s, &nonces)
			first, end := uint64(epoch)<<31, uint64(epoch+1)<<31
			pass := func() {
				t.Helper()
				if s.next != uint64(s.key.epoch)<<31+maxFrames-uint64(s.key.left) {
					t.Fatalf("next %d with %d left of epoch %d", s.next, s.key.left, s.key.epoch)
				}
				if got, err := o.Open(seal(t, s, []byte("x"))); err != nil || string(got) != "x" || o.next != s.next {
					t.Fatalf("epoch %d, frame %d: %v", epoch, s.next-1, err)
				}
			}
			for range edge {
				pass()
			}
			setPacket(s, o, end-edge, s.key.left-uint32(end-edge-s.next))
			for range edge {
				pass()
			}
			for range 3 { // at the limit it stays, whatever is asked of it
				if _, err := s.Seal(nil, []byte("x")); !errors.Is(err, ErrExhausted) || s.next != end {
					t.Fatalf("epoch %d: frame %d: %v", epoch, s.next, err)
				}
				if err := s.Rekey(&secret, epoch); !errors.Is(err, ErrEpoch) {
					t.Fatalf("the same epoch again: %v", err)
				}
			}

			if len(nonces) != 2*edge || nonces[0] != first || nonces[2*edge-1] != end-1 {
				t.Errorf("epoch %d used the nonces %d", epoch, nonces)
			}
			for _, n := range nonces {
				if other, there := used[n]; there {
					t.Errorf("nonce %d in epochs %d and %d", n, other, epoch)
				}
				used[n] = epoch
			}
			next := [32]byte{byte(epoch), 1}
			if err := errors.Join(s.Rekey(&next, epoch+1), o.Next(&next, epoch+1)); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// Even when two epochs were given the same secret, which is a mistake of the
// caller's, no nonce comes twice: numbers never go back.
func TestSameSecretTwice(t *testing.T) {
	s, _ := pair(t, AES256GCM, 0)
	var nonces []uint64
	for epoch := range uint32(20) {
		record(s, &nonces)
		seal(t, s, []byte("x"))
		if err := s.Rekey(&secret, epoch+1); err != nil {
			t.Fatal(err)
		}
	}
	for i, n := range nonces {
		if n != uint64(i) {
			t.Fatalf("frame %d has nonce %d", i, n)
		}
	}
}

// The last key of the last epoch ends for good, and all numbers that there can
// be until then fit into a nonce's 64 bits.
func TestEndOfAllEpochs(t *testing.T) {
	const all = (math.MaxUint32 + 1) * maxFrames // does not compile when it is above 64 bits
	each(t, func(t *testing.T, suite Suite) {
		s, o := pair(t, suite, math.MaxUint32)
		setPacket(s, o, all-1, 1)
		last := seal(t, s, []byte("last"))
		if _, err := o.Open(last); err != nil || s.next != uint64(all) {
			t.Fatalf("the last frame: %v", err)
		}
		if _, err := s.Seal(nil, []byte("x")); !errors.Is(err, ErrExhausted) {
			t.Errorf("a frame after the last: %v", err)
		}
		for _, epoch := range []uint32{0, 1, math.MaxUint32} {
			if err := s.Rekey(&secret, epoch); !errors.Is(err, ErrEpoch) {
				t.Errorf("epoch %d after the last: %v", epoch, err)
			}
		}
		if _, err := s.Seal(nil, []byte("x")); !errors.Is(err, ErrExhausted) {
			t.Errorf("then a frame: %v", err)
		}
	})
}

// What was sealed with a key's last frames is opened although the next key is
// there, and the new key's frames count against their own limit alone.
func TestLimitWhileRekeying(t *testing.T) {
	each(t, func(t *testing.T, suite Suite) {
		s, o := pair(t, suite, 0)
		setPacket(s, o, maxFrames-2, 2)
		old := [][]byte{seal(t, s, []byte("a")), seal(t, s, []byte("b"))}
		next := [32]byte{7}
		if err := errors.Join(o.Next(&next, 1), s.Rekey(&next, 1)); err != nil {
			t.Fatal(err)
		}
		for _, b := range append(old, seal(t, s, []byte("c"))) {
			if _, err := o.Open(b); err != nil {
				t.Fatal(err)
			}
		}
		if o.key.left != maxFrames-1 || s.key.left != maxFrames-1 || o.key.epoch != 1 {
			t.Errorf("%d and %d frames left in %v", o.key.left, s.key.left, o)
		}
		setPacket(s, o, s.next, 1)
		if _, err := o.Open(seal(t, s, []byte("last"))); err != nil {
			t.Fatal(err)
		}
		beyond := forge(s, newHeader(TypeData, 1, 1+TagSize, uint32(s.next)), []byte("x"))
		if _, err := o.Open(beyond); !errors.Is(err, ErrExhausted) {
			t.Errorf("opened beyond the limit: %v", err)
		}
	})
}
