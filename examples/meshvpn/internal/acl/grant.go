package acl

import (
	"fmt"
	"net/netip"
	"strings"

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

// Grants are the networks beyond the virtual one.
type Grants []Grant

// Via is the peer by which an address is reached: that of the longest prefix.
func (l Grants) Via(a netip.Addr, names Names) (id identity.ID, ok bool) {
	best := -1
	for i := range l {
		if g := &l[i]; g.Via && g.Prefix.Bits() > best && g.Prefix.Contains(a) {
			best = g.Prefix.Bits()
			id, ok = g.Peer.ID(names)
		}
	}
	return id, ok
}

// Has is whether a peer may have an address: as the sender of packets to us (via), or as one to whom they go by way of us.
func (l Grants) Has(id identity.ID, via bool, a netip.Addr, names Names) bool {
	for i := range l {
		if g := &l[i]; g.Via == via && g.Prefix.Contains(a) && g.Peer.Is(id, names) {
			return true
		}
	}
	return false
}
