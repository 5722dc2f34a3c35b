package session

import "time"

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
// silent paths, the passing over of late ones and the end of those that do not
// answer, and of a session that was long without paths.
func (s *Session) tick() {
	s.lock()
	defer s.unlock(false)
	s.timerAt = time.Time{}
	if s.err != nil {
		return
	}
	if !s.pathlessSince.IsZero() {
		if end := s.pathlessSince.Add(s.grace); s.now.Before(end) {
			s.arm(end)
		} else {
			s.fail(&PathsLostError{Peer: s.cfg.Peer, Grace: s.grace, Last: s.lastCause})
		}
	}
	if due := s.keys.DueAt(); s.now.Before(due) {
		s.arm(due)
	} else {
		s.nextKeys()
	}
	s.padTick()
	for _, p := range s.paths {
		if p.owed > 0 {
			if s.now.Before(p.ackAt) {
				s.arm(p.ackAt)
			} else {
				p.woken = true
			}
		}
		p.tick()
		p.queue.rest()
		p.flight.rest()
	}
	for _, l := range s.lanes {
		l.segments.rest()
	}
	s.schedule()
}

// tick asks a silent path whether it lives, and draws the conclusions. s.mu is held.
func (p *path) tick() {
	s := p.s
	if since := p.waitsSince(); !since.IsZero() {
		switch late, dead := since.Add(p.patience()), since.Add(s.cfg.DeadAfter); {
		case !s.now.Before(dead):
			p.kill(ErrPathDead, lost)
		case !s.now.Before(late):
			p.move(overdue)
			s.arm(dead)
		default:
			s.arm(late)
		}
		return
	}
	if ask := p.lastRecv.Add(s.cfg.KeepAlive); s.now.Before(ask) {
		s.arm(ask)
	} else {
		p.ask()
	}
}

// ask sends a ping, which anything that comes answers. s.mu is held.
func (p *path) ask() {
	p.pingDue, p.woken = true, true
	p.pingSince, p.askedAt = p.s.now, p.s.now
	p.s.arm(p.s.now.Add(p.patience()))
}
