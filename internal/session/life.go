package session

import (
	"fmt"
	"time"
)

// A State is where a path is in its life:
//
//	          first frame opened            a direct path is active
//	probing ────────────────────▶ active ─────────────────────────▶ backup
//	   │  │                       ▲    │ ◀─────────────────────────  │
//	   │  │            an answer  │    │  none is                    │
//	   │  └─────────▶ late ───────┘    │                             │
//	   │   no answer   │  ▲ no answer  │                             │
//	   │   in time     │  └────────────┴─────────────────────────────┤
//	   │               │            no answer in time                │
//	   └───────────────┴───────┬─────────────────────────────────────┘
//	                           ▼ read, write or seal fails; no answer for DeadAfter;
//	                         dead   the peer abandoned it; the session is over
//	                           │ the peer has abandoned it too
//	                           ▼
//	                       abandoned
//
// A path in any of the first four is alive. move makes every transition.
type State uint8

// The states of a path.
const (
	// Probing: joined, and nothing has come over it since. It carries as much
	// as an unmeasured window allows, and takes no other path's place.
	Probing State = iota
	Active
	// Backup: a relayed path while a direct one is active. It carries only what
	// a policy demands more paths for.
	Backup
	// Late: what it should have answered is overdue. Its bytes have been sent
	// again over others, and it gets no more while there are others.
	Late
	Dead
	// Abandoned: dead, and the peer knows. The id is never used again.
	Abandoned
)

var stateNames = [...]string{"probing", "active", "backup", "late", "dead", "abandoned"}

func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// An occasion is what moves a path from one state to another.
type occasion uint8

const (
	answered  occasion = iota // something came that shows the path to work
	overdue                   // an answer did not come in time
	outranked                 // a direct path is active
	preferred                 // no direct path is active any more
	lost                      // it is given up here
	parted                    // the peer has given it up
)

// move is the drawing above as a table: the state after the occasion, and whether
// that is another one. An occasion that means nothing in a state changes nothing.
func (s State) move(o occasion) (State, bool) {
	to := s
	switch {
	case s == Dead && o == parted:
		to = Abandoned
	case s >= Dead:
	case o == lost || o == parted:
		to = Dead
	case o == overdue:
		to = Late
	case o == answered && s != Backup:
		to = Active
	case o == outranked && s == Active:
		to = Backup
	case o == preferred && s == Backup:
		to = Active
	}
	return to, to != s
}

// move takes the path to its next state and does what goes with it. s.mu is held.
func (p *path) move(o occasion) {
	to, changed := p.state.move(o)
	if !changed {
		return
	}
	s := p.s
	p.state = to
	if o != lost && o != parted { // those have more to tell: see kill
		s.after.events = append(s.after.events, Event{Path: p.info, State: to})
	}
	if to < Dead {
		s.rank()
	}
	if to == Late && p.pingSince.IsZero() {
		p.ask()
	}
}

// rank settles which relayed paths step back for a direct one, and lets the bytes
// of late paths go over others as soon as there are any. s.mu is held.
func (s *Session) rank() {
	direct, timely := false, false
	for _, p := range s.paths {
		direct = direct || p.carrier == directCarrier && p.state == Active
		timely = timely || p.state < Late
	}
	for _, p := range s.paths {
		switch {
		case p.carrier != directCarrier && direct:
			p.move(outranked)
		case p.carrier != directCarrier:
			p.move(preferred)
		}
		if p.state == Late && timely && !p.evacuated {
			p.evacuate()
		} else if p.state != Late {
			p.evacuated = false
		}
	}
}

// evacuate lets everything that the path has in flight go over other paths too.
// What it has not sealed yet is taken from it. s.mu is held.
func (p *path) evacuate() {
	p.evacuated = true
	for _, r := range p.flight.items() {
		if g := r.segment; g != nil {
			g.lane.late(g, p)
		}
	}
	var kept fifo[*segment]
	for _, g := range p.queue.items() {
		if g.lane.unlinkable() {
			kept.push(g)
			continue
		}
		b := g.b
		p.landed(g.cost(), g.lane.class)
		g.lane.lost(g, p)
		b.Release()
	}
	p.queue = kept
	if p.inFlight() == 0 {
		p.ackSince = time.Time{}
	}
}
