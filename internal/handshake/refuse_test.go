package handshake

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/splitmesh/splitmesh/frame"
	"github.com/splitmesh/splitmesh/identity"
)

// respond gives opening to a responder of the plain setting.
func respond(opening []byte) (*Responder, error) {
	_, rc := testConfigs()
	return NewResponder(rc, new(ReplayCache), opening)
}

// negated returns −A for A: the other ID with the same Montgomery form.
func negated(t testing.TB, id identity.ID) identity.ID {
	t.Helper()
	id[31] ^= 0x80
	minus, err := identity.NewID(id[:])
	if err != nil {
		t.Fatal(err)
	}
	return minus
}

func TestWrongResponder(t *testing.T) {
	us := testKey(2).ID()
	for name, s := range map[string]setting{
		"another ID":            {responder: testKey(3).ID()},
		"our negation":          {responder: negated(t, us)},
		"a network key":         {network: &networkKey},
		"a join, a network key": {network: &networkKey, join: &join},
	} {
		t.Run(name, func(t *testing.T) {
			d := s.dial(t)
			_, err := respond(d.Opening())
			wantError(t, err, "opening", ErrAuth)
			_, rc := testConfigs()
			rc.NetworkKey = &otherNetwork
			_, err = NewResponder(rc, new(ReplayCache), d.Opening())
			wantError(t, err, "opening", ErrAuth)
		})
	}
	if negated(t, us).X25519() != us.X25519() {
		t.Error("the negation has another Montgomery form: the test is void")
	}
}

// Somebody in the middle who knows both IDs can seal the opening for −A anew, as
// one for A. Neither end falls for it.
func TestNegationInTheMiddle(t *testing.T) {
	us := testKey(2).ID()
	d := setting{responder: negated(t, us)}.dial(t)
	e, plaintext, err := openMessage(&d.key, d.Opening(), 1, openingSize)
	if err != nil {
		t.Fatal(err)
	}
	_, rc := testConfigs()
	key := sealKey(us, new([32]byte))
	opening, err := sealMessage(&key, rc.Rand, 1, e, plaintext)
	if err != nil {
		t.Fatal(err)
	}
	_, err = respond(opening)
	wantError(t, err, "opening", ErrAuth)
}

// The dialler itself detects a wrong network key, even where the frames are
// sealed as it expects: by somebody who knows the key, in front of a responder
// that does not.
func TestDiallerDetectsNetworkKey(t *testing.T) {
	d := setting{network: &networkKey}.dial(t)
	for _, network := range []*[32]byte{nil, &otherNetwork, &networkKey} {
		_, rc := testConfigs()
		rc.NetworkKey = network
		c, err := rc.resolve()
		if err != nil {
			t.Fatal(err)
		}
		r := &Responder{cfg: c, key: d.key}
		if err := r.open(d.Opening()); err != nil {
			t.Fatal(err)
		}
		d := setting{network: &networkKey}.dial(t)
		_, _, err = d.Finish(answer(t, r, Answer{}))
		if network == &networkKey {
			if err != nil {
				t.Error(err)
			}
			continue
		}
		wantError(t, err, "message 2", ErrAuth)
		d.wantOver(t)
	}
}

func TestReplay(t *testing.T) {
	d := setting{}.dial(t)
	_, rc := testConfigs()
	seen := new(ReplayCache)
	if _, err := NewResponder(rc, seen, d.Opening()); err != nil {
		t.Fatal(err)
	}
	_, err := NewResponder(rc, seen, d.Opening())
	wantError(t, err, "opening", ErrReplay)
	again := reseal(t, &d.key, d.Opening(), 1, func(_ *[32]byte, p []byte) []byte { return p })
	if bytes.Equal(again, d.Opening()) {
		t.Fatal("the nonce is the same")
	}
	_, err = NewResponder(rc, seen, again)
	wantError(t, err, "opening", ErrReplay)

	// What was not made for us takes no place in the cache.
	broken := reseal(t, &d.key, d.Opening(), 1, func(_ *[32]byte, p []byte) []byte { p[0] ^= 1; return p })
	seen = new(ReplayCache)
	if _, err := NewResponder(rc, seen, broken); err == nil || len(seen.young) != 0 {
		t.Errorf("%d openings seen, %v", len(seen.young), err)
	}
}

// deliver runs a handshake and gives msg in place of message n.
func deliver(t testing.TB, s setting, n int, msg []byte) error {
	t.Helper()
	switch n {
	case 1:
		_, err := respond(msg)
		return err
	case 2:
		d := s.dial(t)
		msg3, res, err := d.Finish(msg)
		if err != nil {
			if msg3 != nil || res != nil {
				t.Error("results with the error")
			}
			d.wantOver(t)
		}
		return err
	}
	_, r := s.start(t)
	answer(t, r, Answer{PathID: 1})
	res, err := r.Finish(msg)
	if err != nil {
		if res != nil {
			t.Error("a result with the error")
		}
		r.wantOver(t)
	}
	return err
}

// A refuser stands ready to refuse message 2 or 3 any number of times: each goes
// to a copy of an end, which is as good as new as long as the copy looks no
// further than the frame.
type refuser struct {
	d *Dialler
	r *Responder
}

func newRefuser(t testing.TB) *refuser {
	t.Helper()
	d, r := setting{}.start(t)
	answer(t, r, Answer{PathID: 1})
	return &refuser{d, r}
}

func (f *refuser) deliver(n int, msg []byte) error {
	var err error
	switch n {
	case 1:
		_, err = respond(msg)
	case 2:
		d := *f.d
		_, _, err = d.Finish(msg)
	case 3:
		r := *f.r
		_, err = r.Finish(msg)
	}
	return err
}

// messages returns the three messages of the plain setting, and their frames' key.
func messages(t testing.TB) (msgs [3][]byte, key [32]byte) {
	t.Helper()
	d, r := setting{}.start(t)
	key = d.key
	msgs[0] = bytes.Clone(d.Opening())
	msgs[1] = answer(t, r, Answer{PathID: 1})
	var err error
	if msgs[2], _, err = d.Finish(msgs[1]); err != nil {
		t.Fatal(err)
	}
	return msgs, key
}

var stages = [3]string{"opening", "message 2", "message 3"}

// Every byte counts: flipped on the wire by anybody, or under the frame's seal by
// somebody who knows the responder's ID.
func TestFlips(t *testing.T) {
	msgs, key := messages(t)
	f := newRefuser(t)
	for n, msg := range msgs {
		if err := deliver(t, setting{}, n+1, msg); err != nil {
			t.Fatalf("%s as it was: %v", stages[n], err)
		}
		for i := range msg {
			flipped := bytes.Clone(msg)
			flipped[i] ^= 1 << (i % 8)
			var e *Error
			if err := f.deliver(n+1, flipped); !errors.As(err, &e) || e.Stage != stages[n] {
				t.Errorf("%s, byte %d flipped: %v", stages[n], i, err)
			}
		}
		for i, size := 0, 32+len(msg)-frameSize; i < size; i++ {
			if i > 64 && i < size-64 && i%16 != 0 {
				continue // ML-KEM's middle: each costs a handshake
			}
			flipped := reseal(t, &key, msg, uint32(n+1), func(e *[32]byte, p []byte) []byte {
				if i < 32 {
					e[i] ^= 1 << (i % 8)
				} else {
					p[i-32] ^= 1 << (i % 8)
				}
				return p
			})
			var e *Error
			if err := deliver(t, setting{}, n+1, flipped); !errors.As(err, &e) || e.Stage != stages[n] {
				t.Errorf("%s, byte %d flipped under the seal: %v", stages[n], i, err)
			}
		}
	}
}

func TestLengths(t *testing.T) {
	msgs, key := messages(t)
	f := newRefuser(t)
	for n, msg := range msgs {
		for size := range len(msg) {
			wantError(t, f.deliver(n+1, msg[:size]), stages[n], ErrMalformed)
		}
		wantError(t, deliver(t, setting{}, n+1, append(bytes.Clone(msg), 0)), stages[n], ErrMalformed)
		wantError(t, deliver(t, setting{}, n+1, make([]byte, 1<<16)), stages[n], ErrMalformed)
		for _, d := range []int{-1, 1, 32} { // 32: as long as an opening that joins
			long := reseal(t, &key, msg, uint32(n+1), func(_ *[32]byte, p []byte) []byte {
				return append(p, make([]byte, 32)...)[:len(p)+d]
			})
			if err := deliver(t, setting{}, n+1, long); err == nil {
				t.Errorf("%s, %+d bytes: no error", stages[n], d)
			}
		}
	}
}

// A message is good in its place only: not as another, and not on another path.
func TestMisplaced(t *testing.T) {
	msgs, key := messages(t)
	for n, msg := range msgs {
		for seq := range uint32(5) {
			if seq == uint32(n+1) {
				continue
			}
			e, p, err := openMessage(&key, msg, uint32(n+1), len(msg))
			if err != nil {
				t.Fatal(err)
			}
			_, rc := testConfigs()
			moved, err := sealMessage(&key, rc.Rand, seq, e, p)
			if err != nil {
				t.Fatal(err)
			}
			wantError(t, deliver(t, setting{}, n+1, moved), stages[n], ErrMalformed)
		}
	}
	for name, h := range map[string]frame.Full{"type": {Type: frame.TypeData}, "flags": {Type: frame.TypeHandshake, Flags: 1}} {
		for n, msg := range msgs {
			e, p, err := openMessage(&key, msg, uint32(n+1), len(msg))
			if err != nil {
				t.Fatal(err)
			}
			h.Seq, h.PeerKey = uint32(n+1), e
			other, err := frame.SealFull(nil, &key, &h, p)
			if err != nil {
				t.Fatal(err)
			}
			if wantError(t, deliver(t, setting{}, n+1, other), stages[n], ErrMalformed); t.Failed() {
				t.Fatalf("with another %s", name)
			}
		}
	}
	// Another handshake between the same peers.
	dc, rc := &Config{Identity: testKey(1)}, &Config{Identity: testKey(2)}
	d, err := NewDialler(dc, rc.Identity.ID(), nil)
	if err != nil {
		t.Fatal(err)
	}
	opening := slices.Clone(d.Opening())
	r, err := NewResponder(rc, new(ReplayCache), opening)
	if err != nil {
		t.Fatal(err)
	}
	msg2 := answer(t, r, Answer{PathID: 1})
	msg3, _, err := d.Finish(msg2)
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, deliver(t, setting{}, 2, msg2), "message 2", ErrAuth)
	wantError(t, deliver(t, setting{}, 3, msg3), "message 3", ErrMalformed)
	ours, _, err := openMessage(&key, msgs[2], 3, message3Size)
	if err != nil {
		t.Fatal(err)
	}
	spliced := reseal(t, &key, msg3, 3, func(e *[32]byte, p []byte) []byte { *e = ours; return p })
	wantError(t, deliver(t, setting{}, 3, spliced), "message 3", ErrAuth)
}

// Points of small order, and encodings that nobody computes.
var badPoints = map[string][32]byte{
	"zero":             {},
	"one":              {1},
	"order 8":          {0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00},
	"order 8, another": {0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57},
	"p - 1":            primePlus(-1),
	"p":                primePlus(0),
	"p + 1":            primePlus(1),
	"p + 9":            primePlus(9), // not of small order, but 9 written otherwise
	"high bit":         {9, 31: 0x80},
}

func primePlus(n int) (b [32]byte) {
	copy(b[:], fieldPrime)
	b[0] += byte(n)
	return b
}

func TestBadPoints(t *testing.T) {
	msgs, key := messages(t)
	for name, point := range badPoints {
		for n := range 2 {
			bad := reseal(t, &key, msgs[n], uint32(n+1), func(e *[32]byte, p []byte) []byte { *e = point; return p })
			if err := deliver(t, setting{}, n+1, bad); !errors.Is(err, ErrPoint) {
				t.Errorf("%s in %s: %v, want ErrPoint", name, stages[n], err)
			}
		}
	}
	if !canonical(bytes.Repeat([]byte{9}, 32)) {
		t.Error("an ordinary key is refused")
	}
}
