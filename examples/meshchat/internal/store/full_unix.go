//go:build unix

package store

import "syscall"

// errFull is what the system says of a full disk, for the exit status.
var errFull error = syscall.ENOSPC
