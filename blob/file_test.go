package blob

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// begin leaves the first k parts of s in an unfinished File.
func begin(t *testing.T, path string, s *Source, k int) {
	t.Helper()
	f, err := OpenFile(t.Context(), path, s.Manifest(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range k {
		if err := f.Add(part(t, s, i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Commit(t.Context()); !errors.Is(err, ErrIncomplete) {
		t.Fatal(err)
	}
	if err := errors.Join(f.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func edit(t *testing.T, path string, how func(b []byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, how(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestDamagedOnDisk: whatever happens to what an interrupted transfer left, the next
// ends with the right file, and carries no more than it must.
func TestDamagedOnDisk(t *testing.T) {
	const parts, had = 8, 5
	data := random(parts*chunk, 1)
	other := source(t, random(parts*chunk, 2), Options{})
	for name, tt := range map[string]struct {
		part, have func(b []byte) []byte
		carried    int // chunks
	}{
		"nothing":             {carried: parts - had},
		"a bit of the part":   {part: func(b []byte) []byte { b[2*chunk+7] ^= 4; return b }, carried: parts - had + 1},
		"part cut":            {part: func(b []byte) []byte { return b[:3*chunk+1] }, carried: parts - 3},
		"part emptied":        {part: func(b []byte) []byte { return nil }, carried: parts},
		"part longer":         {part: func(b []byte) []byte { return append(b, make([]byte, 10*chunk)...) }, carried: parts - had},
		"records cut":         {have: func(b []byte) []byte { return b[:len(b)-1] }, carried: parts - had + 1},
		"records gone":        {have: func(b []byte) []byte { return b[:manifestSize] }, carried: parts},
		"manifest cut":        {have: func(b []byte) []byte { return b[:manifestSize-1] }, carried: parts},
		"records emptied":     {have: func(b []byte) []byte { return nil }, carried: parts},
		"a bit of a record":   {have: func(b []byte) []byte { b[manifestSize+recordSize+9] ^= 4; return b }, carried: parts - had + 1},
		"an index too large":  {have: func(b []byte) []byte { b[manifestSize+recordSize] = 255; return b }, carried: parts - 1},
		"garbage behind":      {have: func(b []byte) []byte { return append(b, random(1<<20, 3)...) }, carried: parts - had},
		"records of another":  {have: func(b []byte) []byte { return append(other.manifest.append(nil), b[manifestSize:]...) }, carried: parts},
		"records all alike":   {have: func(b []byte) []byte { return append(b, bytes.Repeat(b[manifestSize:][:recordSize], 9)...) }, carried: parts - had},
		"both forged alike":   {part: forgePart, have: forgeHave(t, data), carried: parts}, // its other claims fall with it
		"both of another one": {part: func([]byte) []byte { return random(parts*chunk, 2) }, have: allOf(other), carried: parts},
		"all forged, our name": {
			part: func([]byte) []byte { return random(parts*chunk, 2) },
			have: func(b []byte) []byte {
				return append(b[:manifestSize:manifestSize], allOf(other)(nil)[manifestSize:]...)
			}, carried: parts,
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			s := source(t, data, Options{})
			begin(t, path, s, had)
			if tt.part != nil {
				edit(t, path+partSuffix, tt.part)
			}
			if tt.have != nil {
				edit(t, path+haveSuffix, tt.have)
			}
			if !strings.Contains(name, "forged") { // there only the whole can tell
				f, err := OpenFile(t.Context(), path, s.Manifest(), Options{})
				if err != nil || f.Missing() != tt.carried {
					t.Fatal(f.Missing(), err)
				}
				f.Close()
			}
			out := transfer(t, sender(s), toFile(path, Options{})).ok(t)
			if out.got.Carried != int64(tt.carried*chunk) {
				t.Errorf("carried %d chunks, want %d", out.got.Carried/chunk, tt.carried)
			}
			is(t, path, data)
		})
	}
}

// forgePart and forgeHave change a chunk and its record together, so that only the
// root can tell.
func forgePart(b []byte) []byte { b[chunk] ^= 1; return b }

func forgeHave(t *testing.T, data []byte) func(b []byte) []byte {
	forged := forgePart(bytes.Clone(data))
	return func(b []byte) []byte {
		h := leafHash(forged[chunk : 2*chunk])
		copy(b[manifestSize+recordSize+4:], h[:])
		return b
	}
}

func allOf(s *Source) func([]byte) []byte {
	return func([]byte) []byte {
		b := s.manifest.append(nil)
		for i, leaf := range s.tree[0] {
			b = appendRecord(b, i, leaf)
		}
		return b
	}
}

// TestDamagedAtTheEnd: what spoils the partial file after it was checked is found
// before the file gets its name.
func TestDamagedAtTheEnd(t *testing.T) {
	data := random(6*chunk+5, 1)
	for _, o := range []Options{{}, {Private: true}, {K: 2, N: 3}} {
		path := filepath.Join(t.TempDir(), "file")
		s := source(t, data, o)
		m := s.Manifest()
		f, err := OpenFile(t.Context(), path, m, Options{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range m.Parts() {
			if err := f.Add(part(t, s, i)); err != nil {
				t.Fatal(err)
			}
		}
		edit(t, path+partSuffix, func(b []byte) []byte { b[3*chunk]++; return b })
		if err := f.Commit(t.Context()); !errors.Is(err, ErrIncomplete) || f.Missing() != 1 || f.Has(3*m.N) {
			t.Fatal(err, f.Missing())
		}
		for i := range m.Parts() {
			if err := f.Add(part(t, s, i)); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(f.Commit(t.Context()), f.Commit(t.Context()), f.Close()); err != nil {
			t.Fatal(err)
		}
		if size, err := f.Size(); err != nil || size != int64(len(data)) {
			t.Fatal(size, err)
		}
		is(t, path, data)
	}
}

// TestImpossibleBlob: parts that all prove themselves, and whose padding is a lie,
// leave nothing behind.
func TestImpossibleBlob(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	b := make([]byte, 2*chunk)
	b[len(b)-1] = 1
	s := source(t, b, Options{})
	s.manifest.Padded, s.content.size = true, s.manifest.Size
	m := s.Manifest()
	f, err := OpenFile(t.Context(), path, m, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i := range m.Parts() {
		off, n := m.span(i)
		if err := f.Add(append(s.tree.appendPath(appendPartHead(nil, &m, i), i), b[off:][:n]...)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Commit(t.Context()); !errors.Is(err, ErrManifest) {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(path + "*"); len(left) > 0 {
		t.Fatal(left)
	}
	if err := f.Commit(t.Context()); err == nil {
		t.Fatal("committed after all")
	}
}

func TestAnotherFileIsReplaced(t *testing.T) {
	data := random(2*chunk, 1)
	for _, old := range [][]byte{random(2*chunk, 2), random(10, 2), {}} {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, old, 0o600); err != nil {
			t.Fatal(err)
		}
		transfer(t, sender(source(t, data, Options{})), toFile(path, Options{})).ok(t)
		is(t, path, data)
	}
}

func TestOpenFileRefuses(t *testing.T) {
	s := source(t, random(2*chunk, 1), Options{})
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	f, err := OpenFile(t.Context(), path, s.Manifest(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenFile(t.Context(), dir+"/./file", s.Manifest(), Options{}); !errors.Is(err, ErrBusy) {
		t.Error(err)
	}
	f.Close()
	begin(t, path, s, 1)
	if err := os.MkdirAll(filepath.Join(dir, "d"+partSuffix), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "h"+haveSuffix), 0o700); err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := OpenFile(gone, path, s.Manifest(), Options{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	var size *SizeError
	if _, err := OpenFile(t.Context(), path, s.Manifest(), Options{MaxSize: 1}); !errors.As(err, &size) {
		t.Error(err)
	}
	for _, tt := range []struct {
		path string
		m    Manifest
	}{
		{path, Manifest{}}, {dir + "/none/file", s.Manifest()}, {dir + "/d", s.Manifest()}, {dir + "/h", s.Manifest()},
	} {
		if _, err := OpenFile(t.Context(), tt.path, tt.m, Options{}); err == nil {
			t.Error(tt.path)
		}
	}
	f, err = OpenFile(t.Context(), path, s.Manifest(), Options{})
	if err != nil || f.Missing() != 1 {
		t.Fatal(err)
	}
	if err := f.Add(part(t, s, 1)); err != nil {
		t.Fatal(err)
	}
	if err := f.Commit(gone); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	f.Close()
}

// TestDiskFull: the receiver says what failed, the sender that it was the receiver,
// and the rest comes when there is room again.
func TestDiskFull(t *testing.T) {
	data := random(20*chunk, 1)
	s := source(t, data, Options{})
	path := filepath.Join(t.TempDir(), "file")
	out := transfer(t, sender(s), func(ctx context.Context, c net.Conn) (Info, error) {
		n := 0
		return receive(ctx, c, Options{}, func(m Manifest) (*sink, error) {
			f, err := OpenFile(ctx, path, m, Options{})
			if err != nil {
				return nil, err
			}
			t.Cleanup(func() { f.Close() })
			f.a.w = limited{f.part, &n, 7}
			return &sink{Assembler: f.a, finish: func() error { defer f.Close(); return f.Commit(ctx) }}, nil
		})
	})
	if !errors.Is(out.receiver, errFull) || Broken(out.receiver) || Broken(out.sendErr) || !errors.Is(out.sendErr, ErrReceiver) {
		t.Fatal(out.sendErr, out.receiver)
	}
	if !strings.Contains(out.receiver.Error(), "no space") {
		t.Error(out.receiver)
	}
	writing.Clear() // as if the process had ended
	rest := transfer(t, sender(s), toFile(path, Options{})).ok(t)
	if rest.got.Carried != 13*chunk {
		t.Fatal(rest.got.Carried / chunk)
	}
	is(t, path, data)
}

var errFull = errors.New("no space")

type limited struct {
	f   *os.File
	n   *int
	max int
}

func (l limited) WriteAt(p []byte, off int64) (int, error) {
	if *l.n++; *l.n > l.max {
		l.f.WriteAt(p[:10], off)
		return 10, errFull
	}
	return l.f.WriteAt(p, off)
}
