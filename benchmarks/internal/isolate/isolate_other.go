//go:build !linux

package isolate

import "os/exec"

// Can reports whether this system has them.
const Can = false

// Isolate does nothing.
func Isolate(*exec.Cmd) {}
