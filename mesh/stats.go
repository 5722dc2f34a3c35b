package mesh

import (
	"slices"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/internal/session"
	"github.com/splitmesh/splitmesh/splitter"
)

// A Path is one of the ways that a conn's bytes take.
type Path struct {
	ID uint32
	// Relay is the node that carries the path, zero when none does. Operator is
	// who says to run it; relays of one operator count as one.
	Relay    identity.ID
	Operator string
	// Remote is where the path leads, for people to read.
	Remote string
	// State says what the path is used for at present.
	State PathState
	// Sent and Received count the session's bytes that the path carried, ReSent
	// those of Sent that another had carried before. They include the few bytes
	// of framing that streams need.
	Sent, Received, ReSent uint64
	// Blamed counts frames that came damaged or forged; the first ends the path.
	Blamed uint64
	// InFlight is how many bytes the peer has yet to acknowledge, of Window that
	// may be on their way at once.
	InFlight, Window int
	// RTT is the smoothed round-trip time, 0 until measured.
	RTT time.Duration
	// Rate is the proven delivery rate in bytes a second, 0 until measured.
	Rate float64
	// Epoch counts how often the keys that we seal with were changed.
	Epoch uint32
	// Bottleneck is a number that paths which seem to share a bottleneck have in
	// common, 0 when none is known. They add no bandwidth to each other.
	Bottleneck int
}

// Carried is what one relay has carried of the session's bytes: over the paths
// that live and those that died. The zero ID stands for direct paths.
type Carried struct {
	Relay                  identity.ID
	Sent, Received, ReSent uint64
}

// A Lane is the state of those conns to one peer that share a policy and a class.
// The first of a session carries its control messages, and has neither.
type Lane struct {
	Policy  splitter.Policy // by what we send
	Class   splitter.Class
	Streams int
	// Sent and Received count the lane's bytes, before coding and padding, ReSent
	// those that were given to a path again. What a code makes of them is in Path.
	Sent, Received, ReSent uint64
	// Unacknowledged counts the bytes kept until the peer has them, OutOfOrder
	// those received that wait for earlier ones.
	Unacknowledged, OutOfOrder int
}

// Redundancy is the part of what the lane sent that was sent again, 0 to 1 and more.
// What a code adds (N/K) is not in it, nor padding.
func (l *Lane) Redundancy() float64 {
	if l.Sent == 0 {
		return 0
	}
	return float64(l.ReSent) / float64(l.Sent)
}

// SessionStats is the state of one session.
type SessionStats struct {
	Peer    identity.ID
	Paths   []Path
	Lanes   []Lane // those that go first come first
	Streams int
	// PathlessSince is since when the session waits for a path, zero when it has
	// one.
	PathlessSince time.Time
}

// Stats is the state of a node.
type Stats struct {
	Sessions     []SessionStats
	Reservations []identity.ID // the relays that forward to us
	// Unpublished is why the directory did not take the node's record, or its name;
	// nil: it did, or there is none.
	Unpublished error
	Relay       RelayStats
	// Sent, Received and ReSent count as those of Path do: of all sessions, those that
	// have ended included.
	Sent, Received, ReSent uint64
}

func (st *Stats) count(of []session.Carried) {
	for i := range of {
		c := &of[i]
		st.Sent, st.Received, st.ReSent = st.Sent+c.SentBytes, st.Received+c.ReceivedBytes, st.ReSent+c.ResentBytes
	}
}

// Stats returns the present state.
func (n *Node) Stats() Stats {
	n.init()
	n.mu.Lock()
	st := n.past
	var all []*session.Session
	for s := range n.sessions {
		all = append(all, s)
	}
	for id := range n.reservations {
		st.Reservations = append(st.Reservations, id)
	}
	st.Unpublished = n.unpublished
	n.mu.Unlock()
	for _, s := range all {
		now := s.Stats()
		st.count(now.Carried)
		st.Sessions = append(st.Sessions, sessionStats(s, &now))
	}
	slices.SortFunc(st.Reservations, identity.ID.Compare)
	slices.SortFunc(st.Sessions, func(a, b SessionStats) int { return a.Peer.Compare(b.Peer) })
	if n.relay != nil {
		st.Relay = n.relay.stats()
	}
	return st
}

func sessionStats(s *session.Session, st *session.Stats) SessionStats {
	out := SessionStats{Peer: s.Peer(), Paths: pathList(st.Paths), Streams: st.Streams}
	out.PathlessSince, _ = s.Pathless()
	for i := range st.Lanes {
		l := &st.Lanes[i]
		out.Lanes = append(out.Lanes, Lane{
			Policy: l.Policy, Class: l.Class, Streams: l.Streams, Sent: l.SentBytes, Received: l.ReceivedBytes,
			ReSent: l.ResentBytes, Unacknowledged: l.Unacknowledged, OutOfOrder: l.OutOfOrder,
		})
	}
	return out
}

func pathsOf(s *session.Session) []Path { return pathList(s.Stats().Paths) }

func pathList(paths []session.PathStats) []Path {
	var out []Path
	for i := range paths {
		p := &paths[i]
		out = append(out, Path{
			ID: p.ID, Relay: p.Relay, Operator: p.Operator, Remote: p.Remote, State: p.State,
			Sent: p.SentBytes, Received: p.ReceivedBytes, ReSent: p.ResentBytes, Blamed: p.Blamed,
			InFlight: p.InFlight, Window: p.Window, RTT: p.SRTT, Rate: p.Rate, Epoch: p.Epoch, Bottleneck: p.Bottleneck,
		})
	}
	return out
}
