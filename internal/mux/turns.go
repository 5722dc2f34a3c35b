package mux

// A stream's turn at the output, guarded by Mux.mu.
type turn uint8

const (
	turnNone   turn = iota // does not wait: it may try when nobody else waits
	turnQueued             // waits in turns
	turnWoken              // was taken from turns and must try, or call leave
)

// turns is the queue of streams whose writer found the output full. While it is
// not empty, either a woken writer is on its way to the output, which wakes the
// next when it is done, or the output owes a call of Writable. So streams take
// turns, a frame each, and one call of Writable wakes as many as fit, no more.
type turns struct {
	head, tail *Stream
	room       uint64 // how often Writable was called
}

func (q *turns) pushBack(s *Stream) {
	s.turn, s.turnPrev, s.turnNext = turnQueued, q.tail, nil
	if q.tail == nil {
		q.head = s
	} else {
		q.tail.turnNext = s
	}
	q.tail = s
}

func (q *turns) pushFront(s *Stream) {
	s.turn, s.turnPrev, s.turnNext = turnQueued, nil, q.head
	if q.head == nil {
		q.tail = s
	} else {
		q.head.turnPrev = s
	}
	q.head = s
}

func (q *turns) remove(s *Stream) {
	if s.turnPrev == nil {
		q.head = s.turnNext
	} else {
		s.turnPrev.turnNext = s.turnNext
	}
	if s.turnNext == nil {
		q.tail = s.turnPrev
	} else {
		s.turnNext.turnPrev = s.turnPrev
	}
	s.turn, s.turnPrev, s.turnNext = turnNone, nil, nil
}

// wake takes the first stream off the queue; the caller signals it, without
// locks held. Nil when nobody waits.
func (q *turns) wake() *Stream {
	s := q.head
	if s != nil {
		q.remove(s)
		s.turn = turnWoken
	}
	return s
}

// Writable tells that the output has room again.
func (m *Mux) Writable() {
	m.mu.Lock()
	m.turns.room++
	next := m.turns.wake()
	m.mu.Unlock()
	next.signalWriter()
}

// mayTry reports whether s's writer may try the output now, and what flags its
// frame must carry; else it has queued s. Each try is followed by tried.
func (m *Mux) mayTry(s *Stream) (flags uint16, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s.turn == turnNone && m.turns.head != nil {
		m.turns.pushBack(s)
	}
	if s.turn == turnQueued {
		return 0, false
	}
	s.turnRoom = m.turns.room
	s.company = m.turns.head != nil
	// The frame carries a SYN that still waits, and until the outcome is known
	// AppendControl leaves s alone: else the SYN, in a flood of others, might
	// miss the record and come after the data.
	if s.dueFlags&flagSYN != 0 {
		s.synClaimed = true
		return flagSYN, true
	}
	return 0, true
}

// tried settles a try of s at the output. done means that it need not be
// repeated: the frame was taken, or the output refused for good.
func (m *Mux) tried(s *Stream, taken, done bool) {
	m.settle(s, taken, done).signalWriter()
}

// settle is tried, but for waking the stream that it returns.
func (m *Mux) settle(s *Stream, taken, done bool) (next *Stream) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s.synClaimed {
		s.synClaimed = false
		if taken {
			s.dueFlags &^= flagSYN
		}
		if s.dueFlags != 0 || s.dueWindow != 0 {
			m.cfg.Output.Wake()
		}
	}
	switch {
	case done:
		s.turn = turnNone
		next = m.turns.wake()
		if s.company && taken && next != nil {
			next.owes = true
		} else if s.company && taken || s.owes && !taken {
			m.cfg.Output.Wake() // no company comes
		}
		s.owes = false
	case s.turnRoom == m.turns.room:
		m.turns.pushFront(s)
	default: // there was room between the refusal and now
		s.turn = turnWoken
	}
	return next
}

// leave gives up s's place, or passes its turn on.
func (m *Mux) leave(s *Stream) {
	var next *Stream
	m.mu.Lock()
	if s.owes {
		s.owes = false
		m.cfg.Output.Wake()
	}
	switch s.turn {
	case turnQueued:
		m.turns.remove(s)
	case turnWoken:
		s.turn = turnNone
		next = m.turns.wake()
	}
	m.mu.Unlock()
	next.signalWriter()
}

// signalWriter wakes s's waiting writers to look again. s may be nil.
func (s *Stream) signalWriter() {
	if s == nil {
		return
	}
	s.mu.Lock()
	s.w.cond.Broadcast()
	s.mu.Unlock()
}
