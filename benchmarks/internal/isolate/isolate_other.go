//go:build !linux

// Package isolate has processes run in network namespaces of their own, on Linux.
package isolate

import "os/exec"

// Can reports whether this system has them.
const Can = false

// Isolate does nothing.
func Isolate(*exec.Cmd) {}
