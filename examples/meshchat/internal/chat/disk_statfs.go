//go:build linux || darwin || freebsd

package chat

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// errFull is what the system says of a full disk, for the exit status.
var errFull error = syscall.ENOSPC

// available is how many bytes an ordinary user may still write to the disk of dir.
func available(dir string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return uint64(max(st.Bavail, 0)) * uint64(st.Bsize), nil //nolint:unconvert // the types are others on other systems
}
