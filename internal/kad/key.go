// Package kad is Kademlia without a network: keys and their distance, a table of contacts, lookups, and what a node
// stores for others. Bytes, answers and the time go in, whom to ask comes out; package dht has the sockets, and the
// simulation in benchmarks runs the same code.
//
// It follows Maymounkov and Mazières, "Kademlia" (2002), with the disjoint paths of Baumgart and Mies, "S/Kademlia"
// (2007), and takes care that nobody can fill a table, a lookup or the set of nodes that keep a record from few
// networks: see [MaxGroup].
//
// It trusts nothing: a [Contact] is made from a record that its peer signed, so that nobody can speak of a peer that
// does not exist, nor give it another address.
package kad

import (
	"crypto/sha256"
	"math/bits"

	"github.com/splitmesh/splitmesh/identity"
)

const (
	// K is how many contacts a bucket has, an answer brings, and nodes keep a record.
	K = 20
	// MaxGroup is how many of one network (an IPv4 /24 or IPv6 /48) there may be in a bucket, and among the nodes
	// that a lookup heeds or that keep a record.
	MaxGroup = 2
	// MaxGroupTable is how many of one network there may be in a table.
	MaxGroupTable = 10
)

// A Key is a place in the space that peers and what they look for share.
type Key [sha256.Size]byte

func keyOf(what, name string) Key {
	return sha256.Sum256([]byte("splitmesh/v1/dht/" + what + "\x00" + name))
}

// PeerKey returns where a peer is, and where its record is kept. It is a hash, so that who wants a place has to search
// for an identity that has it.
func PeerKey(id identity.ID) Key { return keyOf("peer", string(id[:])) }

// CapabilityKey returns where the records of those who have the capability are kept, too.
func CapabilityKey(capability string) Key { return keyOf("capability", capability) }

// Compare orders a and b by their distance to k: −1 when a is closer.
func (k Key) Compare(a, b Key) int {
	for i := range k {
		if x, y := a[i]^k[i], b[i]^k[i]; x != y {
			if x < y {
				return -1
			}
			return 1
		}
	}
	return 0
}

// Common returns how many leading bits a and b have in common.
func Common(a, b Key) int {
	for i := range a {
		if x := a[i] ^ b[i]; x != 0 {
			return 8*i + bits.LeadingZeros8(x)
		}
	}
	return 8 * len(a)
}

// within returns a key that has exactly n bits in common with k, and the others of random.
func within(k Key, n int, random Key) Key {
	r := random
	for i := range n {
		r.set(i, k.bit(i))
	}
	if n < 8*len(k) {
		r.set(n, !k.bit(n))
	}
	return r
}

func (k *Key) bit(i int) bool { return k[i/8]&(0x80>>(i%8)) != 0 }

func (k *Key) set(i int, v bool) {
	if m := byte(0x80) >> (i % 8); v {
		k[i/8] |= m
	} else {
		k[i/8] &^= m
	}
}
