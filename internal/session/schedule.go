package session

import (
	"slices"

	"github.com/splitmesh/splitmesh/splitter"
)

// schedule gives segments to paths for as long as policy, credit and windows
// allow: the control lane's first, then those of the higher class; lanes of one
// class take turns. s.mu is held.
func (s *Session) schedule() {
	if s.err != nil || len(s.paths) == 0 {
		return
	}
	for _, l := range s.lanes {
		l.pull()
	}
	gave := false
	for first := 0; first < len(s.lanes); {
		last := first
		for last < len(s.lanes) && s.lanes[last].class == s.lanes[first].class {
			last++
		}
		for more := s.err == nil; more; {
			more = false
			for _, l := range s.lanes[first:last] {
				if l.asked.Purpose.Coded() {
					more = s.scheduleBlock(l) || more
				} else {
					more = s.scheduleOne(l) || more
				}
			}
			gave = gave || more
		}
		first = last
	}
	for _, l := range s.lanes {
		s.rescue(l)
	}
	if gave {
		s.probe()
	}
}

// probe asks the paths that carry nothing while others do, so that their round trips
// are known when they are needed, and that they live. s.mu is held.
func (s *Session) probe() {
	if s.cells.Load() {
		return // it would tell every relay when there is something to send
	}
	for _, p := range s.paths {
		if p.inFlight() == 0 && p.pingSince.IsZero() && s.now.Sub(p.lastRecv) >= probeEvery {
			p.ask()
		}
	}
}

// scheduleOne gives the lane's next segment to a path. It reports false when
// nothing can be sent now.
func (s *Session) scheduleOne(l *lane) bool {
	g := l.head()
	if g == nil || !s.control.acknowledged(l.policyEnd) && l != s.control || s.enoughPaths(l) != nil {
		return false
	}
	i, ahead := l.sched.Next(s.now, splitter.Job{Size: g.cost(), Backlog: l.unsent}, s.view(l, g))
	if i < 0 {
		return false
	}
	if ahead > 0 && !g.waiting {
		if g = l.ahead(ahead); g == nil {
			return false
		}
	}
	p := s.paths[i]
	if p.carrier != directCarrier && !l.shares.Allows(p.carrier, g.size(), l.policy.MaxShare) {
		return false // the head of the line was shorter
	}
	if !g.waiting {
		l.spare.Sent(g.size())
	}
	l.took(g)
	l.shares.Sent(p.carrier, g.size())
	p.give(g)
	return true
}

// rescue sends the lane's oldest segment over another path too, when later ones have
// arrived and its own path is long in delivering it. s.mu is held.
func (s *Session) rescue(l *lane) {
	if l.early == 0 || l.unlinkable() || s.err != nil {
		return
	}
	g := l.segments.items()[0]
	if g.flights != 1 || g.waiting || !l.spare.Allow(g.size()) {
		return
	}
	late := splitter.Late{On: slices.Index(s.paths, g.on), Sent: g.givenAt, Size: g.cost()}
	i := splitter.Rescue(s.now, late, s.view(l, g))
	if i < 0 {
		return
	}
	p := s.paths[i]
	l.spare.Resent(g.size())
	l.stats.ResentBytes += uint64(g.size())
	l.shares.Sent(p.carrier, g.size())
	g.resent = true
	p.give(g)
}

// directCarrier is the carrier of bytes that no relay carries.
const directCarrier = -1

// view is what the scheduler sees of the paths for g.
func (s *Session) view(l *lane, g *segment) []splitter.Path {
	s.views = s.views[:0]
	least := s.leastUsable(l)
	measured := slices.ContainsFunc(s.paths, func(p *path) bool { return p.est.minRTT() > 0 })
	for _, p := range s.paths {
		window := p.est.window()
		if measured && p.est.minRTT() == 0 {
			window = 1 // a segment at a time, until it is known how slow it is
		}
		s.views = append(s.views, splitter.Path{
			ID: p.info.ID, InFlight: p.load(l.class), Window: window,
			SRTT: p.est.srtt, MinRTT: p.est.minRTT(), RTTVar: p.est.rttvar, Rate: p.est.likelyRate(),
			Carried: l.shares.Held(p.carrier),
			Barred: p.standing() > least || !l.mayUse(p) ||
				p.carrier != directCarrier && !l.shares.Allows(p.carrier, g.size(), l.policy.MaxShare),
		})
	}
	return s.views
}

// standing orders the states by how gladly a path in them is used.
func (p *path) standing() int {
	switch p.state {
	case Backup:
		return 1
	case Late:
		return 2
	}
	return 0
}

// leastUsable is the lowest standing to which the lane must go down: to active
// and probing paths, to backup ones when the policy wants more paths than there
// are, and to late ones when there are no others.
func (s *Session) leastUsable(l *lane) int {
	for standing := range 2 {
		if have := s.carriersFor(l, standing); have > 0 && have >= l.policy.MinPaths {
			return standing
		}
	}
	if s.carriersFor(l, 1) > 0 {
		return 1
	}
	return 2
}

// mayUse reports whether the lane's policy lets it use the path at all.
func (l *lane) mayUse(p *path) bool {
	return p.carrier != directCarrier || !l.policy.Purpose.Private()
}

// carriersFor counts the different carriers of the paths that the lane may use and
// that are of this standing or better. s.mu is held.
func (s *Session) carriersFor(l *lane, standing int) int {
	have := 0
	for i, p := range s.paths {
		different := p.standing() <= standing && l.mayUse(p)
		for _, q := range s.paths[:i] {
			different = different && (q.carrier != p.carrier || q.standing() > standing)
		}
		if different {
			have++
		}
	}
	return have
}

// enoughPaths returns a *splitter.TooFewPathsError when the lane's policy forbids
// sending over the paths there are. s.mu is held.
func (s *Session) enoughPaths(l *lane) error {
	if have := s.carriersFor(l, 2); have < l.policy.MinPaths {
		return &splitter.TooFewPathsError{Have: have, Want: l.policy.MinPaths}
	}
	return nil
}
