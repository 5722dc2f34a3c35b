package engine

import (
	"sync"
	"sync/atomic"

	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/packet"
)

// A buffer holds one super-packet, or many small packets one after the other.
type buffer struct {
	b        [packet.VnetSize + packet.MaxSize + 413]byte // a whole number of pages
	from, to int
}

func (b *buffer) bytes() []byte { return b.b[b.from:b.to] }

// Bounds of what waits to be sent: in all, and in one stream.
const (
	maxBuffers    = 1024 // 65 MiB
	maxQueue      = 96   // 6 MiB: a window of TCP
	maxSmall      = 8 << 10
	minLeftToFill = 2 << 10
)

// A pool is of buffers. Those that wait are counted.
type pool struct {
	free    sync.Pool
	waiting atomic.Int64
}

func (p *pool) get() *buffer {
	if b, ok := p.free.Get().(*buffer); ok {
		b.from, b.to = 0, 0
		return b
	}
	return new(buffer)
}

func (p *pool) put(b *buffer) { p.free.Put(b) }
