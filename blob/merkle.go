package blob

import "crypto/sha256"

// The tree is that of RFC 6962, section 2.1, over at least one leaf: leaves and
// inner nodes are hashed with different prefixes, so that neither passes for the
// other, and a tree whose number of leaves is no power of two has its largest
// complete subtree on the left.

type hash = [sha256.Size]byte

const (
	leafPrefix = 0
	nodePrefix = 1
)

func leafHash(payload []byte) (h hash) {
	d := sha256.New()
	d.Write([]byte{leafPrefix})
	d.Write(payload)
	d.Sum(h[:0])
	return h
}

func nodeHash(left, right hash) hash {
	var b [1 + 2*sha256.Size]byte
	b[0] = nodePrefix
	copy(b[1:], left[:])
	copy(b[1+sha256.Size:], right[:])
	return sha256.Sum256(b[:])
}

// A tree holds all nodes, by level from the leaves up. The last node of a level of
// odd length has no sibling and stands for itself on the level above, which gives
// RFC 6962's shape.
type tree [][]hash

func newTree(leaves []hash) tree {
	t := tree{leaves}
	for level := leaves; len(level) > 1; {
		up := make([]hash, (len(level)+1)/2)
		for i := range up {
			if 2*i+1 < len(level) {
				up[i] = nodeHash(level[2*i], level[2*i+1])
			} else {
				up[i] = level[2*i]
			}
		}
		t, level = append(t, up), up
	}
	return t
}

func (t tree) root() hash { return t[len(t)-1][0] }

// appendPath appends the proof of leaf i: its siblings, from the leaves up.
func (t tree) appendPath(dst []byte, i int) []byte {
	for _, level := range t[:len(t)-1] {
		if sibling := i ^ 1; sibling < len(level) {
			dst = append(dst, level[sibling][:]...)
		}
		i /= 2
	}
	return dst
}

// pathLen is the number of hashes in the proof of leaf i of n: every level has a
// sibling for it, but for those where it is the last of an odd number.
func pathLen(i, n int) int {
	k := 0
	for ; n > 1; i, n = i/2, (n+1)/2 {
		if i^1 < n {
			k++
		}
	}
	return k
}

// rootFrom is the root of a tree of n leaves whose leaf i is h, by its proof of
// pathLen(i, n) hashes.
func rootFrom(h hash, path []byte, i, n int) hash {
	for ; n > 1; i, n = i/2, (n+1)/2 {
		if i^1 >= n {
			continue
		}
		sibling := hash(path[:sha256.Size])
		path = path[sha256.Size:]
		if i&1 == 0 {
			h = nodeHash(h, sibling)
		} else {
			h = nodeHash(sibling, h)
		}
	}
	return h
}
