package blob

import (
	"encoding/binary"
	"fmt"
)

// A Part is one chunk of a blob, which proves that it is.
//
// On the wire it is the manifest, its index as 4 bytes, big-endian, the Merkle path
// from the leaves up, and the payload. The lengths of the last two follow from
// the first two, so there is no second way to write a part.
type Part struct {
	Manifest Manifest
	Index    int
	Payload  []byte
}

// partHead is the length of what stands before the path, in bytes.
const partHead = manifestSize + 4

func appendPartHead(dst []byte, m *Manifest, i int) []byte {
	return binary.BigEndian.AppendUint32(m.append(dst), uint32(i))
}

// restOf is how many bytes follow the head of part i.
func (m *Manifest) restOf(i int) int {
	_, n := m.span(i)
	return pathLen(i, m.Parts())*len(hash{}) + n
}

// ParsePart decodes a part and checks it against the manifest that it carries.
// Whether that is of the blob wanted is for the caller to see; an [Assembler]
// does. Payload is a piece of b. Errors wrap ErrManifest or ErrPart.
func ParsePart(b []byte) (Part, error) {
	p, _, err := parsePart(b)
	return p, err
}

// parsePart is ParsePart that also returns the payload's hash.
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
	if want := partHead + m.restOf(i); len(b) != want {
		return p, leaf, fmt.Errorf("%w: part %d has %d bytes, want %d", ErrPart, i, len(b), want)
	}
	_, n := m.span(i)
	path, payload := b[partHead:len(b)-n], b[len(b)-n:]
	leaf = leafHash(payload)
	if rootFrom(leaf, path, i, m.Parts()) != m.Root {
		return p, leaf, fmt.Errorf("%w: part %d", ErrPart, i)
	}
	return Part{m, i, payload}, leaf, nil
}
