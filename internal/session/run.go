package session

import (
	"crypto/rand"
	"time"

	"github.com/splitmesh/splitmesh/internal/buf"
	"github.com/splitmesh/splitmesh/splitter"
)

// schedule gives segments to paths for as long as policy, credit and windows
// allow. s.mu is held.
func (s *Session) schedule() {
	if s.err != nil || len(s.paths) == 0 {
		return
	}
	for _, l := range s.lanes {
		l.pull()
		if s.err != nil || s.enoughPaths(l) != nil {
			continue
		}
		if l != s.control && !s.control.acknowledged(s.policyEnd) {
			continue // the peer could answer before it knows the policy
		}
		for g := l.head(); g != nil; g = l.head() {
			i, _ := s.sched.Next(s.now, splitter.Job{Size: g.cost(), Backlog: l.unsent}, s.view(l, g))
			if i < 0 {
				break
			}
			p := s.paths[i]
			l.took(g)
			l.shares.Sent(p.carrier, g.size())
			p.give(g)
			p.woken = true
		}
	}
}

// direct is the carrier of bytes that no relay carries.
const direct = -1

// view is what the scheduler sees of the paths for g.
func (s *Session) view(l *lane, g *segment) []splitter.Path {
	s.views = s.views[:0]
	for _, p := range s.paths {
		s.views = append(s.views, splitter.Path{
			ID: p.info.ID, InFlight: p.inFlight, Window: p.est.window(), SRTT: p.est.srtt, Rate: p.est.bytesPerSecond(),
			Carried: l.shares.Held(p.carrier),
			Barred:  p.carrier != direct && !l.shares.Allows(p.carrier, g.size(), l.policy.MaxShare),
		})
	}
	return s.views
}

// enoughPaths returns a *splitter.TooFewPathsError when l's policy forbids
// sending over the paths there are. s.mu is held.
func (s *Session) enoughPaths(l *lane) error {
	have := 0
	for i, p := range s.paths {
		different := true
		for _, q := range s.paths[:i] {
			different = different && q.carrier != p.carrier
		}
		if different {
			have++
		}
	}
	if have < l.policy.MinPaths {
		return &splitter.TooFewPathsError{Have: have, Want: l.policy.MinPaths}
	}
	return nil
}

// say queues a control message. A peer that makes us say much and acknowledges
// none of it is cut off. s.mu is held.
func (s *Session) say(message []byte) {
	if s.control.held > maxControl {
		s.fail(violation("it acknowledges none of %d bytes of control messages", s.control.held))
		return
	}
	b := buf.Get(dataHeader + len(message))
	copy(b.B[dataHeader:], message)
	s.control.push(b)
}

// greet says what each end has to say first. s.mu is held.
func (s *Session) greet() {
	if p := s.data.policy; p.MinPaths > 1 || p.MaxShare < 1 {
		s.say(appendPolicy(nil, p))
		s.policyEnd = s.control.next
	}
	if !s.cfg.Dialler {
		s.issueTokens(initialTokens)
	}
}

// issueTokens lets the peer join n more paths. s.mu is held.
func (s *Session) issueTokens(n int) {
	tokens := make([]Token, n)
	for i := range tokens {
		rand.Read(tokens[i][:])
		if s.cfg.OnToken != nil {
			s.cfg.OnToken(tokens[i])
		}
	}
	s.say(appendTokens(nil, tokens))
}

// handle takes one opened frame, in the reader of p. plain lies in b.
func (s *Session) handle(p *path, packet uint64, plain []byte, b *buf.Buf) error {
	wants, payload := 0, 0 // bytes to acknowledge, bytes of a lane
	var l *lane
	switch plain[0] {
	case typeData:
		id, offset, data, err := parseData(plain)
		if err != nil {
			return err
		}
		if l = s.laneByID(id); l == nil {
			return violation("lane %#02x is unknown", id)
		}
		if err := l.receive(offset, data, b); err != nil {
			return err
		}
		wants, payload = len(plain), len(data)
	case typeAck:
		if err := parseAck(plain, &p.heardAck); err != nil {
			return err
		}
	case typePing:
		id, err := parsePing(plain)
		if err != nil {
			return err
		}
		p.pingID = id
	case typePong:
		if _, err := parsePing(plain); err != nil {
			return err
		}
	case typePad:
		if err := checkPad(plain); err != nil {
			return err
		}
	default:
		return violation("frame of type %d", plain[0])
	}

	s.lock()
	defer s.unlock(false)
	if p.dead {
		return nil
	}
	p.heard()
	p.recvPacket = packet
	p.stats.ReceivedFrames++
	p.stats.ReceivedBytes += uint64(payload)
	switch plain[0] {
	case typeData:
		l.ackDue = true
		if p.owe(wants) {
			p.woken = true
		}
	case typePing:
		p.pong, p.pongDue, p.woken = p.pingID, true, true
	case typeAck:
		if err := s.acked(&p.heardAck); err != nil {
			return err
		}
		s.schedule()
	}
	return nil
}

func (s *Session) laneByID(id byte) *lane {
	for _, l := range s.lanes {
		if l.id == id {
			return l
		}
	}
	return nil
}

// acked applies an acknowledgement. s.mu is held.
func (s *Session) acked(a *ack) error {
	for _, pa := range a.Paths {
		if p := s.pathByID(pa.Path); p != nil { // a dead path's comes late: ignored
			if err := p.acked(pa); err != nil {
				return err
			}
			s.srtt.Store(int64(p.est.srtt))
		}
	}
	for _, la := range a.Lanes {
		l := s.laneByID(la.Lane)
		if l == nil {
			return violation("acknowledgement of unknown lane %#02x", la.Lane)
		}
		if err := l.delivered(la); err != nil {
			return err
		}
	}
	return nil
}

// appendAcks appends the acknowledgement of what p has received, and of every
// lane of which there is news. s.mu is held.
func (s *Session) appendAcks(b []byte, p *path) []byte {
	p.tellAck.Paths = append(p.tellAck.Paths[:0], pathAck{p.info.ID, p.recvPacket, s.now.Sub(p.recvAt)})
	p.tellAck.Lanes = p.tellAck.Lanes[:0]
	for _, l := range s.lanes {
		if l.ackDue {
			l.ackDue = false
			p.tellAck.Lanes = append(p.tellAck.Lanes, laneAck{l.id, l.received.Load(), l.allowed.Load()})
		}
	}
	return appendAck(b, &p.tellAck)
}

// handleControl takes one message of the control lane, in a path's reader.
func (s *Session) handleControl(m message) error {
	s.lock()
	defer s.unlock(false)
	if s.err != nil {
		return nil
	}
	switch m.kind {
	case msgTokens:
		if !s.cfg.Dialler {
			return violation("%d tokens that nobody asked for", len(m.tokens))
		}
		s.tokens = append(s.tokens, m.tokens...)
		s.tokens = s.tokens[max(0, len(s.tokens)-maxTokenStock):]
		close(s.tokenC)
		s.tokenC = make(chan struct{})
	case msgAbandon:
		if p := s.pathByID(m.path); p != nil {
			p.kill(errAbandoned)
			s.schedule()
		}
	case msgPolicy:
		// The stricter of the two holds for what we send.
		own := &s.data.policy
		own.MinPaths, own.MaxShare = max(own.MinPaths, m.policy.MinPaths), min(own.MaxShare, m.policy.MaxShare)
		if s.cfg.OnPolicy != nil {
			s.cfg.OnPolicy(*own)
		}
	case msgWant:
		if s.cfg.Dialler {
			return violation("%d tokens wanted by the end that issues them", m.want)
		}
		s.issueTokens(m.want)
		s.schedule()
	case msgClose:
		s.fail(&ClosedError{Peer: s.cfg.Peer, Remote: true, Code: m.code, Text: m.text})
	}
	return nil
}

// arm makes tick run at the given time or before. s.mu is held.
func (s *Session) arm(at time.Time) {
	if !s.timerAt.IsZero() && !at.Before(s.timerAt) {
		return
	}
	s.timerAt = at
	if s.timer == nil {
		s.timer = time.AfterFunc(at.Sub(s.now), s.tick)
		return
	}
	s.timer.Reset(at.Sub(s.now))
}

// tick does what is due: acknowledgements that waited for company, questions to
// silent paths, the end of those that do not answer.
func (s *Session) tick() {
	s.lock()
	defer s.unlock(false)
	s.timerAt = time.Time{}
	if s.err != nil {
		return
	}
	for _, p := range append([]*path(nil), s.paths...) {
		if p.owed > 0 {
			if s.now.Before(p.ackAt) {
				s.arm(p.ackAt)
			} else {
				p.woken = true
			}
		}
		if since := p.waitsSince(); !since.IsZero() {
			if deadline := since.Add(s.cfg.DeadAfter); s.now.Before(deadline) {
				s.arm(deadline)
			} else {
				p.kill(ErrPathDead)
			}
			continue
		}
		if ask := p.lastRecv.Add(s.cfg.KeepAlive); s.now.Before(ask) {
			s.arm(ask)
		} else {
			p.pingDue, p.woken = true, true
			p.pingSince = s.now
			s.arm(s.now.Add(s.cfg.DeadAfter))
		}
	}
	s.schedule()
}
