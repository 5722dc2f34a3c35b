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
	higher.Cur, higher.Max = atLeast(l.Cur, want), atLeast(l.Max, want)
	err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &higher)
	if err != nil { // only root may raise Max
		l.Cur = l.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l)
	}
	_ = syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l)
	return int(l.Cur), err
}

// The limits are of either type, by platform.
func atLeast[T int64 | uint64](have T, want int) T { return max(have, T(want)) }

// used is the CPU time of this process, and how often its threads have gone to
// sleep, and so been woken.
func used() (cpu time.Duration, wakeups int64) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), int64(u.Nvcsw) //nolint:unconvert // int32 on some platforms
}

func cpuTime() time.Duration {
	cpu, _ := used()
	return cpu
}
