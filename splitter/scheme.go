package splitter

import (
	"errors"
	"fmt"
)

// MaxBlock is the largest block, in bytes, that a lane cuts for a Scheme: a full
// record of payload under three nested seals.
const MaxBlock = 36_608

var (
	// ErrShard reports a block or a shard that the Scheme's Split can't have
	// taken or made: of another length, or with contents that no block has.
	ErrShard = errors.New("impossible shard")
	// ErrTooFewShards reports a Join of fewer than K shards.
	ErrTooFewShards = errors.New("too few shards")
)

// A Scheme turns a block into N shards, any K of which give the block again. It
// holds no state: each block stands alone, and its methods may be called at the
// same time. What a shard is worth to who has fewer than K is the scheme's own
// matter.
//
// Shards are told apart by their index alone, 0 to N−1. A Scheme need not find
// out that a shard was changed on its way: in a stream each shard is sealed.
type Scheme interface {
	// K and N are constant, 1 ≤ K ≤ N ≤ MaxMinPaths.
	K() int
	N() int
	// ShardSize is the length of every shard of a block of size bytes, 1 to
	// MaxBlock. It is at least 1, and depends on nothing but size.
	ShardSize(size int) int
	// Split fills shards, N slices of ShardSize(len(block)) bytes each, which
	// overlap neither each other nor block. Nothing is kept. Errors wrap
	// ErrShard, and leave arbitrary bytes in shards.
	Split(shards [][]byte, block []byte) error
	// Join appends the size bytes of a block to dst, which must have no memory
	// in common with the shards. It allocates only what dst has no room for.
	// shards has N elements; one that is nil is missing, and those beyond the
	// first K that are there may be ignored. Errors wrap ErrTooFewShards or
	// ErrShard, and leave arbitrary bytes behind dst.
	Join(dst []byte, size int, shards [][]byte) ([]byte, error)
}

// SchemeOf returns the scheme of a policy: Erasure for Resilience, NewSecrecy
// with the cipher c for Secrecy, and nil for the purposes that send a lane's
// bytes uncoded. Zero fields of p are not filled: see Policy.WithDefaults. Errors
// wrap ErrPolicy.
func SchemeOf(p Policy, c Cipher) (Scheme, error) {
	switch p.Purpose {
	case Resilience:
		return Erasure(p.K, p.N)
	case Secrecy:
		return NewSecrecy(p.K, p.N, c)
	case Throughput, Unlinkability:
		return nil, nil
	}
	return nil, fmt.Errorf("%w: %v has no scheme", ErrPolicy, p.Purpose)
}

// checkSplit refuses what Scheme.Split must not be given.
func checkSplit(s Scheme, shards [][]byte, block []byte) error {
	if len(block) < 1 || len(block) > MaxBlock {
		return fmt.Errorf("%w: split a block of %d bytes, want 1 to %d", ErrShard, len(block), MaxBlock)
	}
	if len(shards) != s.N() {
		return fmt.Errorf("%w: split into %d shards, want %d", ErrShard, len(shards), s.N())
	}
	want := s.ShardSize(len(block))
	for i, shard := range shards {
		if len(shard) != want {
			return fmt.Errorf("%w: split %d bytes into shard %d of %d bytes, want %d", ErrShard, len(block), i, len(shard), want)
		}
	}
	return nil
}

// checkJoin refuses what Scheme.Join must not be given.
func checkJoin(s Scheme, size int, shards [][]byte) error {
	if size < 1 || size > MaxBlock {
		return fmt.Errorf("%w: join a block of %d bytes, want 1 to %d", ErrShard, size, MaxBlock)
	}
	if len(shards) != s.N() {
		return fmt.Errorf("%w: join of %d shards, want %d with nil for what is missing", ErrShard, len(shards), s.N())
	}
	want, have := s.ShardSize(size), 0
	for i, shard := range shards {
		if shard == nil {
			continue
		}
		have++
		if len(shard) != want {
			return fmt.Errorf("%w: join %d bytes from shard %d of %d bytes, want %d", ErrShard, size, i, len(shard), want)
		}
	}
	if have < s.K() {
		return fmt.Errorf("%w: join with %d of the %d that are needed", ErrTooFewShards, have, s.K())
	}
	return nil
}
