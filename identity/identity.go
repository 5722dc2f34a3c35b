// Package identity says who a peer is: an Ed25519 key pair, and an [ID] that is the public half of it.
//
// Nobody hands IDs out and nobody can take one away: whoever holds the seed is the peer. The smallest program makes one,
// signs with it, and lets anybody who knows the ID check:
//
//	key, err := identity.GenerateKey()
//	if err != nil {
//		return err
//	}
//	sig := key.Sign("greeting", []byte("hello"))
//	fmt.Println(key.ID(), key.ID().Verify("greeting", []byte("hello"), sig))
//
// What the package promises:
//
//   - An ID that came from [NewID], [ParseID], [ID.UnmarshalText] or a [Key] is the canonical encoding of a point of the
//     prime-order subgroup, so that two IDs that differ name two keys, and no ID is a key for which everybody can sign.
//   - There is one text for an ID in each of its two spellings (see [ParseID]), and nothing else is accepted.
//   - A signature made for one purpose verifies for no other (see [Key.Sign]).
//   - A [Key] does not show its seed through fmt, log/slog or encoding/json: only [Key.Seed] returns it.
//
// Package identity/keystore keeps a key in an encrypted file, and identity/keychain keeps that file's passphrase in the
// system's keychain; they are apart so that a program that needs neither links neither.
package identity

import (
	"bytes"
	"crypto/ed25519"
	"strings"

	"filippo.io/edwards25519"
)

// Size is the length in bytes of an ID, which is that of an Ed25519 public key (RFC 8032 §5.1.5).
const Size = ed25519.PublicKeySize

// SignatureSize is the length in bytes of what [Key.Sign] returns.
const SignatureSize = ed25519.SignatureSize

// ID names a peer: it is the peer's Ed25519 public key in the encoding of RFC 8032 §5.1.2.
//
// IDs are comparable and may be map keys. The zero value names nobody. Converting bytes to an ID directly skips the
// checks; bytes that came from elsewhere belong in [NewID].
type ID [Size]byte

// NewID takes the 32 bytes of an Ed25519 public key and returns the ID that they are.
//
// It refuses, with an [*IDError] that wraps the sentinel named here, a wrong length ([ErrLength]), bytes that encode no
// point ([ErrNotOnCurve]) or encode one in a second way ([ErrNotCanonical]), a point of order 8 or less, for which
// signatures and key agreements can be forged ([ErrLowOrder]), and any other point outside the prime-order subgroup
// ([ErrMixedOrder]), which no seed leads to and which would give one X25519 agreement several names. The last check is
// a scalar multiplication, about 40 µs, the first time.
func NewID(publicKey []byte) (ID, error) {
	if len(publicKey) != Size {
		return ID{}, &IDError{Input: clip(publicKey), Err: ErrLength}
	}
	id := ID(publicKey)
	if recall(&id) != nil {
		return id, nil
	}
	p, err := id.point()
	if err == nil && !inPrimeSubgroup(p) {
		err = ErrMixedOrder
	}
	if err != nil {
		return ID{}, &IDError{Input: clip(publicKey), Err: err}
	}
	place(&id).Store(&checked{id, [32]byte(p.BytesMontgomery())})
	return id, nil
}

// point decodes id, and refuses everything that NewID refuses except a point of mixed order: this is the cheap part.
func (id ID) point() (*edwards25519.Point, error) {
	p, err := new(edwards25519.Point).SetBytes(id[:])
	if err != nil {
		return nil, ErrNotOnCurve
	}
	// SetBytes also takes encodings that RFC 8032 §5.1.3 forbids: y ≥ p, and x = 0 with the sign bit set.
	if !bytes.Equal(p.Bytes(), id[:]) {
		return nil, ErrNotCanonical
	}
	if new(edwards25519.Point).MultByCofactor(p).Equal(edwards25519.NewIdentityPoint()) == 1 {
		return nil, ErrLowOrder
	}
	return p, nil
}

// minusOne is the scalar l − 1, where l is the order of the prime-order subgroup.
var minusOne = func() *edwards25519.Scalar {
	one, err := new(edwards25519.Scalar).SetCanonicalBytes(append([]byte{1}, make([]byte, 31)...))
	if err != nil {
		panic("identity: the scalar 1 is not canonical: " + err.Error())
	}
	return new(edwards25519.Scalar).Negate(one)
}()

// inPrimeSubgroup reports whether l·p is the identity. A scalar cannot hold l, so it asks whether (l−1)·p = −p.
// The time depends on p, which is public.
func inPrimeSubgroup(p *edwards25519.Point) bool {
	q := new(edwards25519.Point).VarTimeDoubleScalarBaseMult(minusOne, p, edwards25519.NewScalar())
	return q.Equal(new(edwards25519.Point).Negate(p)) == 1
}

// IsZero reports whether id is the zero value, which names nobody.
func (id ID) IsZero() bool { return id == ID{} }

// Compare orders IDs by their bytes: −1 when id comes first, 0 when both are one, +1 otherwise.
func (id ID) Compare(other ID) int { return bytes.Compare(id[:], other[:]) }

// X25519 returns the Montgomery form of the key (RFC 7748 §4.1): the X25519 public key whose private half is
// [Key.X25519]. A key and its negation share it, so it does not name an ID by itself.
// For an ID that [NewID] refuses for its point it returns zeros, with which every X25519 agreement fails.
func (id ID) X25519() [32]byte {
	if c := recall(&id); c != nil {
		return c.x25519
	}
	p, err := id.point()
	if err != nil {
		return [32]byte{}
	}
	return [32]byte(p.BytesMontgomery())
}

// Verify reports whether sig is the signature over msg that the holder of id's key made for the purpose what.
// It is false for an ID that is no proper key, the zero ID included, and for a purpose that [Key.Sign] would not take.
func (id ID) Verify(what string, msg, sig []byte) bool {
	if len(sig) != SignatureSize || !validPurpose(what) {
		return false
	}
	if _, err := id.point(); err != nil { // a low-order key would accept a signature that anybody can write
		return false
	}
	return ed25519.Verify(id[:], signed(what, msg), sig)
}

// domain begins everything that is signed or hashed here, so that a key used elsewhere too stays unharmed.
const domain = "splitmesh/v1/"

// signed is what a signature covers: the domain, the purpose, a zero byte and the message. No purpose holds a zero
// byte, so two pairs of purpose and message never give the same bytes.
func signed(what string, msg []byte) []byte {
	b := make([]byte, 0, len(domain)+len(what)+1+len(msg))
	b = append(b, domain...)
	b = append(b, what...)
	b = append(b, 0)
	return append(b, msg...)
}

func validPurpose(what string) bool { return what != "" && strings.IndexByte(what, 0) < 0 }
