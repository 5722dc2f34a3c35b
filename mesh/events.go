package mesh

import (
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/internal/session"
)

// A PathState is where a path is in its life.
type PathState = session.State

// The states of a path. One in any of the first four is alive.
const (
	PathProbing   = session.Probing   // joined, and nothing has come over it yet
	PathActive    = session.Active    // carries what there is
	PathBackup    = session.Backup    // relayed, while a direct path is active: idle unless a policy wants more paths
	PathLate      = session.Late      // owes an answer; others carry its bytes
	PathDead      = session.Dead      // given up here
	PathAbandoned = session.Abandoned // and by the peer
)

// A PathEvent tells that a path to a peer came into another state. Sessions with
// relays, which carry the circuits of other paths, have events too.
type PathEvent struct {
	Peer identity.ID
	// ID tells the paths of one session apart. It is never used again.
	ID uint32
	// Relay and Operator are as in Path, and so is Remote. Relay is zero for a direct
	// path, such as one to a relay itself, and then prints as "invalid ID".
	Relay    identity.ID
	Operator string
	Remote   string
	State    PathState
	Err      error // why it died, for PathDead
}

// maxEvents bounds the events that wait to be told: the oldest are dropped.
const maxEvents = 4096

// tell hands the event to OnPath, from a goroutine of its own.
func (n *Node) tell(e PathEvent) {
	n.mu.Lock()
	n.events = append(n.events[max(0, len(n.events)-maxEvents+1):], e)
	first := !n.telling
	n.telling = true
	n.mu.Unlock()
	if first {
		n.goRun(n.tellAll) // ends when all is told
	}
}

func (n *Node) tellAll() {
	for {
		n.mu.Lock()
		events := n.events
		n.events = nil
		n.telling = len(events) > 0
		n.mu.Unlock()
		for _, e := range events {
			n.OnPath(e)
		}
		if len(events) == 0 {
			return
		}
	}
}
