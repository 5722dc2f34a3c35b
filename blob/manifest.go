package blob

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"

	"github.com/splitmesh/splitmesh/splitter"
)

// A Manifest commits to a blob: to its content, its size, and how it is cut. A
// part that proves itself against it belongs to the blob.
type Manifest struct {
	// Size is the content's, in bytes, with its padding.
	Size int64
	// ChunkSize is the length of a chunk in bytes, that of the last one excepted.
	ChunkSize int
	// K and N say that each chunk has N parts, and that any K of them give it
	// (splitter.Erasure); 1 and 1 that a part is a chunk.
	K, N int
	// Padded says that the content ends in padding, with the true size inside.
	Padded bool
	// Root is the root of the Merkle tree (RFC 6962, section 2.1, SHA-256) over
	// the chunks, or what their parts hash to.
	Root [32]byte
}

// Its encoding:
//
//	offset  bytes
//	0       1      version, 1
//	1       1      flags: 1 is padded
//	2       1      log2 of the chunk size
//	3       1      K
//	4       1      N
//	5       8      size, big-endian
//	13      32     root
const (
	version      = 1
	flagPadded   = 1
	manifestSize = 1 + 1 + 1 + 1 + 1 + 8 + 32

	idDomain = "splitmesh/v1/blob"
)

// trailerSize is the length of what ends a padded content: its true size,
// big-endian.
const trailerSize = 8

func (m *Manifest) append(dst []byte) []byte {
	var flags byte
	if m.Padded {
		flags |= flagPadded
	}
	dst = append(dst, version, flags, byte(bits.TrailingZeros(uint(m.ChunkSize))), byte(m.K), byte(m.N))
	dst = binary.BigEndian.AppendUint64(dst, uint64(m.Size))
	return append(dst, m.Root[:]...)
}

// MarshalBinary returns the manifest's only encoding, of 45 bytes.
func (m Manifest) MarshalBinary() ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	return m.append(nil), nil
}

// UnmarshalBinary decodes what MarshalBinary wrote. Errors wrap ErrManifest.
func (m *Manifest) UnmarshalBinary(b []byte) error {
	switch {
	case len(b) != manifestSize:
		return fmt.Errorf("%w: %d bytes, want %d", ErrManifest, len(b), manifestSize)
	case b[0] != version:
		return fmt.Errorf("%w: version %d, this program knows %d", ErrManifest, b[0], version)
	case b[1]&^flagPadded != 0:
		return fmt.Errorf("%w: unknown flags %#x", ErrManifest, b[1])
	case b[2] >= 63:
		return fmt.Errorf("%w: chunks of 2^%d bytes", ErrManifest, b[2])
	}
	d := Manifest{
		Size:      int64(binary.BigEndian.Uint64(b[5:])),
		ChunkSize: int(uint64(1) << b[2]),
		K:         int(b[3]),
		N:         int(b[4]),
		Padded:    b[1]&flagPadded != 0,
		Root:      hash(b[13:]),
	}
	if err := d.check(); err != nil {
		return err
	}
	*m = d
	return nil
}

func (m *Manifest) check() error {
	size := uint64(m.Size)
	switch {
	case m.ChunkSize < MinChunk || m.ChunkSize > MaxChunk || m.ChunkSize&(m.ChunkSize-1) != 0:
		return fmt.Errorf("%w: chunks of %d bytes, want a power of two between %d and %d", ErrManifest, m.ChunkSize, MinChunk, MaxChunk)
	case m.K < 1 || m.N < m.K || m.N > splitter.MaxMinPaths:
		return fmt.Errorf("%w: any %d of %d parts, want 1 ≤ K ≤ N ≤ %d", ErrManifest, m.K, m.N, splitter.MaxMinPaths)
	case m.Size < 0 || size > uint64(m.ChunkSize)*MaxChunks:
		return fmt.Errorf("%w: %d bytes, and chunks of %d allow at most %d", ErrManifest, size, m.ChunkSize, uint64(m.ChunkSize)*MaxChunks)
	case m.Padded && (size < trailerSize || splitter.Padme(size) != size):
		return fmt.Errorf("%w: %d bytes are no padded size", ErrManifest, size)
	}
	return nil
}

// ID is the blob's name: SHA-256 of "splitmesh/v1/blob" and the encoding.
func (m Manifest) ID() ID {
	return sha256.Sum256(m.append([]byte(idDomain)))
}

// Chunks is how many chunks the blob has: at least 1, since the empty blob has an
// empty one.
func (m Manifest) Chunks() int {
	return max(1, int((m.Size+int64(m.ChunkSize)-1)/int64(m.ChunkSize)))
}

// Parts is how many parts the blob has. Part i is shard i%N of chunk i/N.
func (m Manifest) Parts() int { return m.Chunks() * m.N }

// coded reports whether a part is less, or more, than a chunk.
func (m *Manifest) coded() bool { return m.N > 1 }

// span is where chunk i lies in the content.
func (m *Manifest) span(i int) (off int64, n int) {
	off = int64(i) * int64(m.ChunkSize)
	return off, int(min(int64(m.ChunkSize), m.Size-off))
}

// paddedSize is the size, with its padding if there is one, of that much data.
func paddedSize(size int64, padded bool) int64 {
	if !padded {
		return size
	}
	return int64(splitter.Padme(uint64(size) + trailerSize))
}

// content is a source with its padding: data, zeros, and its true size. Chunk
// sizes being powers of two, the size never lies across two chunks.
type content struct {
	data io.ReaderAt
	size int64 // of data
	m    *Manifest
}

// read fills p, the whole of a chunk, from off.
func (c *content) read(p []byte, off int64) error {
	n := int(max(0, min(int64(len(p)), c.size-off)))
	if got, err := c.data.ReadAt(p[:n], off); got < n {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("reading %d bytes of the content at %d: %w", n, off, err)
	}
	clear(p[n:])
	if c.m.Padded && off+int64(len(p)) == c.m.Size {
		binary.BigEndian.PutUint64(p[len(p)-trailerSize:], uint64(c.size))
	}
	return nil
}
