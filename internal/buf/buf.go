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
// full record of payload under three nested seals; the last, the largest frame
// that the wire can express (8 + 65,535).
var Classes = [...]int{512, 4 << 10, 36 << 10, 65544}

var pools [len(Classes)]sync.Pool

// A Buf is a pooled buffer. B has the length asked for and may be re-sliced up
// to its capacity by the owner.
type Buf struct {
	B     []byte
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
			b = &Buf{B: make([]byte, size), class: int8(c)}
		}
		b.B = b.B[:n]
		b.refs.Store(1)
		return b
	}
	panic(fmt.Sprintf("buf: no class holds %d bytes", n))
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
