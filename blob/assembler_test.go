package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/splitmesh/splitmesh/splitter"
)

// TestAnyOrderAnySender: parts of two senders of one content, shuffled and some
// twice, give the bytes, as soon as K of each chunk are there.
func TestAnyOrderAnySender(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 0))
		o := Options{Private: seed%2 == 1}
		if seed%3 > 0 {
			o.N = 1 + r.IntN(8)
			o.K = 1 + r.IntN(o.N)
		}
		if seed%5 == 0 {
			o.ChunkSize = 4 * chunk // of two blocks
		}
		data := random(r.IntN(20*chunk), seed)
		senders := []*Source{source(t, data, o), source(t, data, o)}
		m := senders[0].Manifest()
		var w memory
		a, err := NewAssembler(m, &w)
		if err != nil {
			t.Fatal(err)
		}
		came := make([]int, m.Chunks())
		left := m.Chunks()
		for _, i := range r.Perm(m.Parts()) {
			for range 1 + r.IntN(2) {
				if err := a.Add(part(t, senders[r.IntN(2)], i)); err != nil || !a.Has(i) {
					t.Fatal(seed, i, err)
				}
			}
			if came[i/m.N]++; came[i/m.N] == m.K {
				left--
			}
			if a.Missing() != left {
				t.Fatal(seed, a.Missing(), left)
			}
			if _, err := a.Size(); (err == nil) != (left == 0) || err != nil && !errors.Is(err, ErrIncomplete) {
				t.Fatal(seed, err)
			}
		}
		if size, err := a.Size(); err != nil || !bytes.Equal(w.b[:size], data) {
			t.Fatal(seed, size, err)
		}
		if a.waitingBytes != 0 || len(a.waiting) != 0 {
			t.Fatal(seed, "parts wait for nothing", a.waitingBytes)
		}
	}
}

// TestWrongCode: shards that a sender committed to, but that no chunk has, are
// refused, whichever of them come.
func TestWrongCode(t *testing.T) {
	data := random(chunk, 1)
	s := source(t, data, Options{K: 2, N: 3})
	m := &s.manifest
	code, err := newCoder(m)
	if err != nil {
		t.Fatal(err)
	}
	shards, err := code.split(m, data)
	if err != nil {
		t.Fatal(err)
	}
	shards[2][5]++ // only the parity
	s.shards[0][2] = leafHash(shards[2])
	s.tree[0][0] = m.leafOf(s.shards[0])
	m.Root = s.tree[0][0]
	forged := make([][]byte, 3)
	for i := range forged {
		b := appendPartHead(nil, m, i)
		for _, h := range s.shards[0] {
			b = append(b, h[:]...)
		}
		forged[i] = append(b, shards[i]...)
		if _, err := ParsePart(forged[i]); err != nil {
			t.Fatal(err)
		}
	}
	for _, pair := range [][2]int{{0, 1}, {1, 2}, {2, 0}} {
		var w memory
		a, err := NewAssembler(*m, &w)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Add(forged[pair[0]]); err != nil {
			t.Fatal(err)
		}
		if err := a.Add(forged[pair[1]]); !errors.Is(err, ErrPart) || len(w.b) > 0 || a.Missing() != 1 {
			t.Errorf("%v: %v", pair, err)
		}
	}
}

// TestWaitingIsBounded: parts that no others follow hold no more memory than they may.
func TestWaitingIsBounded(t *testing.T) {
	s := source(t, make([]byte, 34<<20), Options{K: 2, N: 2, ChunkSize: MaxChunk})
	m := s.Manifest()
	a, err := NewAssembler(m, &memory{})
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for i := 0; i < m.Parts(); i += 2 {
		if err := a.Add(part(t, s, i)); errors.Is(err, ErrWaiting) {
			refused++
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if a.waitingBytes > maxWaiting || refused != 2 {
		t.Fatal(a.waitingBytes, refused)
	}
	for i := 1; i < m.Parts(); i += 2 { // their others make room
		if err := errors.Join(a.Add(part(t, s, i)), a.Add(part(t, s, i-1))); err != nil && i < 64 {
			t.Fatal(i, err)
		}
	}
	if a.Missing() != 0 {
		t.Fatal(a.Missing())
	}
}

// TestForgedParts: each byte of a part matters, as do its length, its place and its
// blob; nothing of a forged one is written.
func TestForgedParts(t *testing.T) {
	t.Run("plain", func(t *testing.T) { testForgedParts(t, Options{}) })
	t.Run("coded", func(t *testing.T) { testForgedParts(t, Options{K: 1, N: 1}); testForgedParts(t, Options{K: 2, N: 3}) })
}

func testForgedParts(t *testing.T, o Options) {
	data := random(5*chunk+99, 1)
	s := source(t, data, o)
	other := source(t, random(5*chunk+99, 2), o)
	for i := range s.Manifest().Parts() {
		good := part(t, s, i)
		forged := map[string][]byte{
			"empty":     {},
			"cut":       good[:len(good)-1],
			"longer":    append(bytes.Clone(good), 0),
			"head only": good[:partHead],
			"other":     part(t, other, i),
			"mixed":     append(bytes.Clone(good[:manifestSize]), part(t, other, i)[manifestSize:]...),
		}
		for _, at := range []int{0, 1, 2, 3, 10, 11, 42, 43, 48, partHead, partHead + 31, len(good) - 1, len(good) / 2} {
			b := bytes.Clone(good)
			b[at] ^= 1
			forged[fmt.Sprint("bit of byte ", at)] = b
		}
		for j := range s.Manifest().Parts() {
			if j != i {
				b := bytes.Clone(good)
				binary.BigEndian.PutUint32(b[manifestSize:], uint32(j))
				forged[fmt.Sprint("index ", j)] = b
			}
		}
		for name, b := range forged {
			var w memory
			a, err := NewAssembler(s.Manifest(), &w)
			if err != nil {
				t.Fatal(err)
			}
			err = a.Add(b)
			if !errors.Is(err, ErrPart) && !errors.Is(err, ErrManifest) && !errors.Is(err, ErrOtherBlob) || len(w.b) > 0 || a.Missing() != 6 {
				t.Errorf("part %d, %s: %v, %d bytes written", i, name, err, len(w.b))
			}
		}
	}
}

// TestSpliced: an inner node of the tree does not pass for a chunk.
func TestSpliced(t *testing.T) {
	s := source(t, random(2*chunk, 1), Options{})
	m := s.Manifest()
	m.Size = 64 // one chunk, whose 64 bytes are the two leaves
	b := appendPartHead(nil, &m, 0)
	b = append(b, s.tree[0][0][:]...)
	b = append(b, s.tree[0][1][:]...)
	if _, err := ParsePart(b); !errors.Is(err, ErrPart) {
		t.Fatal(err)
	}
}

// TestTree compares with RFC 6962's recursive definition, and each proof with both.
func TestTree(t *testing.T) {
	var mth func(d []hash) hash
	mth = func(d []hash) hash {
		if len(d) == 1 {
			return d[0]
		}
		k := 1
		for 2*k < len(d) {
			k *= 2
		}
		l, r := mth(d[:k]), mth(d[k:])
		return sha256.Sum256(append(append([]byte{1}, l[:]...), r[:]...))
	}
	for n := 1; n <= 70; n++ {
		leaves := make([]hash, n)
		for i := range leaves {
			leaves[i] = sha256.Sum256([]byte{byte(i)})
		}
		tr := newTree(leaves)
		if tr.root() != mth(leaves) {
			t.Fatalf("%d leaves: another root", n)
		}
		for i := range n {
			path := tr.appendPath(nil, i)
			if len(path) != pathLen(i, n)*32 || rootFrom(leaves[i], path, i, n) != tr.root() {
				t.Fatalf("leaf %d of %d", i, n)
			}
			if i^1 < n && pathLen(i^1, n) == pathLen(i, n) && rootFrom(leaves[i], path, i^1, n) == tr.root() {
				t.Fatalf("leaf %d of %d passes for its sibling", i, n)
			}
		}
	}
	// RFC 9162's reference trees begin with the empty leaf, whose hash is well known.
	if got := ID(leafHash(nil)).String(); got != "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d" {
		t.Fatal(got)
	}
}

func TestPadme(t *testing.T) {
	for n := uint64(2); n < 1<<40; n += n/3 + 1 {
		p := splitter.Padme(n)
		if splitter.Padme(p) != p {
			t.Errorf("Padme(%d) = %d, which is padded again", n, p)
		}
		if r := p % MinChunk; n > MinChunk && r > 0 && r < trailerSize {
			t.Errorf("the size of %d bytes would lie across two chunks", n)
		}
	}
}

// TestBadPadding: who lies about the size inside, or pads otherwise, is found out.
func TestBadPadding(t *testing.T) {
	data := random(3*chunk+5, 1)
	good := source(t, data, Options{Private: true})
	whole := make([]byte, good.manifest.Size)
	for i := range good.manifest.Parts() {
		off, n := good.manifest.span(i)
		if err := good.content.read(whole[off:][:n], off); err != nil {
			t.Fatal(err)
		}
	}
	for name, spoil := range map[string]func(b []byte){
		"smaller":       func(b []byte) { binary.BigEndian.PutUint64(b[len(b)-8:], uint64(len(data)-1)) },
		"of other size": func(b []byte) { binary.BigEndian.PutUint64(b[len(b)-8:], 10) },
		"huge":          func(b []byte) { binary.BigEndian.PutUint64(b[len(b)-8:], 1<<63+7) },
		"not zeros":     func(b []byte) { b[len(data)] = 1 },
		"ends not zero": func(b []byte) { b[len(b)-9] = 1 },
	} {
		b := bytes.Clone(whole)
		spoil(b)
		s := source(t, b, Options{})
		s.manifest.Padded = true
		a, err := NewAssembler(s.manifest, &memory{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range s.manifest.Parts() {
			s.content.size = s.manifest.Size // as the bytes are
			leafOnly := appendPartHead(nil, &s.manifest, i)
			leafOnly = s.tree.appendPath(leafOnly, i)
			off, n := s.manifest.span(i)
			if err := a.Add(append(leafOnly, b[off:][:n]...)); err != nil {
				t.Fatal(name, err)
			}
		}
		if _, err := a.Size(); !errors.Is(err, ErrManifest) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestChangedSource: what was hashed is what is sent, or nothing.
func TestChangedSource(t *testing.T) {
	data := random(3*chunk, 1)
	s := source(t, data, Options{})
	data[chunk+1]++
	if _, err := s.AppendPart(nil, 1); !errors.Is(err, ErrChanged) {
		t.Fatal(err)
	}
	if _, err := s.AppendPart(nil, 3); err == nil {
		t.Fatal("a fourth part of three")
	}
	s.content.data = bytes.NewReader(data[:2*chunk])
	if b, err := s.AppendPart([]byte("x"), 2); !errors.Is(err, io.ErrUnexpectedEOF) || string(b) != "x" {
		t.Fatal(b, err)
	}
}

func TestNewSourceRefuses(t *testing.T) {
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for name, tt := range map[string]struct {
		ctx  context.Context
		data int
		size int64
		o    Options
		want error
	}{
		"negative":     {t.Context(), 0, -1, Options{}, nil},
		"shorter":      {t.Context(), 10, 11, Options{}, io.ErrUnexpectedEOF},
		"tiny chunks":  {t.Context(), 10, 10, Options{ChunkSize: 1024}, ErrManifest},
		"odd chunks":   {t.Context(), 10, 10, Options{ChunkSize: MinChunk + 1}, ErrManifest},
		"large chunks": {t.Context(), 10, 10, Options{ChunkSize: 2 * MaxChunk}, ErrManifest},
		"too large":    {t.Context(), 10, 1<<40 + 1, Options{}, ErrManifest},
		"huge padded":  {t.Context(), 10, 1<<63 - 1, Options{Private: true}, ErrManifest},
		"cancelled":    {gone, 10, 10, Options{}, context.Canceled},
	} {
		_, err := NewSource(tt.ctx, bytes.NewReader(make([]byte, tt.data)), tt.size, tt.o)
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestChunkFor(t *testing.T) {
	for _, tt := range []struct {
		size int64
		want int
	}{{0, 256 << 10}, {1 << 30, 256 << 10}, {16 << 30, 512 << 10}, {1 << 40, MaxChunk}} {
		if got := chunkFor(tt.size); got != tt.want {
			t.Errorf("chunkFor(%d) = %d, want %d", tt.size, got, tt.want)
		}
	}
}

// A full is a writer without space, which writes half of what it is given.
type full struct{ err error }

func (f full) WriteAt(p []byte, _ int64) (int, error) { return len(p) / 2, f.err }

func TestWriterFails(t *testing.T) {
	s := source(t, random(chunk, 1), Options{})
	disk := errors.New("no space")
	for _, tt := range []struct{ given, want error }{{disk, disk}, {nil, io.ErrShortWrite}} {
		a, err := NewAssembler(s.Manifest(), full{tt.given})
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Add(part(t, s, 0)); !errors.Is(err, tt.want) || a.Missing() != 1 {
			t.Error(err)
		}
	}
	if _, err := NewAssembler(Manifest{}, full{}); !errors.Is(err, ErrManifest) {
		t.Error(err)
	}
}
