package mux

import (
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/splitmesh/splitmesh/internal/buf"
)

// A Stream is one of a Mux's two-way byte streams, a [net.Conn] with half-close.
// After Close or Reset its methods return net.ErrClosed; after the peer's reset
// ErrReset, and after Mux.Close the error given there, both once what had been
// received is read. A deadline that has passed is os.ErrDeadlineExceeded, and
// comes before data.
//
// A Stream must be closed: one that is dropped keeps its place in the Mux.
type Stream struct {
	m        *Mux
	id       uint32
	incoming bool // the peer opened it
	isNews   bool // in input.news; Deliver's and Announce's alone

	// These are guarded by m.mu: what is due to be sent for the stream (see
	// control), and its writer's place in the queue for the output (see turns).
	dirty      bool
	synClaimed bool
	turn       turn
	dueFlags   uint16
	dueWindow  uint32
	turnRoom   uint64
	turnPrev   *Stream
	turnNext   *Stream
	owes       bool // the output was promised more, which the turn of s is to bring
	company    bool // others wait for their turn, as s takes its own; the writer's

	// mu guards the rest. It is taken before m.mu.
	mu            sync.Mutex
	local, remote net.Addr
	r, w          side

	closed      bool  // by Close or Reset: nobody reads or writes here any more
	finReceived bool  // nothing comes after what is in recv
	finWanted   bool  // Write fails; FIN goes once no Write is under way
	finQueued   bool  // it went
	rstWanted   bool  // likewise RST
	writing     bool  // a Write is under way and owns head
	err         error // why nothing can be sent, nor received after recv

	recv     recvQueue
	window   recvWindow
	reserved int // of the Budget

	sendWindow int64            // what the peer lets us send
	head       [HeaderSize]byte // of the frame being sent
	stats      Stats
}

// Stats counts a stream's payload, in bytes.
type Stats struct {
	Sent     uint64 // accepted by Write
	Received uint64 // from the peer, read or not
	Buffered int    // received and not yet read
}

func newStream(m *Mux, id uint32, incoming bool) *Stream {
	s := &Stream{m: m, id: id, incoming: incoming, sendWindow: InitialWindow}
	s.window.size, s.window.credit = InitialWindow, InitialWindow
	s.r.cond.L, s.w.cond.L = &s.mu, &s.mu
	return s
}

// ID returns the stream's number, which both ends know it by.
func (s *Stream) ID() uint32 { return s.id }

// Stats returns what has gone through the stream so far.
func (s *Stream) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Buffered = s.window.held
	return st
}

// SetAddrs sets what LocalAddr and RemoteAddr return.
func (s *Stream) SetAddrs(local, remote net.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.local, s.remote = local, remote
}

// LocalAddr returns the address set with SetAddrs, or one that names the stream.
func (s *Stream) LocalAddr() net.Addr { return s.addr(&s.local) }

// RemoteAddr returns the address set with SetAddrs, or one that names the stream.
func (s *Stream) RemoteAddr() net.Addr { return s.addr(&s.remote) }

func (s *Stream) addr(a *net.Addr) net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if *a == nil {
		return streamAddr(s.id)
	}
	return *a
}

type streamAddr uint32

func (streamAddr) Network() string  { return "mux" }
func (a streamAddr) String() string { return fmt.Sprintf("stream-%d", uint32(a)) }

// Read reads what has been received, waiting for it when there is nothing.
// After the peer's FIN it returns io.EOF.
func (s *Stream) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.waitReadable(len(p) == 0); err != nil || len(p) == 0 {
		return 0, err
	}
	n := s.recv.read(p)
	s.m.queue(s, 0, s.consumed(n))
	return n, nil
}

// waitReadable waits until recv is not empty, or only checks when check. s.mu
// is held, and released meanwhile.
func (s *Stream) waitReadable(check bool) error {
	for {
		switch {
		case s.closed:
			return net.ErrClosed
		case s.r.expired():
			return errDeadline
		case check || s.recv.head != nil:
			return nil
		case s.finReceived:
			return io.EOF
		case s.err != nil:
			return s.err
		}
		s.r.wait()
	}
}

// ReadBuf implements [buf.Reader]: it is Read without a copy.
func (s *Stream) ReadBuf() (p []byte, owner *buf.Buf, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.waitReadable(false); err != nil {
		return nil, nil, err
	}
	p, owner = s.recv.take()
	s.m.queue(s, 0, s.consumed(len(p)))
	return p, owner, nil
}

// CloseWrite ends the sending direction: the peer reads io.EOF after what Write
// has accepted. A Write under way ends short. Reading goes on.
func (s *Stream) CloseWrite() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return net.ErrClosed
	case s.err != nil:
		return s.err
	}
	s.finish()
	return nil
}

// Close ends the stream here: the peer reads io.EOF after what Write has
// accepted, what has been received and not read is dropped, and the peer's
// stream is reset when it sends more. Close does not wait, and returns nil.
func (s *Stream) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.drop()
	if s.err == nil {
		// The peer may be waiting for window to write what nobody will read:
		// let it, and learn that it is in vain.
		if w := &s.window; !s.finReceived && w.credit < w.size {
			s.m.queue(s, 0, w.size-w.credit)
			w.credit = w.size
		}
		s.finish()
	}
	return nil
}

// Reset ends the stream here and, without what is not yet sent, at the peer,
// whose methods return ErrReset. It does not wait.
func (s *Stream) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.drop()
	}
	s.abort(flagSYN)
}

// drop ends reading and writing here and frees what that needs.
func (s *Stream) drop() {
	s.closed = true
	s.recv.clear()
	s.window.held = 0
	s.returnBudget()
	s.r.disarm()
	s.w.disarm()
	s.r.cond.Broadcast()
	s.w.cond.Broadcast()
}

// finish has FIN sent after the Write under way, if any.
func (s *Stream) finish() {
	if s.finWanted {
		return
	}
	s.finWanted = true
	s.w.cond.Broadcast()
	if !s.writing {
		s.sendFIN()
	}
}

func (s *Stream) sendFIN() {
	s.finQueued = true
	s.m.queue(s, flagFIN, 0)
	if s.finReceived {
		s.m.forget(s)
	}
}

// abort has RST sent, with what is due of the flags in keep, unless the stream
// has already ended.
func (s *Stream) abort(keep uint16) {
	if !s.m.forget(s) {
		return
	}
	if s.err == nil {
		s.err = ErrReset
	}
	s.finWanted, s.finQueued = true, true
	s.m.cancel(s, keep)
	s.m.queue(s, flagRST, 0)
	s.returnBudget()
	s.r.disarm()
	s.w.disarm()
	s.r.cond.Broadcast()
	s.w.cond.Broadcast()
}
