package splitter

import (
	"errors"
	"fmt"
	"slices"
	"sort"

	"github.com/splitmesh/splitmesh/internal/buf"
)

// MaxGenerations is how many sharings of one block are collected at a time. A
// sender that shares a block anew goes on with the newest sharing only, and must
// not need an older one to complete.
const MaxGenerations = 4

// ErrIncomplete reports more bytes in incomplete blocks than the receiver allows.
var ErrIncomplete = errors.New("too many bytes in incomplete blocks")

// A Shard says what a coded payload is a part of.
type Shard struct {
	// Offset is that of the block's first byte in the lane, Size the block's
	// length in bytes: 1 to MaxBlock. The blocks of a lane do not overlap.
	Offset uint64
	Size   int
	// Generation counts the times that the block was shared anew. Shards of
	// different generations do not go together.
	Generation uint8
	// Index is the shard's place among the N of its sharing, K of which suffice.
	// K and N are the same for the whole of a lane.
	Index, K, N uint8
}

// end is the offset after the block's last byte.
func (s *Shard) end() uint64 { return s.Offset + uint64(s.Size) }

// Blocks collects the shards of a lane's blocks and joins each block once, as
// soon as K of its shards are there. What belongs to a block that is joined
// already, or comes twice, is dropped before it is copied. It is not safe for
// concurrent use.
//
// The memory that it holds never exceeds the limit given, which is apart from
// the credit of the Reassembler that the joined blocks go to. MostHeld is what a
// sender counts to stay below it.
type Blocks struct {
	scheme Scheme
	next   uint64 // the lane has delivered what is before
	limit  int
	held   int      // the sum of what spans are charged
	spans  []span   // ascending, disjoint; those that are done never touch
	shards [][]byte // for Join, N; all nil between calls
}

// A span is a block that is incomplete, or a stretch of the lane that was joined
// and that the lane has not passed yet: it has no sharings.
type span struct {
	from, to uint64
	sharings []sharing // ascending by generation, at most MaxGenerations
}

func (s *span) done() bool { return len(s.sharings) == 0 }

// A sharing is what is there of one generation of a block: 1 to K−1 pieces.
type sharing struct {
	generation uint8
	pieces     []piece
}

// A piece is a shard that waits. Like a run's, its data lies in owner's buffer,
// or is its own when owner is nil.
type piece struct {
	data  []byte
	owner *buf.Buf
	index uint8
}

// What is charged for each beside the bytes of shards: somewhat more than the
// memory that its bookkeeping takes.
const (
	spanCharge    = 96
	sharingCharge = 96
	pieceCharge   = 96
)

func (p *piece) charge() int {
	if p.owner != nil {
		return pieceCharge + p.owner.Cap()
	}
	return pieceCharge + cap(p.data)
}

func (s *sharing) charge() int {
	sum := sharingCharge
	for i := range s.pieces {
		sum += s.pieces[i].charge()
	}
	return sum
}

// MostHeld is the most, in bytes, that a receiver is charged for one sharing of
// a block of size bytes while it is incomplete: K−1 shards that each lie in
// a buffer twice their length, and what it takes to keep track of them.
func MostHeld(s Scheme, size int) int {
	return spanCharge + sharingCharge + (s.K()-1)*(pieceCharge+2*s.ShardSize(size))
}

// NewBlocks returns a collector of shards of the scheme s that holds at most
// limit bytes: at least that of MostHeld for one block, so that there can be
// any progress.
func NewBlocks(s Scheme, limit int) *Blocks {
	return &Blocks{scheme: s, limit: limit, shards: make([][]byte, s.N())}
}

// Held is the number of bytes that the limit bounds: the buffers of shards that
// wait for others of their block, and what it takes to keep track of them.
func (b *Blocks) Held() int { return b.held }

// Insert takes a shard whose bytes are payload, which lies in owner's buffer (or
// owner is nil and payload is only valid during the call); what is kept holds a
// reference of its own. When the shard completes its block, Insert returns the
// block, whose one reference is the caller's, to be put into the lane at
// s.Offset; otherwise it returns nil.
//
// Errors wrap ErrShard, for a shard that contradicts the scheme or what came
// before, or ErrIncomplete, and leave the state as it was.
func (b *Blocks) Insert(s Shard, payload []byte, owner *buf.Buf) (*buf.Buf, error) {
	if err := b.check(&s, len(payload)); err != nil {
		return nil, err
	}
	switch {
	case s.end() <= b.next:
		return nil, nil // surplus
	case s.Offset < b.next:
		return nil, fmt.Errorf("%w: the block at %d of %d bytes, but the lane has delivered what is before %d", ErrShard, s.Offset, s.Size, b.next)
	}
	// The first span that ends after the block's begin is the block's own, or
	// such that it may not overlap.
	i := sort.Search(len(b.spans), func(k int) bool { return b.spans[k].to > s.Offset })
	var sh *sharing
	if i < len(b.spans) && b.spans[i].from < s.end() {
		at := &b.spans[i]
		switch {
		case at.done() && at.from <= s.Offset && s.end() <= at.to:
			return nil, nil // surplus
		case at.done() || at.from != s.Offset || at.to != s.end():
			return nil, fmt.Errorf("%w: the block at %d of %d bytes overlaps that from %d to %d", ErrShard, s.Offset, s.Size, at.from, at.to)
		}
		if j, ok := at.find(s.Generation); ok {
			sh = &at.sharings[j]
		} else if len(at.sharings) == MaxGenerations && j == 0 {
			return nil, nil // older than all that are kept
		}
	}
	if sh != nil && sh.has(s.Index) {
		return nil, nil
	}
	if sh != nil && len(sh.pieces) == int(s.K)-1 || s.K == 1 {
		return b.complete(i, &s, sh, payload)
	}
	return nil, b.keep(i, &s, sh, payload, owner)
}

// check refuses a shard that the lane's scheme does not make.
func (b *Blocks) check(s *Shard, payload int) error {
	if int(s.K) != b.scheme.K() || int(s.N) != b.scheme.N() {
		return fmt.Errorf("%w: of %d of %d, but the lane's policy is %d of %d", ErrShard, s.K, s.N, b.scheme.K(), b.scheme.N())
	}
	if s.Index >= s.N {
		return fmt.Errorf("%w: index %d of %d", ErrShard, s.Index, s.N)
	}
	if s.Size < 1 || s.Size > MaxBlock || s.end() < s.Offset {
		return fmt.Errorf("%w: of a block of %d bytes at %d, want 1 to %d", ErrShard, s.Size, s.Offset, MaxBlock)
	}
	if want := b.scheme.ShardSize(s.Size); payload != want {
		return fmt.Errorf("%w: %d bytes, want %d for a block of %d", ErrShard, payload, want, s.Size)
	}
	return nil
}

// find returns where the sharing of a generation is, or belongs.
func (s *span) find(generation uint8) (int, bool) {
	j := 0
	for j < len(s.sharings) && s.sharings[j].generation < generation {
		j++
	}
	return j, j < len(s.sharings) && s.sharings[j].generation == generation
}

func (s *sharing) has(index uint8) bool {
	for i := range s.pieces {
		if s.pieces[i].index == index {
			return true
		}
	}
	return false
}

// keep stores a shard in sh or, when that is nil, in a new sharing of the block,
// whose place among the spans is i.
func (b *Blocks) keep(i int, s *Shard, sh *sharing, payload []byte, owner *buf.Buf) error {
	p := piece{payload, owner, s.Index}
	copied := owner == nil || 2*len(payload) < owner.Cap()
	if copied {
		p = piece{payload[:len(payload):len(payload)], nil, s.Index}
	}
	known := i < len(b.spans) && b.spans[i].from == s.Offset
	charge, forget := p.charge(), false
	switch {
	case sh != nil:
	case known:
		charge += sharingCharge
		if forget = len(b.spans[i].sharings) == MaxGenerations; forget {
			charge -= b.spans[i].sharings[0].charge()
		}
	default:
		charge += spanCharge + sharingCharge
	}
	if b.held+charge > b.limit {
		return fmt.Errorf("%w: %d held, %d more for the block at %d, limit %d", ErrIncomplete, b.held, charge, s.Offset, b.limit)
	}
	b.held += charge

	if copied {
		p.data = make([]byte, len(payload))
		copy(p.data, payload)
	} else {
		owner.Retain()
	}
	if sh != nil {
		sh.pieces = append(sh.pieces, p)
		return nil
	}
	if !known {
		b.spans = slices.Insert(b.spans, i, span{from: s.Offset, to: s.end()})
	}
	at := &b.spans[i]
	if forget {
		at.sharings[0].release()
		at.sharings = slices.Delete(at.sharings, 0, 1)
	}
	pieces := append(make([]piece, 0, s.K-1), p)
	j, _ := at.find(s.Generation)
	at.sharings = slices.Insert(at.sharings, j, sharing{s.Generation, pieces})
	return nil
}

// complete joins the block that belongs at i from the pieces of sh and the shard
// that was lacking, and forgets its shards.
func (b *Blocks) complete(i int, s *Shard, sh *sharing, payload []byte) (*buf.Buf, error) {
	known := i < len(b.spans) && b.spans[i].from == s.Offset
	if !known && b.held+spanCharge > b.limit {
		return nil, fmt.Errorf("%w: %d held, limit %d", ErrIncomplete, b.held, b.limit)
	}
	defer clear(b.shards)
	b.shards[s.Index] = payload
	if sh != nil {
		for _, p := range sh.pieces {
			b.shards[p.index] = p.data
		}
	}
	block := buf.Get(s.Size)
	joined, err := b.scheme.Join(block.B[:0], s.Size, b.shards)
	if err != nil {
		block.Release()
		return nil, fmt.Errorf("join the block at %d: %w", s.Offset, err)
	}
	if len(joined) != s.Size {
		block.Release()
		return nil, fmt.Errorf("%w: the block at %d has %d bytes, joined of %d", ErrShard, s.Offset, s.Size, len(joined))
	}
	if &joined[0] != &block.B[0] { // the scheme made room of its own
		copy(block.B, joined)
	}
	if known {
		b.drop(&b.spans[i])
	} else {
		b.spans = slices.Insert(b.spans, i, span{from: s.Offset, to: s.end()})
		b.held += spanCharge
	}
	b.merge(i)
	return block, nil
}

// drop releases the sharings of a span, which thereby is done.
func (b *Blocks) drop(s *span) {
	for j := range s.sharings {
		b.held -= s.sharings[j].charge()
		s.sharings[j].release()
	}
	s.sharings = nil
}

func (s *sharing) release() {
	for _, p := range s.pieces {
		if p.owner != nil {
			p.owner.Release()
		}
	}
}

// merge makes one span of the done one at i and those done that touch it.
func (b *Blocks) merge(i int) {
	from, to := i, i+1
	if i > 0 && b.spans[i-1].done() && b.spans[i-1].to == b.spans[i].from {
		from--
	}
	if to < len(b.spans) && b.spans[to].done() && b.spans[to].from == b.spans[i].to {
		to++
	}
	b.spans[from].to = b.spans[to-1].to
	b.forget(from+1, to)
}

// forget deletes the spans [from, to).
func (b *Blocks) forget(from, to int) {
	for k := from; k < to; k++ {
		b.drop(&b.spans[k])
	}
	b.held -= (to - from) * spanCharge
	b.spans = slices.Delete(b.spans, from, to)
}

// Advance says that the lane has delivered the bytes before next: shards of them
// are surplus from now on, and nothing is remembered of them. It never falls.
func (b *Blocks) Advance(next uint64) {
	if next <= b.next {
		return
	}
	b.next = next
	n := 0
	for n < len(b.spans) && b.spans[n].to <= next {
		n++
	}
	// A block of which the lane has a part from elsewhere is of no more use.
	if n < len(b.spans) && b.spans[n].from < next {
		if b.spans[n].done() {
			b.spans[n].from = next
		} else {
			n++
		}
	}
	b.forget(0, n)
}

// Reset drops what waits and gives its buffers back.
func (b *Blocks) Reset() {
	b.forget(0, len(b.spans))
}
