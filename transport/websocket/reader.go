//go:build !js

package websocket

import (
	"io"
	"sync/atomic"

	"github.com/splitmesh/splitmesh/internal/buf"
)

const (
	// front is left free before what is read, for whoever sends it on in place.
	front = 16
	// maxPiece is the most that readBuf hands over at once.
	maxPiece = buf.Max - front
	// A read of headers takes along this much of what follows, at least: peeked
	// when memory is held while it waits, batched when none is.
	peeked  = 512 - front
	batched = 4<<10 - front
)

// A reader takes frames apart. What it reads lies in a Buf, its window, which it
// hands over when a frame's payload fills it; with a poll it holds none while it
// waits. It belongs to the Read that runs, except received.
type reader struct {
	src     io.Reader
	poll    *poll // of src, or nil; unused while src is not the socket itself
	client  bool  // ours is the client's end: frames come unmasked
	control func(op byte, payload []byte) error

	in     *buf.Buf // in.B came and is not used yet; nil when that is nothing
	expect int      // what the next data frame may take, its header included

	left    int    // bytes to come of the data frame being read
	key     uint32 // of the mask, for the next of them
	open    bool   // the message goes on after that frame
	message int    // bytes of the message, that frame included

	received atomic.Int64
}

// read is io.Reader's Read over the messages' ends. p is not empty.
func (r *reader) read(p []byte) (n int, err error) {
	if err := r.next(0); err != nil {
		return 0, err
	}
	p = p[:min(len(p), r.left)]
	if r.in != nil {
		n = copy(p, r.in.B)
		r.use(n)
	} else if n, err = r.receive(p); err != nil {
		return 0, noEOF(err)
	}
	r.took(p[:n])
	return n, nil
}

// readBuf returns a frame's payload, or the next piece of a long one, and where it
// lies.
func (r *reader) readBuf() ([]byte, *buf.Buf, error) {
	if err := r.next(r.expect); err != nil {
		return nil, nil, err
	}
	n, have, room := min(r.left, maxPiece), 0, 0
	if r.in != nil {
		have, room = len(r.in.B), cap(r.in.B)
	}
	b := r.in
	switch rest := have - n; {
	case rest >= n, rest >= 0 && n <= room/8, n > room:
		// The smaller part moves, nor does a little keep a lot of memory.
		b = get(n)
		if moved := copy(b.B[:n], r.window()); moved > 0 {
			r.use(moved)
		}
	default:
		r.in = nil
		if rest > 0 {
			r.in = get(max(rest, min(r.expect, maxPiece)))
			r.in.B = append(r.in.B, b.B[n:]...)
		}
	}
	b.B = b.B[:n]
	for have < n {
		k, err := r.receive(b.B[have:])
		if err != nil {
			b.Release()
			return nil, nil, noEOF(err)
		}
		have += k
	}
	r.took(b.B)
	return b.B, b, nil
}

// took unmasks p, which was the next of the frame.
func (r *reader) took(p []byte) {
	r.left -= len(p)
	if !r.client {
		r.key = xor(p, p, r.key)
	}
}

// next reads up to the payload of a data frame, unless one is being read; control
// frames on the way are dealt with. want is as in fill.
func (r *reader) next(want int) error {
	for r.left == 0 {
		h, size, err := r.header(want)
		if err != nil {
			return err
		}
		switch {
		case h.op >= opClose:
			if err := r.deal(h, want); err != nil {
				return err
			}
			continue
		case h.op == opText:
			return errText
		case h.op == opContinuation && !r.open:
			return violation("a continuation came of no message")
		case h.op == opBinary && r.open:
			return violation("a message came within another, where a continuation was due")
		}
		if h.op == opBinary {
			r.message = 0
		}
		if h.length > uint64(MaxReadMessage-r.message) {
			return errTooBig
		}
		r.left, r.key, r.open = int(h.length), h.key, !h.fin
		r.message += r.left
		r.expect = max(size+r.left, r.expect/2)
	}
	return nil
}

// header reads a frame's header and its size.
func (r *reader) header(want int) (header, int, error) {
	for {
		h, size, err := parseHeader(r.window(), !r.client)
		if size > 0 {
			r.use(size)
		}
		if size > 0 || err != nil {
			return h, size, err
		}
		if err := r.fill(want); err != nil {
			if r.open || r.in != nil {
				err = noEOF(err)
			}
			return header{}, 0, err
		}
	}
}

// deal reads the payload of a control frame and hands it to control.
func (r *reader) deal(h header, want int) error {
	n := int(h.length)
	for len(r.window()) < n {
		if err := r.fill(want); err != nil {
			return noEOF(err)
		}
	}
	payload := r.window()[:n]
	if h.masked {
		xor(payload, payload, h.key)
	}
	err := r.control(h.op, payload)
	if n > 0 {
		r.use(n)
	}
	return err
}

// window is what came and is not used yet.
func (r *reader) window() []byte {
	if r.in == nil {
		return nil
	}
	return r.in.B
}

// use drops n bytes off the window.
func (r *reader) use(n int) {
	r.in.B = r.in.B[n:]
	r.tidy()
}

// tidy holds no memory for nothing.
func (r *reader) tidy() {
	if r.in != nil && len(r.in.B) == 0 {
		r.in.Release()
		r.in = nil
	}
}

// fill adds what comes next to the window, at least a byte. want is for how large
// a window there may well be use; there is less in it when fill is called.
func (r *reader) fill(want int) (err error) {
	if r.poll != nil {
		return r.poll.fill(r, min(max(want, batched), maxPiece))
	}
	r.grow(peeked)
	have := len(r.in.B)
	n, err := r.receive(r.in.B[have:cap(r.in.B)])
	r.in.B = r.in.B[:have+n]
	r.tidy()
	return err
}

// grow makes room for a window of size bytes, more than are in it.
func (r *reader) grow(size int) {
	old := r.in
	if old != nil && cap(old.B) >= size {
		return
	}
	r.in = get(size)
	if old != nil {
		r.in.B = append(r.in.B, old.B...)
		old.Release()
	}
}

// receive reads from src, at least a byte unless there is an error.
func (r *reader) receive(p []byte) (n int, err error) {
	for n == 0 && err == nil {
		n, err = r.src.Read(p)
	}
	r.received.Add(int64(n))
	if n > 0 {
		return n, nil
	}
	return 0, err
}

// get returns a Buf whose B is empty, behind front and with room for n bytes.
func get(n int) *buf.Buf {
	b := buf.Get(front + n)
	b.B = b.B[front:front]
	return b
}

// noEOF is err, of a read in the midst of something.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
