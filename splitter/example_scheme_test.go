package splitter_test

import (
	"crypto/subtle"
	"fmt"

	"github.com/splitmesh/splitmesh/splitter"
)

// xorParity is a Scheme of one's own, 2 of 3: the two halves of a block, and
// their XOR.
type xorParity struct{}

func (xorParity) K() int                 { return 2 }
func (xorParity) N() int                 { return 3 }
func (xorParity) ShardSize(size int) int { return (size + 1) / 2 }

func (s xorParity) Split(shards [][]byte, block []byte) error {
	half := s.ShardSize(len(block))
	if len(shards) != 3 || len(shards[0]) != half || len(shards[1]) != half || len(shards[2]) != half {
		return fmt.Errorf("%w: want 3 of %d bytes", splitter.ErrShard, half)
	}
	copy(shards[0], block)
	clear(shards[1][copy(shards[1], block[half:]):])
	subtle.XORBytes(shards[2], shards[0], shards[1])
	return nil
}

func (s xorParity) Join(dst []byte, size int, shards [][]byte) ([]byte, error) {
	half, have := s.ShardSize(size), 0
	for _, shard := range shards {
		if len(shard) == half {
			have++
		} else if shard != nil {
			return nil, fmt.Errorf("%w: %d bytes, want %d", splitter.ErrShard, len(shard), half)
		}
	}
	if have < 2 {
		return nil, fmt.Errorf("%w: %d of 2", splitter.ErrTooFewShards, have)
	}
	at := len(dst)
	for i, other := range [][]byte{shards[1], shards[0]} {
		if shards[i] != nil {
			dst = append(dst, shards[i]...)
			continue
		}
		dst = append(dst, other...)
		part := dst[len(dst)-half:]
		subtle.XORBytes(part, part, shards[2])
	}
	return dst[:at+size], nil
}

// A lane's blocks are divided by any Scheme, and Blocks collects what it made.
func ExampleScheme() {
	var scheme splitter.Scheme = xorParity{}
	block := []byte("by any two of three paths")

	shards := make([][]byte, scheme.N())
	for i := range shards {
		shards[i] = make([]byte, scheme.ShardSize(len(block)))
	}
	if err := scheme.Split(shards, block); err != nil {
		fmt.Println(err)
		return
	}

	// The path that carried shard 0 died.
	blocks := splitter.NewBlocks(scheme, 1<<20)
	for _, index := range []uint8{2, 1} {
		s := splitter.Shard{Size: len(block), Index: index, K: 2, N: 3}
		joined, err := blocks.Insert(s, shards[index], nil)
		if err != nil {
			fmt.Println(err)
			return
		}
		if joined != nil {
			fmt.Printf("%s\n", joined.B)
			joined.Release()
		}
	}
	// Output: by any two of three paths
}
