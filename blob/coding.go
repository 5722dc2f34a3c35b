package blob

import (
	"crypto/sha256"
	"fmt"

	"github.com/splitmesh/splitmesh/splitter"
)

// codedPrefix begins what is hashed for a coded chunk, beside leafPrefix and nodePrefix.
const codedPrefix = 2

// blockSize is how much of a chunk is coded at a time, in bytes: a chunk's shard is
// the shards of its blocks, one behind the other.
const blockSize = 32 << 10

// A coder turns chunks into shards and back. The code is deterministic, so that who
// has joined a chunk can make all its shards, and so the hash that the manifest
// commits to, from the chunk alone: a sender whose shards don't belong together is
// found out whichever of them one has.
type coder struct {
	scheme  splitter.Scheme // nil: each chunk is its own only shard
	scratch []byte
}

func newCoder(m *Manifest) (*coder, error) {
	if !m.coded() {
		return &coder{}, nil
	}
	s, err := splitter.Erasure(m.K, m.N)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	return &coder{scheme: s}, nil
}

// shardSize is the length of each shard of a chunk of n bytes. That of k of n codes
// is as splitter.Erasure says: a K-th of each block, rounded up.
func (m *Manifest) shardSize(n int) int {
	full, rest := n/blockSize, n%blockSize
	return full*((blockSize+m.K-1)/m.K) + (rest+m.K-1)/m.K
}

// split returns a chunk's shards, valid until the next call.
func (c *coder) split(m *Manifest, chunk []byte) ([][]byte, error) {
	if c.scheme == nil {
		return [][]byte{chunk}, nil
	}
	each := m.shardSize(len(chunk))
	if cap(c.scratch) < m.N*each {
		c.scratch = make([]byte, m.N*each)
	}
	shards, block := make([][]byte, m.N), make([][]byte, m.N)
	for i := range shards {
		shards[i] = c.scratch[i*each : (i+1)*each]
	}
	for at := 0; len(chunk) > 0; {
		b := chunk[:min(blockSize, len(chunk))]
		chunk = chunk[len(b):]
		n := c.scheme.ShardSize(len(b))
		for i := range block {
			block[i] = shards[i][at : at+n]
		}
		if err := c.scheme.Split(block, b); err != nil {
			return nil, err
		}
		at += n
	}
	return shards, nil
}

// join appends the chunk of n bytes to dst. shards has m.N elements, at least m.K of
// which are not nil.
func (c *coder) join(m *Manifest, dst []byte, n int, shards [][]byte) (_ []byte, err error) {
	block := make([][]byte, m.N)
	for at := 0; n > 0; {
		size := min(blockSize, n)
		n -= size
		each := c.scheme.ShardSize(size)
		for i, s := range shards {
			if s != nil {
				block[i] = s[at : at+each]
			}
		}
		if dst, err = c.scheme.Join(dst, size, block); err != nil {
			return nil, err
		}
		at += each
	}
	return dst, nil
}

// leaf is the hash that the tree has of a chunk: its own when it is its only shard,
// else that of its shards' hashes, which it returns too.
func (c *coder) leaf(m *Manifest, chunk []byte) (hash, []hash, error) {
	shards, err := c.split(m, chunk)
	if err != nil {
		return hash{}, nil, err
	}
	hashes := make([]hash, len(shards))
	for i, s := range shards {
		hashes[i] = leafHash(s)
	}
	return m.leafOf(hashes), hashes, nil
}

func (m *Manifest) leafOf(shards []hash) (h hash) {
	if !m.coded() {
		return shards[0]
	}
	d := sha256.New()
	d.Write([]byte{codedPrefix})
	for i := range shards {
		d.Write(shards[i][:])
	}
	d.Sum(h[:0])
	return h
}
