//go:build unix

package main

import "syscall"

// apart has a process be in a group of its own: a terminal's Ctrl-C is for us alone, and we end it in order.
func apart() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
