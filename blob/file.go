package blob

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// Endings of the names of what an unfinished File keeps on disk.
const (
	partSuffix = ".part" // the content, as far as it is there
	haveSuffix = ".have" // the manifest, and a record of each chunk that is there
)

// recordSize is the length, in bytes, of a record in a .have file: the chunk's index,
// big-endian, and its hash. Records are appended as chunks come, so that a crash
// costs the last one at most. Nothing in the file is believed: a chunk counts as
// there when its bytes have the record's hash, and the file gets its name only
// when all hashes lead to the manifest's root.
const recordSize = 4 + len(hash{})

// A File assembles a blob on disk, and survives interruption: what an earlier File
// of the same path and blob has written is found again. It is for one goroutine at
// a time, and only one File of a path may be open; within a process that is seen
// to.
type File struct {
	path   string
	a      *Assembler
	part   *os.File // nil when the file is there already, and after Close
	have   *os.File
	end    int64  // of the records in have
	proved bitmap // chunks that came as parts, in this File's life
	done   bool   // path is the blob
	o      Options
}

// writing holds the absolute paths of the Files that are open in this process:
// two that wrote to one file would each spoil what the other has checked.
var writing sync.Map

// OpenFile opens the file of that name for the blob m, and hashes what is there of it.
// What is there of another blob's beginning is overwritten. Of o it uses
// Progress, MaxSize and Want. Errors wrap *SizeError, ErrOtherBlob, ErrBusy,
// ErrManifest or the file system's.
func OpenFile(ctx context.Context, path string, m Manifest, o Options) (*File, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	if err := o.accepts(&m); err != nil {
		return nil, err
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if _, taken := writing.LoadOrStore(path, nil); taken {
		return nil, fmt.Errorf("%w: %s", ErrBusy, path)
	}
	f := &File{path: path, o: o}
	if err := f.open(ctx, m); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (f *File) open(ctx context.Context, m Manifest) (err error) {
	records, err := readRecords(f.path+haveSuffix, &m)
	if err != nil {
		return err
	}
	f.proved = newBitmap(m.Chunks())
	if records == nil {
		if f.a, err = f.existing(ctx, m); f.a != nil || err != nil {
			f.done = err == nil
			return err
		}
	}
	flags := os.O_RDWR | os.O_CREATE
	if records == nil {
		flags |= os.O_TRUNC
	}
	if f.part, err = os.OpenFile(f.path+partSuffix, flags, 0o600); err != nil {
		return err
	}
	if f.a, err = NewAssembler(m, f.part); err != nil {
		return err
	}
	if err := f.verify(ctx, records); err != nil {
		return err
	}
	f.a.keep = f.keep
	return f.rewrite()
}

// existing returns a full Assembler when the file that is there is the blob, and
// nil when it isn't.
func (f *File) existing(ctx context.Context, m Manifest) (*Assembler, error) {
	r, err := os.Open(f.path)
	if err != nil {
		return nil, nil // what can't be read is not the blob; renaming will tell
	}
	defer r.Close()
	st, err := r.Stat()
	if err != nil || !st.Mode().IsRegular() || paddedSize(st.Size(), m.Padded) != m.Size {
		return nil, nil
	}
	s, err := NewSource(ctx, r, st.Size(), Options{ChunkSize: m.ChunkSize, K: m.K, N: m.N, Private: m.Padded, Progress: f.o.Progress})
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil || s.manifest != m {
		return nil, nil
	}
	a, err := NewAssembler(m, nil)
	if err != nil {
		return nil, err
	}
	for i := range m.Chunks() {
		a.mark(i, s.tree[0][i])
	}
	a.tail = tail{size: uint64(st.Size())}
	return a, nil
}

// readRecords returns the hashes that a .have file claims, by chunk; nil when there
// is no such file, or when it is another blob's.
func readRecords(path string, m *Manifest) (map[int]hash, error) {
	r, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, int64(manifestSize+m.Chunks()*recordSize)))
	if err != nil {
		return nil, err
	}
	return parseRecords(b, m), nil
}

func parseRecords(b []byte, m *Manifest) map[int]hash {
	if len(b) < manifestSize || string(b[:manifestSize]) != string(m.append(nil)) {
		return nil
	}
	records := make(map[int]hash)
	for b = b[manifestSize:]; len(b) >= recordSize; b = b[recordSize:] {
		i := binary.BigEndian.Uint32(b)
		if int64(i) >= int64(m.Chunks()) {
			break
		}
		records[int(i)] = hash(b[4:recordSize])
	}
	return records
}

// verify marks the chunks whose bytes are as their records say.
func (f *File) verify(ctx context.Context, records map[int]hash) error {
	m := &f.a.manifest
	b := make([]byte, min(int64(m.ChunkSize), m.Size))
	for i := range m.Chunks() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		leaf, ok := records[i]
		off, n := m.span(i)
		if ok && f.holds(b[:n], off, leaf) {
			f.a.mark(i, leaf)
			f.a.look(i, b[:n])
		}
		if len(records) > 0 {
			f.o.progress(Hashing, off+int64(n), m.Size)
		}
	}
	return nil
}

// holds reads b from off, and reports whether that is the chunk with that leaf.
func (f *File) holds(b []byte, off int64, leaf hash) bool {
	if n, _ := f.part.ReadAt(b, off); n < len(b) {
		return false // whatever the reason, it isn't there
	}
	got, _, err := f.a.code.leaf(&f.a.manifest, b)
	return err == nil && got == leaf
}

// rewrite replaces the .have file by one that says what is there, and leaves it open
// for more.
func (f *File) rewrite() error {
	if f.have != nil {
		f.have.Close()
	}
	name := f.path + haveSuffix
	b := f.a.manifest.append(nil)
	for i := range f.a.manifest.Chunks() {
		if f.a.have.has(i) {
			b = appendRecord(b, i, f.a.leaves[i])
		}
	}
	err := os.WriteFile(name+".new", b, 0o600)
	if err == nil {
		err = os.Rename(name+".new", name)
	}
	if err == nil {
		f.have, err = os.OpenFile(name, os.O_WRONLY, 0)
	}
	f.end = int64(len(b))
	return err
}

func appendRecord(b []byte, i int, leaf hash) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(i)), leaf[:]...)
}

// keep is the Assembler's: a chunk is in its place.
func (f *File) keep(i int, leaf hash) error {
	if _, err := f.have.WriteAt(appendRecord(nil, i, leaf), f.end); err != nil {
		return fmt.Errorf("recording chunk %d: %w", i, err)
	}
	f.end += int64(recordSize)
	f.proved.set(i)
	return nil
}

// Missing is the number of chunks that are not there yet.
func (f *File) Missing() int { return f.a.Missing() }

// Has reports whether part i has come or is no longer needed.
func (f *File) Has(i int) bool { return f.a.Has(i) }

// Add checks a part and writes its payload; see [Assembler.Add].
func (f *File) Add(part []byte) error { return f.a.Add(part) }

// Size is the content's; see [Assembler.Size].
func (f *File) Size() (int64, error) { return f.a.Size() }
