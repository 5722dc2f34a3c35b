//go:build !linux

package mdns

import "syscall"

// reusePort is set by package net where it differs from SO_REUSEADDR.
func reusePort(string, string, syscall.RawConn) error { return nil }
