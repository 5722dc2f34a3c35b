package mux

import (
	"github.com/splitmesh/splitmesh/internal/buf"
)

// input is where in a frame the parser stands.
type input struct {
	err     error // the violation that ended it
	peerIDs idSet

	head    [HeaderSize]byte // a header that came in pieces
	headLen int

	left   uint32  // payload of the frame still to come
	stream *Stream // whose it is; nil drops it
	flags  uint16  // FIN and RST take effect after the payload

	news []*Stream // that have received and whose readers were not woken
}

// Input is Deliver, and then Announce.
func (m *Mux) Input(p []byte, owner *buf.Buf) error {
	err := m.Deliver(p, owner)
	m.Announce()
	return err
}

// Announce wakes those who wait to read what Deliver brought. It is called by one
// goroutine at a time, which does not call Deliver meanwhile.
func (m *Mux) Announce() {
	for i, s := range m.in.news {
		s.isNews = false
		s.r.cond.Broadcast()
		m.in.news[i] = nil
	}
	m.in.news = m.in.news[:0]
}

// Deliver takes the next bytes from the peer, however fragmented. It never waits
// and never calls Output.TryWrite. It is called by one goroutine at a time, which
// then calls Announce: after several, if there is more to deliver at once, so that
// readers are woken once for all of it.
//
// p lies in owner.B, and owner may be nil. A payload that fills owner
// (buf.Buf.Fills) is not copied: the stream keeps owner (with Retain) until it has
// been read. Everything else of p is free once Deliver returns.
//
// A *ProtocolError says that the peer broke the protocol, a *GoAwayError that
// it gave up; after either the Mux must be closed. After Close the error is the
// one given to Close.
func (m *Mux) Deliver(p []byte, owner *buf.Buf) error {
	in := &m.in
	for in.err == nil && len(p) > 0 {
		if in.left > 0 {
			n := min(len(p), int(min(in.left, maxMaxWindow)))
			if in.stream != nil {
				if in.stream.receive(p[:n], owner) && !in.stream.isNews {
					in.stream.isNews = true
					in.news = append(in.news, in.stream)
				}
			}
			p, in.left = p[n:], in.left-uint32(n)
			if in.left == 0 {
				in.err = in.endFrame()
			}
			continue
		}
		var h header
		if in.headLen == 0 && len(p) >= HeaderSize {
			h, p = parseHeader(p), p[HeaderSize:]
		} else {
			n := copy(in.head[in.headLen:], p)
			in.headLen, p = in.headLen+n, p[n:]
			if in.headLen < HeaderSize {
				break
			}
			h, in.headLen = parseHeader(in.head[:]), 0
		}
		in.err = m.frame(h)
	}
	return in.err
}

// endFrame applies the flags that take effect after the payload.
func (in *input) endFrame() error {
	s, flags := in.stream, in.flags
	in.stream, in.flags = nil, 0
	if s == nil {
		return nil
	}
	if flags&flagFIN != 0 {
		if err := s.peerFinished(); err != nil {
			return err
		}
	}
	if flags&flagRST != 0 {
		s.peerReset()
	}
	return nil
}

func (m *Mux) frame(h header) error {
	switch {
	case h.version != 0:
		return violation(0, "a frame has version %d, want 0", h.version)
	case h.flags&^allFlags != 0:
		return violation(h.stream, "a frame has unknown flags %#04x", h.flags)
	}
	switch h.kind {
	case typeData, typeWindowUpdate:
		return m.streamFrame(h)
	case typePing:
		if h.stream != 0 || h.flags != flagSYN {
			return violation(h.stream, "a ping has flags %#x, want a question (%#x) on stream 0", h.flags, flagSYN)
		}
		m.pong(h.length)
		return nil
	case typeGoAway:
		return m.goAwayFrame(h)
	}
	return violation(h.stream, "a frame has unknown type %d", h.kind)
}

func (m *Mux) goAwayFrame(h header) error {
	switch {
	case h.stream != 0 || h.flags != 0:
		return violation(h.stream, "a go-away has flags %#x, want none on stream 0", h.flags)
	case h.length == goAwayProtocol || h.length == goAwayInternal:
		return &GoAwayError{Code: h.length}
	case h.length != goAwayNormal:
		return violation(0, "a go-away has unknown code %d", h.length)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.goneAway = true
	return nil
}

// streamFrame handles the header of a frame of a stream; after it, in says
// where the payload goes.
func (m *Mux) streamFrame(h header) error {
	in := &m.in
	s, err := m.frameStream(h)
	if err != nil {
		return err
	}
	switch {
	case h.kind == typeWindowUpdate && s != nil:
		err = s.grant(h.length)
	case h.kind == typeData && s != nil:
		var wanted bool
		if wanted, err = s.admit(h.length); !wanted {
			s = nil
		}
	case h.kind == typeData && uint64(h.length) > uint64(m.cfg.MaxWindow):
		err = violation(h.stream, "%d bytes of data exceed any window", h.length)
	}
	if err != nil {
		return err
	}
	in.stream, in.flags = s, h.flags&(flagFIN|flagRST)
	if h.kind == typeData && h.length > 0 {
		in.left = h.length
		return nil
	}
	return in.endFrame()
}

// frameStream returns the stream that h is for; nil without an error means one
// that is closed or refused, whose frames are dropped.
func (m *Mux) frameStream(h header) (*Stream, error) {
	peers := (h.stream&1 == 1) != m.cfg.Client // the peer allocates such ids
	switch {
	case h.stream == 0:
		return nil, violation(0, "a frame of a stream has stream id 0")
	case h.flags&flagSYN != 0 && h.flags&flagACK != 0:
		return nil, violation(h.stream, "a frame both opens and accepts the stream")
	case h.flags&flagSYN != 0 && !peers:
		return nil, violation(h.stream, "the peer opens a stream with an id of ours")
	case h.flags&flagACK != 0 && peers:
		return nil, violation(h.stream, "the peer accepts a stream of its own")
	case h.flags&flagSYN != 0:
		return m.opened(h)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return nil, m.err
	}
	s := m.streams[h.stream]
	if s == nil && (peers && !m.in.peerIDs.has(h.stream) || !peers && uint64(h.stream) >= m.nextID) {
		return nil, violation(h.stream, "a frame is for a stream that was never opened")
	}
	return s, nil
}

// opened handles a SYN: it returns the new stream, or nil when it is refused.
func (m *Mux) opened(h header) (*Stream, error) {
	if !m.in.peerIDs.add(h.stream) {
		return nil, violation(h.stream, "the peer opens the stream again")
	}
	s, err := m.admitStream(h)
	if s != nil {
		m.cfg.Accept(s)
	}
	return s, err
}

func (m *Mux) admitStream(h header) (*Stream, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.err != nil:
		return nil, m.err
	case h.flags&flagRST != 0:
		return nil, nil // opened and given up at once
	case len(m.ctl.refused)+m.ctl.incoming >= maxRefused:
		return nil, violation(h.stream, "the peer opens streams without reading our answers: %d wait", maxRefused)
	case m.leaving || m.cfg.Accept == nil || m.incoming >= m.cfg.MaxIncoming:
		m.refuseLocked(h.stream)
		return nil, nil
	}
	s := newStream(m, h.stream, true)
	m.streams[s.id] = s
	m.incoming++
	m.queueLocked(s, flagACK, 0)
	return s, nil
}
