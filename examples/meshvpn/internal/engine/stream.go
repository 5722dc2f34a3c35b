package engine

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/packet"
	"github.com/splitmesh/splitmesh/mesh"
)

// A stream sends to a peer over a conn of its own. It begins with the first packet, and ends when there were none for a
// while or the conn breaks.
type stream struct {
	peer *peer
	at   slot
	wake chan struct{} // holds one when the queue was empty

	mu    sync.Mutex // guards the rest
	queue []*buffer
	ended bool
	conn  *mesh.Conn // nil: it is being dialled; guarded by the peer's mu
}

// What became of a packet that was pushed.
type pushed int

const (
	copied pushed = iota // the buffer is the caller's again
	taken                // the buffer is the stream's
	full                 // dropped: there is no room
	over                 // not taken: the stream has ended
)

// push queues the frame in b. Small ones are put together, for one Write.
func (s *stream) push(b *buffer) pushed {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return over
	}
	frame := b.bytes()
	if n := len(s.queue); n > 0 && len(frame) <= maxSmall {
		if last := s.queue[n-1]; len(last.b)-last.to >= len(frame) {
			last.to += copy(last.b[last.to:], frame)
			return copied
		}
	}
	pool := &s.peer.engine.pool
	// A peer may hold as much as is free: those that take nothing leave room for the others.
	if len(s.queue) == maxQueue || s.peer.waiting.Load() >= maxBuffers-pool.waiting.Load() {
		return full
	}
	result := taken
	if len(frame) <= maxSmall {
		small := pool.get()
		small.to = copy(small.b[:], frame)
		b, result = small, copied
	}
	pool.waiting.Add(1)
	s.peer.waiting.Add(1)
	s.queue = append(s.queue, b)
	if len(s.queue) == 1 {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
	return result
}

// next is the buffer that has waited longest.
func (s *stream) next() *buffer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		return nil
	}
	b := s.queue[0]
	s.queue[0] = nil
	if s.queue = s.queue[1:]; len(s.queue) == 0 {
		s.queue = nil
	}
	s.peer.engine.pool.waiting.Add(-1)
	s.peer.waiting.Add(-1)
	return b
}

// end has pushes be refused, unless it must be idle and is not.
func (s *stream) end(ifIdle bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ifIdle && len(s.queue) > 0 {
		return false
	}
	s.ended = true
	return true
}

func (s *stream) run() {
	e := s.peer.engine
	log := e.cfg.Logger.With("peer", s.peer.id.Short(), "class", s.at.class)
	err := s.send()
	s.end(false)
	s.peer.remove(s)
	if e.ctx.Err() == nil && err != nil {
		log.Debug("a conn to a peer ended", "err", err)
		s.peer.failed(err)
	}
	for b := s.next(); b != nil; b = s.next() {
		s.refuse(b)
		e.pool.put(b)
	}
}

// send dials and sends what is queued, until it was idle for long.
func (s *stream) send() error {
	e := s.peer.engine
	d := e.cfg.Dialer
	d.Class = s.at.class
	ctx, cancel := context.WithTimeout(e.ctx, dialTimeout)
	conn, err := d.Dial(ctx, s.peer.id.String()+":"+Service)
	cancel()
	if err != nil {
		return err
	}
	defer conn.Close()
	s.peer.reached(s, conn)
	defer context.AfterFunc(e.ctx, func() { conn.Close() })() // a Write may wait
	broken := make(chan error, 1)
	e.tasks.Go(func() { broken <- watch(conn) }) // ends with the conn
	idle := time.NewTimer(idleStream)
	defer idle.Stop()
	for {
		sent := false
		for b := s.next(); b != nil; b = s.next() {
			_, err := conn.Write(b.bytes())
			e.pool.put(b)
			if err != nil {
				return err
			}
			sent = true
		}
		if sent {
			idle.Reset(idleStream)
		}
		select {
		case <-s.wake:
		case err := <-broken:
			return err
		case <-idle.C:
			if s.end(true) {
				return nil
			}
		case <-e.ctx.Done():
			return e.ctx.Err()
		}
	}
}

// watch waits for the end of a conn whose peer sends nothing.
func watch(conn net.Conn) error {
	n, err := conn.Read(make([]byte, 1))
	if n > 0 {
		err = errors.New("the peer sends where it should listen")
	} else if errors.Is(err, io.EOF) {
		err = errors.New("the peer takes no packets of ours: it allows us nothing, or it is ending")
	}
	return err
}

// refuse tells the senders of what a buffer holds that the peer can't be reached.
func (s *stream) refuse(b *buffer) {
	for rest := b.bytes(); len(rest) >= packet.HeaderSize; {
		_, size, _, err := packet.ReadHeader(rest)
		if err != nil || len(rest) < packet.HeaderSize+size {
			return
		}
		raw := rest[packet.HeaderSize:][:size]
		rest = rest[packet.HeaderSize+size:]
		if p, err := packet.Parse(raw); err == nil {
			s.peer.engine.unreachable(&p, raw, s.peer.refusal())
		}
	}
}
