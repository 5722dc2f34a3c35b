package splitter_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/splitmesh/splitmesh/internal/buf"
	"github.com/splitmesh/splitmesh/splitter"
)

// coded is a block of the stream that the tests send, by the code 2 of 3 unless
// said otherwise.
func coded(t testing.TB, s splitter.Scheme, from, to uint64, generation, index uint8) (splitter.Shard, []byte) {
	t.Helper()
	shards := split(t, s, stretch(from, to))
	return splitter.Shard{
		Offset: from, Size: int(to - from), Generation: generation,
		Index: index, K: uint8(s.K()), N: uint8(s.N()),
	}, shards[index]
}

// put inserts a shard and returns the block, checked, as a bool.
func put(t testing.TB, b *splitter.Blocks, s splitter.Shard, payload []byte) (bool, error) {
	t.Helper()
	owner := buf.Get(len(payload))
	copy(owner.B, payload)
	block, err := b.Insert(s, owner.B, owner)
	clear(owner.B[:copied(owner.B)])
	owner.Release()
	if block == nil {
		return false, err
	}
	if err != nil || !bytes.Equal(block.B, stretch(s.Offset, s.Offset+uint64(s.Size))) {
		t.Fatalf("%+v: wrong block, %v", s, err)
	}
	block.Release()
	return true, nil
}

// copied is how many of the bytes Blocks must have copied: those that fill less
// than half of their buffer. Changing them then changes nothing.
func copied(p []byte) int {
	if 2*len(p) < cap(p) {
		return len(p)
	}
	return 0
}

func TestBlocksComplete(t *testing.T) {
	type in struct {
		from, to          uint64
		generation, index uint8
		done              bool
	}
	for _, tt := range []struct {
		name string
		in   []in
		idle bool // nothing but the done spans is held at the end
	}{
		{"two data shards", []in{{0, 9, 0, 0, false}, {0, 9, 0, 1, true}}, true},
		{"with parity", []in{{0, 9, 0, 2, false}, {0, 9, 0, 1, true}}, true},
		{"one byte", []in{{0, 1, 0, 2, false}, {0, 1, 0, 1, true}}, true},
		{"the same twice", []in{{0, 9, 0, 2, false}, {0, 9, 0, 2, false}}, false},
		{"surplus", []in{{0, 9, 0, 0, false}, {0, 9, 0, 1, true}, {0, 9, 0, 2, false}, {0, 9, 0, 0, false}}, true},
		{"surplus of another sharing", []in{{0, 9, 0, 0, false}, {0, 9, 0, 1, true}, {0, 9, 1, 2, false}, {0, 9, 1, 1, false}}, true},
		{"surplus within joined neighbours", []in{
			{9, 18, 0, 0, false}, {9, 18, 0, 1, true}, {0, 9, 0, 0, false}, {0, 9, 0, 1, true},
			{18, 27, 0, 0, false}, {18, 27, 0, 1, true}, {9, 18, 0, 2, false}, {0, 9, 0, 2, false}, {18, 27, 0, 2, false},
		}, true},
		{"interleaved", []in{{9, 18, 0, 0, false}, {0, 9, 0, 0, false}, {9, 18, 0, 1, true}, {0, 9, 0, 2, true}}, true},
		{"sharings do not mix", []in{{0, 9, 0, 0, false}, {0, 9, 1, 1, false}, {0, 9, 2, 2, false}}, false},
		{"the later sharing completes", []in{{0, 9, 0, 0, false}, {0, 9, 1, 1, false}, {0, 9, 1, 2, true}, {0, 9, 0, 1, false}}, true},
		{"the earlier sharing completes", []in{{0, 9, 1, 0, false}, {0, 9, 0, 1, false}, {0, 9, 0, 2, true}, {0, 9, 1, 1, false}}, true},
		{"the oldest of five is forgotten", []in{
			{0, 9, 0, 0, false}, {0, 9, 2, 0, false}, {0, 9, 1, 0, false}, {0, 9, 3, 0, false}, {0, 9, 4, 0, false},
			{0, 9, 0, 1, false}, {0, 9, 0, 2, false}, {0, 9, 1, 1, true},
		}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := splitter.NewBlocks(erasure(t, 2, 3), 1<<20)
			defer b.Reset()
			end := uint64(0)
			for _, in := range tt.in {
				s, p := coded(t, erasure(t, 2, 3), in.from, in.to, in.generation, in.index)
				done, err := put(t, b, s, p)
				if done != in.done || err != nil {
					t.Fatalf("%+v: complete is %v, %v", in, done, err)
				}
				end = max(end, in.to)
			}
			held := b.Held()
			b.Advance(end)
			if b.Held() != 0 {
				t.Errorf("%d bytes held when the lane is past them", b.Held())
			}
			if idle := held < 100; idle != tt.idle {
				t.Errorf("%d bytes held at the end", held)
			}
			for _, in := range tt.in {
				s, p := coded(t, erasure(t, 2, 3), in.from, in.to, in.generation, in.index)
				if done, err := put(t, b, s, p); done || err != nil || b.Held() != 0 {
					t.Fatalf("%+v, which the lane has delivered: complete is %v, %v, %d held", in, done, err, b.Held())
				}
			}
		})
	}
}

func TestContradictionsAreRefused(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(s *splitter.Shard)
		grow   int // of the payload
	}{
		{"other K", func(s *splitter.Shard) { s.K = 1 }, 0},
		{"other N", func(s *splitter.Shard) { s.N = 4 }, 0},
		{"index beyond N", func(s *splitter.Shard) { s.Index = 3 }, 0},
		{"no size", func(s *splitter.Shard) { s.Size = 0 }, 0},
		{"negative size", func(s *splitter.Shard) { s.Size = -9 }, 0},
		{"size above the most", func(s *splitter.Shard) { s.Size = splitter.MaxBlock + 1 }, splitter.MaxBlock},
		{"end beyond all offsets", func(s *splitter.Shard) { s.Offset = ^uint64(0) - 3 }, 0},
		{"payload too short", func(*splitter.Shard) {}, -1},
		{"payload too long", func(*splitter.Shard) {}, 1},
		{"other size", func(s *splitter.Shard) { s.Size-- }, 0},
		{"other size in another sharing", func(s *splitter.Shard) { s.Size--; s.Generation++ }, 0},
		{"begins within", func(s *splitter.Shard) { s.Offset += 5 }, 0},
		{"ends within", func(s *splitter.Shard) { s.Offset -= 5 }, 0},
		{"ends within what is joined", func(s *splitter.Shard) { s.Offset = 45 }, 0},
		{"begins within what is joined", func(s *splitter.Shard) { s.Offset = 59 }, 0},
		{"begins within what is delivered", func(s *splitter.Shard) { s.Offset = 9 }, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code := erasure(t, 2, 3)
			b := splitter.NewBlocks(code, 1<<20)
			defer b.Reset()
			b.Advance(10)
			for _, index := range []uint8{0, 1} { // 50 to 60 is joined
				s, p := coded(t, code, 50, 60, 0, index)
				put(t, b, s, p)
			}
			s, p := coded(t, code, 20, 30, 0, 0)
			if _, err := put(t, b, s, p); err != nil {
				t.Fatal(err)
			}
			held := b.Held()
			bad := s
			bad.Index = 1
			tt.change(&bad)
			payload := make([]byte, len(p)+tt.grow)
			if _, err := b.Insert(bad, payload, nil); !errors.Is(err, splitter.ErrShard) {
				t.Fatalf("%v, want ErrShard", err)
			}
			if b.Held() != held {
				t.Errorf("%d bytes held, %d before the error", b.Held(), held)
			}
			s, p = coded(t, code, 20, 30, 0, 1)
			if done, err := put(t, b, s, p); !done {
				t.Errorf("the block does not complete after the error: %v", err)
			}
		})
	}
}

// TestALateLaneForgets: a lane that got part of a block in another way drops it.
func TestALateLaneForgets(t *testing.T) {
	code := erasure(t, 2, 3)
	b := splitter.NewBlocks(code, 1<<20)
	s, p := coded(t, code, 10, 20, 0, 0)
	put(t, b, s, p)
	b.Advance(5)
	if b.Held() == 0 {
		t.Error("forgot what is to come")
	}
	b.Advance(15)
	b.Advance(3) // never falls
	if b.Held() != 0 {
		t.Error("holds half a block")
	}
	for _, index := range []uint8{0, 1} {
		s, p := coded(t, code, 20, 30, 0, index)
		put(t, b, s, p)
	}
	b.Advance(22)
	if s, p := coded(t, code, 22, 30, 0, 0); b.Held() == 0 {
		t.Error("forgot what is joined beyond the lane")
	} else if done, err := put(t, b, s, p); done || err != nil {
		t.Error("a block within what is joined is no surplus", err)
	}
}

func TestIncompleteIsBounded(t *testing.T) {
	code := erasure(t, 3, 4)
	for _, size := range []uint64{1, 100, 5000, splitter.MaxBlock} {
		most := splitter.MostHeld(code, int(size))
		b := splitter.NewBlocks(code, 3*most)
		n := 0
		for at := uint64(0); ; at += size {
			s, p := coded(t, code, at, at+size, 0, 0)
			_, err := put(t, b, s, p)
			if err == nil {
				s, p = coded(t, code, at, at+size, 0, 1)
				_, err = put(t, b, s, p)
			}
			if b.Held() > 3*most {
				t.Fatalf("%d bytes held, the limit is %d", b.Held(), 3*most)
			}
			if err != nil {
				if !errors.Is(err, splitter.ErrIncomplete) {
					t.Fatal(err)
				}
				break
			}
			n++
		}
		if n < 3 || n > 6 {
			t.Errorf("%d blocks of %d bytes wait within the charge of 3", n, size)
		}
		// What it held is still good.
		s, p := coded(t, code, 0, size, 0, 2)
		if done, err := put(t, b, s, p); !done {
			t.Errorf("%d bytes: the first block does not complete: %v", size, err)
		}
		b.Reset()
	}
}

// TestJoinedSpansAreBounded: not even what needs no shards may cost without limit.
func TestJoinedSpansAreBounded(t *testing.T) {
	code := erasure(t, 1, 3)
	b := splitter.NewBlocks(code, 1000)
	var err error
	n := uint64(0)
	for ; err == nil && n < 1000; n++ {
		s, p := coded(t, code, 2*n, 2*n+1, 0, 0)
		_, err = put(t, b, s, p)
	}
	if !errors.Is(err, splitter.ErrIncomplete) || b.Held() > 1000 {
		t.Fatalf("%v with %d held after %d blocks", err, b.Held(), n)
	}
}

// TestShardsAreReferences counts references: a shard that fills half its buffer
// is kept without a copy, and given back once: when its block is complete, its
// sharing too old, or all is dropped.
func TestShardsAreReferences(t *testing.T) {
	code := erasure(t, 2, 3)
	const size = 6000 // in shards of 3000, in buffers of 4096
	released := func(b *buf.Buf) (again bool) {
		defer func() { again = recover() != nil }()
		b.Retain()
		b.Release()
		return false
	}
	for name, end := range map[string]func(t *testing.T, b *splitter.Blocks){
		"complete": func(t *testing.T, b *splitter.Blocks) {
			s, p := coded(t, code, 0, size, 0, 1)
			if done, err := put(t, b, s, p); !done {
				t.Fatal(err)
			}
		},
		"newer sharings": func(t *testing.T, b *splitter.Blocks) {
			for g := range uint8(splitter.MaxGenerations) {
				s, p := coded(t, code, 0, size, g+1, 1)
				if _, err := put(t, b, s, p); err != nil {
					t.Fatal(err)
				}
			}
		},
		"another sharing completes": func(t *testing.T, b *splitter.Blocks) {
			for _, index := range []uint8{0, 1} {
				s, p := coded(t, code, 0, size, 1, index)
				put(t, b, s, p)
			}
		},
		"passed": func(_ *testing.T, b *splitter.Blocks) { b.Advance(size) },
		"reset":  func(_ *testing.T, b *splitter.Blocks) { b.Reset() },
	} {
		t.Run(name, func(t *testing.T) {
			b := splitter.NewBlocks(code, 1<<20)
			s, p := coded(t, code, 0, size, 0, 0)
			owner := buf.Get(len(p))
			copy(owner.B, p)
			if _, err := b.Insert(s, owner.B, owner); err != nil {
				t.Fatal(err)
			}
			owner.Release()
			if released(owner) {
				t.Fatal("no reference to the shard that is kept")
			}
			end(t, b)
			if !released(owner) {
				t.Error("a shard of no more use is still held")
			}
			b.Reset()
		})
	}
}

// ownRoom joins into memory of its own, and lacks as many bytes as it says.
type ownRoom struct {
	splitter.Scheme
	lacks int
}

func (s ownRoom) Join(_ []byte, size int, shards [][]byte) ([]byte, error) {
	p, err := s.Scheme.Join(nil, size, shards)
	return p[:size-s.lacks], err
}

// TestJoinsOfAllKinds: whatever a scheme does with the room it is given, a block
// is whole or an error; and a block that can't be joined is not lost.
func TestJoinsOfAllKinds(t *testing.T) {
	code := erasure(t, 2, 3)
	for lacks, want := range []error{nil, splitter.ErrShard} {
		b := splitter.NewBlocks(ownRoom{code, lacks}, 1<<20)
		s, p := coded(t, code, 0, 100, 0, 0)
		put(t, b, s, p)
		s, p = coded(t, code, 0, 100, 0, 1)
		if done, err := put(t, b, s, p); done != (want == nil) || !errors.Is(err, want) {
			t.Errorf("%d bytes lacking: complete is %v, %v", lacks, done, err)
		}
	}

	secret := secrecy(t, 2, 3, splitter.AES256GCM)
	b := splitter.NewBlocks(secret, 1<<20)
	shards := split(t, secret, stretch(0, 100))
	s := splitter.Shard{Size: 100, K: 2, N: 3}
	put(t, b, s, shards[0])
	held := b.Held()
	s.Index = 1
	if done, err := put(t, b, s, make([]byte, len(shards[1]))); done || !errors.Is(err, splitter.ErrShard) || b.Held() != held {
		t.Errorf("a changed shard: complete is %v, %v, %d held, %d before", done, err, b.Held(), held)
	}
	if done, err := put(t, b, s, shards[1]); !done {
		t.Error("the right shard does not complete it:", err)
	}
}
