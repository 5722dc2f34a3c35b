package handshake

import (
	"bytes"
	"crypto/mlkem"
	"crypto/mlkem/mlkemtest"
	"errors"
	"math/rand/v2"
	"testing"

	"go.uber.org/goleak"

	"github.com/splitmesh/splitmesh/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testKey returns the same key for the same n.
func testKey(n byte) *identity.Key {
	k, err := identity.NewKeyFromSeed(bytes.Repeat([]byte{n}, 32))
	if err != nil {
		panic(err)
	}
	return k
}

// Two ends, with all that is random made from fixed seeds: each call returns
// configurations with which the same handshake runs again.
func testConfigs() (dialler, responder *Config) {
	random := rand.NewChaCha8([32]byte{3})
	return &Config{Identity: testKey(1), Instance: [16]byte{1}, Suites: knownSuites, Rand: rand.NewChaCha8([32]byte{1})},
		&Config{Identity: testKey(2), Instance: [16]byte{2}, Suites: knownSuites, Rand: rand.NewChaCha8([32]byte{2}),
			encapsulate: func(ek *mlkem.EncapsulationKey768) (shared, ciphertext []byte) {
				var m [32]byte
				_, _ = random.Read(m[:])
				return encapsulate(ek, m[:])
			}}
}

func encapsulate(ek *mlkem.EncapsulationKey768, m []byte) (shared, ciphertext []byte) {
	shared, ciphertext, err := mlkemtest.Encapsulate768(ek, m)
	if err != nil {
		panic(err)
	}
	return shared, ciphertext
}

// A setting is what both ends of a handshake begin with; zero is the plainest.
type setting struct {
	network   *[32]byte
	responder identity.ID // whom the dialler means; zero: the responder that there is
	join      *Join
}

// start makes both ends up to the opening, which must be good.
func (s setting) start(t testing.TB) (*Dialler, *Responder) {
	t.Helper()
	d := s.dial(t)
	_, rc := testConfigs()
	rc.NetworkKey = s.network
	r, err := NewResponder(rc, new(ReplayCache), d.Opening())
	if err != nil {
		t.Fatal(err)
	}
	return d, r
}

func (s setting) dial(t testing.TB) *Dialler {
	t.Helper()
	dc, _ := testConfigs()
	dc.NetworkKey = s.network
	if s.responder.IsZero() {
		s.responder = testKey(2).ID()
	}
	d, err := NewDialler(dc, s.responder, s.join)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// answer returns message 2, which must be good.
func answer(t testing.TB, r *Responder, a Answer) []byte {
	t.Helper()
	msg2, err := r.Answer(a)
	if err != nil {
		t.Fatal(err)
	}
	return msg2
}

// wantError checks that err is an *Error of the given stage that wraps want.
func wantError(t testing.TB, err error, stage string, want error) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Stage != stage || !errors.Is(err, want) {
		t.Errorf("got %v, want %s: %v", err, stage, want)
	}
}

// wantOver checks that a handshake that met an error can't be used again.
func (d *Dialler) wantOver(t testing.TB) {
	t.Helper()
	_, _, err := d.Finish(make([]byte, message2Size))
	wantError(t, err, "message 2", ErrState)
	if d.Opening() != nil || d.noise != nil || d.kem != nil || d.key != [32]byte{} {
		t.Error("a dialler that is over holds secrets")
	}
}

func (r *Responder) wantOver(t testing.TB) {
	t.Helper()
	_, err := r.Answer(Answer{})
	wantError(t, err, "message 2", ErrState)
	_, err = r.Finish(make([]byte, message3Size))
	wantError(t, err, "message 3", ErrState)
	if r.noise != nil || r.kem != nil || r.key != [32]byte{} {
		t.Error("a responder that is over holds secrets")
	}
}

// reseal opens a message's frame, has f change what is in it, and seals it again,
// as anybody can who knows the responder's ID and the network key.
func reseal(t testing.TB, key *[32]byte, msg []byte, seq uint32, f func(e *[32]byte, plaintext []byte) []byte) []byte {
	t.Helper()
	e, plaintext, err := openMessage(key, msg, seq, len(msg))
	if err != nil {
		t.Fatal(err)
	}
	plaintext = f(&e, plaintext)
	msg, err = sealMessage(key, rand.NewChaCha8([32]byte{9}), seq, e, plaintext)
	if err != nil {
		t.Fatal(err)
	}
	return msg
}

// evilOpening is the opening of a dialler that writes any payload.
func evilOpening(t testing.TB, payload []byte) []byte {
	t.Helper()
	dc, rc := testConfigs()
	n, err := newNoise(true, dc.Identity.X25519(), rc.Identity.ID(), dc.Rand)
	if err != nil {
		t.Fatal(err)
	}
	msg, _, err := n.write(payload)
	if err != nil {
		t.Fatal(err)
	}
	key := sealKey(rc.Identity.ID(), new([32]byte))
	b, err := sealMessage(&key, dc.Rand, 1, n.ephemeral(), msg[32:])
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// evilAnswer is message 2 of a responder that says anything, outside and inside.
func (r *Responder) evilAnswer(t testing.TB, status byte, join [32]byte, payload []byte) []byte {
	t.Helper()
	shared, ciphertext := r.cfg.encapsulate(r.kem)
	psk := pskOf(shared, &r.cfg.network, &join, &r.h1, ciphertext)
	if err := r.noise.setPSK(psk[:]); err != nil {
		t.Fatal(err)
	}
	msg, _, err := r.noise.write(payload)
	if err != nil {
		t.Fatal(err)
	}
	b, err := sealMessage(&r.key, r.cfg.Rand, 2, r.noise.ephemeral(), append(append([]byte{status}, ciphertext...), msg[32:]...))
	if err != nil {
		t.Fatal(err)
	}
	r.answered = true
	return b
}

// evilName is message 3 of a dialler that says anything.
func (d *Dialler) evilName(t testing.TB, msg2, payload []byte) []byte {
	t.Helper()
	if _, err := d.read(msg2); err != nil {
		t.Fatal(err)
	}
	msg, _, err := d.noise.write(payload)
	if err != nil {
		t.Fatal(err)
	}
	b, err := sealMessage(&d.key, d.cfg.Rand, 3, d.noise.ephemeral(), msg)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
