package rekey

import (
	"bytes"
	"errors"
	"slices"
	"testing"
)

// seeds adds the good body and some that are nearly good.
func seeds(f *testing.F, good []byte, header int) {
	f.Add(uint16(0), []byte{})
	f.Add(uint16(3), []byte{1 ^ 2})
	f.Add(uint16(4), bytes.Clone(good[4:36])) // the point 0
	f.Add(uint16(40), bytes.Repeat([]byte{0xff}, 400))
	f.Add(uint16(header), []byte{2 ^ 1})
	f.Add(uint16(header+4), []byte{1 ^ 3})
	f.Add(uint16(len(good)), []byte{0})
}

// xor returns good with change on it from at on, over the end as far as that goes.
func xor(good []byte, at uint16, change []byte) []byte {
	b := bytes.Clone(good)
	for i, c := range change {
		if i += int(at) % (len(good) + 1); i < len(b) {
			b[i] ^= c
		} else {
			b = append(b, c)
		}
	}
	return b
}

// refused checks that err is typed.
func refused(t *testing.T, err error, message string) {
	var e *Error
	if !errors.As(err, &e) || e.Message != message {
		t.Fatalf("%#v is no error about %s", err, message)
	}
}

// A responder takes what a dialler would write and answers what that dialler
// takes; all else it refuses, and is as it was.
func FuzzHandlePropose(f *testing.F) {
	d, _ := pair(f, 1, 3)
	good, err := d.proposeNew()
	if err != nil {
		f.Fatal(err)
	}
	seeds(f, good, proposeHeader)
	f.Fuzz(func(t *testing.T, at uint16, change []byte) {
		body := xor(good, at, change)
		_, r := pair(t, 1, 3)
		answer, open, err := r.handlePropose(start, body)
		if err != nil {
			refused(t, err, "propose")
			if answer != nil || open != nil {
				t.Fatal("an answer and an error")
			}
			if _, open, err = r.handlePropose(start, good); err != nil || len(open) != 2 {
				t.Fatalf("after a refusal the good one is refused: %v", err)
			}
			return
		}
		p, err := parsePropose(body)
		if err != nil || !bytes.Equal(p.append(nil), body) {
			t.Fatalf("it took what nobody writes: %v", err)
		}
		if a, err := parseAccept(answer); err != nil || !bytes.Equal(a.append(nil), answer) || len(a.paths) != len(open) {
			t.Fatalf("its answer can't be read: %v", err)
		}
	})
}

// The same for a dialler and what answers its proposal.
func FuzzHandleAccept(f *testing.F) {
	d, r := pair(f, 1, 3)
	body, err := d.proposeNew()
	if err != nil {
		f.Fatal(err)
	}
	good, _, err := r.handlePropose(start, body)
	if err != nil {
		f.Fatal(err)
	}
	seeds(f, good, acceptHeader)
	f.Fuzz(func(t *testing.T, at uint16, change []byte) {
		answer := xor(good, at, change)
		again, _ := pair(t, 1, 3)
		again.propose(d.proposal.Ephemeral)
		open, seal, err := again.handleAccept(start, answer)
		if err != nil {
			refused(t, err, "accept")
			if open != nil || seal != nil {
				t.Fatal("keys and an error")
			}
			if _, seal, err = again.handleAccept(start, good); err != nil || len(seal) != 2 || again.root != r.root {
				t.Fatalf("after a refusal the good one is refused: %v", err)
			}
			return
		}
		a, err := parseAccept(answer)
		if err != nil || !bytes.Equal(a.append(nil), answer) || len(open) != len(a.paths) {
			t.Fatalf("it took what nobody writes: %v", err)
		}
		if same := again.root == r.root; same != slices.Equal(answer, good) {
			t.Fatalf("another answer, the same secrets: %v", same)
		}
	})
}
