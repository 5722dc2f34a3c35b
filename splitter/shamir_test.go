package splitter

import (
	"crypto/rand"
	"testing"
)

// TestAShareOfTwoSaysNothing goes through all there is, at k = 2: whatever the
// byte of the key and whichever share, each value of the share comes from
// exactly one value of the coefficient. So what a share is says nothing of the
// key. The 32 bytes of a key are 32 such sharings: their coefficients are 32 in
// a row, so that eight calls are all 256.
func TestAShareOfTwoSaysNothing(t *testing.T) {
	for key := range 256 {
		for i := range MaxMinPaths {
			var count [256]int
			for first := 0; first < 256; first += keySize {
				var secret [2][keySize]byte
				for j := range keySize {
					secret[0][j], secret[1][j] = byte(key), byte(first+j)
				}
				var share [keySize]byte
				shamirShare(&share, secret[:], i)
				for _, b := range share {
					count[b]++
				}
			}
			for value, n := range count {
				if n != 1 {
					t.Fatalf("key byte %#x: share %d is %#x for %d of 256 coefficients, want 1", key, i, value, n)
				}
			}
		}
	}
}

// TestTwoSharesOfThreeSayNothing is the same at k = 3 for every pair of shares:
// each pair of values comes from exactly one of the 65,536 pairs of coefficients.
// A sharing is the key plus what the coefficients make of 0, so a few keys are
// as good as all.
func TestTwoSharesOfThreeSayNothing(t *testing.T) {
	for _, key := range []byte{0, 1, 0x80, 0xa7, 0xff} {
		var shares [MaxMinPaths][]byte // [i]: the share of each pair of coefficients
		for first := 0; first < 1<<16; first += keySize {
			var secret [3][keySize]byte
			for j := range keySize {
				secret[0][j], secret[1][j], secret[2][j] = key, byte(first+j), byte((first+j)>>8)
			}
			for i := range shares {
				var share [keySize]byte
				shamirShare(&share, secret[:], i)
				shares[i] = append(shares[i], share[:]...)
			}
		}
		for a := range shares {
			for b := range a {
				var seen [1 << 16]bool
				for j := range shares[a] {
					pair := int(shares[a][j])<<8 | int(shares[b][j])
					if seen[pair] {
						t.Fatalf("key byte %#x: shares %d and %d are %#x for two pairs of coefficients", key, a, b, pair)
					}
					seen[pair] = true
				}
			}
		}
	}
}

func TestAnyKSharesGiveTheKey(t *testing.T) {
	for k := 1; k <= MaxMinPaths; k++ {
		var random [MaxMinPaths][keySize]byte
		for i := range k {
			rand.Read(random[i][:])
		}
		var shares [MaxMinPaths][keySize]byte
		for i := range shares {
			shamirShare(&shares[i], random[:k], i)
		}
		for set := range 1 << MaxMinPaths {
			var points []byte
			var have [][]byte
			for i := range shares {
				if set>>i&1 == 1 {
					points, have = append(points, shamirPoint(i)), append(have, shares[i][:])
				}
			}
			if len(have) == 0 {
				continue
			}
			var key [keySize]byte
			shamirKey(&key, points, have)
			if right := key == random[0]; right != (len(have) >= k) {
				t.Fatalf("k = %d, shares %08b: key right is %v", k, set, right)
			}
		}
	}
}
