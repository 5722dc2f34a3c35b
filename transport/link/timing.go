package link

import (
	"math"
	"math/rand/v2"
	"time"
)

// never is when bytes arrive that a black hole holds.
const never = time.Duration(math.MaxInt64)

// A seg is bytes under way, and possibly the end that follows them. Times are
// the link's.
type seg struct {
	n          int
	leave      time.Duration // when its last byte has left, at the link's rate
	arrive     time.Duration
	end        error // what the reader reads after these bytes; nil: more follows
	writerGone bool  // with end: the writer has closed altogether
}

// launch puts n bytes, stored already, and the end after them on their way.
func (f *flow) launch(n int, end error, writerGone bool) {
	f.leaving = f.leaving || writerGone
	s := seg{n: n, end: end, writerGone: writerGone}
	switch {
	case f.held():
		s.leave, s.arrive = never, never
		f.enqueue(s)
	case f.segs.len() == 0 && f.way().shape.plain():
		f.land(s)
	default:
		now := f.pipe.link.now()
		for !f.emit(now, &s) {
		}
		f.advance(now)
		f.arm()
	}
}

// emit times and enqueues at most one segment of s, and reports whether that
// was the last of it.
func (f *flow) emit(now time.Duration, s *seg) bool {
	w := f.way()
	part := seg{n: min(s.n, w.shape.segment())}
	s.n -= part.n
	if s.n == 0 {
		part.end, part.writerGone = s.end, s.writerGone
	}
	part.leave = w.leave(now, part.n)
	part.arrive = w.flight(part.leave)
	f.enqueue(part)
	return s.n == 0
}

// enqueue appends s to what is under way, as one with the last where it can't
// be told apart: so that a million one-byte writes into a black hole are one.
func (f *flow) enqueue(s seg) {
	if n := f.segs.len(); n > 0 {
		last := f.segs.at(n - 1)
		if last.end == nil && last.leave == s.leave && last.arrive == s.arrive {
			last.n += s.n
			last.end, last.writerGone = s.end, s.writerGone
			return
		}
	}
	f.segs.push(s)
}

// land delivers s.
func (f *flow) land(s seg) {
	f.ready += s.n
	f.carried += uint64(s.n)
	f.way().carried += uint64(s.n)
	if f.deaf {
		f.drop()
	}
	if s.end != nil && f.end == nil {
		f.end = s.end
	}
	if s.writerGone {
		f.gone = s.end
		f.pipe.flows[1-f.side].canWrite.Broadcast()
	}
	f.canRead.Broadcast()
}

// advance delivers what has arrived by now. Nothing overtakes: a segment waits
// for those ahead of it, however late jitter makes them.
func (f *flow) advance(now time.Duration) {
	for f.segs.len() > 0 && f.segs.at(0).arrive <= now {
		f.land(f.segs.pop())
	}
}

// advance delivers what has arrived by now in both directions.
func (p *Pipe) advance(now time.Duration) {
	for i := range p.flows {
		p.flows[i].advance(now)
	}
}

// arm sets the alarm for the first segment's arrival when somebody cares: a
// waiting reader, writers at the other end who are to learn that we left, or
// nobody at all, where the bytes must still make room.
func (f *flow) arm() {
	if f.segs.len() == 0 || f.segs.at(0).arrive == never || (f.waiting == 0 && !f.leaving && !f.deaf) {
		return
	}
	wait := f.segs.at(0).arrive - f.pipe.link.now()
	if f.alarm != nil {
		f.alarm.Reset(wait)
		return
	}
	f.alarm = time.AfterFunc(wait, func() {
		f.pipe.link.mu.Lock()
		defer f.pipe.link.mu.Unlock()
		f.advance(f.pipe.link.now())
		f.arm()
	})
}

func (f *flow) disarm() {
	if f.alarm != nil {
		f.alarm.Stop()
	}
}

// hold makes everything under way wait for a Heal.
func (p *Pipe) hold() {
	for i := range p.flows {
		f := &p.flows[i]
		for _, s := range f.recall(0) {
			s.leave, s.arrive = never, never
			f.enqueue(s)
		}
		f.disarm()
	}
}

// resume sends what the pipes held.
func (l *Link) resume(now time.Duration, pipes []*Pipe) {
	for side := range l.ways {
		var held []backlog
		for _, p := range pipes {
			f := &p.flows[side]
			held = append(held, backlog{f, f.recall(0)})
		}
		l.settle(now, side, held)
	}
}

// rebook gives back the time on the link that was booked by a connection which
// no longer needs it.
func (l *Link) rebook(now time.Duration) {
	for side := range l.ways {
		if w := &l.ways[side]; w.free > now {
			l.reshape(now, side, w.shape)
		}
	}
}

// reshape gives a direction a new shape. The bytes that wait for the old rate
// are timed anew; one segment may be half out of the door, and what is left of
// it leaves at the new rate.
func (l *Link) reshape(now time.Duration, side int, s Shape) {
	w := &l.ways[side]
	old := w.shape
	w.shape, w.free = s, now
	var waiting []backlog
	for _, p := range l.pipes {
		f := &p.flows[side]
		if f.held() {
			continue
		}
		f.advance(now)
		i := 0
		for i < f.segs.len() && f.segs.at(i).leave <= now {
			i++
		}
		if i < f.segs.len() && f.segs.at(i).leave-old.duration(f.segs.at(i).n) < now {
			g := f.segs.at(i)
			left := int(int64(g.leave-now) * old.Rate / int64(time.Second))
			g.leave = w.leave(now, left)
			g.arrive = w.flight(g.leave)
			i++
		}
		waiting = append(waiting, backlog{f, f.recall(i)})
	}
	l.settle(now, side, waiting)
}

// settle sends again what was recalled in one direction, and has all its flows
// heed the change.
func (l *Link) settle(now time.Duration, side int, again []backlog) {
	relaunch(now, again)
	for _, p := range l.pipes {
		f := &p.flows[side]
		f.advance(now)
		f.arm()
		f.canWrite.Broadcast()
	}
}

// recall takes back the segments from the i-th on.
func (f *flow) recall(i int) []seg {
	var left []seg
	for j := i; j < f.segs.len(); j++ {
		left = append(left, *f.segs.at(j))
	}
	f.segs.truncate(i)
	return left
}

// A backlog is what a flow has to send.
type backlog struct {
	f    *flow
	segs []seg
}

// relaunch times and enqueues backlogs of one direction, a segment of each in
// turn, as a fair queue would.
func relaunch(now time.Duration, todo []backlog) {
	for len(todo) > 0 {
		rest := todo[:0]
		for _, b := range todo {
			if len(b.segs) > 0 && b.f.emit(now, &b.segs[0]) {
				b.segs = b.segs[1:]
			}
			if len(b.segs) > 0 {
				rest = append(rest, b)
			}
		}
		todo = rest
	}
}

// duration is how long n bytes take at the shape's rate.
func (s Shape) duration(n int) time.Duration {
	if s.Rate == 0 {
		return 0
	}
	return time.Duration(int64(n) * int64(time.Second) / s.Rate)
}

// leave books the link's rate for n bytes and returns when the last has left.
func (w *way) leave(now time.Duration, n int) time.Duration {
	w.free = max(w.free, now) + w.shape.duration(n)
	return w.free
}

// flight is when what leaves at t arrives, but for what went ahead of it.
func (w *way) flight(t time.Duration) time.Duration {
	t += w.shape.Delay
	if w.shape.Jitter > 0 {
		if w.jitter == nil {
			w.jitter = rand.New(rand.NewPCG(w.seed, w.stream))
		}
		t += time.Duration(w.jitter.Int64N(int64(w.shape.Jitter)))
	}
	return t
}
