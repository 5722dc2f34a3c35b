package mesh

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/internal/session"
	"golang.org/x/time/rate"
)

// What who runs a relay may look at and change while it runs.

// A CircuitStats is the state of a circuit that this node carries.
type CircuitStats struct {
	Source, Target identity.ID // who dialled it, and whom
	Since          time.Time
	Bytes          uint64 // carried so far, both ways together
}

// Circuits lists the circuits that this node carries for others, the oldest first.
func (n *Node) Circuits() (out []CircuitStats) {
	n.init()
	r := n.relay
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.running {
		out = append(out, CircuitStats{c.source, c.target, c.since, c.bytes.Load()})
	}
	slices.SortFunc(out, func(a, b CircuitStats) int { return a.Since.Compare(b.Since) })
	return out
}

// Reserved lists the peers that may be reached through this node, in the order of their IDs.
func (n *Node) Reserved() (out []identity.ID) {
	n.init()
	r := n.relay
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for id := range r.reservations {
		out = append(out, id)
	}
	slices.SortFunc(out, identity.ID.Compare)
	return out
}

// SetRelay changes what a node that relays does for others. It counts for what comes
// from now on: reservations and circuits that exist stay, each with the MaxCircuitBytes
// that it was told. BytesPerSecond counts at once for those peers that had such a limit
// before. BufferBytes stays as it was.
func (n *Node) SetRelay(cfg RelayConfig) error {
	n.init()
	r := n.relay
	if r == nil {
		return &OpError{Op: "set relay", Err: errors.New("the node does not relay: Relay was nil when it started")}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	cfg.BufferBytes = r.cfg.BufferBytes
	r.cfg = cfg.withDefaults()
	for _, use := range r.peers {
		use.limitTo(r.cfg.BytesPerSecond)
	}
	return nil
}

// Disconnect ends all sessions with a peer, with the reservations and circuits that hang
// on them, and says how many. It returns when they have ended. The peer may come back at
// once: whether it is let in is for Authority and RelayConfig.Allow to say.
func (n *Node) Disconnect(peer identity.ID) int {
	n.init()
	n.mu.Lock()
	sessions := slices.Clone(n.peers[peer])
	n.mu.Unlock()
	var wg sync.WaitGroup
	for _, s := range sessions {
		wg.Go(func() { _ = s.CloseWith(session.CodeRefused, "") }) // ends within a second, never fails
	}
	wg.Wait()
	return len(sessions)
}

// allows asks Allow, without a lock: it may take its time.
func (r *relay) allows(peer identity.ID) bool {
	r.mu.Lock()
	allow := r.cfg.Allow
	r.mu.Unlock()
	if allow == nil || allow(peer) {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused["Allow"]++
	return false
}

// over is the answer to a request that a limit forbids, and counts it. mu is held.
func (r *relay) over(limit string, value int) openAnswer {
	r.refused[limit]++
	return limitAnswer(limit, uint64(value))
}

// limitTo sets what the peer's circuits may carry, 0: any number. One that never had a
// limit gets it for circuits to come.
func (u *usage) limitTo(bps int) {
	switch {
	case u.limiter == nil && bps > 0:
		u.limiter = rate.NewLimiter(rate.Limit(bps), max(bps, limiterBurst))
	case u.limiter == nil:
	case bps > 0:
		u.limiter.SetLimit(rate.Limit(bps))
		u.limiter.SetBurst(max(bps, limiterBurst))
	default:
		u.limiter.SetLimit(rate.Inf)
	}
}

// splice makes the circuit of two streams, by the limits of now.
func (r *relay) splice(source, target identity.ID, a, b *session.Stream, use *usage) *splice {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := &splice{r: r, source: source, target: target, since: time.Now(), a: a, b: b, limiter: use.limiter, max: r.cfg.MaxCircuitBytes}
	c.left.Store(int64(c.max))
	r.running[c] = struct{}{}
	return c
}

// ended forgets a circuit.
func (r *relay) ended(c *splice) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.running, c)
}
