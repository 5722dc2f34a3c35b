//go:build !unix && !js

package websocket

import "io"

// A poll is for unix.
type poll struct{}

func newPoll(io.ReadWriter) *poll { return nil }

func (*poll) fill(*reader, int) error { panic("websocket: no poll") }
