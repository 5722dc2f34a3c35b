package session

import (
	"bufio"
	"io"
	"net"

	"github.com/splitmesh/splitmesh/frame"
	"github.com/splitmesh/splitmesh/internal/buf"
)

// A source cuts what a path brings into frames. Of a conn that is a [buf.Reader],
// frames are opened in the very memory that the conn received them into; boundaries
// of what it hands over need not be those of frames.
type source struct {
	conn  buf.Reader    // nil: a plain conn, read through plain
	plain *bufio.Reader // nil: conn hands over what it has
	rest  []byte        // what conn gave and nobody took
	owner *buf.Buf      // where rest lies; nil when there is none
	waits func()        // is called before the source waits for the network
}

func newSource(conn net.Conn, waits func()) *source {
	if r, ok := conn.(buf.Reader); ok {
		return &source{conn: r, waits: waits}
	}
	return &source{plain: bufio.NewReaderSize(conn, 4<<10), waits: waits}
}

// next returns the next frame, whole, in memory to which the caller gets a
// reference. size tells by the first frame.Peek bytes how long it is.
func (s *source) next(size func(peek []byte) (int, error)) (wire []byte, owner *buf.Buf, err error) {
	if s.plain != nil {
		return s.read(size)
	}
	if len(s.rest) == 0 {
		if err := s.more(); err != nil {
			return nil, nil, err
		}
	}
	if len(s.rest) < frame.Peek {
		return s.join(size)
	}
	n, err := size(s.rest[:frame.Peek])
	switch {
	case err != nil:
		return nil, nil, err
	case n > len(s.rest):
		return s.join(func([]byte) (int, error) { return n, nil })
	case n == len(s.rest):
		wire, owner = s.rest, s.owner
		s.rest, s.owner = nil, nil
		return wire, owner, nil
	}
	wire, s.rest = s.rest[:n], s.rest[n:]
	s.owner.Retain()
	return wire, s.owner, nil
}

// more takes over what conn has next; rest is empty.
func (s *source) more() (err error) {
	s.close()
	s.waits()
	s.rest, s.owner, err = s.conn.ReadBuf()
	return err
}

// join copies a frame that lies in several pieces into memory of its own.
func (s *source) join(size func([]byte) (int, error)) ([]byte, *buf.Buf, error) {
	var peek [frame.Peek]byte
	if err := s.fill(peek[:]); err != nil {
		return nil, nil, err
	}
	n, err := size(peek[:])
	if err != nil {
		return nil, nil, err
	}
	b := buf.Get(n)
	if err := s.fill(b.B[copy(b.B, peek[:]):]); err != nil {
		b.Release()
		return nil, nil, err
	}
	return b.B, b, nil
}

// fill fills p from conn.
func (s *source) fill(p []byte) error {
	for {
		n := copy(p, s.rest)
		p, s.rest = p[n:], s.rest[n:]
		if len(p) == 0 {
			return nil
		}
		if err := s.more(); err != nil {
			return err
		}
	}
}

// read is next over a plain conn.
func (s *source) read(size func([]byte) (int, error)) ([]byte, *buf.Buf, error) {
	if s.plain.Buffered() < frame.Peek {
		s.waits()
	}
	peek, err := s.plain.Peek(frame.Peek)
	if err != nil {
		return nil, nil, err
	}
	n, err := size(peek)
	if err != nil {
		return nil, nil, err
	}
	if s.plain.Buffered() < n {
		s.waits()
	}
	b := buf.Get(n)
	if _, err := io.ReadFull(s.plain, b.B); err != nil {
		b.Release()
		return nil, nil, err
	}
	return b.B, b, nil
}

// close gives back what the source holds.
func (s *source) close() {
	if s.owner != nil {
		s.owner.Release()
	}
	s.rest, s.owner = nil, nil
}
