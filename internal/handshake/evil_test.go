package handshake

import (
	"bytes"
	"crypto/mlkem"
	"errors"
	"math/big"
	"slices"
	"testing"

	"github.com/splitmesh/splitmesh/identity"
)

// A dialler that speaks the protocol, and says the wrong things in the opening.
func TestEvilOpening(t *testing.T) {
	d := setting{}.dial(t)
	kem := d.kem.EncapsulationKey().Bytes()
	good := (&payload1{kem: kem, suites: knownSuites}).encode()
	joining := (&payload1{kem: kem, suites: knownSuites, join: true, token: join.Token}).encode()
	change := func(b []byte, at int, v byte) []byte { b = bytes.Clone(b); b[at] = v; return b }
	big := bytes.Clone(good)
	copy(big, bytes.Repeat([]byte{0xff}, 3)) // coefficients ≥ q
	for name, tt := range map[string]struct {
		payload []byte
		want    error
	}{
		"good":                        {good, nil},
		"joining":                     {joining, nil},
		"suites to come as well":      {change(good, len(kem), 0xff), nil},
		"suites to come only":         {change(good, len(kem), 0xfc), ErrSuite},
		"no suites":                   {change(good, len(kem), 0), ErrSuite},
		"unknown mode":                {change(good, len(kem)+1, 2), ErrMalformed},
		"mode join without a token":   {change(good, len(kem)+1, modeJoin), ErrMalformed},
		"mode new with a token":       {change(joining, len(kem)+1, modeNew), ErrMalformed},
		"no ML-KEM encapsulation key": {big, ErrMalformed},
	} {
		_, err := respond(evilOpening(t, tt.payload))
		if tt.want == nil && err != nil {
			t.Errorf("%s: %v", name, err)
		} else if tt.want != nil {
			wantError(t, err, "opening", tt.want)
		}
	}
	dc, rc := testConfigs()
	dc.Suites, rc.Suites = SuiteAES, SuiteChaCha
	aes, err := NewDialler(dc, rc.Identity.ID(), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = NewResponder(rc, new(ReplayCache), aes.Opening())
	wantError(t, err, "opening", ErrSuite)
}

// A responder that holds the right key, and says the wrong things.
func TestEvilAnswer(t *testing.T) {
	for name, tt := range map[string]struct {
		s      setting
		status byte // outside
		secret [32]byte
		p      payload2
		want   error
	}{
		"good":                          {p: payload2{suite: 1}},
		"good, joining":                 {s: setting{join: &join}, secret: join.Secret, p: payload2{suite: 2}},
		"no suite":                      {p: payload2{}, want: ErrSuite},
		"unknown suite":                 {p: payload2{suite: 3}, want: ErrSuite},
		"suite far out":                 {p: payload2{suite: 255}, want: ErrSuite},
		"status inside only":            {p: payload2{suite: 1, status: 1}, want: ErrMalformed},
		"unknown status":                {status: 2, p: payload2{suite: 1, status: 2}, want: ErrMalformed},
		"refusal where nobody joins":    {status: 1, p: payload2{status: 1}, want: ErrMalformed},
		"refusal":                       {s: setting{join: &join}, status: 1, p: payload2{status: 1}, want: ErrUnknownToken},
		"refusal outside only":          {s: setting{join: &join}, status: 1, p: payload2{suite: 1}, want: ErrMalformed},
		"refusal outside, secret mixed": {s: setting{join: &join}, status: 1, secret: join.Secret, p: payload2{status: 1}, want: ErrAuth},
		"refusal inside only":           {s: setting{join: &join}, secret: join.Secret, p: payload2{status: 1}, want: ErrMalformed},
		"refusal with a suite":          {s: setting{join: &join}, status: 1, p: payload2{status: 1, suite: 1}, want: ErrMalformed},
		"refusal with a path":           {s: setting{join: &join}, status: 1, p: payload2{status: 1, path: 1}, want: ErrMalformed},
		"joined without the secret":     {s: setting{join: &join}, p: payload2{suite: 1}, want: ErrAuth},
		"joined, where nobody joins":    {secret: join.Secret, p: payload2{suite: 1}, want: ErrAuth},
		"good, in a private network":    {s: setting{network: &networkKey}, p: payload2{suite: 1}},
		"another secret":                {s: setting{join: &join}, secret: join.Token, p: payload2{suite: 1}, want: ErrAuth},
	} {
		t.Run(name, func(t *testing.T) {
			d, r := tt.s.start(t)
			_, _, err := d.Finish(r.evilAnswer(t, tt.status, tt.secret, tt.p.encode()))
			if tt.want == nil && err != nil {
				t.Error(err)
			} else if tt.want != nil {
				wantError(t, err, "message 2", tt.want)
			}
			d.wantOver(t)
		})
	}
	// A suite that we know but did not offer.
	dc, rc := testConfigs()
	dc.Suites = SuiteChaCha
	d, err := NewDialler(dc, rc.Identity.ID(), nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := respond(d.Opening())
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = d.Finish(r.evilAnswer(t, 0, [32]byte{}, (&payload2{suite: 1}).encode()))
	wantError(t, err, "message 2", ErrSuite)
}

// The outer status is not authenticated by itself; turning it is found out.
func TestStatusTurned(t *testing.T) {
	for _, a := range []Answer{{Refuse: true}, {JoinSecret: &join.Secret}} {
		d, r := setting{join: &join}.start(t)
		turned := reseal(t, &d.key, answer(t, r, a), 2, func(_ *[32]byte, p []byte) []byte { p[0] ^= 1; return p })
		_, _, err := d.Finish(turned)
		wantError(t, err, "message 2", ErrAuth)
		if errors.Is(err, ErrUnknownToken) {
			t.Error("a refusal that the responder did not make")
		}
	}
}

// A dialler that holds one key and names another.
func TestEvilName(t *testing.T) {
	us := testKey(1).ID()
	var small identity.ID
	small[0] = 1 // the neutral element
	for name, tt := range map[string]struct {
		id   identity.ID
		want error
	}{
		"its own":        {us, nil},
		"another's":      {testKey(3).ID(), ErrIdentity},
		"the peer's":     {testKey(2).ID(), ErrIdentity},
		"no point":       {identity.ID(bytes.Repeat([]byte{2}, 32)), ErrIdentity},
		"small order":    {small, ErrIdentity},
		"no key at all":  {identity.ID{}, ErrIdentity},
		"Montgomery key": {identity.ID(us.X25519()), ErrIdentity},
		// Who holds A holds −A: the name is as said, and not that of A.
		"its own negated": {negated(t, us), nil},
	} {
		t.Run(name, func(t *testing.T) {
			d, r := setting{}.start(t)
			msg3 := d.evilName(t, answer(t, r, Answer{}), (&payload3{id: tt.id}).encode())
			res, err := r.Finish(msg3)
			if tt.want != nil {
				wantError(t, err, "message 3", tt.want)
			} else if err != nil || res.Peer != tt.id {
				t.Errorf("got %v, %v", res, err)
			}
			r.wantOver(t)
		})
	}
}

// mixed returns A + T, T being the point of order 2, as an ID and in Montgomery
// form. X25519 agrees on the same with it as with A, so that who holds A can
// prove it: (x, y) + T = (−x, −y), and u = (1+y)/(1−y) becomes 1/u.
func mixed(id identity.ID) (identity.ID, [32]byte) {
	le := func(b [32]byte) *big.Int { slices.Reverse(b[:]); return new(big.Int).SetBytes(b[:]) }
	put := func(n *big.Int) (b [32]byte) { n.FillBytes(b[:]); slices.Reverse(b[:]); return b }
	p := le([32]byte(fieldPrime))
	sign := id[31] & 0x80
	id[31] &^= 0x80
	other := put(new(big.Int).Sub(p, le(id)))
	other[31] |= sign ^ 0x80
	id[31] |= sign
	return identity.ID(other), put(new(big.Int).ModInverse(le(id.X25519()), p))
}

// A dialler can prove a static key that differs from its own by a point of small
// order. Taken for an ID, each such key would be one more name for the same peer.
func TestMixedOrderName(t *testing.T) {
	us := testKey(1)
	for _, mix := range []bool{false, true} {
		id, static := us.ID(), us.ID().X25519()
		if mix {
			id, static = mixed(us.ID())
			if id.X25519() != static {
				t.Fatal("the Montgomery form is another: the test is void")
			}
		}
		_, rc := testConfigs()
		ref := newReference(true, us, rc.Identity.ID(), us.ID())
		dk, err := mlkem.GenerateKey768()
		if err != nil {
			t.Fatal(err)
		}
		key := sealKey(rc.Identity.ID(), new([32]byte))
		msg := ref.write1(bytes.Repeat([]byte{7}, 32), (&payload1{kem: dk.EncapsulationKey().Bytes(), suites: knownSuites}).encode())
		opening, err := sealMessage(&key, rc.Rand, 1, [32]byte(msg), msg[32:])
		if err != nil {
			t.Fatal(err)
		}
		r, err := respond(opening)
		if err != nil {
			t.Fatal(err)
		}
		e, b, err := openMessage(&key, answer(t, r, Answer{}), 2, message2Size)
		if err != nil {
			t.Fatal(err)
		}
		shared, err := dk.Decapsulate(b[1 : 1+mlkem.CiphertextSize768])
		if err != nil {
			t.Fatal(err)
		}
		psk := pskOf(shared, new([32]byte), new([32]byte), (*[32]byte)(ref.h), b[1:1+mlkem.CiphertextSize768])
		ref.read2(append(e[:], b[1+mlkem.CiphertextSize768:]...), psk[:])
		msg = ref.encrypt(static[:])
		ref.mixDH(ref.s, ref.re)
		msg = append(msg, ref.encrypt((&payload3{id: id}).encode())...)
		msg3, err := sealMessage(&key, rc.Rand, 3, r.e, msg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = r.Finish(msg3); mix {
			wantError(t, err, "message 3", ErrIdentity)
		} else if err != nil {
			t.Error(err)
		}
	}
}
