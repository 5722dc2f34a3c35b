package handshake

import "sync"

// replayGeneration is how many openings a generation of a ReplayCache holds: the
// last 16,384 openings are always known, at most 32,768 are, in some 3 MB.
const replayGeneration = 1 << 14

// A ReplayCache knows the ephemeral keys of openings that were seen. It needs no
// clock: when one generation of it is full, the one before is forgotten. Its
// zero value is ready; it is safe for concurrent use, and grows only as it fills.
type ReplayCache struct {
	mu         sync.Mutex
	young, old map[[32]byte]struct{}
}

// add reports whether e was not known, and makes it so.
func (c *ReplayCache) add(e [32]byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.young[e]; ok {
		return false
	}
	if _, ok := c.old[e]; ok {
		return false
	}
	if c.young == nil || len(c.young) == replayGeneration {
		c.young, c.old = make(map[[32]byte]struct{}), c.young
	}
	c.young[e] = struct{}{}
	return true
}
