package session

import (
	"slices"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/splitter"
)

func (c *PathCounters) add(d *PathCounters) {
	c.SentBytes += d.SentBytes
	c.ReceivedBytes += d.ReceivedBytes
	c.ResentBytes += d.ResentBytes
	c.SentFrames += d.SentFrames
	c.ReceivedFrames += d.ReceivedFrames
	c.Blamed += d.Blamed
}

// PathStats is the state of a live path.
type PathStats struct {
	PathInfo
	PathCounters
	State State
	Epoch uint32 // of the keys that we seal with
	// Bottleneck is a number that paths which share a bottleneck have in common, as
	// far as can be told; 0: none is known.
	Bottleneck int
	SRTT       time.Duration // smoothed round trip, 0 until measured
	Rate       float64       // delivered bytes a second, 0 until measured
	InFlight   int           // bytes not yet acknowledged, headers included
	Window     int           // bytes that may be in flight
}

// Carried is what one relay has carried in the life of a session, over paths
// that live and paths that died. The zero relay stands for direct paths.
type Carried struct {
	Relay identity.ID
	PathCounters
}

// Stats is the state of a session.
type Stats struct {
	Paths   []PathStats
	Lanes   []LaneStats // by priority; the control lane is the first
	Carried []Carried
	Streams int
}

// Unacknowledged counts the bytes that are kept until the peer has them.
func (st *Stats) Unacknowledged() (n int) {
	for i := range st.Lanes {
		n += st.Lanes[i].Unacknowledged
	}
	return n
}

// OutOfOrder counts the bytes received that wait for earlier ones.
func (st *Stats) OutOfOrder() (n int) {
	for i := range st.Lanes {
		n += st.Lanes[i].OutOfOrder
	}
	return n
}

// Stats returns the present state.
func (s *Session) Stats() Stats {
	var st Stats
	for _, l := range *s.allLanes.Load() {
		ls := LaneStats{ID: l.id, Class: l.class}
		l.recvMu.Lock()
		ls.OutOfOrder = l.reasm.Waiting()
		if l.blocks != nil {
			ls.OutOfOrder += l.blocks.Held()
		}
		l.recvMu.Unlock()
		if l.mux != nil {
			ls.Streams = l.mux.NumStreams()
		}
		st.Streams += ls.Streams
		s.mu.Lock()
		ls.Policy, ls.LaneCounters, ls.Unacknowledged, ls.Waits = l.policy, l.stats, l.held, s.enoughPaths(l)
		s.mu.Unlock()
		st.Lanes = append(st.Lanes, ls)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Carried = s.carried()
	groups := s.bottlenecks.Groups()
	for _, p := range s.paths {
		st.Paths = append(st.Paths, PathStats{
			PathInfo: p.info, PathCounters: p.stats, State: p.state, Epoch: p.epoch, Bottleneck: groups[p.info.ID], SRTT: p.est.srtt, Rate: p.est.bytesPerSecond(),
			InFlight: p.inFlight(), Window: p.est.window(),
		})
	}
	return st
}

// Carried is that of Stats. It takes no lock but s.mu, so OnEnd may ask.
func (s *Session) Carried() []Carried {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.carried()
}

// carried says who has carried what. s.mu is held.
func (s *Session) carried() (out []Carried) {
	by := make(map[identity.ID]PathCounters)
	for relay, c := range s.gone {
		by[relay] = *c
	}
	for _, p := range s.paths {
		c := by[p.info.Relay]
		c.add(&p.stats)
		by[p.info.Relay] = c
	}
	for relay, c := range by {
		out = append(out, Carried{relay, c})
	}
	slices.SortFunc(out, func(a, b Carried) int { return a.Relay.Compare(b.Relay) })
	return out
}

// LaneCounters count what a lane has sent and received, of its user's bytes.
type LaneCounters struct {
	// SentBytes were written, ReceivedBytes came in, surplus ones included,
	// ResentBytes were given to a path again.
	SentBytes, ReceivedBytes, ResentBytes uint64
}

// LaneStats is the state of a lane.
type LaneStats struct {
	ID     byte
	Policy splitter.Policy
	Class  splitter.Class
	LaneCounters
	// Unacknowledged counts the bytes kept until the peer has them, OutOfOrder
	// those received that wait for earlier ones.
	Unacknowledged, OutOfOrder int
	Streams                    int
	// Waits says what the policy lacks for anything to be sent, nil if nothing.
	Waits error
}
