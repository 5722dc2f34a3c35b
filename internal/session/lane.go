package session

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/splitmesh/splitmesh/internal/buf"
	"github.com/splitmesh/splitmesh/internal/mux"
	"github.com/splitmesh/splitmesh/splitter"
)

// Bounds of a lane (docs/SPEC.md, "Bounds").
const (
	// laneCredit is how far beyond the last byte in order a peer may send.
	laneCredit = 8 << 20
	// maxHeld bounds the bytes of a lane that are kept until the peer has them,
	// maxUnsent those of them that no path has been given yet.
	maxHeld   = 8 << 20
	maxUnsent = 1 << 20
	// maxSegments keeps the peer's fragments below splitter.MaxFragments.
	maxSegments = splitter.MaxFragments / 2
	// maxControl is the most unacknowledged control bytes that a peer can
	// make a lane hold.
	maxControl = 1 << 20
)

// A lane is one ordered pipe inside the session: its own offsets, reassembly,
// credit and policy. The data lanes carry a mux, the control lane messages.
type lane struct {
	s       *Session
	id      byte
	policy  splitter.Policy
	mux     *mux.Mux // nil for the control lane
	control controlReader

	wakes atomic.Bool // the mux has control frames to send

	// Sending; guarded by s.mu.
	segments []*segment // unacknowledged, ascending; [0:sent) were given to a path
	sent     int
	again    []*segment // to be sent again, ascending
	next     uint64     // offset of the next byte written
	held     int        // bytes in segments
	unsent   int        // bytes in segments[sent:]
	credit   uint64     // the peer's
	shares   splitter.ShareWindow
	starved  bool // a TryWrite was turned away
	ackDue   bool // the peer has not been told of the latest offset and credit

	recvMu  sync.Mutex // guards the rest, and serialises delivery; taken before s.mu
	reasm   splitter.Reassembler
	deliver func([]byte, *buf.Buf)
	failed  error // first error of deliver

	received atomic.Uint64 // reasm.Next()
	allowed  atomic.Uint64 // reasm.Limit()
}

// A segment is a stretch of a lane as one data frame carries it. b.B holds the
// frame's plaintext: dataHeader, then the bytes. The lane owns one reference to b
// until the segment is acknowledged; a path that has it queued owns another.
type segment struct {
	lane   *lane
	offset uint64
	b      *buf.Buf
	on     *path // the path that has it in flight, nil when none
	acked  bool
	resent bool
}

func (g *segment) size() int   { return len(g.b.B) - dataHeader }
func (g *segment) end() uint64 { return g.offset + uint64(g.size()) }

// cost is what the segment counts against a path's window: headers and seal
// included, so that small segments are bounded in number too.
func (g *segment) cost() int { return len(g.b.B) + 64 }

func newLane(s *Session, id byte, policy splitter.Policy) *lane {
	l := &lane{s: s, id: id, policy: policy, credit: laneCredit}
	l.reasm.Allow(laneCredit)
	l.allowed.Store(laneCredit)
	l.deliver = l.toMux
	if id == laneControl {
		l.deliver = l.toControl
	}
	return l
}

// receive takes a data frame's payload. It never waits for the application.
func (l *lane) receive(offset uint64, p []byte, owner *buf.Buf) error {
	l.recvMu.Lock()
	defer l.recvMu.Unlock()
	if l.failed != nil {
		return l.failed
	}
	if err := l.reasm.Insert(offset, p, owner, l.deliver); err != nil {
		l.failed = &ProtocolError{"lane data", err}
		return l.failed
	}
	l.reasm.Allow(l.reasm.Next() + laneCredit)
	l.received.Store(l.reasm.Next())
	l.allowed.Store(l.reasm.Limit())
	return l.failed
}

func (l *lane) toMux(p []byte, owner *buf.Buf) {
	if l.failed != nil {
		return
	}
	if err := l.mux.Input(p, owner); err != nil {
		l.failed = &ProtocolError{"streams", err}
	}
}

func (l *lane) toControl(p []byte, _ *buf.Buf) {
	if l.failed == nil {
		l.failed = l.control.Input(p, l.s.handleControl)
	}
}

// TryWrite implements mux.Output.
func (l *lane) TryWrite(header *[12]byte, payload []byte, inline bool) (bool, error) {
	b := buf.Get(dataHeader + len(header) + len(payload))
	copy(b.B[dataHeader:], header[:])
	copy(b.B[dataHeader+len(header):], payload)
	s := l.s
	s.lock()
	if s.err != nil {
		defer s.mu.Unlock()
		b.Release()
		return false, s.err
	}
	if err := s.enoughPaths(l); err != nil && l.policy.FailFast {
		defer s.mu.Unlock()
		b.Release()
		return false, err
	}
	if l.unsent >= maxUnsent || l.held >= maxHeld || len(l.segments) >= maxSegments {
		l.starved = true
		s.mu.Unlock()
		b.Release()
		return false, nil
	}
	l.pull()
	l.push(b)
	s.schedule()
	err := s.err
	s.unlock(inline)
	return err == nil, err
}

// Wake implements mux.Output. It may run with the mux's locks held, so it only
// marks the lane; a path's flusher pulls.
func (l *lane) Wake() {
	if l.wakes.Swap(true) {
		return
	}
	paths := l.s.anyPath.Load()
	if paths == nil {
		return // the first path pulls
	}
	for _, p := range *paths {
		if p.wmu.TryLock() {
			p.wmu.Unlock()
			p.signal()
			return
		}
	}
	for _, p := range *paths { // all are writing, and one of them may be stuck
		p.signal()
	}
}

// pull moves the mux's pending control frames into the lane. They are not held
// back for want of room, so a peer that makes us send them and acknowledges none
// is cut off. s.mu is held.
func (l *lane) pull() {
	if !l.wakes.Swap(false) {
		return
	}
	for l.s.err == nil {
		b := buf.Get(controlBatch)
		b.B = l.mux.AppendControl(b.B[:dataHeader], controlBatch-dataHeader)
		if len(b.B) == dataHeader {
			b.Release()
			return
		}
		l.push(b)
		if l.held > maxHeld+maxControl {
			l.s.fail(violation("it acknowledges none of %d bytes", l.held))
		}
	}
}

// controlBatch is the size of the buffer that control frames are pulled into.
const controlBatch = 4 << 10

// push appends b, whose bytes follow dataHeader, to the lane and takes over its
// reference. s.mu is held.
func (l *lane) push(b *buf.Buf) {
	n := len(b.B) - dataHeader
	if n := len(l.segments); n > l.sent && l.segments[n-1].join(b) {
		l.held += len(b.B) - dataHeader
		l.unsent += len(b.B) - dataHeader
		l.next += uint64(len(b.B) - dataHeader)
		b.Release()
		return
	}
	putDataHeader(b.B, l.id, l.next)
	l.segments = append(l.segments, &segment{lane: l, offset: l.next, b: b})
	l.next += uint64(n)
	l.held += n
	l.unsent += n
}

// join appends b's bytes to a segment that no path has seen, if they fit: many
// small writes that wait for a window become one frame.
func (g *segment) join(b *buf.Buf) bool {
	n := len(b.B) - dataHeader
	have := len(g.b.B)
	if have+n > cap(g.b.B) || have-dataHeader+n > maxSegment {
		return false
	}
	g.b.B = append(g.b.B, b.B[dataHeader:]...)
	return true
}

// head is the segment to send next, nil when there is none that credit allows.
// s.mu is held.
func (l *lane) head() *segment {
	for len(l.again) > 0 {
		if g := l.again[0]; !g.acked {
			return g
		}
		l.again = l.again[1:]
	}
	if l.sent < len(l.segments) && l.segments[l.sent].end() <= l.credit {
		return l.segments[l.sent]
	}
	return nil
}

// took removes g, which head returned, from what is to be sent.
func (l *lane) took(g *segment) {
	if len(l.again) > 0 && l.again[0] == g {
		l.again = l.again[1:]
		g.resent = true
		return
	}
	l.sent++
	l.unsent -= g.size()
}

// lost puts g back among the segments to send. s.mu is held.
func (l *lane) lost(g *segment) {
	g.on = nil
	if g.acked {
		return
	}
	i, _ := slices.BinarySearchFunc(l.again, g, func(a, b *segment) int {
		if a.offset < b.offset {
			return -1
		}
		return 1
	})
	l.again = slices.Insert(l.again, i, g)
}

// delivered takes the peer's word that it has every byte below offset, and its
// credit. s.mu is held.
func (l *lane) delivered(a laneAck) error {
	if a.Offset > l.next {
		return violation("lane %#02x acknowledged to %d, written to %d", l.id, a.Offset, l.next)
	}
	for i := 0; i < l.sent && l.segments[i].end() <= a.Offset; i++ {
		l.segments[i].acked = true
	}
	l.credit = max(l.credit, a.Credit)
	l.trim()
	return nil
}

// trim forgets the acknowledged segments at the head. s.mu is held.
func (l *lane) trim() {
	n := 0
	for ; n < l.sent && l.segments[n].acked; n++ {
		g := l.segments[n]
		l.held -= g.size()
		g.b.Release()
		l.segments[n] = nil
	}
	if n == 0 {
		return
	}
	l.segments, l.sent = l.segments[n:], l.sent-n
	if len(l.segments) == 0 {
		l.segments = nil
	}
}

// acknowledged reports whether the peer has every byte below offset. s.mu is held.
func (l *lane) acknowledged(offset uint64) bool {
	return len(l.segments) == 0 || l.segments[0].offset >= offset
}

// roomy reports whether a starved writer should try again. s.mu is held.
func (l *lane) roomy() bool {
	return l.starved && l.unsent <= maxUnsent/2 && l.held <= maxHeld-maxUnsent/2 && len(l.segments) < maxSegments
}

// drop releases what the lane holds when the session is over. s.mu is held.
func (l *lane) drop() {
	for _, g := range l.segments {
		g.b.Release()
	}
	l.segments, l.again, l.sent, l.held, l.unsent = nil, nil, 0, 0, 0
}
