package session

import (
	"errors"
	"slices"

	"github.com/splitmesh/splitmesh/splitter"
)

// MaxLanes is the most lanes that a session has, control included: as many as one
// acknowledgement has rows for. Ids are below it: each end may begin half of those
// that are begun on demand, so that neither can use up the other's, and lanes that
// both begin at once are never too many.
const MaxLanes = maxAckRows

// Lane ids. Those above laneDefault are allotted on demand: even ones by the end
// that dialled the session, odd ones by the other.
const (
	laneControl = 0
	laneDefault = 1
)

// numClasses are the priorities: control, splitter.Interactive and splitter.Bulk.
const numClasses = int(splitter.Bulk) + 1

// plainPolicy is the policy that needs no announcement.
var plainPolicy = splitter.Policy{Purpose: splitter.Throughput, MinPaths: 1, MaxShare: 1}

// ErrTooManyLanes reports a policy or class over MaxLanes.
var ErrTooManyLanes = errors.New("the session has conns of too many policies and classes already; close it, or use fewer")

// laneFor returns the lane of the policy and class, and begins one if there is
// none. s.mu is held.
func (s *Session) laneFor(policy splitter.Policy, class splitter.Class) (*lane, error) {
	for _, l := range s.lanes {
		if l.mux != nil && l.class == class && l.asked == policy {
			return l, nil
		}
	}
	if s.nextLane >= MaxLanes {
		return nil, ErrTooManyLanes
	}
	if policy.Purpose == splitter.Unlinkability && !s.cells.Load() {
		return nil, ErrNoCells
	}
	l := newLane(s, s.nextLane, policy, class)
	s.nextLane += 2
	s.addLane(l)
	s.announce(l)
	s.schedule()
	return l, nil
}

// addLane makes l one of the session's. s.mu is held.
func (s *Session) addLane(l *lane) {
	s.lanes = append(slices.Clone(s.lanes), l)
	slices.SortStableFunc(s.lanes, func(a, b *lane) int { return int(a.class) - int(b.class) })
	lanes := s.lanes
	s.allLanes.Store(&lanes)
}

// announce tells the peer by what policy the lane's bytes go. Nothing is sent on
// the lane before the peer has that: it could answer by another. s.mu is held.
func (s *Session) announce(l *lane) {
	s.say(appendPolicy(nil, l.id, l.class, l.policy))
	l.policyEnd = s.control.next
}

// laneByID returns nil when there is none. It needs no lock.
func (s *Session) laneByID(id byte) *lane {
	for _, l := range *s.allLanes.Load() {
		if l.id == id {
			return l
		}
	}
	return nil
}

// peerPolicy takes the peer's announcement: of a lane that it begins, or of how it
// wants us to send on one. The stricter of its wish and ours holds. s.mu is held.
func (s *Session) peerPolicy(m *message) error {
	l := s.laneByID(m.lane)
	if l == nil {
		if m.lane%2 != s.nextLane%2^1 || m.lane <= laneDefault {
			return violation("lane %d is not the peer's to begin", m.lane)
		}
		if m.lane >= MaxLanes {
			return violation("it begins lane %d, above %d", m.lane, MaxLanes-1)
		}
		if m.policy.Purpose == splitter.Unlinkability && !s.cells.Load() {
			return violation("it begins an unlinkable lane in a session without cells")
		}
		l = newLane(s, m.lane, m.policy, m.class)
		own := l.policy.Stricter(s.cfg.Policy)
		stricter := own != l.policy
		l.policy = own
		s.addLane(l)
		if stricter {
			s.announce(l)
		}
	} else {
		if l.id == laneControl || m.class != l.class || !l.policy.SameScheme(m.policy) {
			return violation("lane %d can't become %v of class %v", l.id, m.policy.Purpose, m.class)
		}
		l.policy = l.policy.Stricter(m.policy)
	}
	if s.cfg.OnPolicy != nil {
		s.cfg.OnPolicy(l.policy)
	}
	return nil
}
