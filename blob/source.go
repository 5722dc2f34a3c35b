package blob

import (
	"context"
	"fmt"
	"io"
	"slices"
)

// A Source is a content that has been hashed, ready to be sent as often as it
// takes. It holds 64 bytes of memory for each chunk. Its methods may be called
// from many goroutines at once when the content's ReadAt may.
type Source struct {
	manifest Manifest
	content  content
	tree     tree
	shards   [][]hash // of each chunk; nil when a part is a chunk
}

// NewSource reads size bytes of src once, and commits to them. src must not change
// as long as the Source is in use. ctx is looked at between chunks.
func NewSource(ctx context.Context, src io.ReaderAt, size int64, o Options) (*Source, error) {
	if size < 0 {
		return nil, fmt.Errorf("blob: the size is %d, want 0 or more", size)
	}
	s := &Source{}
	m := &s.manifest
	m.Size, m.Padded = paddedSize(size, o.Private), o.Private
	m.ChunkSize = o.ChunkSize
	if m.ChunkSize == 0 {
		m.ChunkSize = chunkFor(m.Size)
	}
	if m.K, m.N = o.K, o.N; m.K == 0 && m.N == 0 {
		m.K, m.N = 1, 1
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("blob: %w", err)
	}
	code, err := newCoder(m)
	if err != nil {
		return nil, fmt.Errorf("blob: %w", err)
	}
	s.content = content{src, size, m}

	leaves := make([]hash, m.Chunks())
	b := make([]byte, min(int64(m.ChunkSize), m.Size))
	for i := range leaves {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		off, n := m.span(i)
		if err := s.content.read(b[:n], off); err != nil {
			return nil, fmt.Errorf("blob: %w", err)
		}
		leaf, shards, err := code.leaf(m, b[:n])
		if err != nil {
			return nil, fmt.Errorf("blob: %w", err)
		}
		leaves[i] = leaf
		if m.coded() {
			s.shards = append(s.shards, shards)
		}
		o.progress(Hashing, off+int64(n), m.Size)
	}
	s.tree = newTree(leaves)
	m.Root = s.tree.root()
	return s, nil
}

// chunkFor is the default chunk size.
func chunkFor(size int64) int {
	chunk := 256 << 10
	for chunk < MaxChunk && size/int64(chunk) >= 1<<16 {
		chunk *= 2
	}
	return chunk
}

// Manifest returns what the source commits to.
func (s *Source) Manifest() Manifest { return s.manifest }

// Size is the content's, in bytes, without padding.
func (s *Source) Size() int64 { return s.content.size }

// AppendPart appends part i, from 0 to Manifest().Parts()−1, to dst. The error
// wraps ErrChanged when the content is no longer what was hashed.
func (s *Source) AppendPart(dst []byte, i int) ([]byte, error) {
	m := &s.manifest
	if i < 0 || i >= m.Parts() {
		return dst, fmt.Errorf("blob: part %d of %d", i, m.Parts())
	}
	chunk, shard := i/m.N, i%m.N
	off, n := m.span(chunk)
	part := appendPartHead(slices.Grow(dst, m.partSize(i)), m, i)
	if m.coded() {
		return s.appendShard(dst, part, chunk, shard)
	}
	part = s.tree.appendPath(part, chunk)
	part = part[:len(part)+n]
	payload := part[len(part)-n:]
	if err := s.content.read(payload, off); err != nil {
		return dst, fmt.Errorf("blob: %w", err)
	}
	if leafHash(payload) != s.tree[0][chunk] {
		return dst, fmt.Errorf("blob: chunk %d: %w", chunk, ErrChanged)
	}
	return part, nil
}

// appendShard goes on with a part whose head is in part; dst is for errors.
func (s *Source) appendShard(dst, part []byte, chunk, shard int) ([]byte, error) {
	m := &s.manifest
	off, n := m.span(chunk)
	b := make([]byte, n)
	if err := s.content.read(b, off); err != nil {
		return dst, fmt.Errorf("blob: %w", err)
	}
	code, err := newCoder(m)
	if err != nil {
		return dst, fmt.Errorf("blob: %w", err)
	}
	shards, err := code.split(m, b)
	if err != nil {
		return dst, fmt.Errorf("blob: %w", err)
	}
	if leafHash(shards[shard]) != s.shards[chunk][shard] {
		return dst, fmt.Errorf("blob: chunk %d: %w", chunk, ErrChanged)
	}
	for _, h := range s.shards[chunk] {
		part = append(part, h[:]...)
	}
	return append(s.tree.appendPath(part, chunk), shards[shard]...), nil
}
