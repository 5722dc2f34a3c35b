package engine

import (
	"errors"
	"fmt"
	"hash/maphash"
	"net/netip"
	"os"
	"time"

	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/overlay"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/packet"
	"github.com/splitmesh/splitmesh/identity"
)

var seed = maphash.MakeSeed()

// outbound sends what the device gives, until it is closed.
func (e *Engine) outbound() error {
	b := e.pool.get()
	for {
		n, err := e.cfg.Device.Read(b.b[:])
		if err != nil {
			return fmt.Errorf("network device: %w", err)
		}
		b.from, b.to = 0, n
		if e.send(b) {
			b = e.pool.get()
		}
	}
}

// send sends one packet, and is whether it kept the buffer.
func (e *Engine) send(b *buffer) (kept bool) {
	if b.to < packet.VnetSize {
		e.counts.drop(malformed)
		return false
	}
	raw := b.b[packet.VnetSize:b.to]
	p, err := packet.Parse(raw)
	if err != nil {
		e.counts.drop(malformed)
		return false
	}
	if !p.IsUnicast() { // neighbours are asked for that are not there
		e.counts.drop(multicast)
		return false
	}
	id, ok := e.owner(p.Dst)
	if !ok {
		e.counts.drop(noRoute)
		e.unreachable(&p, raw, packet.NoRoute)
		return false
	}
	if !e.ours(p.Src, id) && !reports(&p, raw, func(a netip.Addr) bool { return e.ours(a, id) }) {
		e.counts.drop(notOurs)
		e.unreachable(&p, raw, packet.Prohibited)
		return false
	}
	to := e.peer(id)
	if to == nil {
		e.counts.drop(tooMany)
		e.unreachable(&p, raw, packet.NoHost)
		return false
	}
	frame, err := p.Seal(b.b[:b.to])
	if err != nil {
		e.counts.drop(malformed)
		return false
	}
	key, class := to.flows.Out(&p, time.Now())
	hash := uint64(0)
	if !p.Fragment { // all of a packet's go the same way
		hash = maphash.Comparable(seed, key)
	}
	b.from = b.to - len(frame)
	for range 2 { // a stream may end just now
		s := to.stream(slot{class, uint8(hash % streamsPerClass)})
		if s == nil {
			break
		}
		switch result := s.push(b); result {
		case full:
			e.counts.drop(queueFull)
			return false
		case copied, taken:
			to.sent.add(len(raw))
			return result == taken
		case over:
			to.remove(s)
		}
	}
	e.counts.drop(noHost)
	e.unreachable(&p, raw, to.refusal())
	return false
}

// owner is who has an address: in the virtual network by its key, beyond it by a grant. In it no grant counts: by one, a
// peer could be another.
func (e *Engine) owner(a netip.Addr) (identity.ID, bool) {
	if !overlay.Inside(a) {
		return e.policy.Load().Grants.Via(a, e.cfg.Names)
	}
	id, ok := e.cfg.Book.Peer(a)
	if !ok {
		e.look()
		id, ok = e.cfg.Book.Peer(a)
	}
	return id, ok && id != e.cfg.Node.ID()
}

// ours is whether an address is this node's own, or of a network that it offers to the peer.
func (e *Engine) ours(a netip.Addr, id identity.ID) bool {
	if !overlay.Inside(a) {
		return e.policy.Load().Grants.To(id, a, e.cfg.Names)
	}
	owner, ok := e.cfg.Book.Peer(a)
	return ok && owner == e.cfg.Node.ID()
}

// theirs is whether an address is the peer's own, or of a network that is reached by way of it.
func (e *Engine) theirs(a netip.Addr, id identity.ID) bool {
	if !overlay.Inside(a) {
		return e.policy.Load().Grants.From(id, a, e.cfg.Names)
	}
	owner, ok := e.cfg.Book.Peer(a)
	return ok && owner == id
}

// reports is whether a packet is an ICMP error about one that went beyond the virtual network, to where somebody has it go:
// it comes from any router on the way, such as that which tells that a packet is too big.
func reports(p *packet.Packet, raw []byte, has func(netip.Addr) bool) bool {
	if !p.IsError() || overlay.Inside(p.Src) {
		return false
	}
	quoted, err := packet.Quoted(raw[p.Header+8:])
	return err == nil && !overlay.Inside(quoted.Dst) && has(quoted.Dst)
}

// unreachable tells the sender of a packet why it was not sent. Errors are few enough that nobody is flooded.
func (e *Engine) unreachable(p *packet.Packet, raw []byte, why packet.Reason) {
	if !e.errors.Allow() {
		return
	}
	if b := p.Unreachable(raw, why); b != nil {
		if _, err := e.cfg.Device.Write(b); err != nil && !errors.Is(err, os.ErrClosed) {
			e.cfg.Logger.Debug("an ICMP error was not taken", "err", err)
		}
	}
}
