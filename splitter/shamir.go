package splitter

// Shamir's secret sharing (How to Share a Secret, CACM 22, 1979) of 32-byte
// keys, each byte on its own: a polynomial over GF(2^8) of degree k−1 with the
// key at 0 and coefficients of pure chance above; share i is its value at i+1.
// Fewer than k shares are all equally likely, whatever the key.
//
// Time depends on k, n and the indices of shares only.

// keySize is that of a key, of each of its shares, and of each coefficient.
const keySize = 32

// shamirPoint is where share i is the polynomial's value; the key itself is at 0.
func shamirPoint(i int) byte { return byte(i + 1) }

// shamirShare fills share with the share of index i. secret holds the key and,
// after it, the k−1 random coefficients, of x^1 first: they must be used for one
// key only.
func shamirShare(share *[keySize]byte, secret [][keySize]byte, i int) {
	clear(share[:])
	for d := len(secret) - 1; d >= 0; d-- { // Horner's rule
		product := [keySize]byte{}
		gfMulAdd(product[:], share[:], shamirPoint(i))
		*share = secret[d]
		gfMulAdd(share[:], product[:], 1)
		clear(product[:])
	}
}

// shamirKey fills key from k shares, points[j] being that of shares[j].
func shamirKey(key *[keySize]byte, points []byte, shares [][]byte) {
	var coefs [MaxMinPaths]byte
	gfLagrange(coefs[:len(points)], points, 0)
	clear(key[:])
	for j, share := range shares {
		gfMulAdd(key[:], share[:keySize], coefs[j])
	}
}
