//go:build unix

package main

import (
	"syscall"
	"time"
)

// openFiles raises the limit of open files to at least want where that is
// allowed, and returns it, with why it isn't higher.
func openFiles(want int) (int, error) {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 1024, err
	}
	if int64(l.Cur) >= int64(want) {
		return int(l.Cur), nil
	}
	higher := l
	higher.Cur, higher.Max = max(l.Cur, uint64(want)), max(l.Max, uint64(want))
	err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &higher)
	if err != nil { // only root may raise Max
		l.Cur = l.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l)
	}
	_ = syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l)
	return int(l.Cur), err
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
