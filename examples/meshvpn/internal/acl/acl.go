// Package acl says which packets a peer may send to this node: by rules, by whose a network is, and by what the node
// itself has begun.
//
// Rules are lines. The first that fits decides, and what none fits is denied:
//
//	allow ann tcp 22 8000-8100
//	allow * icmp
//	deny bob
//	allow bob udp
//
// Peers are petnames or IDs, or * for all. Protocols are tcp, udp, icmp (of both IPv4 and IPv6), or IANA's number.
package acl

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/packet"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
)

// A Peer is one that a line is about. As text it is a petname, an ID, or * for everyone.
type Peer struct {
	text string
	id   identity.ID // zero: a petname, or everyone
}

// ParsePeer reads a peer.
func ParsePeer(s string) (Peer, error) {
	if id, err := identity.ParseID(s); err == nil {
		return Peer{s, id}, nil
	}
	if s != "*" && !registry.ValidName(s) {
		return Peer{}, fmt.Errorf("%.80q is neither an ID nor a petname, nor * for everyone", s)
	}
	return Peer{text: s}, nil
}

func (p Peer) String() string { return p.text }

// Everyone is whether it is no peer but all.
func (p Peer) Everyone() bool { return p.text == "*" }

// Names says whom a petname means here.
type Names func(name string) (identity.ID, bool)

// ID is the peer's, if it is one and known.
func (p Peer) ID(names Names) (identity.ID, bool) {
	if !p.id.IsZero() {
		return p.id, true
	}
	if p.Everyone() {
		return identity.ID{}, false
	}
	return names(p.text)
}

// Is is whether it is the peer with the ID. A petname is looked up each time: its file may change.
func (p Peer) Is(id identity.ID, names Names) bool {
	if p.Everyone() {
		return true
	}
	x, ok := p.ID(names)
	return ok && x == id
}

// A Rule is one line.
type Rule struct {
	text  string
	allow bool
	peer  Peer
	proto protocol
	ports []span // none: all
}

type protocol struct {
	any, icmp bool
	number    uint8
}

type span struct{ low, high uint16 }

// UnmarshalText reads a rule.
func (r *Rule) UnmarshalText(b []byte) error {
	const form = "write one like allow ann tcp 22"
	*r = Rule{text: string(b), proto: protocol{any: true}}
	words := strings.Fields(r.text)
	if len(words) < 2 {
		return fmt.Errorf("%.120q is no rule: %s", r.text, form)
	}
	switch words[0] {
	case "allow":
		r.allow = true
	case "deny":
	default:
		return fmt.Errorf("a rule begins with allow or deny, not with %.40q: %s", words[0], form)
	}
	var err error
	if r.peer, err = ParsePeer(words[1]); err != nil {
		return err
	}
	if len(words) > 2 {
		if r.proto, err = parseProtocol(words[2]); err != nil {
			return err
		}
	}
	for _, w := range words[min(3, len(words)):] {
		if r.proto.number != packet.TCP && r.proto.number != packet.UDP {
			return fmt.Errorf("%.120q: only tcp and udp have ports", r.text)
		}
		s, err := parseSpan(w)
		if err != nil {
			return err
		}
		r.ports = append(r.ports, s)
	}
	return nil
}

func parseProtocol(s string) (protocol, error) {
	switch s {
	case "*":
		return protocol{any: true}, nil
	case "icmp":
		return protocol{icmp: true}, nil
	case "tcp":
		return protocol{number: packet.TCP}, nil
	case "udp":
		return protocol{number: packet.UDP}, nil
	}
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil {
		return protocol{}, fmt.Errorf("%.40q is no protocol: tcp, udp, icmp, * and numbers up to 255 are", s)
	}
	return protocol{number: uint8(n)}, nil
}

func parseSpan(s string) (span, error) {
	low, high, ok := strings.Cut(s, "-")
	if !ok {
		high = low
	}
	a, err1 := strconv.ParseUint(low, 10, 16)
	b, err2 := strconv.ParseUint(high, 10, 16)
	if err1 != nil || err2 != nil || a > b {
		return span{}, fmt.Errorf("%.40q is no port, nor a range of them like 8000-8100", s)
	}
	return span{uint16(a), uint16(b)}, nil
}

// Peer is whom it is about.
func (r Rule) Peer() Peer { return r.peer }

// MarshalText writes the rule as it was read.
func (r Rule) MarshalText() ([]byte, error) { return []byte(r.text), nil }

func (p protocol) has(number uint8) bool {
	return p.any || p.number == number && !p.icmp || p.icmp && (number == packet.ICMP || number == packet.ICMPv6)
}

// A List is rules in their order.
type List []Rule

// Allows is whether a peer may begin to send such packets.
func (l List) Allows(id identity.ID, p *packet.Packet, names Names) bool {
	for i := range l {
		r := &l[i]
		if !r.proto.has(p.Proto) || len(r.ports) > 0 && !slices.ContainsFunc(r.ports, func(s span) bool { return s.low <= p.DstPort && p.DstPort <= s.high }) {
			continue
		}
		if r.peer.Is(id, names) {
			return r.allow
		}
	}
	return false
}

// Hears is whether a peer may send anything at all.
func (l List) Hears(id identity.ID, names Names) bool {
	for i := range l {
		if r := &l[i]; r.peer.Is(id, names) && (r.allow || r.proto.any) {
			return r.allow
		}
	}
	return false
}
