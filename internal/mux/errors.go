package mux

import (
	"errors"
	"fmt"
)

var (
	// ErrReset is what a stream's methods return after the peer has reset it or
	// refused it.
	ErrReset = errors.New("mux: the peer reset the stream")
	// ErrGoAway is returned by Open once the peer has asked for no more streams:
	// open a new session, the streams that live may finish on this one.
	ErrGoAway = errors.New("mux: the peer accepts no more streams on this session")
	// ErrExhausted is returned by Open after 2^31 streams, less the reserved
	// one: open a new session.
	ErrExhausted = errors.New("mux: all stream ids of this session are used")
)

// A ProtocolError says how the peer broke the protocol. The bytes that follow
// cannot be trusted to be frames: the session ends.
type ProtocolError struct {
	Stream uint32 // the stream it happened on; 0 means none
	What   string
}

func (e *ProtocolError) Error() string {
	if e.Stream == 0 {
		return "mux: the peer broke the protocol: " + e.What
	}
	return fmt.Sprintf("mux: the peer broke the protocol on stream %d: %s", e.Stream, e.What)
}

func violation(stream uint32, format string, args ...any) error {
	return &ProtocolError{Stream: stream, What: fmt.Sprintf(format, args...)}
}

// A GoAwayError says that the peer gave up the session, and that it blames.
type GoAwayError struct {
	Code uint32 // 1: a protocol error of ours; 2: an internal error of its own
}

func (e *GoAwayError) Error() string {
	if e.Code == goAwayProtocol {
		return "mux: the peer ended the session: it says that we broke the protocol"
	}
	return "mux: the peer ended the session after an internal error"
}
