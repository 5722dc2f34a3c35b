package splitter_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/splitmesh/splitmesh/internal/buf"
	"github.com/splitmesh/splitmesh/splitter"
)

// content is the byte at each offset of the stream that the tests send.
func content(offset uint64) byte { return byte(offset*31 + offset>>8) }

func stretch(from, to uint64) []byte {
	p := make([]byte, to-from)
	for i := range p {
		p[i] = content(from + uint64(i))
	}
	return p
}

// sink checks that what is delivered is the stream, once and in order.
type sink struct {
	t    testing.TB
	next uint64
}

func (s *sink) deliver(p []byte, _ *buf.Buf) {
	if !bytes.Equal(p, stretch(s.next, s.next+uint64(len(p)))) {
		s.t.Fatalf("wrong bytes at offset %d, length %d", s.next, len(p))
	}
	s.next += uint64(len(p))
}

func TestReassemble(t *testing.T) {
	type span [2]uint64
	for _, tt := range []struct {
		name    string
		in      []span
		next    uint64
		waiting int
	}{
		{"in order", []span{{0, 5}, {5, 9}}, 9, 0},
		{"swapped", []span{{5, 9}, {0, 5}}, 9, 0},
		{"gap stays", []span{{0, 5}, {7, 9}}, 5, 2},
		{"doubled", []span{{0, 5}, {0, 5}, {5, 6}}, 6, 0},
		{"doubled while waiting", []span{{5, 9}, {5, 9}, {0, 5}}, 9, 0},
		{"half old", []span{{0, 5}, {3, 9}}, 9, 0},
		{"covers two that wait", []span{{4, 6}, {8, 10}, {2, 12}}, 0, 10},
		{"covers two that wait, then filled", []span{{4, 6}, {8, 10}, {2, 12}, {0, 2}}, 12, 0},
		{"overlaps the left", []span{{4, 8}, {6, 10}}, 0, 6},
		{"overlaps the right", []span{{6, 10}, {4, 8}}, 0, 6},
		{"inside one that waits", []span{{4, 10}, {5, 7}}, 0, 6},
		{"fills past what waits", []span{{4, 6}, {8, 9}, {0, 20}}, 20, 0},
		{"ends inside what waits", []span{{4, 9}, {0, 6}}, 9, 0},
		{"empty", []span{{3, 3}}, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var r splitter.Reassembler
			r.Allow(100)
			s := &sink{t: t}
			for _, in := range tt.in {
				if err := r.Insert(in[0], stretch(in[0], in[1]), nil, s.deliver); err != nil {
					t.Fatal(err)
				}
			}
			if r.Next() != tt.next || s.next != tt.next || r.Waiting() != tt.waiting {
				t.Fatalf("next %d, delivered %d, waiting %d, want %d and %d", r.Next(), s.next, r.Waiting(), tt.next, tt.waiting)
			}
		})
	}
}

func TestCreditIsEnforced(t *testing.T) {
	var r splitter.Reassembler
	r.Allow(10)
	r.Allow(5) // never falls
	s := &sink{t: t}
	for _, at := range []uint64{1, 10, 1 << 63, ^uint64(0)} {
		if err := r.Insert(at, make([]byte, 10), nil, s.deliver); !errors.Is(err, splitter.ErrCredit) {
			t.Errorf("offset %d: %v, want ErrCredit", at, err)
		}
	}
	if err := r.Insert(0, stretch(0, 10), nil, s.deliver); err != nil || r.Limit() != 10 {
		t.Fatal(err, r.Limit())
	}
}

func TestFragmentsAreBounded(t *testing.T) {
	var r splitter.Reassembler
	r.Allow(1 << 30)
	s := &sink{t: t}
	var err error
	n := 0
	for ; err == nil && n < 2*splitter.MaxFragments; n++ {
		err = r.Insert(uint64(2*n+1), stretch(uint64(2*n+1), uint64(2*n+2)), nil, s.deliver)
	}
	if !errors.Is(err, splitter.ErrFragments) || n != splitter.MaxFragments+1 {
		t.Fatalf("%v after %d fragments", err, n)
	}
	// What it held is still good: the first gap can be filled.
	if err := r.Insert(0, stretch(0, 1), nil, s.deliver); err != nil || r.Next() != 2 {
		t.Fatal(err, r.Next())
	}
}

// TestNeighboursJoin shows that a stretch of tiny segments behind a gap becomes
// few fragments.
func TestNeighboursJoin(t *testing.T) {
	var r splitter.Reassembler
	r.Allow(1 << 30)
	s := &sink{t: t}
	const n = 4 * splitter.MaxFragments
	for i := uint64(1); i < n; i++ {
		if err := r.Insert(i, stretch(i, i+1), nil, s.deliver); err != nil {
			t.Fatalf("byte %d: %v", i, err)
		}
	}
	if err := r.Insert(0, stretch(0, 1), nil, s.deliver); err != nil || r.Next() != n {
		t.Fatal(err, r.Next())
	}
}

// TestBuffersAreGivenBack counts references: a full buffer is kept without a
// copy and released exactly once, a small piece never pins its buffer.
func TestBuffersAreGivenBack(t *testing.T) {
	released := func(b *buf.Buf) (again bool) {
		defer func() { again = recover() != nil }()
		b.Retain()
		b.Release()
		return false
	}
	var r splitter.Reassembler
	r.Allow(1 << 30)
	large, small := buf.Get(30<<10), buf.Get(10)
	for i := range large.B {
		large.B[i] = content(uint64(1 + i))
	}
	if err := r.Insert(1, large.B, large, nil); err != nil {
		t.Fatal(err)
	}
	large.Release()
	if released(large) {
		t.Fatal("the reassembler holds no reference to the bytes it keeps")
	}
	if err := r.Insert(100_000, small.B, small, nil); err != nil {
		t.Fatal(err)
	}
	small.Release()
	if !released(small) {
		t.Error("a 10-byte piece pins its buffer")
	}
	s := &sink{t: t}
	if err := r.Insert(0, stretch(0, 1), nil, s.deliver); err != nil {
		t.Fatal(err)
	}
	if !released(large) {
		t.Error("a delivered buffer is still held")
	}
	r.Reset()
	if r.Waiting() != 0 {
		t.Error("Reset left bytes")
	}
}

// play runs a schedule of inserts, from(i) to to(i), over a stream of size bytes
// and checks the invariants against a model after each.
func play(t testing.TB, size uint64, steps int, next func() (from, to uint64)) {
	var r splitter.Reassembler
	s := &sink{t: t}
	r.Allow(size)
	seen := make([]bool, size)
	for range steps {
		from, to := next()
		b := buf.Get(int(to - from))
		copy(b.B, stretch(from, to))
		if err := r.Insert(from, b.B, b, s.deliver); err != nil {
			t.Fatal(err)
		}
		b.Release()
		for i := from; i < to; i++ {
			seen[i] = true
		}
		ready, held := uint64(0), 0
		for ready < size && seen[ready] {
			ready++
		}
		for i := ready; i < size; i++ {
			if seen[i] {
				held++
			}
		}
		if r.Next() != ready || s.next != ready || r.Waiting() != held {
			t.Fatalf("next %d, delivered %d, waiting %d; the model says %d and %d", r.Next(), s.next, r.Waiting(), ready, held)
		}
	}
	r.Reset()
}

func TestRandomSchedules(t *testing.T) {
	for seed := range uint64(200) {
		rng, size := rand.New(rand.NewPCG(seed, 0)), 1+seed*7
		play(t, size, 60, func() (uint64, uint64) {
			from := rng.Uint64N(size)
			return from, min(size, from+rng.Uint64N(size/4+1))
		})
	}
}

// FuzzReassembler reads operations of two bytes: where, and how many.
func FuzzReassembler(f *testing.F) {
	f.Add([]byte{0, 10, 20, 10, 10, 10})
	f.Add([]byte{200, 60, 10, 3, 9, 5, 0, 255, 250, 255})
	f.Fuzz(func(t *testing.T, ops []byte) {
		ops = ops[:min(len(ops), 64)]
		play(t, 1024, len(ops)/2, func() (uint64, uint64) {
			from, n := uint64(ops[0])*4, uint64(ops[1])*2
			ops = ops[2:]
			return from, min(1024, from+n)
		})
	})
}
