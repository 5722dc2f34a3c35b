package link

import (
	"os"
	"sync"
	"time"

	"github.com/splitmesh/splitmesh/internal/buf"
)

// A flow is one direction of a pipe: the bytes written and not yet read, and
// when they will arrive. All of it is under the link's lock, which is also that
// of its conditions.
//
//	stored = ready + the segments' bytes
type flow struct {
	pipe              *Pipe
	side              int
	canRead, canWrite sync.Cond

	chunks queue[*buf.Buf] // the stored bytes; the first from offset on
	offset int
	stored int
	ready  int         // of those stored, how many have arrived
	segs   queue[seg]  // under way, in order
	alarm  *time.Timer // fires when the first segment arrives, if anybody cares

	carried uint64
	busy    bool  // a Write is at work; others wait on canWrite
	waiting int   // readers in awaitArrival
	shut    bool  // the writer sent its end
	leaving bool  // the writer has closed and the news is under way or here
	deaf    bool  // the reader has closed: what arrives is dropped
	end     error // what is read after the last byte; nil until it arrives
	gone    error // set once the news that the writer has closed has arrived

	readBy, writeBy deadline
}

var errDeadline = os.ErrDeadlineExceeded

func (f *flow) way() *way  { return &f.pipe.link.ways[f.side] }
func (f *flow) held() bool { return f.pipe.holed || f.pipe.link.holed }

// store copies b behind the bytes stored.
func (f *flow) store(b []byte) {
	f.stored += len(b)
	for len(b) > 0 {
		var tail *buf.Buf
		if n := f.chunks.len(); n > 0 {
			tail = *f.chunks.at(n - 1)
		}
		if tail == nil || len(tail.B) == cap(tail.B) {
			tail = buf.Get(min(len(b), buf.Classes[len(buf.Classes)-2]))
			tail.B = tail.B[:0]
			f.chunks.push(tail)
		}
		have := len(tail.B)
		k := min(cap(tail.B)-have, len(b))
		tail.B = tail.B[:have+k]
		copy(tail.B[have:], b)
		b = b[k:]
	}
}

// take moves bytes that have arrived to b.
func (f *flow) take(b []byte) int {
	n := 0
	for n < len(b) && f.ready > 0 {
		head := *f.chunks.at(0)
		k := copy(b[n:], head.B[f.offset:min(len(head.B), f.offset+f.ready)])
		f.consume(k)
		n += k
	}
	f.wakeWriter()
	return n
}

// consume drops k bytes that have arrived, all in the first chunk.
func (f *flow) consume(k int) {
	f.offset += k
	f.ready -= k
	f.stored -= k
	head := *f.chunks.at(0)
	if f.offset == len(head.B) { // an idle flow holds none, not even one with room
		head.Release()
		f.chunks.pop()
		f.offset = 0
	}
}

// drop is take to nowhere.
func (f *flow) drop() {
	for f.ready > 0 {
		f.consume(min(f.ready, len((*f.chunks.at(0)).B)-f.offset))
	}
	f.wakeWriter()
}

// ignore makes the flow's reader deaf.
func (f *flow) ignore() {
	f.deaf = true
	f.drop()
	f.canRead.Broadcast()
	f.arm()
}

// abandon frees what the flow holds and wakes everybody, for good.
func (f *flow) abandon() {
	for f.chunks.len() > 0 {
		f.chunks.pop().Release()
	}
	f.chunks, f.segs = queue[*buf.Buf]{}, queue[seg]{}
	f.offset, f.stored, f.ready = 0, 0, 0
	f.disarm()
	f.canRead.Broadcast()
	f.canWrite.Broadcast()
}

// awaitArrival waits for something to happen at the reading end.
func (f *flow) awaitArrival() {
	f.waiting++
	f.arm()
	f.canRead.Wait()
	f.waiting--
}

// wakeWriter wakes a writer that waits, once there is enough room to be worth it.
func (f *flow) wakeWriter() {
	if s := &f.way().shape; f.busy && s.limit()-f.stored >= s.slack() {
		f.canWrite.Broadcast()
	}
}

// A deadline is a time that wakes those who wait on a condition.
type deadline struct {
	at    time.Time // zero: none
	timer *time.Timer
}

// set moves the deadline to t and wakes those waiting on c, whose lock is held.
func (d *deadline) set(t time.Time, c *sync.Cond) {
	d.stop()
	d.at = t
	if !t.IsZero() {
		// Counted on the monotonic clock from here on, which is the timer's.
		wait := time.Until(t)
		d.at = time.Now().Add(wait)
		if wait > 0 {
			d.timer = time.AfterFunc(wait, func() {
				c.L.Lock()
				defer c.L.Unlock()
				c.Broadcast()
			})
		}
	}
	c.Broadcast()
}

// passed reports whether the deadline has passed.
func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

// stop ends the timer.
func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}

// A queue is first in, first out, and keeps its memory while in use.
type queue[T any] struct {
	items []T
	head  int
}

func (q *queue[T]) len() int    { return len(q.items) - q.head }
func (q *queue[T]) at(i int) *T { return &q.items[q.head+i] }
func (q *queue[T]) truncate(n int) {
	clear(q.items[q.head+n:])
	q.items = q.items[:q.head+n]
}

func (q *queue[T]) push(v T) {
	if len(q.items) == cap(q.items) && q.head > len(q.items)/2 {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, v)
}

func (q *queue[T]) pop() T {
	var zero T
	v := q.items[q.head]
	q.items[q.head] = zero
	if q.head++; q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	}
	return v
}
