package mux

import (
	"sync"

	"github.com/splitmesh/splitmesh/internal/buf"
)

// A chunk is received data that one pooled buffer holds. A copy is alone in its
// buffer, and data's capacity beyond its length is room for more.
type chunk struct {
	next *chunk
	b    *buf.Buf
	data []byte
	own  bool
}

var chunks = sync.Pool{New: func() any { return new(chunk) }}

func newChunk(b *buf.Buf, data []byte, own bool) *chunk {
	c := chunks.Get().(*chunk)
	c.b, c.data, c.own = b, data, own
	return c
}

func (c *chunk) release() {
	c.b.Release()
	*c = chunk{}
	chunks.Put(c)
}

const (
	// maxCopied is the largest buffer taken for copies: one for a full record.
	maxCopied = 36 << 10
	// maxPacked is the most that is copied although it could be kept in place,
	// when there is room for it: cheaper than a buffer that is held.
	maxPacked = 4 << 10
)

// A recvQueue is what has been received and not yet read. Empty, it holds no
// memory; else, its buffers have at most four times the size of the data, and
// the first and last buffer, which may be partly read and partly filled.
type recvQueue struct{ head, tail *chunk }

// push appends p, which lies in owner.B. It keeps owner instead of a copy when p
// fills it.
func (q *recvQueue) push(p []byte, owner *buf.Buf) {
	var room []byte
	size := len(p)
	if t := q.tail; t != nil && t.own {
		room = t.data[len(t.data):cap(t.data)]
		size = max(size, 2*t.b.Cap()) // copies have filled a buffer: take a larger
	}
	if owner != nil && owner.Fills(p) && (len(p) > maxPacked || len(p) > len(room)) {
		owner.Retain()
		q.link(newChunk(owner, p, false))
		return
	}
	if n := copy(room, p); n > 0 {
		q.tail.data, p = q.tail.data[:len(q.tail.data)+n], p[n:]
	}
	for len(p) > 0 {
		b := buf.Get(min(size, maxCopied))
		b.B = b.B[:cap(b.B)]
		n := copy(b.B, p)
		q.link(newChunk(b, b.B[:n], true))
		p = p[n:]
	}
}

func (q *recvQueue) link(c *chunk) {
	if q.tail == nil {
		q.head = c
	} else {
		q.tail.next = c
	}
	q.tail = c
}

// pop takes the first chunk off. The queue is not empty.
func (q *recvQueue) pop() *chunk {
	c := q.head
	q.head, c.next = c.next, nil
	if q.head == nil {
		q.tail = nil
	}
	return c
}

// take takes the first chunk's bytes off, with the reference to their memory. The
// queue is not empty.
func (q *recvQueue) take() ([]byte, *buf.Buf) {
	c := q.pop()
	p, b := c.data, c.b
	*c = chunk{}
	chunks.Put(c)
	return p, b
}

// read moves bytes into p, as many as fit.
func (q *recvQueue) read(p []byte) (n int) {
	for q.head != nil && n < len(p) {
		c := q.head
		k := copy(p[n:], c.data)
		n, c.data = n+k, c.data[k:]
		if len(c.data) == 0 {
			q.pop().release()
		}
	}
	return n
}

func (q *recvQueue) clear() {
	for q.head != nil {
		q.pop().release()
	}
}
