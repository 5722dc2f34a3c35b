//go:build !unix

package store

import "errors"

// errFull is what we say of a full disk.
var errFull = errors.New("the disk is full")
