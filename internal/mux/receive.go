package mux

import (
	"math"

	"github.com/splitmesh/splitmesh/internal/buf"
)

// The methods here are called by Input.

// grant handles a window update.
func (s *Stream) grant(delta uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sendWindow+int64(delta) > math.MaxUint32 {
		return violation(s.id, "a window update of %d bytes overflows the window", delta)
	}
	s.sendWindow += int64(delta)
	if delta > 0 {
		s.w.cond.Broadcast()
	}
	return nil
}

// admit handles the header of a data frame: it reports whether the payload is
// wanted, or that the peer had no window for it.
func (s *Stream) admit(length uint32) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if int64(length) > int64(s.window.credit) {
		return false, violation(s.id, "%d bytes of data exceed the window of %d", length, s.window.credit)
	}
	s.window.credit -= int(length)
	s.window.coming += int(length)
	if length > 0 && (s.closed || s.finReceived) {
		s.unwanted()
		return false, nil
	}
	return s.err == nil, nil
}

// receive takes payload, which lies in owner.B. It reports whether there is news for
// readers.
func (s *Stream) receive(p []byte, owner *buf.Buf) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		s.unwanted()
		return false
	}
	if s.err != nil {
		return false
	}
	s.recv.push(p, owner)
	s.window.coming -= len(p)
	s.window.held += len(p)
	s.stats.Received += uint64(len(p))
	return true
}

// unwanted answers data that nobody will read with an RST: the first time, since
// that ends the stream. It comes after what a Write under way sends, and with a
// FIN that still waits, so that the peer can read all that was written.
func (s *Stream) unwanted() {
	if s.writing {
		s.rstWanted = true
		return
	}
	s.abort(allFlags)
}

// peerFinished handles FIN.
func (s *Stream) peerFinished() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.finReceived {
		return violation(s.id, "the peer ends its data twice")
	}
	s.finReceived = true
	s.returnBudget()
	s.r.cond.Broadcast()
	if s.finQueued {
		s.m.forget(s)
	}
	return nil
}

// peerReset handles RST: nothing is due to the peer any more.
func (s *Stream) peerReset() {
	s.fail(ErrReset)
	s.m.forget(s)
	s.m.cancel(s, 0)
}

// fail ends the stream with err, which comes after what has been received.
func (s *Stream) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
	s.returnBudget()
	s.r.disarm() // nobody waits any more, and a timer would keep all this in memory
	s.w.disarm()
	s.r.cond.Broadcast()
	s.w.cond.Broadcast()
}
