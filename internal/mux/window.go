package mux

import (
	"sync/atomic"
	"time"
)

// A Budget bounds, over many Muxes, the receive windows that have grown beyond
// InitialWindow. A nil Budget bounds nothing.
type Budget struct {
	limit int64
	used  atomic.Int64
}

// NewBudget returns a Budget of limit bytes.
func NewBudget(limit int64) *Budget { return &Budget{limit: limit} }

// Used returns how many bytes are reserved.
func (b *Budget) Used() int64 {
	if b == nil {
		return 0
	}
	return b.used.Load()
}

// reserve takes n bytes and reports whether there were so many.
func (b *Budget) reserve(n int) bool {
	if b == nil {
		return true
	}
	if b.used.Add(int64(n)) > b.limit {
		b.used.Add(-int64(n))
		return false
	}
	return true
}

func (b *Budget) release(n int) {
	if b != nil {
		b.used.Add(-int64(n))
	}
}

// unknownRTTGrowth is how fast a full window must be read for it to grow while
// the round-trip time is unknown.
const unknownRTTGrowth = 100 * time.Millisecond

// recvWindow is the receive side's flow control. The stream's mu guards it.
// Of size, held bytes wait to be read, coming bytes are the rest of a frame that
// has begun, credit bytes the peer may still send, and what is left has been
// read and can be granted anew.
type recvWindow struct {
	size   int
	held   int
	coming int
	credit int
	// epoch is when the current measurement of the reader's speed began, and
	// read what was granted since.
	epoch time.Time
	read  int
}

// due returns what can be granted anew; 0 until it is half the window, so that
// updates are few.
func (w *recvWindow) due() int {
	if d := w.size - w.held - w.coming - w.credit; d >= w.size/2 {
		return d
	}
	return 0
}

// consumed accounts for n bytes read and returns what to grant the peer.
//
// A window that is too small for the path is read full within a few round
// trips, since the sender waits for updates: such a window doubles.
func (s *Stream) consumed(n int) (grant int) {
	w := &s.window
	w.held -= n
	if s.finReceived || s.err != nil {
		s.returnBudget()
		return 0
	}
	grant = w.due()
	if grant == 0 {
		return 0
	}
	w.read += grant
	limit := 4 * s.m.cfg.RTT()
	if limit <= 0 {
		limit = unknownRTTGrowth
	}
	now := time.Now()
	switch {
	case w.epoch.IsZero() || now.Sub(w.epoch) > limit:
		w.epoch, w.read = now, 0
	case w.read >= w.size:
		w.epoch, w.read = now, 0
		larger := min(2*w.size, s.m.cfg.MaxWindow)
		if more := larger - w.size; more > 0 && s.m.cfg.Budget.reserve(more) {
			s.reserved += more
			w.size = larger
			grant += more
		}
	}
	w.credit += grant
	return grant
}

// returnBudget gives back what the window's growth reserved, once the peer can
// send no more and what it sent has been read.
func (s *Stream) returnBudget() {
	if s.window.held == 0 {
		s.m.cfg.Budget.release(s.reserved)
		s.reserved = 0
	}
}
