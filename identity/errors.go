package identity

import (
	"errors"
	"fmt"
)

// Why bytes or a text are no ID. They come wrapped in an [*IDError].
var (
	ErrLength       = errors.New("wrong length: an ID has 56 characters, a peer ID 52 beginning with 12D3KooW, a public key 32 bytes; copy it whole")
	ErrSpelling     = errors.New("not the spelling of an ID: only lower-case base32, or a libp2p peer ID of an Ed25519 key, is accepted")
	ErrChecksum     = errors.New("the checksum does not match: a character is mistyped; copy the ID again")
	ErrVersion      = errors.New("made by a later version of splitmesh: upgrade this program")
	ErrNotOnCurve   = errors.New("not a point of the curve, so not an Ed25519 public key")
	ErrNotCanonical = errors.New("not the canonical encoding of its point")
	ErrLowOrder     = errors.New("a point of low order, for which anybody can sign")
	ErrMixedOrder   = errors.New("a point outside the prime-order subgroup, which no private key leads to")
)

// ErrSecret is the answer to an attempt to marshal a [Key]: a secret leaves only by [Key.Seed].
var ErrSecret = errors.New("identity: a private key is not marshalled; keep it with package identity/keystore")

// ErrSeedLength is the answer to a seed that is not 32 bytes long.
var ErrSeedLength = errors.New("identity: a seed has 32 bytes")

// An IDError says that bytes or a text are no ID, and why.
type IDError struct {
	Input string // what was given: the text, quoted, or the bytes in hexadecimal; cut after 80 characters
	Err   error  // one of the sentinels above
}

func (e *IDError) Error() string { return fmt.Sprintf("identity: %s is no ID: %v", e.Input, e.Err) }

// Unwrap returns the sentinel.
func (e *IDError) Unwrap() error { return e.Err }

// clip makes a short printable form of what may be long and hostile.
func clip[T string | []byte](b T) string {
	const most = 80
	dots := ""
	switch v := any(b).(type) {
	case []byte:
		if len(v) > most/2 {
			v, dots = v[:most/2], "…"
		}
		return fmt.Sprintf("%x%s", v, dots)
	default:
		s := any(b).(string)
		if len(s) > most {
			s, dots = s[:most], "…"
		}
		return fmt.Sprintf("%q%s", s, dots)
	}
}
