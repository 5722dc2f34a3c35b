package blob

import (
	"bytes"
	"testing"
)

func FuzzManifest(f *testing.F) {
	for _, o := range []Options{{}, {Private: true}, {K: 2, N: 3}} {
		m := source(f, random(3*chunk+1, 1), o).Manifest()
		b, err := m.MarshalBinary()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		b = bytes.Clone(b)
		b[1] |= 2 // a flag that nobody has defined
		f.Add(b)
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		var m Manifest
		if m.UnmarshalBinary(b) != nil {
			if m != (Manifest{}) {
				t.Fatal("a refused manifest left something")
			}
			return
		}
		again, err := m.MarshalBinary()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x\n%x %v", b, again, err)
		}
		if n := m.Chunks(); n < 1 || n > MaxChunks {
			t.Fatal(n)
		}
	})
}

func FuzzPart(f *testing.F) {
	for _, data := range [][]byte{{}, random(10, 1)} {
		f.Add(part(f, source(f, data, Options{}), 0))
		f.Add(part(f, source(f, data, Options{Private: true}), 0))
	}
	f.Add(part(f, source(f, random(2*chunk+3, 1), Options{}), 2))
	f.Add(part(f, source(f, random(2*chunk+3, 1), Options{K: 2, N: 3}), 8))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePart(b)
		if err != nil {
			return
		}
		again := appendPartHead(nil, &p.Manifest, p.Index)
		again = append(again, b[partHead:len(b)-len(p.Payload)]...) // the path, which only a preimage could change
		if again = append(again, p.Payload...); !bytes.Equal(again, b) {
			t.Fatal("decoded and encoded, it is another")
		}
	})
}

func FuzzReply(f *testing.F) {
	m := source(f, random(11*chunk, 1), Options{}).Manifest()
	f.Add([]byte{replyWant, 1, 4})
	f.Add([]byte{replyWant, 0, 8})
	f.Add([]byte{replyDone})
	f.Add([]byte{replyTooLarge, 0, 0, 0, 0, 0, 0, 0, 9})
	f.Add([]byte{replyRefused, replyFailed})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		a, err := readReply(r, &m)
		if err != nil {
			return
		}
		if read := b[:len(b)-r.Len()]; !bytes.Equal(a.append(nil), read) {
			t.Fatalf("%x was read as %+v", read, a)
		}
	})
}

func FuzzRecords(f *testing.F) {
	s := source(f, random(11*chunk, 1), Options{})
	m := s.Manifest()
	b := m.append(nil)
	f.Add(bytes.Clone(b))
	f.Add(appendRecord(bytes.Clone(b), 3, s.tree[0][3]))
	f.Add(appendRecord(appendRecord(bytes.Clone(b), 3, s.tree[0][3]), 11, hash{}))
	f.Fuzz(func(t *testing.T, b []byte) {
		for i := range parseRecords(b, &m) {
			if i < 0 || i >= m.Chunks() {
				t.Fatal(i)
			}
		}
	})
}
