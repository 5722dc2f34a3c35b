package session

import (
	"github.com/splitmesh/splitmesh/identity"
)

// carriers number those who carry paths: a relay, together with all others of its
// operator, is one. A number is never given to another.
type carriers struct {
	relays    map[identity.ID]int
	operators map[string]int
	named     map[int]bool // an operator has it
	next      int
}

// carrierOf is the number of the path's carrier. A relay whose operator was not known
// so far becomes one with that operator's others, in all that is remembered of both; one
// that names another operator than before does not, or it could make one of two
// honest ones. s.mu is held.
func (s *Session) carrierOf(info *PathInfo) int {
	n := s.carriers.of(info)
	operator, known := s.carriers.operators[info.Operator]
	if n == directCarrier || !known || operator == n || s.carriers.named[n] {
		return n
	}
	s.carriers.relays[info.Relay] = operator
	for _, p := range s.paths {
		if p.carrier == n {
			p.carrier = operator
		}
	}
	for _, l := range s.lanes {
		l.shares.Merge(n, operator)
		for _, g := range l.segments.items() {
			if g.block != nil {
				for i, had := range g.block.had {
					if had == n {
						g.block.had[i] = operator
					}
				}
			}
		}
	}
	return operator
}

// of is the number of the path's carrier, directCarrier when no relay carries it.
func (c *carriers) of(info *PathInfo) int {
	if info.Direct() {
		return directCarrier
	}
	if c.relays == nil {
		c.relays, c.operators, c.named = make(map[identity.ID]int), make(map[string]int), make(map[int]bool)
	}
	n, known := c.relays[info.Relay]
	if !known && info.Operator != "" {
		n, known = c.operators[info.Operator]
	}
	if !known {
		n = c.next
		c.next++
	}
	c.relays[info.Relay] = n
	if info.Operator != "" {
		if _, known := c.operators[info.Operator]; !known {
			c.operators[info.Operator], c.named[n] = n, true
		}
	}
	return n
}

// An idWindow remembers which of the latest 64 path ids were used; older ones
// count as used (cf. RFC 4303, section 3.4.3).
type idWindow struct {
	high uint32 // the highest used
	mask uint64 // bit i: high − i was used
}

// add marks id as used. It reports false if it was, or may have been, before.
func (w *idWindow) add(id uint32) bool {
	switch {
	case id < FirstPath:
		return false
	case id > w.high:
		w.mask = w.mask<<(id-w.high) | 1
		w.high = id
		return true
	case w.high-id >= 64 || w.mask&(1<<(w.high-id)) != 0:
		return false
	}
	w.mask |= 1 << (w.high - id)
	return true
}
