package rekey

import (
	"bytes"
	"crypto/ecdh"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

// A refusal is what is written over a good message, and why it is then refused.
type refusal struct {
	name string
	at   int
	with []byte
	want error
}

func TestRefusals(t *testing.T) {
	d, r := pair(t, 1, 3)
	body, err := d.proposeNew()
	if err != nil {
		t.Fatal(err)
	}
	_, other := pair(t, 1, 3) // just like r, which is to stay as it is
	good, _, err := other.handlePropose(start, body)
	if err != nil {
		t.Fatal(err)
	}
	change := func(b []byte, at int, with ...byte) []byte {
		b = bytes.Clone(b)
		copy(b[at:], with)
		return b
	}
	order8, _ := ecdh.X25519().NewPublicKey(slices.Concat([]byte{0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3},
		[]byte{0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00}))
	prime := append(append([]byte{0xed}, bytes.Repeat([]byte{0xff}, 30)...), 0x7f)
	both := []refusal{
		{"number 0", 0, []byte{0, 0, 0, 0}, ErrNumber},
		{"number 2", 0, []byte{0, 0, 0, 2}, ErrNumber},
		{"point 0", 4, make([]byte, 32), ErrPoint},
		{"point 1", 4, append([]byte{1}, make([]byte, 31)...), ErrPoint},
		{"point of order 8", 4, order8.Bytes(), ErrPoint},
		{"point 2^255-19", 4, prime, ErrPoint},
		{"point 2^255-18", 4, change(prime, 0, 0xee), ErrPoint},
		{"point with bit 255", 4, append(make([]byte, 31), 0x80), ErrPoint},
	}
	lists := func(header int) (out []refusal) {
		for name, list := range map[string][]byte{
			"descending": {2, 0, 0, 0, 3, 0, 0, 0, 1},
			"doubled":    {2, 0, 0, 0, 3, 0, 0, 0, 3},
			"path 0":     {2, 0, 0, 0, 0, 0, 0, 0, 3},
			"one of two": {1, 0, 0, 0, 1, 0, 0, 0, 3},
			"three":      {3, 0, 0, 0, 1, 0, 0, 0, 3},
			"none":       {0, 0, 0, 0, 1, 0, 0, 0, 3},
			"nine":       {9, 0, 0, 0, 1, 0, 0, 0, 3},
		} {
			out = append(out, refusal{name, header, list, ErrMalformed})
		}
		return out
	}
	typed := func(t *testing.T, err, want error, message string) {
		t.Helper()
		var e *Error
		if !errors.Is(err, want) || !errors.As(err, &e) || e.Message != message || !strings.HasPrefix(err.Error(), "rekey: "+message+": ") {
			t.Errorf("%v, want %v", err, want)
		}
	}
	for _, tt := range slices.Concat(both, lists(proposeHeader)) {
		t.Run("propose/"+tt.name, func(t *testing.T) {
			_, _, err := r.handlePropose(start, change(body, tt.at, tt.with...))
			typed(t, err, tt.want, "propose")
		})
	}
	for _, tt := range slices.Concat(both, lists(acceptHeader)) {
		t.Run("accept/"+tt.name, func(t *testing.T) {
			_, _, err := d.handleAccept(start, change(good, tt.at, tt.with...))
			typed(t, err, tt.want, "accept")
		})
	}
	for n, b := range [][]byte{nil, body[:len(body)-1], append(bytes.Clone(body), 0), body[:proposeHeader], make([]byte, MaxProposeSize+1)} {
		_, _, err := r.handlePropose(start, b)
		typed(t, err, ErrMalformed, "propose")
		if n < 4 {
			b = append([]byte{}, good[:min(len(b), len(good))]...)
			_, _, err = d.handleAccept(start, append(b, 0))
			typed(t, err, ErrMalformed, "accept")
		}
	}
	_, _, err = r.handlePropose(start, change(body, 36, bytes.Repeat([]byte{0xff}, 384)...)) // coefficients above q
	typed(t, err, ErrMalformed, "propose")
	_, _, err = d.handleAccept(start, change(good, acceptHeader, 2, 0, 0, 0, 1, 0, 0, 0, 2))
	typed(t, err, ErrPaths, "accept")

	// The wrong end.
	_, _, err = d.handlePropose(start, body)
	typed(t, err, ErrRole, "propose")
	_, _, err = r.handleAccept(start, good)
	typed(t, err, ErrRole, "accept")
	typed(t, r.HandleWish(), ErrRole, "wish")
	_, err = r.proposeNew()
	typed(t, err, ErrRole, "propose")
	_, err = d.proposeNew()
	typed(t, err, ErrEarly, "propose")

	// After all that both are as they were; but nothing is taken twice.
	answer, open, err := r.handlePropose(start, body)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = r.handlePropose(start, body)
	typed(t, err, ErrNumber, "propose")
	_, seal, err := d.handleAccept(start, answer)
	if err != nil || !slices.Equal(seal, open) {
		t.Fatal(seal, err)
	}
	_, _, err = d.handleAccept(start, answer)
	typed(t, err, ErrNumber, "accept")

	// A dialler that does not wait.
	_, _, err = r.handlePropose(start, change(body, 0, 0, 0, 0, 2))
	typed(t, err, ErrEarly, "propose")

	empty, _ := pair(t)
	_, err = empty.proposeNew()
	typed(t, err, ErrPaths, "propose")
}

// Numbers end; they do not begin again.
func TestLastNumber(t *testing.T) {
	d, r := pair(t, 1)
	d.number, r.number = math.MaxUint32-1, math.MaxUint32-1
	body, _, open, _, _ := exchange(t, d, r)
	settle(d, r, open)
	if d.Commits() != math.MaxUint32 || d.Due(start.Add(time.Hour*100)) || r.Due(start.Add(time.Hour*100)) {
		t.Error("a commit is due after the last")
	}
	if _, err := d.proposeNew(); !errors.Is(err, ErrEarly) {
		t.Errorf("proposed: %v", err)
	}
	binary.BigEndian.PutUint32(body, 0)
	if _, _, err := r.handlePropose(start, body); !errors.Is(err, ErrNumber) {
		t.Errorf("accepted: %v", err)
	}
}
