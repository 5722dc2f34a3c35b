package acl

import (
	"net/netip"
	"sync"
	"time"

	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/packet"
	"github.com/splitmesh/splitmesh/splitter"
)

// A Key names a flow in the way this node sees it: near is our end, far the peer's. The later fragments of a packet are a
// flow of their own.
type Key struct {
	near, far         netip.Addr
	nearPort, farPort uint16
	fragment          uint32
	proto             uint8
	later             bool
}

// KeyOf is the flow of a packet that we send, or else get.
func KeyOf(p *packet.Packet, out bool) Key {
	k := Key{near: p.Dst, far: p.Src, nearPort: p.DstPort, farPort: p.SrcPort, proto: p.Proto}
	if out {
		k = Key{near: p.Src, far: p.Dst, nearPort: p.SrcPort, farPort: p.DstPort, proto: p.Proto}
	}
	if p.Later {
		k.later, k.fragment = true, p.ID
	}
	return k
}

// laterOf is the flow of the fragments that will follow one that is the first.
func laterOf(k Key, p *packet.Packet) Key {
	k.later, k.fragment, k.nearPort, k.farPort = true, p.ID, 0, 0
	return k
}

// Bounds of a Table: how many flows it remembers, and for how long after their last packet. RFC 5382 wants 124 minutes
// for TCP, RFC 4787 2 and better 5 for UDP, RFC 5508 60 s for pings.
const (
	MaxFlows     = 8192
	tcpIdle      = 125 * time.Minute
	udpIdle      = 5 * time.Minute
	icmpIdle     = time.Minute
	fragmentIdle = 30 * time.Second
)

func (k *Key) idle() time.Duration {
	switch {
	case k.later:
		return fragmentIdle
	case k.proto == packet.TCP:
		return tcpIdle
	case k.proto == packet.ICMP, k.proto == packet.ICMPv6:
		return icmpIdle
	}
	return udpIdle
}

// A Table has the flows with one peer, so that nobody pushes out another's. Its zero value is ready.
type Table struct {
	mu    sync.Mutex
	most  int // 0: MaxFlows
	flows map[Key]*flow
}

type flow struct {
	seen  time.Time
	class splitter.Class
	// theirs is set for one that the peer began, barred when no rule allows it any more. It is kept, as our end may
	// go on to send: that does not begin it anew.
	theirs, barred bool
}

// touch is the flow, if it is known and not too old.
func (t *Table) touch(k Key, now time.Time) *flow {
	f := t.flows[k]
	if f == nil || now.Sub(f.seen) > k.idle() {
		return nil
	}
	f.seen = now
	return f
}

// begin has the flow be known. To make room it takes the oldest of a few.
func (t *Table) begin(k Key, class splitter.Class, now time.Time) *flow {
	if t.flows == nil {
		t.flows = make(map[Key]*flow)
	}
	if len(t.flows) >= t.bound() {
		var oldest Key
		var age time.Duration = -1
		few := 16
		for k, f := range t.flows { // begins anywhere
			if a := now.Sub(f.seen); a > k.idle() {
				delete(t.flows, k)
			} else if a > age {
				oldest, age = k, a
			}
			if few--; few == 0 {
				break
			}
		}
		if len(t.flows) >= t.bound() {
			delete(t.flows, oldest)
		}
	}
	f := &flow{seen: now, class: class}
	t.flows[k] = f
	return f
}

func (t *Table) bound() int {
	if t.most == 0 {
		return MaxFlows
	}
	return t.most
}

// Limit bounds how many flows it remembers; 0 is MaxFlows.
func (t *Table) Limit(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.most = n
}

// Out takes note of a packet that we send, and says in which class its flow goes: that in which it began, so that none
// of its packets overtakes another. An ICMP error begins none, as nobody answers it.
func (t *Table) Out(p *packet.Packet, now time.Time) (Key, splitter.Class) {
	k := KeyOf(p, true)
	if p.IsError() {
		return k, ClassOf(p)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.touch(k, now)
	if f == nil {
		f = t.begin(k, ClassOf(p), now)
	}
	if p.Begins {
		f.theirs, f.barred = false, false
	}
	if p.Fragment && !p.Later {
		t.begin(laterOf(k, p), f.class, now)
	}
	return k, f.class
}

// In is whether a packet that came belongs to a flow that is known, or may begin one. quoted is what an ICMP error is
// about, nil for other packets: an error is let in if it is about a packet that we sent.
func (t *Table) In(p, quoted *packet.Packet, now time.Time, may func() bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if quoted != nil {
		return p.Dst == quoted.Src && t.touch(KeyOf(quoted, true), now) != nil
	}
	k := KeyOf(p, false)
	if f := t.touch(k, now); f == nil || f.barred || p.Begins {
		if p.Later || !may() {
			return false
		}
		if f == nil {
			f = t.begin(k, ClassOf(p), now)
		}
		f.theirs, f.barred = true, false
	}
	if p.Fragment && !p.Later {
		t.begin(laterOf(k, p), splitter.Bulk, now)
	}
	return true
}

// Judge bars the flows that the peer began and that may not be any more.
func (t *Table) Judge(may func(*packet.Packet) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, f := range t.flows {
		switch {
		case k.later:
			delete(t.flows, k) // the next one is judged with its first
		case f.theirs:
			f.barred = !may(&packet.Packet{Src: k.far, Dst: k.near, Proto: k.proto, SrcPort: k.farPort, DstPort: k.nearPort})
		}
	}
}

// Ours is whether there are flows that this node began.
func (t *Table) Ours() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, f := range t.flows {
		if !f.theirs && !k.later {
			return true
		}
	}
	return false
}

// Sweep forgets flows that are too old, and says how many there are.
func (t *Table) Sweep(now time.Time) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, f := range t.flows {
		if now.Sub(f.seen) > k.idle() {
			delete(t.flows, k)
		}
	}
	return len(t.flows)
}

// interactive are ports of what a person waits for.
var interactive = map[uint16]bool{22: true, 23: true, 53: true, 123: true, 853: true, 3389: true, 3478: true, 5060: true, 5061: true, 5900: true}

// ClassOf is the class of a flow that begins with a packet: by its DSCP (RFC 4594), if it has one, else by its protocol
// and ports.
func ClassOf(p *packet.Packet) splitter.Class {
	switch {
	case p.DSCP >= 16: // CS2 and above: operations, calls, screens, signalling
		return splitter.Interactive
	case p.DSCP > 0: // CS1, AF1x, LE
		return splitter.Bulk
	case p.Proto == packet.ICMP, p.Proto == packet.ICMPv6:
		return splitter.Interactive
	case p.Proto == packet.TCP || p.Proto == packet.UDP:
		if interactive[p.SrcPort] || interactive[p.DstPort] {
			return splitter.Interactive
		}
	}
	return splitter.Bulk
}
