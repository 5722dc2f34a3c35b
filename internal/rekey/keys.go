package rekey

import (
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// Labels of what is derived.
const (
	labelRoot    = "splitmesh/v1/root"
	labelCommit  = "splitmesh/v1/commit"
	labelTraffic = "splitmesh/v1/traffic"
)

// Directions, by who seals.
const (
	fromDialler   = 0 // the session dialler
	fromResponder = 1
)

// rootOf returns the secret that the first commit goes on from, given the
// exporter secret of the session's first path.
func rootOf(exporter *[32]byte) [32]byte { return expand(exporter, labelRoot) }

// trafficOf returns the traffic secret of one direction of a path, given the
// root of the commit that moved it.
func trafficOf(root *[32]byte, path uint32, direction byte) [32]byte {
	info := binary.BigEndian.AppendUint32([]byte(labelTraffic), path)
	return expand(root, string(append(info, direction)))
}

// expand returns HKDF-Expand-SHA256(secret, info, 32).
func expand(secret *[32]byte, info string) [32]byte {
	key, err := hkdf.Expand(sha256.New, secret[:], info, 32)
	if err != nil { // not for a length within HKDF's bound
		panic("rekey: " + err.Error())
	}
	return [32]byte(key)
}

// secrets are what one commit mixes in, of 32 bytes each: X25519, ML-KEM, then
// the exporters of paths.
type secrets struct {
	b [(2 + MaxPaths) * 32]byte
	n int
}

// add takes b over and overwrites it.
func (m *secrets) add(b []byte) {
	m.n += copy(m.b[m.n:], b)
	clear(b)
}

// addPath adds the exporter of p if no commit has mixed it in yet.
func (m *secrets) addPath(p *path) {
	if p.epoch == 0 {
		m.n += copy(m.b[m.n:], p.exporter[:])
	}
}

// agree adds the X25519 secret.
func (m *secrets) agree(own *ecdh.PrivateKey, peer *ecdh.PublicKey) error {
	shared, err := own.ECDH(peer) // refuses points of small order
	if err != nil {
		return fmt.Errorf("%w: %w", ErrPoint, err)
	}
	m.add(shared)
	return nil
}

// next returns the root after old.
func (m *secrets) next(old *[32]byte, propose, accept []byte) [32]byte {
	h := sha256.New()
	h.Write(propose)
	h.Write(accept)
	root, err := hkdf.Key(sha256.New, m.b[:m.n], old[:], string(h.Sum([]byte(labelCommit))), 32)
	if err != nil { // not for a length within HKDF's bound
		panic("rekey: " + err.Error())
	}
	return [32]byte(root)
}

func (m *secrets) erase() { *m = secrets{} }
