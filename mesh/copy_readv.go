//go:build linux || darwin

package mesh

import (
	"errors"
	"io"
	"os"
	"reflect"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/splitmesh/splitmesh/internal/buf"
)

// vectored returns a vector of what is a TCP conn of package net, also as that hands itself
// to ReadFrom, and nil of all else: the Read of a type around one may do more than read.
func vectored(r io.Reader) *vector {
	c, ok := r.(syscall.Conn)
	if !ok {
		return nil
	}
	t := reflect.TypeOf(r)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.PkgPath() != "net" || !strings.HasPrefix(strings.ToLower(t.Name()), "tcpconn") {
		return nil
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	return &vector{conn: raw, width: 1}
}

// read returns what has come, each piece behind head bytes; with io.EOF when that is the last.
func (v *vector) read(bufs []*buf.Buf, head int) ([]*buf.Buf, error) {
	var n int
	var failed error
	err := v.conn.Read(func(fd uintptr) bool {
		bufs = v.fill(bufs, head)
		var room [maxVector][]byte
		for i, b := range bufs {
			room[i] = b.B[head:]
		}
		for {
			n, failed = unix.Readv(int(fd), room[:len(bufs)])
			if !errors.Is(failed, unix.EINTR) {
				break
			}
		}
		if errors.Is(failed, unix.EAGAIN) {
			for _, b := range bufs {
				b.Release()
			}
			bufs = bufs[:0]
			return false
		}
		return true
	})
	bufs = v.cut(bufs, head, max(n, 0))
	switch {
	case err != nil:
		return bufs[:0], err
	case failed != nil:
		return bufs[:0], os.NewSyscallError("readv", failed)
	case n == 0:
		return bufs[:0], io.EOF
	}
	return bufs, nil
}
