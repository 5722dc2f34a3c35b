//go:build unix

package mesh_test

import (
	"syscall"
	"time"
)

// cpuTime is what the process has used of the processor so far.
func cpuTime() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
