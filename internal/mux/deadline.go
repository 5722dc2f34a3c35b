package mux

import (
	"net"
	"os"
	"sync"
	"time"
)

// A side is what the readers, or the writers, of a stream wait on. The stream's
// mu guards it.
//
// A deadline costs a timer only while somebody waits for it, or did since it
// was set: armed means that timer is running and will broadcast at the deadline.
type side struct {
	cond     sync.Cond // L is the stream's mu
	deadline time.Time
	timer    *time.Timer
	armed    bool
}

// expired reports whether the deadline has passed.
func (d *side) expired() bool {
	return !d.deadline.IsZero() && !time.Now().Before(d.deadline)
}

// wait waits for a broadcast, which also comes at the deadline. What the caller
// waits for, the deadline included, is to be looked at again.
func (d *side) wait() {
	if !d.deadline.IsZero() && !d.armed {
		d.armed = true
		if left := time.Until(d.deadline); d.timer == nil {
			d.timer = time.AfterFunc(left, d.fire)
		} else {
			d.timer.Reset(left)
		}
	}
	d.cond.Wait()
}

// fire runs when the timer does. It may come late, when the timer has been set
// again: then whoever waits arms it once more.
func (d *side) fire() {
	d.cond.L.Lock()
	defer d.cond.L.Unlock()
	d.armed = false
	d.cond.Broadcast()
}

func (d *side) setDeadline(t time.Time) {
	d.disarm()
	d.deadline = t
	d.cond.Broadcast()
}

func (d *side) disarm() {
	if d.armed {
		d.timer.Stop()
		d.armed = false
	}
}

// SetDeadline sets both deadlines. See [net.Conn].
func (s *Stream) SetDeadline(t time.Time) error { return s.setDeadlines(t, &s.r, &s.w) }

// SetReadDeadline sets the time from which Read, also one that waits already,
// returns os.ErrDeadlineExceeded. The zero time means never.
func (s *Stream) SetReadDeadline(t time.Time) error { return s.setDeadlines(t, &s.r) }

// SetWriteDeadline is SetReadDeadline for Write. A Write that began without a
// deadline and is inside the output is not cut short.
func (s *Stream) SetWriteDeadline(t time.Time) error { return s.setDeadlines(t, &s.w) }

func (s *Stream) setDeadlines(t time.Time, sides ...*side) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	for _, d := range sides {
		d.setDeadline(t)
	}
	return nil
}

var errDeadline = os.ErrDeadlineExceeded // a net.Error whose Timeout is true
