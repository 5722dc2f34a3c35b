package blob

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"

	"github.com/splitmesh/splitmesh/splitter"
)

// An Assembler puts a blob's parts together again, wherever they come from and in
// whatever order. It holds 32 bytes of memory for each chunk, and at most 16 MiB of parts that need others of their
// chunk; chunks go to its writer at once. It is for one goroutine at a time.
type Assembler struct {
	manifest Manifest
	code     *coder
	w        io.WriterAt
	have     bitmap
	leaves   []hash // of the chunks in have
	missing  int
	done     int64 // bytes in have
	tail     tail

	// Shards of chunks that need more of them, when parts are not chunks.
	waiting      map[int][][]byte
	waitingBytes int

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
	code, err := newCoder(&m)
	if err != nil {
		return nil, err
	}
	n := m.Chunks()
	return &Assembler{
		manifest: m, code: code, w: w, have: newBitmap(n), leaves: make([]hash, n), missing: n,
		waiting: make(map[int][][]byte),
	}, nil
}

// Manifest returns what the Assembler was made for.
func (a *Assembler) Manifest() Manifest { return a.manifest }

// Missing is the number of chunks that are not there yet.
func (a *Assembler) Missing() int { return a.missing }

// Has reports whether part i, from 0 to Manifest().Parts()−1, has come or is no
// longer needed.
func (a *Assembler) Has(i int) bool {
	w := a.waiting[i/a.manifest.N]
	return a.have.has(i/a.manifest.N) || w != nil && w[i%a.manifest.N] != nil
}

// Add checks a part and writes its payload; when a chunk takes several parts, as
// soon as they are there. A part that has come before, or is no longer needed, is
// checked and left. Errors wrap ErrManifest, ErrPart, ErrOtherBlob, ErrWaiting or
// the writer's; the part is then still missing, and others may be added.
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
	chunk := p.Index / a.manifest.N
	if !a.manifest.coded() {
		return a.write(chunk, leaf, p.Payload)
	}
	payload, err := a.join(p)
	if payload == nil || err != nil {
		return err
	}
	switch got, _, err := a.code.leaf(&a.manifest, payload); {
	case err != nil:
		return err
	case got != leaf:
		return fmt.Errorf("%w: the parts of chunk %d don't belong together", ErrPart, chunk)
	}
	return a.write(chunk, leaf, payload)
}

// maxWaiting bounds the bytes of shards that wait for others of their chunk.
const maxWaiting = 16 << 20

// join returns the chunk that p completes, or nil when that takes more parts. Those
// that it joins are given up: should the chunk not be kept, they must come again.
func (a *Assembler) join(p Part) ([]byte, error) {
	m := &a.manifest
	chunk, shard := p.Index/m.N, p.Index%m.N
	_, n := m.span(chunk)
	there := 0
	for _, s := range a.waiting[chunk] {
		if s != nil {
			there++
		}
	}
	if there+1 < m.K {
		if a.waitingBytes+len(p.Payload) > maxWaiting {
			return nil, fmt.Errorf("part %d: %w", p.Index, ErrWaiting)
		}
		if there == 0 {
			a.waiting[chunk] = make([][]byte, m.N)
		}
		a.waiting[chunk][shard] = append(make([]byte, 0, len(p.Payload)+1), p.Payload...) // never nil
		a.waitingBytes += len(p.Payload)
		return nil, nil
	}
	shards := a.waiting[chunk]
	if shards == nil {
		shards = make([][]byte, m.N)
	}
	shards[shard] = p.Payload
	delete(a.waiting, chunk)
	a.waitingBytes -= there * len(p.Payload)
	payload, err := a.code.join(m, make([]byte, 0, n+1), n, shards)
	if err != nil {
		err = fmt.Errorf("%w: chunk %d: %w", ErrPart, chunk, err)
	}
	return payload, err
}

// write writes what has been checked.
func (a *Assembler) write(chunk int, leaf hash, payload []byte) error {
	off, n := a.manifest.span(chunk)
	if got, err := a.w.WriteAt(payload, off); err != nil || got != n {
		if err == nil {
			err = io.ErrShortWrite
		}
		return fmt.Errorf("writing %d bytes at %d: %w", n, off, err)
	}
	if a.keep != nil {
		if err := a.keep(chunk, leaf); err != nil {
			return err
		}
	}
	a.mark(chunk, leaf)
	a.look(chunk, payload)
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
	w := newBitmap(a.manifest.Chunks())
	for i := range a.manifest.Chunks() {
		if !a.have.has(i) {
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
		return 0, fmt.Errorf("%w: %d of %d", ErrIncomplete, a.missing, m.Chunks())
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

// A bitmap has one bit for each chunk, the first in the lowest bit of the first
// byte. Bits behind the last chunk are 0.
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

// bytes is how much content the chunks in b have.
func (b bitmap) bytes(m *Manifest) (total int64) {
	for i := range m.Chunks() {
		if b.has(i) {
			_, n := m.span(i)
			total += int64(n)
		}
	}
	return total
}

// fits reports whether b may be a bitmap of n chunks.
func (b bitmap) fits(n int) bool {
	return len(b) == (n+7)/8 && (n%8 == 0 || b[len(b)-1]>>(n%8) == 0)
}
