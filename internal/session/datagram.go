package session

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/splitmesh/splitmesh/internal/buf"
	"github.com/splitmesh/splitmesh/internal/mux"
	"github.com/splitmesh/splitmesh/splitter"
)

// Bounds of datagrams.
const (
	// MaxDatagram is the most bytes of one datagram.
	MaxDatagram = 32 << 10

	maxInbox      = 256       // datagrams that wait to be read, and …
	maxInboxBytes = 512 << 10 // … their bytes
	maxGramsGiven = 64 << 10  // bytes that wait on one path to be sealed

	gramHeader = 1 + 1 + 4 + 4
)

var (
	// ErrDatagramSize reports a datagram over MaxDatagram.
	ErrDatagramSize = fmt.Errorf("a datagram has at most %d bytes", MaxDatagram)
	// ErrDatagramPolicy reports a policy that datagrams would break.
	ErrDatagramPolicy = errors.New("a private policy has no datagrams: their sizes and times would tell what it hides")
)

// A Stream is a stream of one of the session's lanes, and the datagrams that go
// with it.
type Stream struct {
	*mux.Stream
	lane   *lane
	closed bool // guarded by lane.inboxes.mu
}

// Policy is what the stream's bytes are divided by here; see splitter.Policy.
func (st *Stream) Policy() splitter.Policy {
	st.lane.s.mu.Lock()
	defer st.lane.s.mu.Unlock()
	return st.lane.policy
}

// Class is the priority of the stream's bytes.
func (st *Stream) Class() splitter.Class { return st.lane.class }

// Waits returns what the policy lacks for the stream's bytes to be sent, and nil when
// they only wait for room.
func (st *Stream) Waits() error {
	s := st.lane.s
	s.mu.Lock()
	defer s.mu.Unlock()
	switch err := s.enoughPaths(st.lane); {
	case s.err != nil:
		return nil
	case len(s.paths) == 0:
		return fmt.Errorf("every path to %s was lost, and none is back yet: %w", s.cfg.Peer.Short(), s.lastCause)
	default:
		return err
	}
}

// Close closes the stream; see mux.Stream.Close. Its datagrams end too.
func (st *Stream) Close() error {
	st.lane.inboxes.remove(st)
	return st.Stream.Close()
}

// SendDatagram sends p, which arrives once or not at all, in any order: over the
// path that delivers it first or, with all, over every path of another carrier. It
// never waits: what finds no room on a path is dropped, as on a network. Errors are
// ErrDatagramSize, ErrDatagramPolicy, *splitter.TooFewPathsError and what ended the
// session or the stream.
func (st *Stream) SendDatagram(p []byte, all bool) error {
	l := st.lane
	if len(p) > MaxDatagram {
		return ErrDatagramSize
	}
	in, err := l.inboxes.of(st)
	if err != nil {
		return err
	}
	s := l.s
	b := buf.Get(gramHeader + len(p))
	defer b.Release()
	s.lock()
	defer s.unlock(true)
	switch {
	case s.err != nil:
		return s.err
	case l.policy.Purpose != splitter.Throughput && l.policy.Purpose != splitter.Resilience:
		return ErrDatagramPolicy
	case s.cells.Load():
		return ErrDatagramPolicy
	case !s.control.acknowledged(l.policyEnd):
		return nil // dropped: the peer does not know the lane yet
	}
	if err := s.enoughPaths(l); err != nil {
		return err
	}
	putDatagram(b.B, l.id, st.ID(), in.nextNumber(), p)
	s.launch(l, b, all)
	return nil
}

// launch gives the datagram to one path, or to one of each carrier. s.mu is held.
func (s *Session) launch(l *lane, b *buf.Buf, all bool) {
	probe := segment{lane: l, b: b}
	view := s.view(l, &probe)
	one, _ := s.sched.Next(s.now, splitter.Job{Size: datagramCost(b), Backlog: datagramCost(b)}, view)
	for i, p := range s.paths {
		first := true
		for _, q := range s.paths[:i] {
			first = first && q.carrier != p.carrier
		}
		if i != one && !(all && first && view[i].Open(datagramCost(b))) {
			continue
		}
		waiting := datagramCost(b)
		for _, d := range p.datagrams {
			waiting += datagramCost(d)
		}
		if waiting > maxGramsGiven {
			continue
		}
		b.Retain()
		p.launched(datagramCost(b), splitter.Interactive)
		p.datagrams = append(p.datagrams, b)
		p.stats.SentBytes += uint64(len(b.B) - gramHeader)
		l.shares.Sent(p.carrier, len(b.B)-gramHeader)
		p.woken = true
	}
}

// dropDatagrams drops those that wait on the path to be sealed. s.mu is held.
func (p *path) dropDatagrams() {
	for _, b := range p.datagrams {
		p.landed(datagramCost(b), splitter.Interactive)
		b.Release()
	}
	p.datagrams = nil
	if p.inFlight() == 0 {
		p.ackSince = time.Time{}
	}
}

// datagramCost is what a datagram counts against a path's window.
func datagramCost(b *buf.Buf) int { return len(b.B) + 64 }

// A datagram is one as it came.
type datagram struct {
	lane           byte
	stream, number uint32
	payload        []byte
}

func putDatagram(b []byte, lane byte, stream, number uint32, p []byte) {
	b[0], b[1] = typeGram, lane
	binary.BigEndian.PutUint32(b[2:], stream)
	binary.BigEndian.PutUint32(b[6:], number)
	copy(b[gramHeader:], p)
}

func parseDatagram(p []byte) (g datagram, err error) {
	if len(p) < gramHeader || len(p) > gramHeader+MaxDatagram {
		return g, violation("datagram frame of %d bytes, want %d to %d", len(p), gramHeader, gramHeader+MaxDatagram)
	}
	return datagram{p[1], binary.BigEndian.Uint32(p[2:]), binary.BigEndian.Uint32(p[6:]), p[gramHeader:]}, nil
}

// ReceiveDatagram returns the next datagram that came for the stream since it was
// first called; what comes before that, and what comes faster than it is read, is
// dropped, the oldest first. It returns when ctx is done with its cause.
func (st *Stream) ReceiveDatagram(ctx context.Context) ([]byte, error) {
	in, err := st.lane.inboxes.of(st)
	if err != nil {
		return nil, err
	}
	for {
		in.mu.Lock()
		if len(in.waiting) > 0 {
			p := in.waiting[0]
			in.waiting[0] = nil
			in.waiting = in.waiting[1:]
			in.bytes -= len(p)
			in.mu.Unlock()
			return p, nil
		}
		err, more := in.err, in.more
		in.mu.Unlock()
		if err != nil {
			return nil, err
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// inboxes are those of a lane's streams that use datagrams.
type inboxes struct {
	mu  sync.Mutex // guards the rest; taken after s.mu and before an inbox's
	all map[uint32]*inbox
	err error
}

// An inbox holds what one stream has yet to read.
type inbox struct {
	mu      sync.Mutex // guards the rest
	waiting [][]byte
	bytes   int
	more    chan struct{} // closed and replaced when one comes
	seen    gramWindow
	next    uint32 // number of the next one sent
	err     error
}

func (x *inboxes) of(st *Stream) (*inbox, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case st.closed:
		return nil, net.ErrClosed
	case x.err != nil:
		return nil, x.err
	}
	stream := st.ID()
	in := x.all[stream]
	if in == nil {
		if x.all == nil {
			x.all = make(map[uint32]*inbox)
		}
		in = &inbox{more: make(chan struct{})}
		x.all[stream] = in
	}
	return in, nil
}

func (x *inboxes) remove(st *Stream) {
	x.mu.Lock()
	st.closed = true
	in := x.all[st.ID()]
	delete(x.all, st.ID())
	x.mu.Unlock()
	if in != nil {
		in.end(net.ErrClosed)
	}
}

// close ends all with the session.
func (x *inboxes) close(err error) {
	x.mu.Lock()
	all := x.all
	x.all, x.err = nil, err
	x.mu.Unlock()
	for _, in := range all {
		in.end(err)
	}
}

// put hands a datagram to its stream, if that wants any.
func (x *inboxes) put(g *datagram) {
	x.mu.Lock()
	in := x.all[g.stream]
	x.mu.Unlock()
	if in != nil {
		in.put(g)
	}
}

func (in *inbox) nextNumber() uint32 {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.next++
	return in.next
}

func (in *inbox) end(err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.err == nil {
		in.err = err
		close(in.more)
	}
}

func (in *inbox) put(g *datagram) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.err != nil || !in.seen.add(g.number) {
		return
	}
	for len(in.waiting) > 0 && (len(in.waiting) >= maxInbox || in.bytes+len(g.payload) > maxInboxBytes) {
		in.bytes -= len(in.waiting[0])
		in.waiting[0] = nil
		in.waiting = in.waiting[1:]
	}
	in.waiting = append(in.waiting, append([]byte(nil), g.payload...))
	in.bytes += len(g.payload)
	close(in.more)
	in.more = make(chan struct{})
}

// A gramWindow remembers which of the latest numbers came: a datagram that was sent
// over all paths is delivered once, and one that is older than the window never.
// Numbers wrap around.
type gramWindow struct {
	high uint32
	any  bool
	bits [gramWindowSize / 64]uint64 // of number n: bit n mod gramWindowSize
}

const gramWindowSize = 1024

func (w *gramWindow) add(n uint32) bool {
	ahead := int32(n - w.high)
	switch {
	case !w.any || ahead >= gramWindowSize:
		*w = gramWindow{high: n, any: true}
	case ahead > 0:
		for w.high != n {
			w.high++
			w.bits[w.high%gramWindowSize/64] &^= 1 << (w.high % 64)
		}
	case ahead <= -gramWindowSize:
		return false
	}
	word, bit := &w.bits[n%gramWindowSize/64], uint64(1)<<(n%64)
	if *word&bit != 0 {
		return false
	}
	*word |= bit
	return true
}
