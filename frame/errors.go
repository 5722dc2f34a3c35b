package frame

import (
	"errors"
	"fmt"
)

// What can be wrong with a frame. Every error of this package is an [*Error]
// that wraps one of these, or an error of the reader that a frame came from.
var (
	ErrVersion   = errors.New("the other side speaks another version of the protocol: update the older of the two")
	ErrType      = errors.New("not a type of frame that belongs here")
	ErrLength    = errors.New("length out of bounds")
	ErrSequence  = errors.New("frame is not the next one of its path: it was lost, doubled, moved or altered")
	ErrEpoch     = errors.New("frame of an epoch that there is no key for")
	ErrAuth      = errors.New("frame was altered, or sealed with another key")
	ErrExhausted = errors.New("the key has sealed all the frames that it may: rekey")
	ErrSuite     = errors.New("unknown cipher suite")
)

// An Error says which field of a frame was wrong, and what it was.
type Error struct {
	Op    string // "seal", "open", "read" or "rekey"
	Field string // "version", "type", "length", "sequence", "epoch", "frames", "suite" or "tag"
	Got   uint64 // the value found; nothing for a tag
	Want  uint64 // the value, or the bound, that it broke; nothing for a tag
	Err   error  // which error it is: one of the Err variables above
}

// Error returns a text without any key, plaintext or tag.
func (e *Error) Error() string {
	if e.Field == "tag" {
		return fmt.Sprintf("frame: %s: %v", e.Op, e.Err)
	}
	return fmt.Sprintf("frame: %s: %v (%s %d, want %d)", e.Op, e.Err, e.Field, e.Got, e.Want)
}

// Unwrap returns e.Err.
func (e *Error) Unwrap() error { return e.Err }

// checkLength returns an error unless min ≤ n ≤ max.
func checkLength(op string, n, min, max int) error {
	switch {
	case n < min:
		return &Error{op, "length", uint64(n), uint64(min), ErrLength}
	case n > max:
		return &Error{op, "length", uint64(n), uint64(max), ErrLength}
	}
	return nil
}
