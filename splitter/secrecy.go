package splitter

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/splitmesh/splitmesh/internal/buf"
)

// A Cipher is what seals the blocks of a Secrecy scheme.
type Cipher uint8

// The ciphers. A session takes the one that it does not seal its frames with, so
// that a weakness of either leaves the other.
const (
	// ChaCha20Poly1305 is RFC 8439's, for sessions whose suite is AES-256-GCM.
	ChaCha20Poly1305 Cipher = 1 + iota
	// AES256GCM is NIST SP 800-38D's, for sessions whose suite is
	// ChaCha20-Poly1305.
	AES256GCM
)

func (c Cipher) String() string {
	switch c {
	case ChaCha20Poly1305:
		return "ChaCha20-Poly1305"
	case AES256GCM:
		return "AES-256-GCM"
	}
	return fmt.Sprintf("cipher %d", uint8(c))
}

const (
	tagSize   = 16
	nonceSize = 12
)

func (c Cipher) aead(key *[keySize]byte) (cipher.AEAD, error) {
	if c == ChaCha20Poly1305 {
		return chacha20poly1305.New(key[:])
	}
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// secrecy is secret sharing made short (Krawczyk, CRYPTO '93): the block is
// sealed under a fresh key, the key is shared by Shamir's scheme, and the sealed
// block is dispersed by the erasure code. Shard i is the i-th share of the key,
// then the i-th shard of the sealed block.
type secrecy struct {
	code   *erasure
	cipher Cipher
}

// NewSecrecy returns the scheme in which K of N shards give the block, and fewer
// nothing but its length: each block is sealed with c under a fresh random key,
// the key is shared K of N (Shamir), and the sealed block Reed–Solomon-coded K of
// N. A shard is 32 bytes longer than one K-th of the block and 16 bytes. Sharing
// one block twice gives shards that have nothing in common.
//
// K−1 shards of each sharing say nothing of the key, whatever the power of who
// has them; of the block they say no more than c lets out to who lacks its key.
// Keys are cleared after use where this package holds them; the cipher's own
// state is left to the garbage collector.
//
// 2 ≤ K ≤ N ≤ MaxMinPaths, and c is one of the constants, or the error wraps ErrPolicy.
func NewSecrecy(k, n int, c Cipher) (Scheme, error) {
	if k < 2 {
		return nil, fmt.Errorf("%w: K is %d, but one shard that suffices alone keeps nothing secret; want 2 or more", ErrPolicy, k)
	}
	if c != ChaCha20Poly1305 && c != AES256GCM {
		return nil, fmt.Errorf("%w: %v seals no blocks; want ChaCha20Poly1305 or AES256GCM", ErrPolicy, c)
	}
	code, err := newErasure(k, n)
	if err != nil {
		return nil, err
	}
	return &secrecy{code, c}, nil
}

// K implements Scheme.
func (s *secrecy) K() int { return s.code.k }

// N implements Scheme.
func (s *secrecy) N() int { return s.code.n }

// ShardSize implements Scheme.
func (s *secrecy) ShardSize(size int) int { return keySize + s.code.ShardSize(size+tagSize) }

// Split implements Scheme.
func (s *secrecy) Split(shards [][]byte, block []byte) error {
	if err := checkSplit(s, shards, block); err != nil {
		return err
	}
	var random [MaxMinPaths][keySize]byte // the key, then the coefficients
	defer clear(random[:])
	secret := random[:s.code.k]
	for i := range secret {
		rand.Read(secret[i][:]) // never fails
	}
	aead, err := s.cipher.aead(&secret[0])
	if err != nil {
		return fmt.Errorf("seal a block with %v: %w", s.cipher, err)
	}
	sealed := buf.Get(len(block) + tagSize)
	defer sealed.Release()
	var nonce [nonceSize]byte // zero: the key seals this block and no other
	aead.Seal(sealed.B[:0], nonce[:], block, nil)

	var parts [MaxMinPaths][]byte
	for i, shard := range shards {
		shamirShare((*[keySize]byte)(shard), secret, i)
		parts[i] = shard[keySize:]
	}
	s.code.split(parts[:s.code.n], sealed.B)
	return nil
}

// Join implements Scheme.
func (s *secrecy) Join(dst []byte, size int, shards [][]byte) ([]byte, error) {
	if err := checkJoin(s, size, shards); err != nil {
		return nil, err
	}
	var parts, have [MaxMinPaths][]byte
	var points [MaxMinPaths]byte
	found := 0
	for i, shard := range shards {
		if shard != nil && found < s.code.k {
			parts[i], have[found], points[found] = shard[keySize:], shard, shamirPoint(i)
			found++
		}
	}
	sealed := buf.Get(size + tagSize)
	defer sealed.Release()
	if _, err := s.code.join(sealed.B[:0], size+tagSize, parts[:s.code.n]); err != nil {
		return nil, err
	}
	var key [keySize]byte
	defer clear(key[:])
	shamirKey(&key, points[:found], have[:found])
	aead, err := s.cipher.aead(&key)
	if err != nil {
		return nil, fmt.Errorf("open a block with %v: %w", s.cipher, err)
	}
	var nonce [nonceSize]byte
	dst, err = aead.Open(dst, nonce[:], sealed.B, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: they are not all of one sharing, or were changed: %w", ErrShard, err)
	}
	return dst, nil
}
