package session

import (
	"sync"
	"sync/atomic"
	"time"

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
	maxUnsent = 640 << 10
	// maxWaiting is what all lanes of a session may have out of order or incomplete
	// at the receiver. A sender writes no more once it is at maxKept: what its muxes
	// have to say still fits.
	maxWaiting = 48 << 20
	maxKept    = 40 << 20
	// maxSegments keeps the peer's fragments below splitter.MaxFragments.
	maxSegments = splitter.MaxFragments / 2
	// maxControl is the most unacknowledged control bytes that a peer can
	// make a lane hold.
	maxControl = 1 << 20
)

// A lane is one ordered pipe inside the session: its own offsets, reassembly,
// credit, policy and priority. The data lanes carry a mux, the control lane
// messages.
type lane struct {
	s       *Session
	id      byte
	class   splitter.Class  // 0 for the control lane, which goes before all
	asked   splitter.Policy // by whom began the lane
	mux     *mux.Mux        // nil for the control lane
	control controlReader
	inboxes inboxes

	wakes atomic.Bool // the mux has control frames to send

	// Sending; guarded by s.mu.
	policy   splitter.Policy // of what we send: asked, or stricter
	segments fifo[*segment]  // unacknowledged, ascending; [0:sent) were given to a path
	sent     int             // some behind it may have been given too
	again    []*segment      // to be sent again, ascending
	next     uint64          // offset of the next byte written
	held     int             // bytes in segments
	unsent   int             // bytes that no path was given
	credit   uint64          // the peer's
	shares   splitter.ShareWindow
	early    int // segments that are acknowledged, and wait for those before them
	spare    splitter.Redundancy
	sched    splitter.Scheduler
	starved  bool // a TryWrite was turned away
	ackDue   bool // the peer has not been told of the latest offset and credit
	// policyEnd is the control lane's offset behind our announcement of policy, 0
	// if it needs none: no data goes before the peer has that much.
	policyEnd uint64
	stats     LaneCounters

	// Of a coded lane, whose segments are blocks.
	coding sync.Once // settles the next two
	scheme splitter.Scheme
	blocks *splitter.Blocks // guarded by recvMu
	owing  []*block         // that have shards to send, ascending; guarded by s.mu, like:
	charge int              // what the receiver may be charged for our blocks, and …
	begun  int              // … for those of which it may have shards

	recvMu  sync.Mutex // guards the rest, and serialises delivery; taken before s.mu
	reasm   splitter.Reassembler
	deliver func([]byte, *buf.Buf)
	failed  error // first error of deliver
	counted int64 // what account has counted

	received atomic.Uint64 // reasm.Next()
	allowed  atomic.Uint64 // reasm.Limit()
}

func newLane(s *Session, id byte, policy splitter.Policy, class splitter.Class) *lane {
	l := &lane{s: s, id: id, asked: policy, policy: policy, class: class, credit: laneCredit}
	l.reasm.Allow(laneCredit)
	l.allowed.Store(laneCredit)
	l.sched = s.sched
	if l.unlinkable() {
		l.sched = new(splitter.Batched)
	}
	if id == laneControl {
		l.deliver = l.toControl
		return l
	}
	l.deliver = l.toMux
	cfg := mux.Config{Client: s.cfg.Dialler, Output: l, RTT: func() time.Duration { return time.Duration(s.srtt.Load()) }, Budget: s.cfg.Budget}
	if s.cfg.OnStream != nil {
		cfg.Accept = func(st *mux.Stream) { s.cfg.OnStream(&Stream{Stream: st, lane: l}) }
	}
	l.mux = mux.New(cfg)
	return l
}

// receive takes a data frame's payload. It never waits for the application.
func (l *lane) receive(offset uint64, p []byte, owner *buf.Buf) error {
	l.recvMu.Lock()
	defer l.recvMu.Unlock()
	if l.failed != nil {
		return l.failed
	}
	if l.asked.Purpose.Coded() {
		l.failed = violation("bytes on lane %d, which has shards", l.id)
		return l.failed
	}
	return l.insert(offset, p, owner)
}

// insert puts bytes into the lane's order. recvMu is held.
func (l *lane) insert(offset uint64, p []byte, owner *buf.Buf) error {
	if err := l.reasm.Insert(offset, p, owner, l.deliver); err != nil {
		l.failed = &ProtocolError{"lane data", err}
		return l.failed
	}
	l.reasm.Allow(l.reasm.Next() + laneCredit)
	l.received.Store(l.reasm.Next())
	l.allowed.Store(l.reasm.Limit())
	l.account()
	return l.failed
}

func (l *lane) toMux(p []byte, owner *buf.Buf) {
	if l.failed != nil {
		return
	}
	if err := l.mux.Deliver(p, owner); err != nil {
		l.failed = &ProtocolError{"streams", err}
	}
}

// announce wakes who waits for what was delivered.
func (l *lane) announce() {
	l.recvMu.Lock()
	defer l.recvMu.Unlock()
	if l.mux != nil {
		l.mux.Announce()
	}
}

func (l *lane) toControl(p []byte, _ *buf.Buf) {
	if l.failed == nil {
		l.failed = l.control.Input(p, l.s.handleControl)
	}
}

// Headroom implements mux.Output: a data frame's inner header goes before the mux's.
func (l *lane) Headroom() int { return dataHeader }

// TryWrite implements mux.Output.
func (l *lane) TryWrite(b *buf.Buf, inline, more bool) (bool, error) {
	n := len(b.B) - dataHeader
	s := l.s
	var k *block
	if l.asked.Purpose.Coded() { // cutting is long work: not for naught, and not under the lock
		s.lock()
		ok, err := l.accepts(n)
		s.mu.Unlock()
		if !ok || err != nil {
			return false, err
		}
		if k, err = l.cut(b); err != nil {
			return false, err
		}
	}
	s.lock()
	ok, err := l.accepts(n)
	if ok && err == nil {
		l.pull()
		err = s.err
	}
	if !ok || err != nil {
		s.schedule() // what was promised company has none for now
		s.unlock(false)
		if k != nil {
			k.release()
		}
		return false, err
	}
	l.push(b, k)
	l.stats.SentBytes += uint64(n)
	if more && l.unsent <= company && k == nil && !s.cells.Load() {
		s.mu.Unlock()
		return true, nil
	}
	s.schedule()
	s.unlock(inline)
	return true, nil
}

// accepts reports whether n bytes more may be written to the lane; if they may
// later, the mux is told when. s.mu is held.
func (l *lane) accepts(n int) (bool, error) {
	s := l.s
	if s.err != nil {
		return false, s.err
	}
	if err := s.enoughPaths(l); err != nil && l.asked.FailFast {
		return false, err
	}
	full := len(s.paths) == 0 || l.unsent >= maxUnsent || l.copies() >= maxHeld || l.segments.len() >= maxSegments || s.kept() >= maxKept
	if !full && l.asked.Purpose.Coded() {
		l.useScheme()
		// A quarter is left for what the mux has to say.
		full = l.charge+splitter.MostHeld(l.scheme, n) > laneIncomplete/4*3
	}
	if full {
		l.starved = true
	}
	return !full, nil
}

// copies is what the lane keeps for the bytes that it holds: those of a coded lane
// are kept as shards. s.mu is held.
func (l *lane) copies() int {
	if l.asked.Purpose.Coded() {
		return l.held / l.asked.K * l.asked.N
	}
	return l.held
}

// kept is what the peer may have to keep of all that was written and not
// acknowledged. s.mu is held.
func (s *Session) kept() (n int) {
	for _, l := range s.lanes {
		n += l.held + l.charge
	}
	return n
}

// account counts what the lane keeps for the session, and refuses more than a sender
// may make it keep. recvMu is held.
func (l *lane) account() {
	n := int64(l.reasm.Waiting())
	if l.blocks != nil {
		n += int64(l.blocks.Held())
	}
	sum, over := l.s.waiting.Add(n-l.counted), l.s.cfg.Limit.add(n-l.counted)
	l.counted = n
	switch {
	case l.failed != nil:
	case sum > maxWaiting:
		l.failed = violation("its lanes have us keep %d bytes that are out of order or incomplete, more than %d", sum, maxWaiting)
	case over && sum > limitShare:
		l.failed = violation("its lanes have us keep %d bytes that are out of order or incomplete, while all sessions keep too much", sum)
	}
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
	if len(l.s.paths) == 0 || !l.wakes.Swap(false) {
		return
	}
	if l.asked.Purpose.Coded() {
		l.useScheme()
	}
	for l.s.err == nil {
		b := buf.Get(controlBatch)
		b.B = l.mux.AppendControl(b.B[:dataHeader], controlBatch-dataHeader)
		if len(b.B) == dataHeader {
			b.Release()
			return
		}
		l.push(b, nil)
		if l.held > maxHeld+maxControl {
			l.s.fail(violation("it acknowledges none of %d bytes", l.held))
		}
	}
}

// controlBatch is the size of the buffer that control frames are pulled into.
const controlBatch = 4 << 10

// roomy reports whether a starved writer should try again. s.mu is held.
func (l *lane) roomy() bool {
	return l.starved && len(l.s.paths) > 0 && l.unsent <= maxUnsent/8*7 && l.copies() <= maxHeld-maxUnsent/2 && l.s.kept() <= maxKept-maxUnsent/2 && l.charge <= laneIncomplete/2 && l.segments.len() < maxSegments
}

// drop releases what the lane holds when the session is over. s.mu is held.
func (l *lane) drop() {
	for _, g := range l.segments.items() {
		if g.block != nil {
			g.block.release()
		}
		g.b.Release()
	}
	l.segments = fifo[*segment]{}
	l.again, l.owing, l.sent, l.held, l.unsent, l.charge, l.begun, l.early = nil, nil, 0, 0, 0, 0, 0, 0
}
