//go:build !linux

package main

import "os/exec"

const canIsolate = false

func isolate(*exec.Cmd) {}
