package session

import (
	"errors"
	"net"
	"sync"
	"time"

	"github.com/splitmesh/splitmesh/frame"
	"github.com/splitmesh/splitmesh/identity"
)

// PathInfo says what a path runs over.
type PathInfo struct {
	// ID is the path's number in its session.
	ID uint32
	// Relay is the node that splices the path's circuit, zero for a direct path.
	Relay identity.ID
	// Remote is where the path leads, for people to read.
	Remote string
	// Dialled says that this end dialled the path.
	Dialled bool
}

// Direct reports whether no relay carries the path.
func (i *PathInfo) Direct() bool { return i.Relay.IsZero() }

// A path is a connection to the peer. Two goroutines serve it: read, and flush.
// Both are started by Session.AddPath and end when the path dies.
//
// A path has two states: alive, until kill, and then dead for good. Its id is
// never used again.
type path struct {
	s       *Session
	info    PathInfo
	carrier int // the relay's number in share windows, -1 when direct
	conn    net.Conn
	wake    chan struct{} // of size 1: the flusher has something to do
	done    chan struct{} // closed when the path is dead

	wmu    sync.Mutex // held while sealing and writing; taken before s.mu
	sealer *frame.Sealer
	batch  batch

	// All below is guarded by s.mu.
	dead     bool
	cause    error
	queue    []*segment // given to the path, not yet sealed
	flight   []record   // sealed and not acknowledged, by ascending packet
	packet   uint64     // the next frame's number
	inFlight int        // cost of queue and flight
	est      estimator

	lastRecv  time.Time
	pingSince time.Time // when a ping was sent after which nothing came; zero: none
	ackSince  time.Time // since when no byte in flight was acknowledged; zero: none is in flight
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
}

// A record remembers a data frame in flight.
type record struct {
	packet    uint64
	segment   *segment
	cost      int
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

// give queues g on the path. s.mu is held.
func (p *path) give(g *segment) {
	g.on = p
	g.b.Retain()
	if p.inFlight == 0 {
		p.ackSince = p.s.now
		p.s.arm(p.s.now.Add(p.s.cfg.DeadAfter))
	}
	p.inFlight += g.cost()
	p.queue = append(p.queue, g)
	p.stats.SentBytes += uint64(g.size())
	if g.resent {
		p.stats.ResentBytes += uint64(g.size())
	}
}

// acked takes the peer's word that it has every packet up to a.Packet. s.mu is held.
func (p *path) acked(a pathAck) error {
	if a.Packet >= p.packet {
		return violation("path %d acknowledged to packet %d, sent to %d", p.info.ID, a.Packet, p.packet)
	}
	var last *record
	n, bytes := 0, 0
	for ; n < len(p.flight) && p.flight[n].packet <= a.Packet; n++ {
		r := &p.flight[n]
		p.inFlight -= r.cost
		bytes += r.cost
		r.segment.acked = true
		r.segment.on = nil
		r.segment.lane.trim()
		last = r
	}
	if last == nil {
		return nil
	}
	p.est.acked(p.s.now, p.s.now.Sub(last.at)-a.Delay, bytes, last.delivered, last.at, last.limited)
	p.flight = p.flight[n:]
	if len(p.flight) == 0 {
		p.flight = nil
	}
	p.ackSince = p.s.now
	if p.inFlight == 0 {
		p.ackSince = time.Time{}
	}
	return nil
}

// heard notes that the peer is there. s.mu is held.
func (p *path) heard() {
	p.lastRecv, p.pingSince = p.s.now, time.Time{}
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

// owe notes a frame that wants an acknowledgement. s.mu is held. It reports
// whether the acknowledgement should go now.
func (p *path) owe(n int) bool {
	p.recvAt = p.s.now
	if p.owed == 0 {
		p.ackAt = p.s.now.Add(ackDelay)
		p.s.arm(p.ackAt)
	}
	p.owed += n
	return p.owed >= ackBytes
}

// ErrPathDead is the cause of a path that no longer answers.
var ErrPathDead = errors.New("the path does not answer")

// errAbandoned is the cause of a path that the peer gave up.
var errAbandoned = errors.New("the peer abandoned the path")

// kill ends the path: what it had not acknowledged goes to the others, and the
// peer is told over them. s.mu is held; the caller closes conn after unlocking,
// by way of s.unlock.
func (p *path) kill(cause error) {
	if p.dead {
		return
	}
	p.dead, p.cause = true, cause
	close(p.done)
	s := p.s
	s.removePath(p)
	if s.err == nil {
		for i := range p.flight {
			p.flight[i].segment.lane.lost(p.flight[i].segment)
		}
	}
	for _, g := range p.queue {
		if s.err == nil {
			g.lane.lost(g)
		}
		g.b.Release()
	}
	p.flight, p.queue, p.inFlight = nil, nil, 0
	for _, l := range s.lanes {
		l.ackDue = true // an acknowledgement may have died with the path
	}
	s.after.killed = append(s.after.killed, p)
	switch {
	case s.err != nil:
	case len(s.paths) > 0:
		s.say(appendAbandon(nil, p.info.ID))
	case s.parting != nil:
		s.fail(s.parting)
	default:
		s.fail(&PathsLostError{Peer: s.cfg.Peer, Last: cause})
	}
}
