// Package buf holds the pooled byte buffers that carry payload from a path's
// reader to the stream that wants it, and from a writer to its path.
//
// A [Buf] is reference-counted: whoever keeps a slice of B past the call in
// which it was handed the Buf takes a reference with [Buf.Retain] and gives it
// back with [Buf.Release]. The last Release returns the memory to its pool.
// After its last Release a Buf must not be touched; a Release too many panics.
package buf

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// Classes are the capacities, in bytes, that the pools hold. The third fits a
// full record of payload under three nested seals; the last, three of these in
// one message, and so the largest frame that the wire can express (8 + 65,535).
var Classes = [...]int{512, 4 << 10, 36 << 10, Max}

// Max is the largest class.
const Max = 99_072

var pools [len(Classes)]sync.Pool

// A Buf is a pooled buffer. B has the length asked for; who holds the only
// reference may re-slice it to any part of the memory.
type Buf struct {
	B     []byte
	mem   []byte // all of it
	class int8
	refs  atomic.Int32
}

// Get returns a Buf of length n holding arbitrary bytes and one reference.
// It panics when n is negative or above the largest class: callers check
// lengths from the network first.
func Get(n int) *Buf {
	for c, size := range Classes {
		if n < 0 || n > size {
			continue
		}
		b, _ := pools[c].Get().(*Buf)
		if b == nil {
			b = &Buf{mem: make([]byte, size), class: int8(c)}
		}
		b.B = b.mem[:n]
		b.refs.Store(1)
		return b
	}
	panic(fmt.Sprintf("buf: no class holds %d bytes", n))
}

// Cap is the size of the memory, in bytes.
func (b *Buf) Cap() int { return len(b.mem) }

// Fills reports whether p, which lies in b, is a third of its memory, but for the
// little that headers take: so much that it is better kept where it is than copied.
func (b *Buf) Fills(p []byte) bool { return 3*len(p) >= len(b.mem)-len(b.mem)/128 }

// Around makes B the part of the memory that begins before bytes in front of p,
// which lies in it and has all the capacity up to the memory's end, and ends with
// p. It reports false, and changes nothing, when there is less memory in front of
// p, or when the caller's reference is not the only one.
func (b *Buf) Around(p []byte, before int) bool {
	from := len(b.mem) - cap(p) - before
	if from < 0 || b.refs.Load() != 1 {
		return false
	}
	b.B = b.mem[from : from+before+len(p)]
	return true
}

// Retain adds a reference.
func (b *Buf) Retain() {
	if b.refs.Add(1) <= 1 {
		panic("buf: Retain after the last Release")
	}
}

// Release gives a reference back. The last one returns b to its pool.
func (b *Buf) Release() {
	switch n := b.refs.Add(-1); {
	case n == 0:
		pools[b.class].Put(b)
	case n < 0:
		panic("buf: Release without a reference")
	}
}
