// Package mux carries many streams over one ordered byte pipe. A stream is a
// [net.Conn] with half-close; the pipe is a lane of a session.
//
// The package does no I/O and owns no goroutine and, but for streams that wait
// with a deadline, no timer: the pipe's owner feeds what arrives to [Mux.Input]
// and takes what is to be sent through the [Output] that it supplies. A paused
// pipe is therefore only silence here; nothing in this package gives up on it.
//
//	m := mux.New(mux.Config{Client: true, Output: lane})
//	go func() {
//		for b := range lane.Arrivals() { // b is a *buf.Buf
//			if err := m.Input(b.B, b); err != nil {
//				m.Close(err)
//			}
//			b.Release()
//		}
//	}()
//	s, err := m.Open() // s is a net.Conn
//
// # Promises
//
//   - Every byte that Write accepted before Close or CloseWrite reaches a peer
//     that reads, in order, followed by io.EOF; Reset and a failed pipe are the
//     only ways to lose one, and both are errors at the reader.
//   - Input never waits: not for a reader, not for a writer, not for the output.
//   - What a peer can make this end hold is bounded: per stream by four times
//     the receive window, in number by Config.MaxIncoming, above the first
//     256 KiB of each window by Config.Budget, in unsent control frames by
//     256 KiB and one frame for each living stream.
//   - An idle stream costs less than 1 KiB.
//
// # Wire format
//
// The format is yamux's (github.com/hashicorp/yamux, spec.md), version 0,
// unchanged, and both ends interoperate with that implementation. What differs
// is behaviour that the specification leaves open: at most one window update
// carries all that is pending for a stream (SYN, ACK, FIN and RST are flags on
// it); this end sends no pings; closing a stream gives back the whole receive
// window, so that a blocked peer wakes, and data for a closed stream is answered
// by one RST; an RST does not destroy what was received before it. Frames that
// no conforming peer sends (flags out of place, a stream id used twice, data
// beyond the window, an answer to no ping) are a [ProtocolError].
package mux

import (
	"net"
	"sync"
	"time"

	"github.com/splitmesh/splitmesh/internal/buf"
)

const (
	// InitialWindow is the receive window, in bytes, that each direction of a
	// stream begins with. The wire format fixes it.
	InitialWindow = 256 << 10
	// DefaultMaxWindow is how far a receive window grows unless the Config says
	// otherwise.
	DefaultMaxWindow = 16 << 20
	// DefaultMaxIncoming is how many streams that the peer opened may live at
	// once unless the Config says otherwise.
	DefaultMaxIncoming = 4096

	// ChunkSize is the most payload of a frame that a longer Write is cut into.
	ChunkSize = 32 << 10
	// MaxFrame is the most payload of any frame that is sent: what is left of a
	// Write travels whole up to this size, so that a ChunkSize record of a
	// session inside this one, with its overheads, is not cut in two.
	MaxFrame = 36<<10 - 512

	maxMaxWindow   = 1 << 30
	maxMaxIncoming = 16 << 10
)

// An Output is the way to the peer: the sending side of a lane.
type Output interface {
	// Headroom is how many bytes TryWrite needs before a frame. It never changes.
	Headroom() int
	// TryWrite queues the control frames that wait in the Mux (taking them with
	// AppendControl) and then the frame b.B[Headroom():], and returns true, or
	// returns false at once and without the frame when the send buffer is full.
	// After false, Writable must be called once there is room again. With true it
	// has taken over the caller's reference to b, which was the only one. It may
	// write to a socket before it returns unless inline is false. With more, another
	// frame follows at once, or else Wake, and this one may wait for it, so that both
	// go together. An error is final for the caller's Write and says that nothing of
	// the frame was queued. TryWrite is called by many goroutines at once, without any
	// lock of the Mux held.
	TryWrite(b *buf.Buf, inline, more bool) (bool, error)
	// Wake tells that AppendControl has something, or that what TryWrite was promised
	// does not follow. It may be called with locks
	// of the Mux held, so it must not block, call back, or take a lock under
	// which the Output calls the Mux.
	Wake()
}

// A Config says how a Mux behaves. Zero fields other than Output mean defaults.
type Config struct {
	// Client says which end this is: the client's stream ids are odd. The two
	// ends must differ.
	Client bool
	// Output is the way to the peer. Required.
	Output Output
	// Accept is given each stream that the peer opens, before its data. It is
	// called by Input and must not block. Nil refuses every stream.
	Accept func(*Stream)
	// MaxIncoming bounds the streams that the peer opened and that are not yet
	// closed at both ends; more are refused. 0 means DefaultMaxIncoming; at most
	// 16,384.
	MaxIncoming int
	// MaxWindow bounds a stream's receive window, in bytes. 0 means
	// DefaultMaxWindow; at least InitialWindow, at most 1 GiB.
	MaxWindow int
	// RTT returns the round-trip time to the peer, or 0 when unknown; windows
	// grow by it. It is called with a lock held: it must not block nor call back.
	RTT func() time.Duration
	// Budget bounds the receive windows of many Muxes together, above each
	// stream's first InitialWindow. Nil means no bound but MaxWindow.
	Budget *Budget
}

func (c Config) withDefaults() Config {
	if c.MaxIncoming <= 0 {
		c.MaxIncoming = DefaultMaxIncoming
	}
	c.MaxIncoming = min(c.MaxIncoming, maxMaxIncoming)
	if c.MaxWindow <= 0 {
		c.MaxWindow = DefaultMaxWindow
	}
	c.MaxWindow = min(max(c.MaxWindow, InitialWindow), maxMaxWindow)
	if c.RTT == nil {
		c.RTT = func() time.Duration { return 0 }
	}
	return c
}

// A Mux is one end of the streams of a lane. Its methods are safe for
// concurrent use, except that Input is called by one goroutine at a time.
type Mux struct {
	cfg Config
	in  input // touched by Input alone

	// mu guards what follows and, in each Stream, the fields that say so. It is
	// taken after a Stream's mu, never before one.
	mu       sync.Mutex
	streams  map[uint32]*Stream
	incoming int    // how many of streams the peer opened
	nextID   uint64 // the next stream opened here; above 2^32 when none is left
	goneAway bool   // the peer wants no more streams
	leaving  bool   // nor do we
	err      error  // why the Mux is closed
	ctl      control
	turns    turns
}

// New returns a Mux over cfg.Output.
func New(cfg Config) *Mux {
	m := &Mux{cfg: cfg.withDefaults(), streams: make(map[uint32]*Stream), nextID: 2}
	m.in.peerIDs.next = 1
	if cfg.Client {
		m.nextID, m.in.peerIDs.next = 1, 2
	}
	return m
}

// Open returns a new stream to the peer. It never waits: the peer hears of the
// stream with its first data, or as soon as the output sends. A refusal by the
// peer shows later, as ErrReset.
//
// The error is ErrGoAway, ErrExhausted or the one given to Close.
func (m *Mux) Open() (*Stream, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.err != nil:
		return nil, m.err
	case m.goneAway:
		return nil, ErrGoAway
	case m.nextID > 1<<32-1:
		return nil, ErrExhausted
	}
	s := newStream(m, uint32(m.nextID), false)
	m.nextID += 2
	m.streams[s.id] = s
	m.queueLocked(s, flagSYN, 0)
	return s, nil
}

// GoAway tells the peer to open no more streams and refuses those that it still
// opens. The streams that live go on.
func (m *Mux) GoAway() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.leaving || m.err != nil {
		return
	}
	m.leaving = true
	m.ctl.goAway = true
	m.cfg.Output.Wake()
}

// NumStreams returns how many streams live. One that was closed here alone
// lives on, small, until the peer closes it too.
func (m *Mux) NumStreams() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.streams)
}

// Close ends every stream with err, which Read returns once what has been
// received is read, and Write, Open and Input at once. Nil stands for
// net.ErrClosed. Only the first call counts. Nothing is sent.
func (m *Mux) Close(err error) {
	if err == nil {
		err = net.ErrClosed
	}
	m.mu.Lock()
	if m.err != nil {
		m.mu.Unlock()
		return
	}
	m.err = err
	streams := m.streams
	m.streams, m.incoming, m.ctl = nil, 0, control{}
	m.mu.Unlock()
	for _, s := range streams {
		s.fail(err)
	}
}

// forget ends the Mux's interest in s, and reports whether it still had one.
func (m *Mux) forget(s *Stream) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.streams[s.id] != s {
		return false
	}
	delete(m.streams, s.id)
	if s.incoming {
		m.incoming--
	}
	return true
}
