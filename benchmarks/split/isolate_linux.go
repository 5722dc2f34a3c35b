package main

import (
	"os/exec"
	"syscall"
)

const canIsolate = true

// isolate has the command run in a network namespace of its own, which goes with it.
func isolate(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET} }
