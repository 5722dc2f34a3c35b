package rekey

import "errors"

// What can be wrong with a message, or with what is asked of a [State]. Every
// error of this package is an [*Error] that wraps one of these. One about a
// message of the peer means that the peer broke the protocol.
var (
	ErrMalformed = errors.New("not what a sender would write")
	ErrPoint     = errors.New("a public key in it is of small order or not canonical")
	ErrRole      = errors.New("not for this end: the session dialler proposes, the other end wishes and accepts")
	ErrNumber    = errors.New("not the number of the commit that is due")
	ErrPaths     = errors.New("paths that can't be meant")
	ErrEarly     = errors.New("the last commit is not complete on every path that lives")
)

// An Error says which message was wrong, and why. Its text holds no secret.
type Error struct {
	Message string // "propose", "accept" or "wish"; "join" for a path that was added
	Err     error
}

func (e *Error) Error() string { return "rekey: " + e.Message + ": " + e.Err.Error() }

// Unwrap returns e.Err.
func (e *Error) Unwrap() error { return e.Err }
