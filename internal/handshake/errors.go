package handshake

import (
	"context"
	"errors"
)

// Why a handshake failed. Every error of this package is an [*Error] that wraps
// one of these, or an error of the connection, or of the context.
var (
	ErrConfig       = errors.New("the handshake is not set up right")
	ErrState        = errors.New("the handshake is over, or not at this step: start a new one")
	ErrMalformed    = errors.New("not a message of the handshake")
	ErrAuth         = errors.New("altered, or not from the peer we mean, or the network keys differ")
	ErrPoint        = errors.New("a public key in it is of small order or not canonical")
	ErrIdentity     = errors.New("the dialler does not hold the key that it names")
	ErrReplay       = errors.New("this opening was answered before")
	ErrSuite        = errors.New("no cipher suite that both ends accept")
	ErrUnknownToken = errors.New("the peer does not know the session to join: start a new one")
	ErrTimeout      = errors.New("the peer did not complete the handshake within 10 s")

	errNoPSK = errors.New("the psk is not set")
)

// An Error says at which stage a handshake failed and why. Its text holds no
// secret.
type Error struct {
	Stage string // "config", "opening", "message 2" or "message 3"
	Err   error
}

func (e *Error) Error() string { return "handshake: " + e.Stage + ": " + e.Err.Error() }

// Unwrap returns e.Err.
func (e *Error) Unwrap() error { return e.Err }

// Timeout reports whether the handshake failed for want of time.
func (e *Error) Timeout() bool {
	return errors.Is(e.Err, ErrTimeout) || errors.Is(e.Err, context.DeadlineExceeded)
}
