package identity_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/splitmesh/splitmesh/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hexBytes is a byte string that JSON holds in hexadecimal.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	*h = b
	return err
}

// A vector is one entry of testdata/vectors.json, computed by a program that shares no code with this package.
type vector struct {
	Comment            string
	Seed, PublicKey    hexBytes
	ID, PeerID         string
	X25519             hexBytes
	What               string
	Message, Signature hexBytes
}

func vectors(t testing.TB) []vector {
	t.Helper()
	b, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var vs []vector
	if err := json.Unmarshal(b, &vs); err != nil {
		t.Fatal(err)
	}
	if len(vs) < 5 {
		t.Fatalf("only %d vectors", len(vs))
	}
	return vs
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newKey(t testing.TB) *identity.Key {
	t.Helper()
	k, err := identity.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestVectors(t *testing.T) {
	for _, v := range vectors(t) {
		t.Run(v.Comment, func(t *testing.T) {
			k, err := identity.NewKeyFromSeed(v.Seed)
			if err != nil {
				t.Fatal(err)
			}
			id := k.ID()
			if !bytes.Equal(id[:], v.PublicKey) {
				t.Errorf("public key %x, want %x", id[:], v.PublicKey)
			}
			if id.String() != v.ID || id.PeerID() != v.PeerID || id.Short() != v.ID[:8] {
				t.Errorf("texts %s, %s, %s; want %s, %s", id, id.PeerID(), id.Short(), v.ID, v.PeerID)
			}
			if x := id.X25519(); !bytes.Equal(x[:], v.X25519) {
				t.Errorf("ID's X25519 %x, want %x", x, v.X25519)
			}
			if x := k.X25519().PublicKey().Bytes(); !bytes.Equal(x, v.X25519) {
				t.Errorf("Key's X25519 %x, want %x", x, v.X25519)
			}
			if sig := k.Sign(v.What, v.Message); !bytes.Equal(sig, v.Signature) {
				t.Errorf("signature %x, want %x", sig, v.Signature)
			}
			if !id.Verify(v.What, v.Message, v.Signature) {
				t.Error("the signature does not verify")
			}
			if !bytes.Equal(k.Seed(), v.Seed) {
				t.Error("Seed returns another seed")
			}
			for _, s := range []string{v.ID, v.PeerID, "/p2p/" + v.PeerID} {
				if got, err := identity.ParseID(s); err != nil || got != id {
					t.Errorf("ParseID(%q) = %v, %v", s, got, err)
				}
			}
		})
	}
}

func TestNewIDRefuses(t *testing.T) {
	const order8 = "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"
	for _, tc := range []struct {
		name, key string
		want      error
	}{
		{"nothing", "", identity.ErrLength},
		{"31 bytes", strings.Repeat("01", 31), identity.ErrLength},
		{"33 bytes", strings.Repeat("01", 33), identity.ErrLength},
		{"y = 2, not on the curve", "02" + strings.Repeat("00", 31), identity.ErrNotOnCurve},
		{"all zero, order 4", strings.Repeat("00", 32), identity.ErrLowOrder},
		{"identity", "01" + strings.Repeat("00", 31), identity.ErrLowOrder},
		{"order 2", "ec" + strings.Repeat("ff", 30) + "7f", identity.ErrLowOrder},
		{"order 4, other sign", strings.Repeat("00", 31) + "80", identity.ErrLowOrder},
		{"order 8", order8, identity.ErrLowOrder},
		{"order 8, negative", order8[:62] + "85", identity.ErrLowOrder},
		{"order 8, second", "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a", identity.ErrLowOrder},
		{"identity with the sign of x", "01" + strings.Repeat("00", 30) + "80", identity.ErrNotCanonical},
		{"identity, y = p+1", "ee" + strings.Repeat("ff", 30) + "7f", identity.ErrNotCanonical},
		{"order 4, y = p", "ed" + strings.Repeat("ff", 30) + "7f", identity.ErrNotCanonical},
		{"y = p+3, of high order", "f0" + strings.Repeat("ff", 30) + "7f", identity.ErrNotCanonical},
		// The points of the all-zero seed plus a point of order 8, and of order 2.
		{"mixed order 8l", "06903bfea2a1ddc586e78a189513f47ac6ae27e4e7803a1c2fb94c94b18f3958", identity.ErrMixedOrder},
		{"mixed order 2l", "b295d84331495bd29d5c572fd590f28c9acdea88e21dbc59c53fb75e74a625d6", identity.ErrMixedOrder},
	} {
		t.Run(tc.name, func(t *testing.T) {
			id, err := identity.NewID(unhex(t, tc.key))
			var ide *identity.IDError
			if !errors.Is(err, tc.want) || !errors.As(err, &ide) || !id.IsZero() {
				t.Errorf("NewID = %v, %v; want %v", id, err, tc.want)
			}
			if len(tc.key) != 2*identity.Size {
				return
			}
			// The same bytes in either spelling are refused for the same reason.
			raw := identity.ID(unhex(t, tc.key))
			if raw.IsZero() {
				return // has no spelling
			}
			for _, s := range []string{raw.String(), raw.PeerID()} {
				if id, err := identity.ParseID(s); !errors.Is(err, tc.want) || !id.IsZero() {
					t.Errorf("ParseID(%s) = %v, %v; want %v", s, id, err, tc.want)
				}
			}
		})
	}
}

// A low-order key has signatures that verify over any message: R the identity, S zero.
func TestVerifyRefusesLowOrderKeys(t *testing.T) {
	forged := make([]byte, identity.SignatureSize)
	forged[0] = 1
	// The key that is the identity point accepts it always in plain Ed25519, which is the control.
	var id identity.ID
	id[0] = 1
	if !ed25519.Verify(id[:], []byte("anything"), forged) {
		t.Fatal("the forgery does not work against plain Ed25519")
	}
	for range 64 { // with the other low-order keys it works for one message in a few
		if (identity.ID{}).Verify("test", []byte(rand.Text()), forged) {
			t.Fatal("the zero ID verifies a signature")
		}
		if id.Verify("test", []byte(rand.Text()), forged) {
			t.Fatal("a low-order key verifies a signature")
		}
	}
	if x := id.X25519(); x != [32]byte{} {
		t.Errorf("X25519 of a low-order key is %x, want zeros", x)
	}
	// With zeros an agreement fails, so a wrong ID cannot become a session with a known key.
	x := (identity.ID{}).X25519()
	pub, err := ecdh.X25519().NewPublicKey(x[:])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newKey(t).X25519().ECDH(pub); err == nil {
		t.Error("an agreement with the zero ID succeeds")
	}
}

func TestSignDomains(t *testing.T) {
	k := newKey(t)
	id, msg := k.ID(), []byte("mess\x00age")
	sig := k.Sign("record", msg)
	if !id.Verify("record", msg, sig) {
		t.Fatal("a signature does not verify")
	}
	for _, tc := range []struct {
		name, what string
		id         identity.ID
		msg, sig   []byte
	}{
		{"other purpose", "recorded", id, msg, sig},
		{"purpose cut", "recor", id, append([]byte("d\x00"), msg...), sig},
		{"purpose with a zero byte", "record\x00mess", id, []byte("age"), sig},
		{"no purpose", "", id, msg, sig},
		{"other message", "record", id, []byte("mess\x00Age"), sig},
		{"other key", "record", newKey(t).ID(), msg, sig},
		{"zero ID", "record", identity.ID{}, msg, sig},
		{"no signature", "record", id, msg, nil},
		{"short signature", "record", id, msg, sig[:63]},
		{"long signature", "record", id, msg, append(slices.Clone(sig), 0)},
		{"zero signature", "record", id, msg, make([]byte, 64)},
		{"S + l", "record", id, msg, addOrder(t, sig)},
	} {
		if tc.id.Verify(tc.what, tc.msg, tc.sig) {
			t.Errorf("%s: verifies", tc.name)
		}
	}
	// Undomained, the signature is worth nothing, and a plain signature is worth nothing here.
	if ed25519.Verify(id[:], msg, sig) {
		t.Error("a signature has no domain")
	}
	if id.Verify("record", msg, ed25519.Sign(ed25519.NewKeyFromSeed(k.Seed()), msg)) {
		t.Error("an undomained signature verifies")
	}
}

// addOrder returns the signature with l added to S, which an implementation that does not reduce accepts as another.
func addOrder(t *testing.T, sig []byte) []byte {
	l := unhex(t, "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010")
	out, carry := slices.Clone(sig), 0
	for i, b := range l {
		carry += int(out[32+i]) + int(b)
		out[32+i], carry = byte(carry), carry>>8
	}
	return out
}

func TestSignPanicsOnBadPurpose(t *testing.T) {
	k := newKey(t)
	for _, what := range []string{"", "a\x00b"} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Sign(%q) does not panic", what)
				}
			}()
			k.Sign(what, nil)
		}()
	}
}

func TestKeyFromSeedRefusesLength(t *testing.T) {
	for _, n := range []int{0, 31, 33, 64} {
		if k, err := identity.NewKeyFromSeed(make([]byte, n)); !errors.Is(err, identity.ErrSeedLength) || k != nil {
			t.Errorf("%d bytes: %v, %v", n, k, err)
		}
	}
}

func TestKeyCopiesSeed(t *testing.T) {
	seed := bytes.Repeat([]byte{7}, 32)
	k, err := identity.NewKeyFromSeed(seed)
	if err != nil {
		t.Fatal(err)
	}
	seed[0] = 8
	k.Seed()[1] = 8
	if !bytes.Equal(k.Seed(), bytes.Repeat([]byte{7}, 32)) {
		t.Error("the key shares its seed with a caller")
	}
}

// The X25519 form agrees from both sides for keys at random, and is shared by a key and its negation only.
func TestX25519Agrees(t *testing.T) {
	a, b := newKey(t), newKey(t)
	agree := func(k *identity.Key, id identity.ID) []byte {
		x := id.X25519()
		pub, err := ecdh.X25519().NewPublicKey(x[:])
		if err != nil {
			t.Fatal(err)
		}
		s, err := k.X25519().ECDH(pub)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if !bytes.Equal(agree(a, b.ID()), agree(b, a.ID())) {
		t.Error("the two sides differ")
	}
	negative := a.ID()
	negative[31] ^= 0x80
	if _, err := identity.NewID(negative[:]); err != nil {
		t.Fatal(err)
	}
	if negative.X25519() != a.ID().X25519() {
		t.Error("a key and its negation have different X25519 forms: then comments that say otherwise are wrong")
	}
}

func TestCompare(t *testing.T) {
	a, b := identity.ID{1}, identity.ID{1, 1}
	if a.Compare(b) != -1 || b.Compare(a) != 1 || a.Compare(a) != 0 {
		t.Error("Compare does not order by bytes")
	}
}

func BenchmarkNewID(b *testing.B) {
	id := newKey(b).ID()
	for b.Loop() {
		if _, err := identity.NewID(id[:]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	k := newKey(b)
	sig := k.Sign("bench", nil)
	for b.Loop() {
		if !k.ID().Verify("bench", nil, sig) {
			b.Fatal("does not verify")
		}
	}
}
