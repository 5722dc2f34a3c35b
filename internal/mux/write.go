package mux

import (
	"net"

	"github.com/splitmesh/splitmesh/internal/buf"
)

// Write sends p, in frames of at most MaxFrame bytes, each taken by the output
// before Write goes on. It waits for the peer's window and for room in the
// output. One Write at a time sends on a stream: what concurrent Writes send is
// not mixed. On an error n bytes will reach the peer.
func (s *Stream) Write(p []byte) (n int, err error) {
	if err := s.beginWrite(len(p) == 0); err != nil || len(p) == 0 {
		return 0, err
	}
	for n < len(p) && err == nil {
		var sent int
		sent, err = s.send(p[n:])
		n += sent
	}
	s.endWrite(n)
	s.unpromise(n, err)
	return n, err
}

// unpromise has what the output was told to wait for company with go alone, when a
// Write of which n bytes were sent ends early.
func (s *Stream) unpromise(n int, err error) {
	if n > 0 && err != nil {
		s.m.cfg.Output.Wake()
	}
}

// beginWrite waits until no other Write is under way, or only checks when check.
func (s *Stream) beginWrite(check bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if err := s.writeErr(); err != nil || check {
			return err
		}
		if !s.writing {
			s.writing = true
			return nil
		}
		s.w.wait()
	}
}

// endWrite lets the next Write begin, and does what had to wait for this one.
func (s *Stream) endWrite(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writing = false
	s.stats.Sent += uint64(n)
	s.w.cond.Broadcast()
	if s.finWanted && !s.finQueued && s.err == nil {
		s.sendFIN()
	}
	if s.rstWanted {
		s.abort(allFlags)
	}
}

// writeErr returns why nothing can be written now. s.mu is held.
func (s *Stream) writeErr() error {
	switch {
	case s.closed:
		return net.ErrClosed
	case s.err != nil:
		return s.err
	case s.finWanted:
		return net.ErrClosed
	case s.w.expired():
		return errDeadline
	}
	return nil
}

// Headroom implements [buf.Writer]: the frame's header, and what the output needs.
func (s *Stream) Headroom() int { return s.m.cfg.Output.Headroom() + HeaderSize }

// WriteBuf implements [buf.Writer]. What fits into one frame, and into the peer's
// window, is not copied.
func (s *Stream) WriteBuf(b *buf.Buf, more bool) (err error) {
	defer func() {
		if err != nil { // it may have been promised to the one before
			s.m.cfg.Output.Wake()
		}
	}()
	p := b.B[s.Headroom():]
	err = s.beginWrite(len(p) == 0)
	if err != nil || len(p) == 0 {
		b.Release()
		return err
	}
	n := 0
	for n < len(p) && err == nil {
		var sent int
		sent, err = s.sendBuf(b, p[n:], more)
		n += sent
		if sent == len(p) {
			b = nil
		}
	}
	if b != nil {
		b.Release()
	}
	s.endWrite(n)
	return err
}

// Flush implements [buf.Writer].
func (s *Stream) Flush() { s.m.cfg.Output.Wake() }

// send tries to send one frame of p, and returns how much that was; 0 without
// an error when the output was full.
func (s *Stream) send(p []byte) (int, error) { return s.sendBuf(nil, p, false) }

// sendBuf is send of what lies in b, if not nil, which is gone when all that it holds
// behind the headroom was sent. With more, others follow p.
func (s *Stream) sendBuf(b *buf.Buf, p []byte, more bool) (int, error) {
	n, inline, goesOn, err := s.reserve(len(p), more)
	if err != nil {
		s.m.leave(s)
		return 0, err
	}
	room := s.m.cfg.Output.Headroom()
	own := b != nil && room+HeaderSize+n == len(b.B)
	if !own {
		b = buf.Get(room + HeaderSize + n)
		copy(b.B[room+HeaderSize:], p)
	}
	copy(b.B[room:], s.head[:])
	taken, err := s.m.cfg.Output.TryWrite(b, inline, goesOn || s.company)
	s.m.tried(s, taken, taken || err != nil)
	if taken {
		return n, nil
	}
	if !own {
		b.Release()
	}
	s.mu.Lock()
	s.sendWindow += int64(n)
	s.mu.Unlock()
	return 0, err
}

// reserve waits for window and for a turn at the output, takes window for a
// frame of at most want bytes and writes its header. goesOn says that there are
// bytes, of these or more, and window for another.
func (s *Stream) reserve(want int, more bool) (n int, inline, goesOn bool, err error) {
	frame := want
	if frame > MaxFrame {
		frame = ChunkSize
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if err := s.writeErr(); err != nil {
			return 0, false, false, err
		}
		if s.sendWindow > 0 {
			if flags, ok := s.m.mayTry(s); ok {
				n = int(min(int64(frame), s.sendWindow))
				s.sendWindow -= int64(n)
				header{kind: typeData, flags: flags, stream: s.id, length: uint32(n)}.put(&s.head)
				return n, s.w.deadline.IsZero(), (n < want || more) && s.sendWindow > 0, nil
			}
		}
		s.w.wait()
	}
}
