package blob

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"

	"github.com/splitmesh/splitmesh/splitter"
)

// An Assembler puts a blob's parts together again, wherever they come from and in
// whatever order. It holds 32 bytes of memory for each chunk; parts go to its
// writer at once. It is for one goroutine at a time.
type Assembler struct {
	manifest Manifest
	w        io.WriterAt
	have     bitmap
	leaves   []hash // of the chunks in have
	missing  int
	done     int64 // bytes in have
	tail     tail

	// keep, when set, is told of each chunk once it has been written.
	keep func(i int, leaf hash) error
}

// NewAssembler makes an Assembler that writes the content of the blob at its place
// in w. A padded blob's padding is written too, for which there must be
// room; w is then cut to [Assembler.Size]. Check m.Size first: memory is taken for
// the whole blob's bookkeeping, at most 33 MiB. The error wraps ErrManifest.
func NewAssembler(m Manifest, w io.WriterAt) (*Assembler, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	n := m.Parts()
	return &Assembler{manifest: m, w: w, have: newBitmap(n), leaves: make([]hash, n), missing: n}, nil
}

// Manifest returns what the Assembler was made for.
func (a *Assembler) Manifest() Manifest { return a.manifest }

// Missing is the number of parts that have yet to come.
func (a *Assembler) Missing() int { return a.missing }

// Has reports whether part i, from 0 to Manifest().Parts()−1, has come.
func (a *Assembler) Has(i int) bool { return a.have.has(i) }

// Add checks a part and writes its payload. A part that has come before is checked
// and left. Errors wrap ErrManifest, ErrPart, ErrOtherBlob or the writer's; the
// part is then still missing, and others may be added.
func (a *Assembler) Add(part []byte) error {
	p, leaf, err := parsePart(part)
	if err != nil {
		return err
	}
	if p.Manifest != a.manifest {
		return fmt.Errorf("%w: a part of %v, want %v", ErrOtherBlob, p.Manifest.ID(), a.manifest.ID())
	}
	if a.Has(p.Index) {
		return nil
	}
	off, n := a.manifest.span(p.Index)
	if got, err := a.w.WriteAt(p.Payload, off); err != nil || got != n {
		if err == nil {
			err = io.ErrShortWrite
		}
		return fmt.Errorf("writing %d bytes at %d: %w", n, off, err)
	}
	if a.keep != nil {
		if err := a.keep(p.Index, leaf); err != nil {
			return err
		}
	}
	a.mark(p.Index, leaf)
	a.look(p.Index, p.Payload)
	return nil
}

// mark notes that chunk i is in its place.
func (a *Assembler) mark(i int, leaf hash) {
	_, n := a.manifest.span(i)
	a.have.set(i)
	a.leaves[i] = leaf
	a.missing--
	a.done += int64(n)
}

// look sees how much of chunk i is padding.
func (a *Assembler) look(i int, payload []byte) {
	if a.manifest.Padded {
		off, _ := a.manifest.span(i)
		a.tail.look(payload, off, a.manifest.Size)
	}
}

// drop takes a chunk out again.
func (a *Assembler) drop(i int) {
	_, n := a.manifest.span(i)
	a.have.clear(i)
	a.missing++
	a.done -= int64(n)
}

// wanted is the bitmap of what is missing.
func (a *Assembler) wanted() bitmap {
	w := newBitmap(a.manifest.Parts())
	for i := range a.manifest.Parts() {
		if !a.Has(i) {
			w.set(i)
		}
	}
	return w
}

// Size is the content's size without its padding, known when no part is missing.
// The error wraps ErrIncomplete, or ErrManifest when the padding is not as it must
// be.
func (a *Assembler) Size() (int64, error) {
	m := &a.manifest
	switch {
	case a.missing > 0:
		return 0, fmt.Errorf("%w: %d of %d", ErrIncomplete, a.missing, m.Parts())
	case !m.Padded:
		return m.Size, nil
	case a.tail.size > uint64(m.Size-trailerSize) || splitter.Padme(a.tail.size+trailerSize) != uint64(m.Size) ||
		a.tail.end > int64(a.tail.size):
		return 0, fmt.Errorf("%w: its padding is not as it must be", ErrManifest)
	}
	return int64(a.tail.size), nil
}

// A tail is what must be known of a padded content: the size that it says it has,
// and where its last byte other than 0 ends, that size apart.
type tail struct {
	size uint64
	end  int64
}

func (t *tail) look(payload []byte, off, total int64) {
	if off+int64(len(payload)) == total {
		payload, t.size = payload[:len(payload)-trailerSize], binary.BigEndian.Uint64(payload[len(payload)-trailerSize:])
	}
	for n := len(payload); n > 0 && off+int64(n) > t.end; n-- {
		if payload[n-1] != 0 {
			t.end = off + int64(n)
		}
	}
}

// A bitmap has one bit for each part, the first in the lowest bit of the first
// byte. Bits behind the last part are 0.
type bitmap []byte

func newBitmap(n int) bitmap { return make(bitmap, (n+7)/8) }

func (b bitmap) has(i int) bool { return b[i/8]>>(i%8)&1 != 0 }
func (b bitmap) set(i int)      { b[i/8] |= 1 << (i % 8) }
func (b bitmap) clear(i int)    { b[i/8] &^= 1 << (i % 8) }

func (b bitmap) count() (n int) {
	for _, x := range b {
		n += bits.OnesCount8(x)
	}
	return n
}

// bytes is how much content the parts in b carry.
func (b bitmap) bytes(m *Manifest) (total int64) {
	for i := range m.Parts() {
		if b.has(i) {
			_, n := m.span(i)
			total += int64(n)
		}
	}
	return total
}

// fits reports whether b may be a bitmap of n parts.
func (b bitmap) fits(n int) bool {
	return len(b) == (n+7)/8 && (n%8 == 0 || b[len(b)-1]>>(n%8) == 0)
}
