//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package file

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// lockFile locks the file path, which it makes when it is missing, until it is closed or the process ends.
func lockFile(path string) (io.Closer, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); {
	case err == nil, errors.Is(err, errors.ErrUnsupported): // a file system that has no locks
		return f, nil
	case errors.Is(err, syscall.EWOULDBLOCK):
		err = ErrInUse
		fallthrough
	default:
		_ = f.Close()
		return nil, err
	}
}
