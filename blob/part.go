package blob

import (
	"encoding/binary"
	"fmt"
)

// A Part is one chunk of a blob, or one of the N shards of a chunk, which proves
// that it is.
//
// On the wire it is the manifest; the part's index as 4 bytes, big-endian; the
// hashes of the N shards of its chunk, when N is more than 1; the chunk's Merkle
// path from the leaves up; and the payload. All lengths follow from the manifest
// and the index, so there is no second way to write a part.
type Part struct {
	Manifest Manifest
	Index    int
	Payload  []byte
}

// partHead is the length of what stands before the hashes, in bytes.
const partHead = manifestSize + 4

func appendPartHead(dst []byte, m *Manifest, i int) []byte {
	return binary.BigEndian.AppendUint32(m.append(dst), uint32(i))
}

// proofSize is the length of the hashes and the path of a part of that chunk.
func (m *Manifest) proofSize(chunk int) int {
	n := pathLen(chunk, m.Chunks())
	if m.coded() {
		n += m.N
	}
	return n * len(hash{})
}

// partSize is the length of part i.
func (m *Manifest) partSize(i int) int {
	_, n := m.span(i / m.N)
	return partHead + m.proofSize(i/m.N) + m.shardSize(n)
}

// ParsePart decodes a part and checks it against the manifest that it carries.
// Whether that is of the blob wanted is for the caller to see; an [Assembler]
// does. Payload is a piece of b. Errors wrap ErrManifest or ErrPart.
func ParsePart(b []byte) (Part, error) {
	p, _, err := parsePart(b)
	return p, err
}

// parsePart is ParsePart that also returns the leaf of the part's chunk.
func parsePart(b []byte) (p Part, leaf hash, err error) {
	if len(b) < partHead {
		return p, leaf, fmt.Errorf("%w: %d bytes, want at least %d", ErrPart, len(b), partHead)
	}
	var m Manifest
	if err := m.UnmarshalBinary(b[:manifestSize]); err != nil {
		return p, leaf, err
	}
	index := binary.BigEndian.Uint32(b[manifestSize:])
	if int64(index) >= int64(m.Parts()) {
		return p, leaf, fmt.Errorf("%w: index %d of %d", ErrPart, index, m.Parts())
	}
	i := int(index)
	if want := m.partSize(i); len(b) != want {
		return p, leaf, fmt.Errorf("%w: part %d has %d bytes, want %d", ErrPart, i, len(b), want)
	}
	chunk, shard := i/m.N, i%m.N
	proof, payload := b[partHead:partHead+m.proofSize(chunk)], b[partHead+m.proofSize(chunk):]
	hashes := []hash{leafHash(payload)}
	if m.coded() {
		own := hashes[0]
		hashes = make([]hash, m.N)
		for j := range hashes {
			proof = proof[copy(hashes[j][:], proof):]
		}
		if hashes[shard] != own {
			return p, leaf, fmt.Errorf("%w: part %d", ErrPart, i)
		}
	}
	leaf = m.leafOf(hashes)
	if rootFrom(leaf, proof, chunk, m.Chunks()) != m.Root {
		return p, leaf, fmt.Errorf("%w: part %d", ErrPart, i)
	}
	return Part{m, i, payload}, leaf, nil
}
