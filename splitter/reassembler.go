package splitter

import (
	"errors"
	"fmt"
	"slices"
	"sort"

	"github.com/splitmesh/splitmesh/internal/buf"
)

// MaxFragments is the most separate runs of bytes that may wait out of order.
// A sender stays below it by having fewer segments than that unacknowledged.
const MaxFragments = 8192

var (
	// ErrCredit reports bytes beyond the credit that the receiver gave.
	ErrCredit = errors.New("bytes beyond the credit given")
	// ErrFragments reports more than MaxFragments runs out of order.
	ErrFragments = errors.New("too many fragments out of order")
)

// A Reassembler puts the bytes of a lane in order. Each byte has an offset from
// 0; a byte that comes twice is dropped. It holds at most the credit given by
// Allow. It is not safe for concurrent use.
type Reassembler struct {
	next    uint64 // offset of the next byte to deliver
	limit   uint64 // first offset that the sender may not use
	waiting []run  // ascending, disjoint, none touching next
	bytes   int    // in waiting
}

// A run is a stretch of bytes that waits; it owns a reference to owner, or its
// data outright when owner is nil.
type run struct {
	offset uint64
	data   []byte
	owner  *buf.Buf
}

func (r *run) end() uint64 { return r.offset + uint64(len(r.data)) }

func (r *run) release() {
	if r.owner != nil {
		r.owner.Release()
	}
}

// Next is the offset of the first byte not yet delivered.
func (r *Reassembler) Next() uint64 { return r.next }

// Limit is the first offset that the sender may not use yet.
func (r *Reassembler) Limit() uint64 { return r.limit }

// Waiting is the number of bytes held out of order.
func (r *Reassembler) Waiting() int { return r.bytes }

// Allow raises the limit to at least limit. It never falls.
func (r *Reassembler) Allow(limit uint64) { r.limit = max(r.limit, limit) }

// Insert takes the bytes p at offset and calls deliver, zero or more times, with
// the bytes that are now in order. p lies in owner's buffer (or owner is nil and p
// is only valid during the call); what is kept holds a reference of its own.
// deliver must Retain what it keeps. Errors wrap ErrCredit or ErrFragments and
// leave the state as it was.
func (r *Reassembler) Insert(offset uint64, p []byte, owner *buf.Buf, deliver func(p []byte, owner *buf.Buf)) error {
	end := offset + uint64(len(p))
	if end < offset || end > r.limit {
		return fmt.Errorf("%w: offset %d, %d bytes, credit up to %d", ErrCredit, offset, len(p), r.limit)
	}
	if offset < r.next {
		if end <= r.next {
			return nil
		}
		p, offset = p[r.next-offset:], r.next
	}
	if len(p) == 0 {
		return nil
	}
	if offset > r.next {
		return r.keep(offset, p, owner)
	}
	r.next = end
	deliver(p, owner)
	r.drain(deliver)
	return nil
}

// drain delivers the waiting runs that next has reached.
func (r *Reassembler) drain(deliver func([]byte, *buf.Buf)) {
	n := 0
	for ; n < len(r.waiting) && r.waiting[n].offset <= r.next; n++ {
		w := &r.waiting[n]
		r.bytes -= len(w.data)
		if end := w.end(); end > r.next {
			fresh := w.data[r.next-w.offset:]
			r.next = end
			deliver(fresh, w.owner)
		}
		w.release()
	}
	if n > 0 {
		r.waiting = slices.Delete(r.waiting, 0, n)
	}
}

// keep stores the parts of p, which begins past next, that are not there yet.
func (r *Reassembler) keep(offset uint64, p []byte, owner *buf.Buf) error {
	end := offset + uint64(len(p))
	// The runs [i, j) overlap [offset, end).
	i := sort.Search(len(r.waiting), func(k int) bool { return r.waiting[k].end() > offset })
	j := i
	for j < len(r.waiting) && r.waiting[j].offset < end {
		j++
	}
	if i == j && i > 0 && r.waiting[i-1].extend(offset, p) {
		r.bytes += len(p)
		return nil
	}
	if len(r.waiting)+j-i+1 > MaxFragments {
		return fmt.Errorf("%w: %d wait for offset %d", ErrFragments, len(r.waiting), r.next)
	}
	if i == j {
		r.waiting = slices.Insert(r.waiting, i, r.store(offset, p, owner))
		return nil
	}
	merged := make([]run, 0, 2*(j-i)+1)
	at := offset
	for _, w := range r.waiting[i:j] {
		if w.offset > at {
			merged = append(merged, r.store(at, p[at-offset:w.offset-offset], owner))
		}
		merged = append(merged, w)
		at = w.end()
	}
	if at < end {
		merged = append(merged, r.store(at, p[at-offset:], owner))
	}
	r.waiting = slices.Replace(r.waiting, i, j, merged...)
	return nil
}

// minRun is the least capacity of a copied run, so that a neighbour's few bytes
// can join it in place of becoming a fragment of their own.
const minRun = 256

// store makes a run of p: a reference where p fills a good part of its buffer,
// a copy otherwise, so that small pieces can't pin large buffers.
func (r *Reassembler) store(offset uint64, p []byte, owner *buf.Buf) run {
	r.bytes += len(p)
	if owner != nil && owner.Fills(p) {
		owner.Retain()
		return run{offset, p, owner}
	}
	data := make([]byte, len(p), max(len(p), minRun))
	copy(data, p)
	return run{offset, data, nil}
}

// extend appends p to a copied run that ends at offset and has room for it.
func (r *run) extend(offset uint64, p []byte) bool {
	if r.owner != nil || r.end() != offset || cap(r.data)-len(r.data) < len(p) {
		return false
	}
	r.data = append(r.data, p...)
	return true
}

// Reset drops what waits and gives its buffers back.
func (r *Reassembler) Reset() {
	for i := range r.waiting {
		r.waiting[i].release()
	}
	r.waiting, r.bytes = nil, 0
}
