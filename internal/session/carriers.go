package session

import "github.com/splitmesh/splitmesh/identity"

// carriers number those who carry paths: a relay, together with all others of its
// operator, is one. A number is never given to another.
type carriers struct {
	relays    map[identity.ID]int
	operators map[string]int
	next      int
}

// of is the number of the path's carrier, directCarrier when no relay carries it.
func (c *carriers) of(info *PathInfo) int {
	if info.Direct() {
		return directCarrier
	}
	if c.relays == nil {
		c.relays, c.operators = make(map[identity.ID]int), make(map[string]int)
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
			c.operators[info.Operator] = n
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
