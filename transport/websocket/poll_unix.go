//go:build unix

package websocket

import (
	"io"
	"net"
	"os"
	"syscall"
)

// A poll reads a socket with memory that is taken when something has come, not
// before: a connection that waits holds none, and a long message is received where
// it will be handed over, in one call with its header.
type poll struct {
	raw  syscall.RawConn
	step func(fd uintptr) bool // ready, bound once

	// Of the fill that runs.
	r    *reader
	size int
	err  error
}

// newPoll returns nil for what is no TCP socket. A type around one may do more in
// its Read, and is none.
func newPoll(rw io.ReadWriter) *poll {
	tcp, ok := rw.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	p := &poll{raw: raw}
	p.step = p.ready
	return p
}

// fill waits until something has come, and reads it to r's window, up to size
// bytes.
func (p *poll) fill(r *reader, size int) error {
	p.r, p.size, p.err = r, size, nil
	err := p.raw.Read(p.step)
	if err == nil {
		err = p.err
	}
	r.tidy()
	return err
}

// ready reads once. It reports false when nothing has come.
func (p *poll) ready(fd uintptr) bool {
	r := p.r
	r.grow(p.size)
	have := len(r.in.B)
	for {
		n, err := syscall.Read(int(fd), r.in.B[have:p.size])
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			r.tidy()
			return false
		case err != nil:
			p.err = os.NewSyscallError("read", err)
		case n == 0:
			p.err = io.EOF
		default:
			r.in.B = r.in.B[:have+n]
			r.received.Add(int64(n))
		}
		return true
	}
}
