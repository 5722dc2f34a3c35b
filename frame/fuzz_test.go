package frame

import (
	"bytes"
	"errors"
	"testing"
)

// What OpenFull accepts is what SealFull writes, to the byte. The input is a
// frame as it is, or a header and plaintext that are sealed first, or a sealed
// frame of which then one byte is changed.
func FuzzOpenFull(f *testing.F) {
	good := sealFull(f, []byte("plaintext"))
	f.Add(good, 0, byte(0))
	f.Add(good, 3, byte(1))
	f.Add(good[:20], 0, byte(0))
	f.Add([]byte("GET / HTTP/1.1\r\n"), 0, byte(0))
	f.Fuzz(func(t *testing.T, b []byte, at int, flip byte) {
		if at >= 0 && at < len(b) {
			b = bytes.Clone(b)
			b[at] ^= flip
		}
		h, p, err := OpenFull(&fullKey, b)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || p != nil || h != (Full{}) {
				t.Fatalf("refused with %v, but returned %+v %x", err, h, p)
			}
			return
		}
		again, err := SealFull(nil, &fullKey, &h, p)
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x opened, but is sealed as %x, %v", b, again, err)
		}
	})
}

// ReadFull returns the beginning of its input, bounded, and what is inside is
// consistent enough that OpenFull can only fault the tag.
func FuzzReadFull(f *testing.F) {
	good := sealFull(f, []byte("plaintext"))
	f.Add(good, 1000)
	f.Add(append(bytes.Clone(good), good...), len(good))
	f.Add(good[:50], 1000)
	f.Add(good, 10)
	f.Fuzz(func(t *testing.T, b []byte, limit int) {
		got, err := ReadFull(bytes.NewReader(b), limit)
		if err != nil {
			if got != nil {
				t.Fatalf("%d bytes and %v", len(got), err)
			}
			return
		}
		if len(got) > limit || !bytes.HasPrefix(b, got) {
			t.Fatalf("read %x of %x, at most %d", got, b, limit)
		}
		if _, _, err := OpenFull(&fullKey, got); err != nil && !errors.Is(err, ErrAuth) {
			t.Fatalf("read %x, but then %v", got, err)
		}
	})
}

// An Opener never opens what its Sealer did not seal next: the input is what
// arrives at it, after two good frames.
func FuzzOpen(f *testing.F) {
	for _, suite := range suites {
		s, _ := pair(f, suite, 0)
		seal(f, s, []byte("1"))
		seal(f, s, []byte("2"))
		third := seal(f, s, []byte("third"))
		f.Add(uint8(suite), third)
		f.Add(uint8(suite), third[:Peek])
		f.Add(uint8(suite), append(bytes.Clone(third), 0))
		f.Add(uint8(suite), forge(s, newHeader(TypeData, 0, 20, 3), []byte("four")))
	}
	f.Fuzz(func(t *testing.T, suite uint8, b []byte) {
		s, o := pair(t, Suite(1+suite%2), 0)
		for _, p := range []string{"1", "2"} {
			if _, err := o.Open(seal(t, s, []byte(p))); err != nil {
				t.Fatal(err)
			}
		}
		wire := bytes.Clone(b)
		if len(b) >= Peek {
			n, err := o.Size(b[:Peek])
			if err == nil && (n <= Peek || n > HeaderSize+maxBody) {
				t.Fatalf("size %d", n)
			}
		}
		p, err := o.Open(b)
		if err == nil && !bytes.Equal(seal(t, s, bytes.Clone(p)), wire) {
			t.Fatalf("opened %x, which holds %x but is not what the Sealer writes", wire, p)
		}
		if _, again := o.Open(wire); again == nil || err != nil && again != err {
			t.Fatalf("after %v: %v", err, again)
		}
	})
}

// Whatever is sealed comes out again, through any number of frames and epochs.
// Each byte of plan is one step: its value mod 8 is the length of a frame in
// eighths of size, 0 is a rekey.
func FuzzRoundTrip(f *testing.F) {
	f.Add(uint8(0), []byte{1, 2, 0, 3, 0, 7}, uint16(800))
	f.Add(uint8(1), []byte{0, 7, 7, 0, 1}, uint16(65519))
	f.Fuzz(func(t *testing.T, suite uint8, plan []byte, size uint16) {
		s, o := pair(t, Suite(1+suite%2), 0)
		pending, sent := false, uint64(0)
		for i, step := range plan[:min(len(plan), 32)] {
			if step%8 == 0 {
				next := [32]byte{step, byte(i)}
				if !pending {
					if err := errors.Join(s.Rekey(&next, s.key.epoch+1), o.Next(&next, s.key.epoch)); err != nil {
						t.Fatal(err)
					}
				}
				pending = true
				continue
			}
			p := bytes.Repeat([]byte{step}, max(1, min(int(size), MaxPlaintext)*int(step%8)/8))
			b := seal(t, s, p)
			n, err := o.Size(b[:Peek])
			if err != nil || n != len(b) {
				t.Fatalf("size %d of %d, %v", n, len(b), err)
			}
			if got, err := o.Open(b); err != nil || !bytes.Equal(got, p) || o.Packet() != sent {
				t.Fatalf("frame %d: %v", sent, err)
			}
			pending = false
			sent++
		}
	})
}
