package handshake

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/mlkem"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/splitmesh/splitmesh/frame"
	"github.com/splitmesh/splitmesh/identity"
)

var update = flag.Bool("update", false, "write testdata/vectors.json anew, from the reference code in the tests")

// reference is one end of Noise_XKpsk2_25519_ChaChaPoly_SHA256, written from the
// Noise specification, revision 34, with nothing of the package or the library.
type reference struct {
	ck, h, k []byte
	n        uint64
	s, e     *ecdh.PrivateKey
	rs, re   []byte
}

func newReference(initiator bool, us *identity.Key, responder, dialler identity.ID) *reference {
	name := sha256.Sum256([]byte("Noise_XKpsk2_25519_ChaChaPoly_SHA256"))
	r := &reference{ck: name[:], h: name[:], s: us.X25519()}
	r.mixHash(append([]byte("splitmesh/v1"), responder[:]...))
	static := responder.X25519()
	r.mixHash(static[:])
	if initiator {
		r.rs = static[:]
	} else {
		static := dialler.X25519()
		r.rs = static[:]
	}
	return r
}

func (r *reference) mixHash(b []byte) {
	h := sha256.Sum256(append(bytes.Clone(r.h), b...))
	r.h = h[:]
}

func (r *reference) mixKey(ikm []byte) {
	out, _ := hkdf.Key(sha256.New, ikm, r.ck, "", 64)
	r.ck, r.k, r.n = out[:32], out[32:], 0
}

func (r *reference) mixKeyAndHash(ikm []byte) {
	out, _ := hkdf.Key(sha256.New, ikm, r.ck, "", 96)
	r.ck, r.k, r.n = out[:32], out[64:], 0
	r.mixHash(out[32:64])
}

func (r *reference) nonce() []byte {
	b := binary.LittleEndian.AppendUint64(make([]byte, 4, 12), r.n)
	r.n++
	return b
}

func (r *reference) encrypt(p []byte) []byte {
	aead, _ := chacha20poly1305.New(r.k)
	c := aead.Seal(nil, r.nonce(), p, r.h)
	r.mixHash(c)
	return c
}

func (r *reference) decrypt(c []byte) []byte {
	aead, _ := chacha20poly1305.New(r.k)
	p, err := aead.Open(nil, r.nonce(), c, r.h)
	if err != nil {
		panic(err)
	}
	r.mixHash(c)
	return p
}

func (r *reference) mixDH(private *ecdh.PrivateKey, public []byte) {
	p, _ := ecdh.X25519().NewPublicKey(public)
	shared, err := private.ECDH(p)
	if err != nil {
		panic(err)
	}
	r.mixKey(shared)
}

func (r *reference) newE(seed []byte) []byte {
	r.e, _ = ecdh.X25519().NewPrivateKey(seed)
	return r.tookE(r.e.PublicKey().Bytes())
}

func (r *reference) tookE(e []byte) []byte {
	r.mixHash(e)
	r.mixKey(e)
	return e
}

func (r *reference) write1(seed, payload []byte) []byte {
	e := r.newE(seed)
	r.mixDH(r.e, r.rs)
	return append(e, r.encrypt(payload)...)
}

func (r *reference) read1(msg []byte) []byte {
	r.re = r.tookE(msg[:32])
	r.mixDH(r.s, r.re)
	return r.decrypt(msg[32:])
}

func (r *reference) write2(seed, psk, payload []byte) []byte {
	e := r.newE(seed)
	r.mixDH(r.e, r.re)
	r.mixKeyAndHash(psk)
	return append(e, r.encrypt(payload)...)
}

func (r *reference) read2(msg, psk []byte) []byte {
	r.re = r.tookE(msg[:32])
	r.mixDH(r.e, r.re)
	r.mixKeyAndHash(psk)
	return r.decrypt(msg[32:])
}

func (r *reference) write3(payload []byte) []byte {
	s := r.encrypt(r.s.PublicKey().Bytes())
	r.mixDH(r.s, r.re)
	return append(s, r.encrypt(payload)...)
}

func (r *reference) split() (a, b []byte) {
	out, _ := hkdf.Key(sha256.New, nil, r.ck, "", 64)
	return out[:32], out[32:]
}

type hexBytes []byte

func (h hexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }
func (h *hexBytes) UnmarshalText(b []byte) (err error) {
	*h, err = hex.DecodeString(string(b))
	return err
}

// vector is a handshake in testdata/vectors.json. Bytes are hexadecimal; a field
// that is missing was not there.
type vector struct {
	Name string

	DiallerSeed, ResponderSeed         hexBytes // Ed25519
	DiallerInstance, ResponderInstance hexBytes
	NetworkKey                         hexBytes `json:",omitempty"`
	Token, JoinSecret                  hexBytes `json:",omitempty"`
	Offered, Accepted                  uint8
	PathID                             uint32
	Refuse                             bool

	KEMSeed, DiallerEphemeral, Nonce1, Nonce3   hexBytes
	KEMRandom, ResponderEphemeral, Nonce2       hexBytes
	DiallerID, ResponderID                      string
	SealKey, PSK                                hexBytes
	Opening, Message2                           hexBytes
	Message3                                    hexBytes    `json:",omitempty"`
	Suite                                       frame.Suite `json:",omitempty"`
	FromDialler, FromResponder                  hexBytes    `json:",omitempty"`
	Exporter, Binding, JoinSecretOfThisExporter hexBytes    `json:",omitempty"`
}

func count(first byte, n int) hexBytes {
	b := make([]byte, n)
	for i := range b {
		b[i] = first + byte(i)
	}
	return b
}

func makeVectors() []*vector {
	var all []*vector
	for _, name := range []string{"plain", "private network", "joining", "token refused", "ChaCha"} {
		v := &vector{Name: name,
			DiallerSeed: count(0, 32), ResponderSeed: count(0x20, 32),
			DiallerInstance: count(0x40, 16), ResponderInstance: count(0x50, 16),
			Offered: 3, Accepted: 3, PathID: 0x01020304,
			KEMSeed: count(0x60, 64), DiallerEphemeral: count(0xa0, 32), Nonce1: count(0xc0, 24), Nonce3: count(0xd8, 24),
			KEMRandom: count(0x80, 32), ResponderEphemeral: count(0xf0, 32), Nonce2: count(0x10, 24),
		}
		switch name {
		case "private network":
			v.NetworkKey = count(0x30, 32)
		case "ChaCha":
			v.Offered = 2
		case "joining", "token refused":
			v.NetworkKey, v.Token, v.JoinSecret = count(0x30, 32), count(0x55, 32), count(0x66, 32)
			v.Refuse = name == "token refused"
		}
		v.compute()
		all = append(all, v)
	}
	return all
}

// compute fills in what follows from the inputs.
func (v *vector) compute() {
	zero := make([]byte, 32)
	or := func(b hexBytes) []byte { return append(bytes.Clone(b), zero[min(len(b), 32):]...) }
	derive := func(info string, salt []byte, ikm ...[]byte) hexBytes {
		b, _ := hkdf.Key(sha256.New, bytes.Join(ikm, nil), salt, info, 32)
		return b
	}
	dk, _ := identity.NewKeyFromSeed(v.DiallerSeed)
	rk, _ := identity.NewKeyFromSeed(v.ResponderSeed)
	did, rid := dk.ID(), rk.ID()
	v.DiallerID, v.ResponderID = did.String(), rid.String()
	v.SealKey = derive("splitmesh/v1/hs", nil, rid[:], or(v.NetworkKey))
	seal := func(seq byte, e, nonce, plaintext []byte) hexBytes {
		n := len(plaintext) + 16
		b := []byte{0x11, 0, byte(n >> 8), byte(n), 0, 0, 0, seq}
		b = append(append(b, e...), nonce...)
		aead, _ := chacha20poly1305.NewX(v.SealKey)
		return aead.Seal(b, nonce, plaintext, b)
	}
	d, r := newReference(true, dk, rid, did), newReference(false, rk, rid, did)

	kem, _ := mlkem.NewDecapsulationKey768(v.KEMSeed)
	payload := append(kem.EncapsulationKey().Bytes(), v.Offered, 0)
	if v.Token != nil {
		payload[len(payload)-1] = 1
		payload = append(payload, v.Token...)
	}
	msg := d.write1(v.DiallerEphemeral, payload)
	r.read1(msg)
	v.Opening = seal(1, msg[:32], v.Nonce1, msg[32:])

	shared, ciphertext := encapsulate(kem.EncapsulationKey(), v.KEMRandom)
	c := sha256.Sum256(ciphertext)
	secret := or(v.JoinSecret)
	v.Suite = frame.AES256GCM
	if v.Offered&v.Accepted&1 == 0 {
		v.Suite = frame.ChaCha20Poly1305
	}
	payload = append(binary.BigEndian.AppendUint32([]byte{0, byte(v.Suite)}, v.PathID), v.ResponderInstance...)
	if v.Refuse {
		secret, v.Suite = zero, 0
		copy(payload, []byte{1, 0, 0, 0, 0, 0})
	}
	v.PSK = derive("splitmesh/v1/psk", append(bytes.Clone(r.h), c[:]...), shared, or(v.NetworkKey), secret)
	msg = r.write2(v.ResponderEphemeral, v.PSK, payload)
	d.read2(msg, v.PSK)
	v.Message2 = seal(2, msg[:32], v.Nonce2, append(append([]byte{payload[0]}, ciphertext...), msg[32:]...))
	if v.Refuse {
		return
	}
	msg = d.write3(append(did[:], v.DiallerInstance...))
	v.Message3 = seal(3, d.e.PublicKey().Bytes(), v.Nonce3, msg)
	a, b := d.split()
	v.FromDialler, v.FromResponder, v.Binding = a, b, d.h
	v.Exporter = derive("splitmesh/v1/exporter", v.Binding, a, b)
	v.JoinSecretOfThisExporter, _ = hkdf.Expand(sha256.New, v.Exporter, "splitmesh/v1/join", 32)
}

func TestVectors(t *testing.T) {
	const file = "testdata/vectors.json"
	want, err := json.MarshalIndent(makeVectors(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, '\n')
	if *update {
		if err := os.WriteFile(file, want, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(data, want) {
		t.Errorf("%s is not what the reference code computes", file)
	}
	var all []*vector
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	for _, v := range all {
		t.Run(v.Name, v.check)
	}
}

func (v *vector) check(t *testing.T) {
	config := func(seed, instance hexBytes, suites uint8, random ...hexBytes) *Config {
		k, err := identity.NewKeyFromSeed(seed)
		if err != nil {
			t.Fatal(err)
		}
		c := &Config{Identity: k, Instance: [16]byte(instance), Suites: suites}
		if v.NetworkKey != nil {
			c.NetworkKey = (*[32]byte)(v.NetworkKey)
		}
		var all []byte
		for _, b := range random {
			all = append(all, b...)
		}
		c.Rand = bytes.NewReader(all)
		return c
	}
	dc := config(v.DiallerSeed, v.DiallerInstance, v.Offered, v.KEMSeed, v.DiallerEphemeral, v.Nonce1, v.Nonce3)
	rc := config(v.ResponderSeed, v.ResponderInstance, v.Accepted, v.ResponderEphemeral, v.Nonce2)
	rc.encapsulate = func(ek *mlkem.EncapsulationKey768) ([]byte, []byte) { return encapsulate(ek, v.KEMRandom) }
	answer := Answer{PathID: v.PathID, Refuse: v.Refuse}
	var j *Join
	if v.Token != nil {
		j = &Join{[32]byte(v.Token), [32]byte(v.JoinSecret)}
		answer.JoinSecret = &j.Secret
	}
	same := func(what string, got []byte, err error, want hexBytes) {
		t.Helper()
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%s: %x, %v,\nwant %x", what, got, err, want)
		}
	}
	d, err := NewDialler(dc, rc.Identity.ID(), j)
	if err != nil {
		t.Fatal(err)
	}
	same("opening", d.Opening(), nil, v.Opening)
	r, err := NewResponder(rc, new(ReplayCache), v.Opening)
	if err != nil {
		t.Fatal(err)
	}
	msg2, err := r.Answer(answer)
	same("message 2", msg2, err, v.Message2)
	msg3, dr, err := d.Finish(v.Message2)
	if v.Refuse {
		wantError(t, err, "message 2", ErrUnknownToken)
		return
	}
	same("message 3", msg3, err, v.Message3)
	rr, err := r.Finish(v.Message3)
	if err != nil {
		t.Fatal(err)
	}
	same("from dialler", dr.Send[:], nil, v.FromDialler)
	same("from responder", dr.Recv[:], nil, v.FromResponder)
	same("to responder", rr.Recv[:], nil, v.FromDialler)
	same("exporter", rr.Exporter[:], nil, v.Exporter)
	same("binding", rr.Binding[:], nil, v.Binding)
	secret := JoinSecret(&rr.Exporter)
	same("join secret", secret[:], nil, v.JoinSecretOfThisExporter)
	if rr.Suite != v.Suite || rr.PathID != v.PathID || rr.Peer.String() != v.DiallerID || dr.Peer.String() != v.ResponderID {
		t.Errorf("got %v and %v", dr, rr)
	}
}
