package handshake

import (
	"bytes"
	"crypto/ecdh"
	"errors"
	"fmt"
	"io"

	"github.com/flynn/noise"

	"github.com/splitmesh/splitmesh/identity"
)

// prologue, followed by the responder's ID, is what both ends mix in first. The
// ID is there because the Noise static alone does not name it: A and −A share it.
const prologue = "splitmesh/v1"

// noiseState wraps the one Noise handshake that we do around the traps of
// flynn/noise v1.1.0:
//
//   - The psk is set only once it is known. A placeholder would defeat the
//     library's refusal to write message 2 without one.
//   - The library reads a message that mixes the psk in when none is set, as if
//     it were empty. Here that is an error.
//   - Its ChannelBinding is the slice that it goes on hashing into. Here it is
//     copied.
//   - It has no state after an error that one could go on from. Its user here
//     drops the noiseState then.
type noiseState struct {
	hs       *noise.HandshakeState
	dh       *dh
	messages int // written and read so far
	hasPSK   bool
}

func newNoise(initiator bool, static *ecdh.PrivateKey, responder identity.ID, rand io.Reader) (*noiseState, error) {
	d := &dh{static: static}
	cfg := noise.Config{
		CipherSuite:           noise.NewCipherSuite(d, noise.CipherChaChaPoly, noise.HashSHA256),
		Random:                rand,
		Pattern:               noise.HandshakeXK,
		Initiator:             initiator,
		Prologue:              append([]byte(prologue), responder[:]...),
		PresharedKeyPlacement: 2,
		StaticKeypair:         noise.DHKey{Private: staticHandle, Public: static.PublicKey().Bytes()},
	}
	if initiator {
		rs := responder.X25519()
		cfg.PeerStatic = rs[:]
	}
	hs, err := noise.NewHandshakeState(cfg)
	if err != nil {
		return nil, err
	}
	return &noiseState{hs: hs, dh: d}, nil
}

func (n *noiseState) setPSK(psk []byte) error {
	if err := n.hs.SetPresharedKey(psk); err != nil {
		return err
	}
	n.hasPSK = true
	return nil
}

// split is the two keys of a completed handshake, by direction.
type split struct{ fromInitiator, fromResponder [32]byte }

func newSplit(a, b *noise.CipherState) *split {
	if a == nil || b == nil {
		return nil
	}
	return &split{a.UnsafeKey(), b.UnsafeKey()}
}

// write returns the next message, and the keys if it is the last.
func (n *noiseState) write(payload []byte) ([]byte, *split, error) {
	if err := n.step(); err != nil {
		return nil, nil, err
	}
	msg, a, b, err := n.hs.WriteMessage(nil, payload)
	return msg, newSplit(a, b), err
}

// read returns the payload of the next message, and the keys if it is the last.
func (n *noiseState) read(msg []byte) ([]byte, *split, error) {
	if err := n.step(); err != nil {
		return nil, nil, err
	}
	payload, a, b, err := n.hs.ReadMessage(nil, msg)
	if err != nil && !errors.Is(err, ErrPoint) {
		err = fmt.Errorf("%w (%w)", ErrAuth, err)
	}
	return payload, newSplit(a, b), err
}

// step refuses to go beyond message 1 without a psk.
func (n *noiseState) step() error {
	if n.messages > 0 && !n.hasPSK {
		return errNoPSK
	}
	n.messages++
	return nil
}

// hash returns a copy of the hash of all that was said so far.
func (n *noiseState) hash() [32]byte { return [32]byte(n.hs.ChannelBinding()) }

// ephemeral returns our own ephemeral public key.
func (n *noiseState) ephemeral() [32]byte { return [32]byte(n.dh.ephemeral.PublicKey().Bytes()) }

// dh is the Diffie-Hellman of one handshake, on crypto/ecdh. The library holds
// handles in place of private keys: these are parsed once and stay here.
type dh struct{ static, ephemeral *ecdh.PrivateKey }

var (
	staticHandle    = []byte("static")
	ephemeralHandle = []byte("ephemeral")
)

func (d *dh) GenerateKeypair(random io.Reader) (noise.DHKey, error) {
	var b [32]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return noise.DHKey{}, err
	}
	var err error
	if d.ephemeral, err = ecdh.X25519().NewPrivateKey(b[:]); err != nil {
		return noise.DHKey{}, err
	}
	return noise.DHKey{Private: ephemeralHandle, Public: d.ephemeral.PublicKey().Bytes()}, nil
}

func (d *dh) DH(handle, public []byte) ([]byte, error) {
	private := d.static
	if bytes.Equal(handle, ephemeralHandle) {
		private = d.ephemeral
	}
	if !canonical(public) {
		return nil, ErrPoint
	}
	key, err := ecdh.X25519().NewPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPoint, err)
	}
	shared, err := private.ECDH(key) // refuses points of small order
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPoint, err)
	}
	return shared, nil
}

func (d *dh) DHLen() int     { return 32 }
func (d *dh) DHName() string { return "25519" }

// fieldPrime is 2^255 − 19, little-endian.
var fieldPrime = append(append([]byte{0xed}, bytes.Repeat([]byte{0xff}, 30)...), 0x7f)

// canonical reports whether an X25519 public key is below 2^255 − 19, as all are
// that anybody computes. X25519 itself (RFC 7748) takes others for the same point.
func canonical(public []byte) bool {
	for i := len(public) - 1; i >= 0; i-- {
		if public[i] != fieldPrime[i] {
			return public[i] < fieldPrime[i]
		}
	}
	return false
}
