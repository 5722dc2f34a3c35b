package handshake

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"

	"github.com/splitmesh/splitmesh/identity"
)

// derive returns HKDF-SHA256(ikm, salt, info, 32).
func derive(info string, salt []byte, ikm ...[]byte) [32]byte {
	var all []byte
	for _, b := range ikm {
		all = append(all, b...)
	}
	key, err := hkdf.Key(sha256.New, all, salt, info, 32)
	if err != nil { // not for a length within HKDF's bound
		panic("handshake: " + err.Error())
	}
	return [32]byte(key)
}

// sealKey returns the key of the frames that carry a handshake with responder.
// Whoever knows the responder's ID and the network key has it: it hides that
// this is a handshake from everybody else, and proves nothing.
func sealKey(responder identity.ID, network *[32]byte) [32]byte {
	return derive("splitmesh/v1/hs", nil, responder[:], network[:])
}

// pskOf returns what message 2 mixes in. join is zeros for a path that does not
// join, or is refused. h1 is the hash after message 1.
func pskOf(shared []byte, network, join, h1 *[32]byte, ciphertext []byte) [32]byte {
	c := sha256.Sum256(ciphertext)
	return derive("splitmesh/v1/psk", append(h1[:len(h1):len(h1)], c[:]...), shared, network[:], join[:])
}

func exporterOf(s *split, binding *[32]byte) [32]byte {
	return derive("splitmesh/v1/exporter", binding[:], s.fromInitiator[:], s.fromResponder[:])
}

// JoinToken returns the n-th token of a session, given its join secret:
// HKDF-Expand-SHA256 with the label "splitmesh/v1/token" and n as 64 bits. Both ends
// compute it. It tells nothing of the secret, nor of the other tokens.
func JoinToken(secret *[32]byte, n uint64) [32]byte { return JoinTokens(secret)(n) }

// JoinTokens is JoinToken of one secret, for many n. What it returns is for one
// goroutine.
func JoinTokens(secret *[32]byte) func(n uint64) [32]byte {
	// One block of HKDF-Expand is HMAC(secret, info ‖ 1): RFC 5869, section 2.3.
	mac := hmac.New(sha256.New, secret[:])
	info := append([]byte("splitmesh/v1/token"), make([]byte, 9)...)
	info[len(info)-1] = 1
	return func(n uint64) [32]byte {
		binary.BigEndian.PutUint64(info[len(info)-9:], n)
		mac.Reset()
		mac.Write(info)
		return [32]byte(mac.Sum(nil))
	}
}

// JoinSecret returns the secret that goes with the join tokens of a session, given
// the exporter of the path that began it: HKDF-Expand-SHA256 with the label
// "splitmesh/v1/join". Both ends compute it; it is never sent.
func JoinSecret(exporter *[32]byte) [32]byte {
	key, err := hkdf.Expand(sha256.New, exporter[:], "splitmesh/v1/join", 32)
	if err != nil { // not for a length within HKDF's bound
		panic("handshake: " + err.Error())
	}
	return [32]byte(key)
}
