package splitter_test

import (
	"fmt"
	"testing"

	"github.com/splitmesh/splitmesh/internal/buf"
	"github.com/splitmesh/splitmesh/splitter"
)

const benchBlock = 32 << 10

func benchSchemes(b *testing.B, f func(b *testing.B, s splitter.Scheme)) {
	for _, kn := range [][2]int{{1, 3}, {2, 3}, {3, 4}, {2, 4}, {5, 8}} {
		b.Run(fmt.Sprintf("erasure-%d-of-%d", kn[0], kn[1]), func(b *testing.B) { f(b, erasure(b, kn[0], kn[1])) })
	}
	for _, c := range []splitter.Cipher{splitter.ChaCha20Poly1305, splitter.AES256GCM} {
		b.Run(fmt.Sprintf("secrecy-2-of-3-%v", c), func(b *testing.B) { f(b, secrecy(b, 2, 3, c)) })
	}
}

// BenchmarkSplit is of blocks of 32 KiB; so are the others, and B/s are of blocks.
func BenchmarkSplit(b *testing.B) {
	benchSchemes(b, func(b *testing.B, s splitter.Scheme) {
		block := random(benchBlock)
		shards := split(b, s, block)
		b.SetBytes(benchBlock)
		b.ReportAllocs()
		for b.Loop() {
			if err := s.Split(shards, block); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkJoin does without shard 0, so that there is something to reckon.
func BenchmarkJoin(b *testing.B) {
	benchSchemes(b, func(b *testing.B, s splitter.Scheme) {
		shards := split(b, s, random(benchBlock))
		shards[0] = nil
		dst := make([]byte, 0, benchBlock)
		b.SetBytes(benchBlock)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.Join(dst, benchBlock, shards); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkBlocks inserts all shards of each block, in the buffers that a path's
// reader would bring them in.
func BenchmarkBlocks(b *testing.B) {
	benchSchemes(b, func(b *testing.B, s splitter.Scheme) {
		shards := split(b, s, random(benchBlock))
		blocks := splitter.NewBlocks(s, 1<<20)
		at := splitter.Shard{Size: benchBlock, K: uint8(s.K()), N: uint8(s.N())}
		b.SetBytes(benchBlock)
		b.ReportAllocs()
		for b.Loop() {
			for i := len(shards) - 1; i >= 0; i-- {
				owner := buf.Get(36 << 10)
				payload := owner.B[:copy(owner.B, shards[i])]
				at.Index = uint8(i)
				block, err := blocks.Insert(at, payload, owner)
				if err != nil {
					b.Fatal(err)
				}
				owner.Release()
				if block != nil {
					block.Release()
				}
			}
			at.Offset += benchBlock
			blocks.Advance(at.Offset)
		}
	})
}
