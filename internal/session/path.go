package session

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/splitmesh/splitmesh/frame"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/internal/buf"
	"github.com/splitmesh/splitmesh/internal/rekey"
	"github.com/splitmesh/splitmesh/splitter"
)

// PathInfo says what a path runs over.
type PathInfo struct {
	// ID is the path's number in its session.
	ID uint32
	// Relay is the node that splices the path's circuit, zero for a direct path.
	Relay identity.ID
	// Operator is who runs the relay, as far as its record tells; relays of one
	// operator count as one.
	Operator string
	// Remote is where the path leads, for people to read.
	Remote string
	// Host is the IP address at the other end of a direct path, as far as the system
	// or the address that was dialled tells.
	Host netip.Addr
	// Dialled says that this end dialled the path.
	Dialled bool
}

// Direct reports whether no relay carries the path.
func (i *PathInfo) Direct() bool { return i.Relay.IsZero() }

// A path is a connection to the peer. Two goroutines serve it: read, and flush.
// Both are started by Session.AddPath and end when the path dies. See State for
// its life.
type path struct {
	s       *Session
	info    PathInfo
	carrier int // the relay's number in share windows, directCarrier when none
	conn    net.Conn
	out     buf.Writer    // conn, if it is one
	wake    chan struct{} // of size 1: the flusher has something to do
	done    chan struct{} // closed when the path is dead

	wmu    sync.Mutex // held while sealing and writing; taken before s.mu
	sealer *frame.Sealer
	batch  batch
	// headroom is what out needs before what is written. promised says that what was
	// written last may wait in out for more.
	headroom int
	promised bool
	missed   atomic.Bool // the flusher wanted wmu, and went back to wait

	omu    sync.Mutex    // guards opener; taken after s.mu
	opener *frame.Opener // nil once it failed

	// All below is guarded by s.mu.
	state     State
	evacuated bool       // late, and its bytes may go over others
	epoch     uint32     // of the keys that we seal with
	sealNext  *rekey.Key // to be sealed with from the next batch on, if not nil
	cause     error
	queue     fifo[*segment] // given to the path, not yet sealed; higher classes first
	datagrams []*buf.Buf     // likewise, and go before them
	flight    fifo[record]   // sealed and not acknowledged, by ascending packet
	packet    uint64         // the next frame's number
	loads     [numClasses]int
	est       estimator

	lastRecv  time.Time
	pingSince time.Time // when a ping was sent after which nothing came; zero: none
	askedAt   time.Time // when the ping was sent that has no pong yet; zero: none
	ackSince  time.Time // since when no byte in flight was acknowledged; zero: none is in flight
	padsDue   []int     // machines whose padding is to be sent
	pingDue   bool
	pongDue   bool
	pong      [8]byte

	recvPacket uint64 // highest number received
	recvAt     time.Time
	owed       int // bytes received since the last acknowledgement
	ackAt      time.Time

	woken bool // to be signalled when s.mu is released
	stats PathCounters

	tellAck  ack     // scratch
	heardAck ack     // scratch of the reader's alone
	pingID   [8]byte // likewise
}

// PathCounters count what a path has carried.
type PathCounters struct {
	// SentBytes and ReceivedBytes count the lanes' bytes, ResentBytes those of
	// the sent ones that another path had carried before.
	SentBytes, ReceivedBytes, ResentBytes uint64
	// SentFrames and ReceivedFrames count frames of every type.
	SentFrames, ReceivedFrames uint64
	// Blamed counts frames that came damaged or forged: each cost the path.
	Blamed uint64
}

// A record remembers a frame in flight that wants an acknowledgement.
type record struct {
	packet    uint64
	segment   *segment // nil for a datagram
	cost      int
	class     splitter.Class
	at        time.Time
	delivered uint64 // est.delivered when it was sent
	limited   bool   // the window was not full
}

// signal wakes the flusher.
func (p *path) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// inFlight is what the path was given and the peer has not acknowledged.
func (p *path) inFlight() int { return p.load(splitter.Bulk) }

// load is the part of inFlight that a segment of class c waits for: its own class
// and those that go before it.
func (p *path) load(c splitter.Class) (n int) {
	for _, l := range p.loads[:c+1] {
		n += l
	}
	return n
}

// launched counts cost bytes more in flight.
func (p *path) launched(cost int, c splitter.Class) {
	if p.inFlight() == 0 {
		p.ackSince = p.s.now
		p.s.arm(p.s.now.Add(p.patience()))
	}
	p.loads[c] += cost
}

// landed counts them out again.
func (p *path) landed(cost int, c splitter.Class) { p.loads[c] -= cost }

// give queues g on the path, behind its own class. s.mu is held.
func (p *path) give(g *segment) {
	g.flights++
	g.on, g.givenAt = p, p.s.now
	g.b.Retain()
	p.launched(g.cost(), g.lane.class)
	p.queue.push(g)
	q := p.queue.items()
	for i := len(q) - 1; i > 0 && q[i-1].lane.class > g.lane.class; i-- {
		q[i-1], q[i] = q[i], q[i-1]
	}
	p.stats.SentBytes += uint64(g.size())
	if g.resent {
		p.stats.ResentBytes += uint64(g.size())
	}
	p.woken = true
}

// acked takes the peer's word that it has every packet up to a.Packet. s.mu is held.
func (p *path) acked(a pathAck) error {
	if a.Packet >= p.packet {
		return violation("path %d acknowledged to packet %d, sent to %d", p.info.ID, a.Packet, p.packet)
	}
	var last *record
	n, bytes := 0, 0
	flight := p.flight.items()
	for ; n < len(flight) && flight[n].packet <= a.Packet; n++ {
		r := &flight[n]
		p.landed(r.cost, r.class)
		bytes += r.cost
		if g := r.segment; g != nil {
			g.flights--
			g.arrived() // which may retire it, or others
		}
		last = r
	}
	if last == nil {
		return nil
	}
	rtt := p.s.now.Sub(last.at) - a.Delay
	p.est.acked(p.s.now, rtt, bytes, last.delivered, last.at, last.limited)
	if len(p.s.paths) > 1 {
		p.s.bottlenecks.Add(p.info.ID, p.s.now, max(rtt, 0))
	}
	p.flight.drop(n)
	p.ackSince = p.s.now
	if p.inFlight() == 0 {
		p.ackSince = time.Time{}
	}
	p.reassured()
	return nil
}

// heard notes that the peer is there. s.mu is held.
func (p *path) heard() {
	if !p.s.begun {
		p.s.begun = true
		close(p.s.proven)
	}
	p.lastRecv, p.pingSince = p.s.now, time.Time{}
	p.reassured()
}

// reassured takes a path that keeps nobody waiting for an active one.
func (p *path) reassured() {
	if p.state == Probing || p.state == Late && !p.isOverdue() {
		p.move(answered)
	}
}

// waitsSince is since when an answer is due, zero when none is: that anything
// comes after a ping, that bytes in flight are acknowledged. Other frames do not
// stand for an acknowledgement, or a peer could keep a path that it does not read
// alive with pings. s.mu is held.
func (p *path) waitsSince() time.Time {
	if p.ackSince.IsZero() || !p.pingSince.IsZero() && p.pingSince.Before(p.ackSince) {
		return p.pingSince
	}
	return p.ackSince
}

// patience is how long an answer may take before the path counts as late.
func (p *path) patience() time.Duration { return min(p.est.rto(), p.s.cfg.DeadAfter) }

func (p *path) isOverdue() bool {
	since := p.waitsSince()
	return !since.IsZero() && p.s.now.Sub(since) >= p.patience()
}

// owe notes a frame that wants an acknowledgement. s.mu is held. It reports
// whether the acknowledgement should go now.
func (p *path) owe(n int) bool {
	p.recvAt = p.s.now
	if p.owed == 0 {
		p.ackAt = p.s.now.Add(p.s.ackDelay())
		p.s.arm(p.ackAt)
	}
	p.owed += n
	return p.owed >= p.s.ackBytes()
}

// ErrPathDead is the cause of a path that no longer answers.
var ErrPathDead = errors.New("the path does not answer")

// errAbandoned is the cause of a path that the peer gave up.
var errAbandoned = errors.New("the peer abandoned the path")

// kill ends the path: what it had not acknowledged goes to the others, and the
// peer is told. s.mu is held; the caller closes conn after unlocking, by way of
// s.unlock.
func (p *path) kill(cause error, o occasion) {
	if p.state >= Dead {
		return
	}
	p.cause = cause
	close(p.done)
	s := p.s
	s.removePath(p)
	p.move(o)
	alive := s.err == nil
	for _, r := range p.flight.items() {
		if g := r.segment; g != nil && alive {
			g.lane.lost(g, p)
		}
	}
	for _, g := range p.queue.items() {
		b := g.b
		if alive {
			g.lane.lost(g, p)
		}
		b.Release()
	}
	for _, b := range p.datagrams {
		b.Release()
	}
	p.flight, p.queue = fifo[record]{}, fifo[*segment]{}
	p.datagrams, p.loads = nil, [numClasses]int{}
	for _, l := range s.lanes {
		// An acknowledgement may have died with the path. Of a lane on which nothing
		// has come there is none, and the peer may not know it yet.
		l.ackDue = l.ackDue || l.received.Load() > 0
	}
	s.after.killed = append(s.after.killed, p)
	s.after.events = append(s.after.events, Event{Path: p.info, State: Dead, Err: cause})
	if !alive {
		return
	}
	s.rank() // it may have been the direct one
	s.abandon(p.info.ID, o == parted)
	if len(s.paths) == 0 {
		s.pathless(cause)
	}
}
