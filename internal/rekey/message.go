package rekey

import (
	"crypto/ecdh"
	"crypto/mlkem"
	"encoding/binary"
	"fmt"
)

// Sizes of the messages' bodies, in bytes.
const (
	sizeKeys       = 32 // X25519
	proposeHeader  = 4 + sizeKeys + mlkem.EncapsulationKeySize768
	acceptHeader   = 4 + sizeKeys + mlkem.CiphertextSize768
	MaxProposeSize = proposeHeader + 1 + MaxPaths*4
	MinProposeSize = proposeHeader + 1 + 4
	MaxAcceptSize  = acceptHeader + 1 + MaxPaths*4
	MinAcceptSize  = acceptHeader + 1
)

// A propose is the session dialler's:
//
//	number 32 ‖ X25519 key[32] ‖ ML-KEM-768 encapsulation key[1184] ‖ n 8 ‖ n × path 32
//
// with 1 to MaxPaths paths, ascending.
type propose struct {
	number uint32
	x      *ecdh.PublicKey
	kem    *mlkem.EncapsulationKey768
	paths  []uint32
}

func (p *propose) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, p.number)
	b = append(b, p.x.Bytes()...)
	b = append(b, p.kem.Bytes()...)
	return appendPaths(b, p.paths)
}

func parsePropose(b []byte) (p propose, err error) {
	if len(b) < MinProposeSize || len(b) > MaxProposeSize {
		return p, fmt.Errorf("%w: %d bytes", ErrMalformed, len(b))
	}
	p.number = binary.BigEndian.Uint32(b)
	if p.x, err = parseX25519(b[4:][:sizeKeys]); err != nil {
		return p, err
	}
	if p.kem, err = mlkem.NewEncapsulationKey768(b[4+sizeKeys : proposeHeader]); err != nil {
		return p, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	p.paths, err = parsePaths(b[proposeHeader:])
	return p, err
}

// An accept is the session responder's answer:
//
//	number 32 ‖ X25519 key[32] ‖ ML-KEM-768 ciphertext[1088] ‖ n 8 ‖ n × path 32
//
// with those of the proposal's paths, ascending, that are alive: maybe none.
type accept struct {
	number     uint32
	x          *ecdh.PublicKey
	ciphertext []byte
	paths      []uint32
}

func (a *accept) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, a.number)
	b = append(b, a.x.Bytes()...)
	b = append(b, a.ciphertext...)
	return appendPaths(b, a.paths)
}

func parseAccept(b []byte) (a accept, err error) {
	if len(b) < MinAcceptSize || len(b) > MaxAcceptSize {
		return a, fmt.Errorf("%w: %d bytes", ErrMalformed, len(b))
	}
	a.number = binary.BigEndian.Uint32(b)
	if a.x, err = parseX25519(b[4:][:sizeKeys]); err != nil {
		return a, err
	}
	a.ciphertext = b[4+sizeKeys : acceptHeader]
	a.paths, err = parsePaths(b[acceptHeader:])
	return a, err
}

func appendPaths(b []byte, ids []uint32) []byte {
	b = append(b, byte(len(ids)))
	for _, id := range ids {
		b = binary.BigEndian.AppendUint32(b, id)
	}
	return b
}

// parsePaths reads a list of at most MaxPaths paths that is all of b.
func parsePaths(b []byte) ([]uint32, error) {
	n := int(b[0])
	if n > MaxPaths || len(b) != 1+n*4 {
		return nil, fmt.Errorf("%w: %d paths in %d bytes", ErrMalformed, n, len(b))
	}
	ids := make([]uint32, n)
	last := uint32(0) // no path has this id
	for i := range ids {
		ids[i] = binary.BigEndian.Uint32(b[1+i*4:])
		if ids[i] <= last {
			return nil, fmt.Errorf("%w: path %d after %d", ErrMalformed, ids[i], last)
		}
		last = ids[i]
	}
	return ids, nil
}

// parseX25519 refuses what nobody computes: a coordinate that is not below
// 2^255 − 19. Points of small order are refused by the multiplication.
func parseX25519(b []byte) (*ecdh.PublicKey, error) {
	for i := sizeKeys - 1; ; i-- {
		prime := byte(0xff)
		switch i {
		case 0:
			prime = 0xed
		case sizeKeys - 1:
			prime = 0x7f
		}
		if b[i] < prime {
			break
		}
		if b[i] > prime || i == 0 {
			return nil, ErrPoint
		}
	}
	return ecdh.X25519().NewPublicKey(b)
}
