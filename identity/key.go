package identity

import (
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha512"
	"fmt"
	"io"
	"log/slog"
)

// SeedSize is the length in bytes of the secret from which a [Key] is made (RFC 8032 §5.1.5).
const SeedSize = ed25519.SeedSize

// A Key is a peer's private key. It does not change and is safe for concurrent use.
//
// Formatting, logging or marshalling a Key never shows the secret. The secret is in memory for as long as the Key is,
// and Go may have copied it: splitmesh does not claim to wipe it.
type Key struct {
	id ID
	// secret hides behind a function because nothing sees into a closure. fmt calls no methods on the unexported fields
	// of another package's struct, and follows a pointer there when the verb does not fit, as %s does not.
	secret func() *secret
}

type secret struct {
	ed25519 ed25519.PrivateKey
	x25519  *ecdh.PrivateKey
}

// GenerateKey makes a new key from the system's random numbers.
func GenerateKey() (*Key, error) {
	seed := make([]byte, SeedSize)
	if _, err := rand.Read(seed); err != nil {
		return nil, fmt.Errorf("identity: generating a key: %w", err)
	}
	return NewKeyFromSeed(seed)
}

// NewKeyFromSeed makes the key of a 32-byte seed, which it copies. It returns [ErrSeedLength] for any other length.
func NewKeyFromSeed(seed []byte) (*Key, error) {
	if len(seed) != SeedSize {
		return nil, fmt.Errorf("%w, not %d", ErrSeedLength, len(seed))
	}
	private := ed25519.NewKeyFromSeed(seed)
	h := sha512.Sum512(seed) // RFC 8032 §5.1.5: the scalar is the first half, clamped, and X25519 clamps as Ed25519 does
	x, err := ecdh.X25519().NewPrivateKey(h[:32])
	if err != nil {
		return nil, fmt.Errorf("identity: making the X25519 form of a key: %w", err)
	}
	s := &secret{ed25519: private, x25519: x}
	return &Key{id: ID(private[SeedSize:]), secret: func() *secret { return s }}, nil
}

// ID returns the public half.
func (k *Key) ID() ID { return k.id }

// Seed returns a copy of the 32-byte secret from which [NewKeyFromSeed] makes the key again. It is for storing the key.
func (k *Key) Seed() []byte { return k.secret().ed25519.Seed() }

// Sign signs msg for the purpose what, such as "record", and returns 64 bytes. The signature is plain Ed25519
// (RFC 8032 §5.1.6) over
//
//	"splitmesh/v1/" ‖ what ‖ 0x00 ‖ msg
//
// so that one made for a purpose is worth nothing for another. A purpose is a constant of the program; Sign panics when
// it is empty or holds a zero byte.
func (k *Key) Sign(what string, msg []byte) []byte {
	if !validPurpose(what) {
		panic(fmt.Sprintf("identity: signing for the purpose %q: it must be a name without a zero byte", what))
	}
	return ed25519.Sign(k.secret().ed25519, signed(what, msg))
}

// X25519 returns the Montgomery form of the key, whose public half is [ID.X25519] of [Key.ID]. The value is shared and
// does not change.
func (k *Key) X25519() *ecdh.PrivateKey { return k.secret().x25519 }

// The methods below have value receivers, so that they hold for a Key and for a *Key alike.

// String returns the key's ID and says that the rest is withheld.
func (k Key) String() string { return "private key of " + k.id.String() + " (withheld)" }

// GoString is [Key.String].
func (k Key) GoString() string { return k.String() }

// Format prints [Key.String] for every verb and flag.
func (k Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

// LogValue logs [Key.String].
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// MarshalJSON returns [ErrSecret].
func (k Key) MarshalJSON() ([]byte, error) { return nil, ErrSecret }

// MarshalText returns [ErrSecret].
func (k Key) MarshalText() ([]byte, error) { return nil, ErrSecret }

// MarshalBinary returns [ErrSecret].
func (k Key) MarshalBinary() ([]byte, error) { return nil, ErrSecret }
