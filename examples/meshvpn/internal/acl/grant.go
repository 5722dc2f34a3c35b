package acl

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/overlay"
	"github.com/splitmesh/splitmesh/identity"
)

// A Grant says that a network beyond the virtual one is reached by way of a peer ("192.0.2.0/24 via gate"), or may be
// reached by a peer by way of this node ("192.0.2.0/24 to ann"). Nothing of the kind goes without one.
type Grant struct {
	text   string
	Prefix netip.Prefix
	// Via is whether the peer has the network; else this node has, and offers it to the peer.
	Via  bool
	Peer Peer
}

// UnmarshalText reads a grant.
func (g *Grant) UnmarshalText(b []byte) error {
	*g = Grant{text: string(b)}
	words := strings.Fields(g.text)
	if len(words) != 3 || words[1] != "via" && words[1] != "to" {
		return fmt.Errorf("%.120q is no grant: write one like 192.0.2.0/24 via gate, or 192.0.2.0/24 to ann", g.text)
	}
	var err error
	if g.Prefix, err = netip.ParsePrefix(words[0]); err != nil || g.Prefix != g.Prefix.Masked() || g.Prefix.Addr().Is4In6() {
		return fmt.Errorf("%.80q is no network like 192.0.2.0/24", words[0])
	}
	if why := wrong(g.Prefix); why != "" {
		return fmt.Errorf("%v %s", g.Prefix, why)
	}
	g.Via = words[1] == "via"
	if g.Peer, err = ParsePeer(words[2]); err != nil {
		return err
	}
	if g.Via && g.Peer.Everyone() {
		return fmt.Errorf("%.120q: a network is reached by way of one peer", g.text)
	}
	return nil
}

// MarshalText writes the grant as it was read.
func (g Grant) MarshalText() ([]byte, error) { return []byte(g.text), nil }

// wrong is why a network can't be granted; empty: it can.
func wrong(p netip.Prefix) string {
	for _, net := range []netip.Prefix{overlay.Net4, overlay.Net6} {
		if net.Bits() <= p.Bits() && net.Contains(p.Addr()) {
			return "is of the virtual network, where an address follows from a key"
		}
	}
	if a := p.Addr(); p.Bits() > 0 && (a.IsLoopback() || a.IsMulticast() || a.IsLinkLocalUnicast()) {
		return "never leaves a machine or its link"
	}
	return ""
}

// has is whether the network includes an address. Private ones (RFC 1918, RFC 4193), and those by which a router may lead
// to them (RFC 6052, RFC 3056), are only in networks of their own kind: who offers the internet does not offer what is
// behind its router, and who is offered it does not take that for somebody's.
func (g *Grant) has(a netip.Addr) bool {
	return g.Prefix.Contains(a) && (!isPrivate(a) || isPrivate(g.Prefix.Addr()))
}

func isPrivate(a netip.Addr) bool {
	return a.IsPrivate() || slices.ContainsFunc(translated, func(p netip.Prefix) bool { return p.Contains(a) })
}

var translated = []netip.Prefix{netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("2002::/16")}

// Grants are the networks beyond the virtual one.
type Grants []Grant

// Via is the peer by which an address is reached: that of the longest prefix, the first of several.
func (l Grants) Via(a netip.Addr, names Names) (id identity.ID, ok bool) {
	best := l.longest(a)
	for i := range l {
		if g := &l[i]; g.Via && g.Prefix.Bits() == best && g.has(a) {
			return g.Peer.ID(names)
		}
	}
	return id, false
}

// longest is the length of the longest prefix by which an address is reached.
func (l Grants) longest(a netip.Addr) int {
	best := -1
	for i := range l {
		if g := &l[i]; g.Via && g.has(a) {
			best = max(best, g.Prefix.Bits())
		}
	}
	return best
}

// From is whether a peer may send packets from an address: those that are reached by way of it.
func (l Grants) From(id identity.ID, a netip.Addr, names Names) bool {
	best := l.longest(a)
	return slices.ContainsFunc(l, func(g Grant) bool { return g.Via && g.Prefix.Bits() == best && g.has(a) && g.Peer.Is(id, names) })
}

// To is whether a peer may reach an address by way of this node.
func (l Grants) To(id identity.ID, a netip.Addr, names Names) bool {
	return slices.ContainsFunc(l, func(g Grant) bool { return !g.Via && g.has(a) && g.Peer.Is(id, names) })
}

// Nets are the networks that are reached by way of peers.
func (l Grants) Nets() (out []netip.Prefix) {
	for _, g := range l {
		if g.Via && !slices.Contains(out, g.Prefix) {
			out = append(out, g.Prefix)
		}
	}
	return out
}
