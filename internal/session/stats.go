package session

import (
	"slices"
	"time"

	"github.com/splitmesh/splitmesh/identity"
)

func (c *PathCounters) add(d *PathCounters) {
	c.SentBytes += d.SentBytes
	c.ReceivedBytes += d.ReceivedBytes
	c.ResentBytes += d.ResentBytes
	c.SentFrames += d.SentFrames
	c.ReceivedFrames += d.ReceivedFrames
}

// PathStats is the state of a live path.
type PathStats struct {
	PathInfo
	PathCounters
	SRTT     time.Duration // smoothed round trip, 0 until measured
	Rate     float64       // delivered bytes a second, 0 until measured
	InFlight int           // bytes not yet acknowledged, headers included
	Window   int           // bytes that may be in flight
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
	Carried []Carried
	Streams int
	// Unacknowledged counts the bytes kept until the peer has them, OutOfOrder
	// those received that wait for earlier ones.
	Unacknowledged, OutOfOrder int
}

// Stats returns the present state.
func (s *Session) Stats() Stats {
	st := Stats{Streams: s.NumStreams()}
	for _, l := range s.lanes {
		l.recvMu.Lock()
		st.OutOfOrder += l.reasm.Waiting()
		l.recvMu.Unlock()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	carried := make(map[identity.ID]PathCounters)
	for relay, c := range s.gone {
		carried[relay] = *c
	}
	for _, l := range s.lanes {
		st.Unacknowledged += l.held
	}
	for _, p := range s.paths {
		c := carried[p.info.Relay]
		c.add(&p.stats)
		carried[p.info.Relay] = c
		st.Paths = append(st.Paths, PathStats{
			PathInfo: p.info, PathCounters: p.stats, SRTT: p.est.srtt, Rate: p.est.bytesPerSecond(),
			InFlight: p.inFlight, Window: p.est.window(),
		})
	}
	for relay, c := range carried {
		st.Carried = append(st.Carried, Carried{relay, c})
	}
	slices.SortFunc(st.Carried, func(a, b Carried) int { return a.Relay.Compare(b.Relay) })
	return st
}
