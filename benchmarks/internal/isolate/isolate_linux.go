// Package isolate has processes run in network namespaces of their own.
package isolate

import (
	"os/exec"
	"syscall"
)

// Can reports whether this system has them.
const Can = true

// Isolate has the command run in a network namespace of its own, which goes with it. That takes root.
func Isolate(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET} }
