package session

import (
	"time"

	"github.com/splitmesh/splitmesh/internal/buf"
)

// handle takes one opened frame, in the reader of p. plain lies in b. What is to be
// announced is added to n.
func (s *Session) handle(p *path, packet uint64, plain []byte, b *buf.Buf, n *news) error {
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
		if l.id == laneControl {
			n.announce() // what it says may end another path, whose Close may take a while
		}
		n.add(l)
		if err := l.receive(offset, data, b); err != nil {
			return err
		}
		wants, payload = len(plain), len(data)
	case typeShard:
		id, sh, data, err := parseShard(plain)
		if err != nil {
			return err
		}
		if l = s.laneByID(id); l == nil {
			return violation("lane %#02x is unknown", id)
		}
		n.add(l)
		if err := l.receiveShard(sh, data, b); err != nil {
			return err
		}
		wants, payload = len(plain), len(data)
	case typeGram:
		g, err := parseDatagram(plain)
		if err != nil {
			return err
		}
		if l := s.laneByID(g.lane); l != nil { // else its announcement is still under way
			l.inboxes.put(&g)
		}
		wants = len(plain)
	case typeAck:
		if err := parseAck(plain, &p.heardAck); err != nil {
			return err
		}
	case typeCell:
		return s.handleCell(p, packet, plain, b, n)
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
	if p.state >= Dead {
		return nil
	}
	if plain[0] == typePong && !p.askedAt.IsZero() {
		p.est.measured(s.now, max(s.now.Sub(p.askedAt), time.Microsecond))
		p.askedAt = time.Time{}
	}
	p.heard()
	p.recvPacket = packet
	p.stats.ReceivedFrames++
	p.stats.ReceivedBytes += uint64(payload)
	switch plain[0] {
	case typeData, typeShard, typeGram:
		if l != nil {
			l.ackDue = true
			l.stats.ReceivedBytes += uint64(payload)
		}
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

// bestRTT is the shortest round trip of the paths that are in use: what a stream's
// window is measured by. s.mu is held.
func (s *Session) bestRTT() (best time.Duration) {
	for _, p := range s.paths {
		if p.state < Late && p.est.srtt > 0 && (best == 0 || p.est.srtt < best) {
			best = p.est.srtt
		}
	}
	return best
}

// acked applies an acknowledgement. s.mu is held.
func (s *Session) acked(a *ack) error {
	for _, pa := range a.Paths {
		if p := s.pathByID(pa.Path); p != nil { // a dead path's comes late: ignored
			if err := p.acked(pa); err != nil {
				return err
			}
		}
	}
	s.srtt.Store(int64(s.bestRTT()))
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
