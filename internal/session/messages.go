package session

import (
	"github.com/splitmesh/splitmesh/internal/buf"
)

// say queues a control message. A peer that makes us say much and acknowledges
// none of it is cut off. s.mu is held.
func (s *Session) say(message []byte) {
	if s.control.held > maxControl {
		s.fail(violation("it acknowledges none of %d bytes of control messages", s.control.held))
		return
	}
	b := buf.Get(dataHeader + len(message))
	copy(b.B[dataHeader:], message)
	s.control.push(b, nil)
}

// greet says what each end has to say first. s.mu is held.
func (s *Session) greet() {
	if s.data.policy != plainPolicy {
		s.announce(s.data)
	}
	if !s.cfg.Dialler {
		s.issueTokens(tokensAhead)
	}
}

// abandon tells the peer that a path is given up; it answers the same. s.mu is held.
func (s *Session) abandon(path uint32, answer bool) {
	s.say(appendAbandon(nil, path))
	if answer {
		return
	}
	s.parting[path] = struct{}{}
	if len(s.parting) > maxParting {
		s.fail(violation("it answers none of %d abandoned paths", len(s.parting)))
	}
}

// maxParting bounds the dead paths that the peer has yet to abandon.
const maxParting = 1024

// handleControl takes one message of the control lane, in a path's reader.
func (s *Session) handleControl(m message) error {
	step, err := s.keyStep(&m)
	if err != nil {
		return err
	}
	s.lock()
	defer s.unlock(false)
	if s.err != nil {
		return nil
	}
	switch m.kind {
	case msgAbandon:
		if p := s.pathByID(m.path); p != nil {
			p.kill(errAbandoned, parted)
		} else if _, parting := s.parting[m.path]; parting {
			delete(s.parting, m.path)
		} else { // it died over there before it came about here
			s.abandon(m.path, true)
		}
		s.schedule()
	case msgPolicy:
		if err := s.peerPolicy(&m); err != nil {
			return err
		}
		s.schedule()
	case msgWish, msgPropose, msgAccept:
		if err := s.handleKeys(&m, step); err != nil {
			return err
		}
		s.schedule()
	case msgClose:
		s.fail(&ClosedError{Peer: s.cfg.Peer, Remote: true, Code: m.code, Text: m.text})
	}
	return nil
}
