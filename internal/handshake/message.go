package handshake

import (
	"crypto/mlkem"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/splitmesh/splitmesh/frame"
	"github.com/splitmesh/splitmesh/identity"
)

// Every message has one size, two for the opening. Each is a full frame around a
// Noise message whose ephemeral key stands in the frame's header.
const (
	payload1Size     = mlkem.EncapsulationKeySize768 + 1 + 1
	payload1JoinSize = payload1Size + 32
	payload2Size     = 1 + 1 + 4 + 16
	payload3Size     = identity.Size + 16

	frameSize = frame.FullHeaderSize + frame.TagSize
	noiseTag  = 16

	openingSize     = frameSize + payload1Size + noiseTag
	openingJoinSize = frameSize + payload1JoinSize + noiseTag
	message2Size    = frameSize + 1 + mlkem.CiphertextSize768 + payload2Size + noiseTag
	message3Size    = frameSize + 32 + noiseTag + payload3Size + noiseTag

	// MaxMessage is the size of the largest message, in bytes.
	MaxMessage = openingJoinSize
)

// Values of the mode byte in the opening and the status byte in message 2.
const (
	modeNew, modeJoin     = 0, 1
	statusOK, statusToken = 0, 1
)

// sealMessage returns message seq with ephemeral e in its header.
func sealMessage(key *[32]byte, rand io.Reader, seq uint32, e [32]byte, plaintext []byte) ([]byte, error) {
	h := frame.Full{Type: frame.TypeHandshake, Seq: seq, PeerKey: e}
	if _, err := io.ReadFull(rand, h.Nonce[:]); err != nil {
		return nil, err
	}
	return frame.SealFull(nil, key, &h, plaintext)
}

// openMessage opens message seq, of the given size, and returns the ephemeral
// key in its header and what it holds, which is as long as the size says.
func openMessage(key *[32]byte, b []byte, seq uint32, size int) (e [32]byte, plaintext []byte, err error) {
	if len(b) != size {
		return e, nil, fmt.Errorf("%w: %d bytes, want %d", ErrMalformed, len(b), size)
	}
	h, plaintext, err := frame.OpenFull(key, b)
	if errors.Is(err, frame.ErrAuth) {
		return e, nil, fmt.Errorf("%w (%w)", ErrAuth, err)
	} else if err != nil {
		return e, nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if h.Type != frame.TypeHandshake || h.Flags != 0 || h.Seq != seq {
		return e, nil, fmt.Errorf("%w: type %d, flags %d, sequence %d, want %d, 0, %d",
			ErrMalformed, h.Type, h.Flags, h.Seq, frame.TypeHandshake, seq)
	}
	return h.PeerKey, plaintext, nil
}

// payload1 is what the opening says inside Noise.
type payload1 struct {
	kem    []byte // ML-KEM-768 encapsulation key
	suites uint8
	join   bool
	token  [32]byte
}

func (p *payload1) encode() []byte {
	b := append(make([]byte, 0, payload1JoinSize), p.kem...)
	if b = append(b, p.suites, modeNew); p.join {
		b[len(b)-1] = modeJoin
		b = append(b, p.token[:]...)
	}
	return b
}

// decode expects b to be as long as an opening of either size makes it.
func (p *payload1) decode(b []byte) error {
	p.kem = b[:mlkem.EncapsulationKeySize768]
	p.suites = b[len(p.kem)]
	mode, rest := b[len(p.kem)+1], b[len(p.kem)+2:]
	switch {
	case mode == modeNew && len(rest) == 0:
	case mode == modeJoin && len(rest) == len(p.token):
		p.join, p.token = true, [32]byte(rest)
	default:
		return fmt.Errorf("%w: mode %d with %d bytes", ErrMalformed, mode, len(rest))
	}
	return nil
}

// payload2 is what message 2 says inside Noise.
type payload2 struct {
	status   uint8
	suite    frame.Suite
	path     uint32
	instance [16]byte
}

func (p *payload2) encode() []byte {
	b := []byte{p.status, byte(p.suite)}
	b = binary.BigEndian.AppendUint32(b, p.path)
	return append(b, p.instance[:]...)
}

// decode expects b to be payload2Size long, and status to be what message 2
// said outside of Noise. A refusal names neither suite nor path.
func (p *payload2) decode(b []byte, status uint8) error {
	*p = payload2{b[0], frame.Suite(b[1]), binary.BigEndian.Uint32(b[2:]), [16]byte(b[6:])}
	if p.status != status {
		return fmt.Errorf("%w: status %d inside, %d outside", ErrMalformed, p.status, status)
	}
	if status == statusToken && (p.suite != 0 || p.path != 0) {
		return fmt.Errorf("%w: a refusal with suite %d and path %d", ErrMalformed, p.suite, p.path)
	}
	return nil
}

// payload3 is what message 3 says inside Noise.
type payload3 struct {
	id       identity.ID
	instance [16]byte
}

func (p *payload3) encode() []byte { return append(p.id[:len(p.id):len(p.id)], p.instance[:]...) }

// decode expects b to be payload3Size long.
func (p *payload3) decode(b []byte) (err error) {
	if p.id, err = identity.NewID(b[:identity.Size]); err != nil {
		return fmt.Errorf("%w: %w", ErrIdentity, err)
	}
	p.instance = [16]byte(b[identity.Size:])
	return nil
}
