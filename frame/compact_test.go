package frame

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
)

var (
	suites = []Suite{AES256GCM, ChaCha20Poly1305}
	secret = [32]byte{9, 8, 7}
)

func pair(t testing.TB, s Suite, epoch uint32) (*Sealer, *Opener) {
	t.Helper()
	sealer, err := NewSealer(s, &secret, epoch)
	if err != nil {
		t.Fatal(err)
	}
	opener, err := NewOpener(s, &secret, epoch)
	if err != nil {
		t.Fatal(err)
	}
	return sealer, opener
}

func seal(t testing.TB, s *Sealer, plaintext []byte) []byte {
	t.Helper()
	b, err := s.Seal(nil, plaintext)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// setPacket puts both ends in front of frame n, with left frames to go.
func setPacket(s *Sealer, o *Opener, n uint64, left uint32) {
	s.next, o.next = n, n
	s.key.left, o.key.left = left, left
}

func each(t *testing.T, f func(t *testing.T, s Suite)) {
	for _, s := range suites {
		t.Run(s.String(), func(t *testing.T) { f(t, s) })
	}
}

func TestCompactRoundTrip(t *testing.T) {
	each(t, func(t *testing.T, suite Suite) {
		s, o := pair(t, suite, 0)
		for i, n := range []int{1, 2, 16, 64, 32 << 10, MaxPlaintext} {
			plaintext := bytes.Repeat([]byte{byte(n)}, n)
			if s.NextPacket() != uint64(i) {
				t.Fatalf("next packet is %d, want %d", s.NextPacket(), i)
			}
			b, err := s.Seal([]byte("before"), plaintext)
			if err != nil || string(b[:6]) != "before" || len(b) != 6+HeaderSize+n+TagSize {
				t.Fatalf("Seal of %d: %d bytes, %v", n, len(b), err)
			}
			b = b[6:]
			if size, err := o.Size(b[:Peek]); err != nil || size != len(b) {
				t.Fatalf("Size of %d: %d, %v", n, size, err)
			}
			got, err := o.Open(b)
			if err != nil || !bytes.Equal(got, plaintext) || o.Packet() != uint64(i) {
				t.Fatalf("Open of %d: packet %d, %v", n, o.Packet(), err)
			}
			if &got[0] != &b[HeaderSize] {
				t.Errorf("Open of %d: not in place", n)
			}
		}
	})
}

// A plaintext built behind room for the header is sealed where it lies, or
// moved as a whole when the array has no room for the tag.
func TestSealInPlace(t *testing.T) {
	each(t, func(t *testing.T, suite Suite) {
		for _, room := range []int{0, TagSize - 1, TagSize, 100} {
			s, o := pair(t, suite, 0)
			array := make([]byte, 3+HeaderSize+5+room)
			copy(array, "abc")
			plaintext := array[3+HeaderSize:][:5]
			copy(plaintext, "hello")
			b, err := s.Seal(array[:3], plaintext)
			if err != nil || string(b[:3]) != "abc" {
				t.Fatal(err)
			}
			if inPlace := &b[0] == &array[0]; inPlace != (room >= TagSize) {
				t.Errorf("room %d: in place is %v", room, inPlace)
			}
			if got, err := o.Open(b[3:]); err != nil || string(got) != "hello" {
				t.Errorf("room %d: %q, %v", room, got, err)
			}
		}
	})
}

func TestCompactFlips(t *testing.T) {
	each(t, func(t *testing.T, suite Suite) {
		s, _ := pair(t, suite, 0)
		good := seal(t, s, []byte("plaintext"))
		for i := range len(good) * 8 {
			_, o := pair(t, suite, 0)
			b := bytes.Clone(good)
			b[i/8] ^= 1 << (i % 8)
			var e *Error
			if p, err := o.Open(b); !errors.As(err, &e) || p != nil {
				t.Fatalf("bit %d flipped: plaintext %x, error %v", i, p, err)
			}
		}
	})
}

// forge seals as a Sealer would, but with any header.
func forge(s *Sealer, h header, plaintext []byte) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(h))
	binary.BigEndian.PutUint64(s.nonce[4:], s.next)
	b = s.key.aead.Seal(b, s.nonce[:], plaintext, b)
	binary.BigEndian.PutUint64(b, uint64(h^s.mask.bits(b[HeaderSize:])))
	return b
}

func TestCompactRefusals(t *testing.T) {
	plaintext := []byte("plaintext")
	n := len(plaintext) + TagSize
	tests := []struct {
		name  string
		h     header
		want  error
		field string
	}{
		{"good", newHeader(TypeData, 5, n, 0), nil, ""},
		{"version 0", newHeader(TypeData, 5, n, 0) ^ 1<<60, ErrVersion, "version"},
		{"version 3", newHeader(TypeData, 5, n, 0) ^ 2<<60, ErrVersion, "version"},
		{"handshake", newHeader(TypeHandshake, 5, n, 0), ErrType, "type"},
		{"type 0", newHeader(0, 5, n, 0), ErrType, "type"},
		{"old epoch", newHeader(TypeData, 4, n, 0), ErrEpoch, "epoch"},
		{"coming epoch, not known yet", newHeader(TypeData, 6, n, 0), ErrEpoch, "epoch"},
		{"next frame", newHeader(TypeData, 5, n, 1), ErrSequence, "sequence"},
		{"frame before", newHeader(TypeData, 5, n, math.MaxUint32), ErrSequence, "sequence"},
		{"no plaintext", newHeader(TypeData, 5, TagSize, 0), ErrLength, "length"},
		{"length 0", newHeader(TypeData, 5, 0, 0), ErrLength, "length"},
		{"length above", newHeader(TypeData, 5, n+1, 0), ErrLength, "length"},
		{"length below", newHeader(TypeData, 5, n-1, 0), ErrLength, "length"},
	}
	each(t, func(t *testing.T, suite Suite) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				s, o := pair(t, suite, 5)
				b := forge(s, tt.h, plaintext)
				got, err := o.Open(b)
				if tt.want == nil {
					if err != nil || !bytes.Equal(got, plaintext) {
						t.Fatal(err)
					}
					return
				}
				var e *Error
				if !errors.Is(err, tt.want) || !errors.As(err, &e) || e.Field != tt.field {
					t.Fatalf("got %v, want %v", err, tt.want)
				}
				// Dead: the same error for a good frame, from each method.
				good := seal(t, s, plaintext)
				if _, again := o.Open(good); again != err {
					t.Errorf("then Open: %v, want the same error", again)
				}
				if _, again := o.Size(good[:Peek]); again != err {
					t.Errorf("then Size: %v, want the same error", again)
				}
				if again := o.Next(&secret, 6); again != err {
					t.Errorf("then Next: %v, want the same error", again)
				}
			})
		}
	})
}

// Size finds, before the rest is read, all that the header can tell.
func TestSizeRefusals(t *testing.T) {
	each(t, func(t *testing.T, suite Suite) {
		for _, tt := range []struct {
			h    header
			want error
		}{
			{newHeader(TypeData, 0, 1<<16-1, 0), nil},
			{newHeader(TypeData, 0, minBody, 0), nil},
			{newHeader(TypeData, 0, minBody-1, 0), ErrLength},
			{newHeader(TypeData, 1, minBody, 0), ErrEpoch},
			{newHeader(TypeData, 0, minBody, 7), ErrSequence},
			{newHeader(TypeHandshake, 0, minBody, 0), ErrType},
			{newHeader(TypeData, 0, minBody, 0) ^ 1<<63, ErrVersion},
		} {
			s, o := pair(t, suite, 0)
			n, err := o.Size(forge(s, tt.h, []byte("x"))[:Peek])
			if !errors.Is(err, tt.want) || err == nil && n != HeaderSize+tt.h.length() {
				t.Errorf("%x: %d, %v, want %v", uint64(tt.h), n, err, tt.want)
			}
		}
		for _, n := range []int{0, Peek - 1, Peek + 1} {
			_, o := pair(t, suite, 0)
			if _, err := o.Size(make([]byte, n)); !errors.Is(err, ErrLength) {
				t.Errorf("Size of %d bytes: %v", n, err)
			}
		}
		for _, n := range []int{0, HeaderSize + minBody - 1, HeaderSize + maxBody + 1} {
			_, o := pair(t, suite, 0)
			if _, err := o.Open(make([]byte, n)); !errors.Is(err, ErrLength) {
				t.Errorf("Open of %d bytes: %v", n, err)
			}
		}
	})
}

// What Size found must not stand in for what Open gets.
func TestOpenAfterSizeOfAnother(t *testing.T) {
	each(t, func(t *testing.T, suite Suite) {
		s, o := pair(t, suite, 0)
		first, second := seal(t, s, []byte("first")), seal(t, s, []byte("other"))
		if _, err := o.Size(first[:Peek]); err != nil {
			t.Fatal(err)
		}
		if _, err := o.Open(second); !errors.Is(err, ErrSequence) {
			t.Errorf("got %v, want ErrSequence", err)
		}
	})
}

func TestOrder(t *testing.T) {
	each(t, func(t *testing.T, suite Suite) {
		for name, order := range map[string][]int{"replay": {0, 0}, "skip": {0, 2}, "back": {0, 1, 0}} {
			s, o := pair(t, suite, 0)
			frames := [][]byte{seal(t, s, []byte("same")), seal(t, s, []byte("same")), seal(t, s, []byte("same"))}
			var err error
			for i, f := range order {
				_, err = o.Open(bytes.Clone(frames[f]))
				if last := i == len(order)-1; last != (err != nil) {
					t.Fatalf("%s: frame %d: %v", name, f, err)
				}
			}
			if !errors.Is(err, ErrSequence) {
				t.Errorf("%s: %v, want ErrSequence", name, err)
			}
		}
		// Frames that differ by 2^32 have the same header, but not the same nonce.
		s, o := pair(t, suite, 0)
		setPacket(s, o, 1<<32, maxFrames)
		if _, err := o.Open(seal(t, s, []byte("x"))); err != nil || o.Packet() != 1<<32 {
			t.Errorf("packet 2^32: %v", err)
		}
		s, o = pair(t, suite, 0)
		s.next = 1 << 32
		if _, err := o.Open(seal(t, s, []byte("x"))); !errors.Is(err, ErrAuth) {
			t.Errorf("packet 2^32 in place of 0: %v, want ErrAuth", err)
		}
	})
}

func TestOtherKey(t *testing.T) {
	each(t, func(t *testing.T, suite Suite) {
		other := secret
		other[0] ^= 1
		s, _ := NewSealer(suite, &other, 0)
		_, o := pair(t, suite, 0)
		if p, err := o.Open(seal(t, s, []byte("x"))); err == nil || p != nil {
			t.Errorf("opened %q", p)
		}
	})
}

func TestExhaustion(t *testing.T) {
	each(t, func(t *testing.T, suite Suite) {
		s, o := pair(t, suite, 0)
		setPacket(s, o, maxFrames-1, 1)
		if _, err := o.Open(seal(t, s, []byte("last"))); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if b, err := s.Seal([]byte("x"), []byte("more")); !errors.Is(err, ErrExhausted) || string(b) != "x" {
				t.Fatalf("Seal beyond the limit: %v", err)
			}
		}
		if s.NextPacket() != maxFrames {
			t.Errorf("a refused Seal used number %d up", s.NextPacket())
		}
		beyond := forge(s, newHeader(TypeData, 0, 1+TagSize, uint32(s.next)), []byte("x"))
		if _, err := o.Open(beyond); !errors.Is(err, ErrExhausted) {
			t.Errorf("Open beyond the limit: %v", err)
		}
		// A new key has a new limit; numbers go on.
		next := [32]byte{1}
		if err := s.Rekey(&next, 1); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Seal(nil, []byte("more")); err != nil || s.NextPacket() != maxFrames+1 {
			t.Errorf("after Rekey: next %d, %v", s.NextPacket(), err)
		}
	})
}

func TestRekey(t *testing.T) {
	each(t, func(t *testing.T, suite Suite) {
		second, third := [32]byte{2}, [32]byte{3}
		s, o := pair(t, suite, 255)
		open := func(b []byte, want string) {
			t.Helper()
			if n, err := o.Size(b[:Peek]); err != nil || n != len(b) {
				t.Fatalf("Size: %d, %v", n, err)
			}
			if got, err := o.Open(b); err != nil || string(got) != want {
				t.Fatalf("Open: %q, %v, want %q", got, err, want)
			}
		}
		inFlight := seal(t, s, []byte("old"))
		for _, epoch := range []uint32{0, 254, 255, 257} {
			if err := s.Rekey(&second, epoch); !errors.Is(err, ErrEpoch) {
				t.Errorf("Rekey to %d: %v", epoch, err)
			}
			if err := o.Next(&second, epoch); !errors.Is(err, ErrEpoch) {
				t.Errorf("Next to %d: %v", epoch, err)
			}
		}
		if err := s.Rekey(&second, 256); err != nil {
			t.Fatal(err)
		}
		if err := o.Next(&second, 256); err != nil {
			t.Fatal(err)
		}
		if err := o.Next(&third, 256); !errors.Is(err, ErrEpoch) {
			t.Errorf("Next while one is coming: %v", err)
		}
		open(inFlight, "old")
		open(seal(t, s, []byte("new")), "new")
		if s.NextPacket() != 2 || o.Packet() != 1 {
			t.Errorf("numbers did not go on: %d, %d", s.NextPacket(), o.Packet())
		}
		if err := s.Rekey(&third, 257); err != nil {
			t.Fatal(err)
		}
		if err := o.Next(&third, 257); err != nil {
			t.Fatal(err)
		}
		open(seal(t, s, []byte("third")), "third")

		// The old key died with the first frame of the new epoch.
		old, _ := NewSealer(suite, &secret, 255)
		old.next = 3
		if _, err := o.Open(seal(t, old, []byte("old"))); !errors.Is(err, ErrEpoch) {
			t.Errorf("a frame of the old epoch: %v, want ErrEpoch", err)
		}
	})
}

// A frame that claims the coming epoch without its key changes nothing but kills.
func TestForgedEpoch(t *testing.T) {
	each(t, func(t *testing.T, suite Suite) {
		s, o := pair(t, suite, 0)
		if err := o.Next(&[32]byte{2}, 1); err != nil {
			t.Fatal(err)
		}
		if _, err := o.Open(forge(s, newHeader(TypeData, 1, 1+TagSize, 0), []byte("x"))); !errors.Is(err, ErrAuth) {
			t.Errorf("got %v, want ErrAuth", err)
		}
	})
	s, o := pair(t, AES256GCM, math.MaxUint32)
	if err := s.Rekey(&secret, 0); !errors.Is(err, ErrEpoch) {
		t.Errorf("epochs wrapped around: %v", err)
	}
	if err := o.Next(&secret, 0); !errors.Is(err, ErrEpoch) {
		t.Errorf("epochs wrapped around: %v", err)
	}
}

func TestSealLengths(t *testing.T) {
	s, _ := pair(t, AES256GCM, 0)
	for _, n := range []int{0, MaxPlaintext + 1} {
		if b, err := s.Seal([]byte("x"), make([]byte, n)); !errors.Is(err, ErrLength) || string(b) != "x" {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if s.NextPacket() != 0 {
		t.Error("a refused Seal used a number up")
	}
}

// RFC 9001, appendix A.5, and for AES-256 NIST SP 800-38A, F.1.5.
func TestMaskVectors(t *testing.T) {
	for _, tt := range []struct{ name, key, sample, want string }{
		{"ChaCha20", "25a282b9e82f06f21f488917a4fc8f1b73573685608597d0efcb076b0ab7a7a4", "5e5cd55c41f69080575d7999c25a5bfb", "aefefe7d03"},
		{"AES-256", "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4", "6bc1bee22e409f96e93d7e117393172a", "f3eed1bdb5d2a03c"},
	} {
		key, _ := hex.DecodeString(tt.key)
		sample, _ := hex.DecodeString(tt.sample)
		m := mask{key: key}
		if tt.name == "AES-256" {
			m = aesMask(t, key)
		}
		if got := fmt.Sprintf("%016x", uint64(m.bits(sample))); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
	m, err := newMask(ChaCha20Poly1305, &secret)
	if err != nil {
		t.Fatal(err)
	}
	m.bits(bytes.Repeat([]byte{0xff}, 16)) // the last counter of the cipher is a counter like any other
}

// The header's wire bytes say nothing: over many frames each bit is about
// as often 0 as 1, the constant and the counting ones too.
func TestMaskHides(t *testing.T) {
	each(t, func(t *testing.T, suite Suite) {
		const frames = 4096
		s, _ := pair(t, suite, 0)
		var ones [64]int
		for range frames {
			h := binary.BigEndian.Uint64(seal(t, s, []byte("same")))
			for i := range ones {
				ones[i] += int(h >> i & 1)
			}
		}
		for i, n := range ones {
			if n < frames*4/10 || n > frames*6/10 {
				t.Errorf("header bit %d is 1 in %d of %d frames", i, n, frames)
			}
		}
	})
}

func TestUnknownSuite(t *testing.T) {
	for _, s := range []Suite{0, 3, 255} {
		if _, err := NewSealer(s, &secret, 0); !errors.Is(err, ErrSuite) {
			t.Errorf("NewSealer(%v): %v", s, err)
		}
		if _, err := NewOpener(s, &secret, 0); !errors.Is(err, ErrSuite) {
			t.Errorf("NewOpener(%v): %v", s, err)
		}
	}
	if got := fmt.Sprint(AES256GCM, ChaCha20Poly1305, Suite(9)); got != "AES-256-GCM ChaCha20-Poly1305 Suite(9)" {
		t.Error(got)
	}
	HasAES() // whatever the answer, on any machine
}

func TestErrorText(t *testing.T) {
	err := error(&Error{"open", "length", 3, 17, ErrLength})
	if got, want := err.Error(), "frame: open: length out of bounds (length 3, want 17)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	err = &Error{Op: "open", Field: "tag", Err: ErrAuth}
	if got, want := err.Error(), "frame: open: "+ErrAuth.Error(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// No verb of fmt shows a key.
func TestFormat(t *testing.T) {
	s, o := pair(t, ChaCha20Poly1305, 2)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		if got := fmt.Sprintf(verb, s); got != "frame.Sealer(ChaCha20-Poly1305, epoch 2, next 0)" {
			t.Errorf("%s: %s", verb, got)
		}
		if got := fmt.Sprintf(verb, o); got != "frame.Opener(ChaCha20-Poly1305, epoch 2, next 0)" {
			t.Errorf("%s: %s", verb, got)
		}
	}
}

func TestAllocs(t *testing.T) {
	each(t, func(t *testing.T, suite Suite) {
		s, o := pair(t, suite, 0)
		array := make([]byte, HeaderSize+1000+TagSize)
		if n := testing.AllocsPerRun(100, func() {
			b, err := s.Seal(array[:0], array[HeaderSize:][:1000])
			if err != nil {
				t.Fatal(err)
			}
			if _, err := o.Size(b[:Peek]); err != nil {
				t.Fatal(err)
			}
			if _, err := o.Open(b); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%v allocations a frame", n)
		}
	})
}
