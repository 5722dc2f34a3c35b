package mdns

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// reusePort lets those share the port too who set nothing but SO_REUSEPORT.
func reusePort(_, _ string, c syscall.RawConn) error {
	var err error
	if failed := c.Control(func(fd uintptr) {
		err = os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
	}); failed != nil {
		return failed
	}
	return err
}
