// Package forward carries TCP connections over the mesh: a local port to a peer's service, a peer's port to us, and what
// all of these need, who may come, how many at once, and bytes both ways.
package forward

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// halfOpen is how long a conn of which one way has ended may carry nothing the other way. Who sends no more and who has
// gone altogether look the same, and some would never be told that there is nobody for their answer.
const halfOpen = 15 * time.Minute

// Pipe carries bytes both ways, and the end of each way by itself, until both have ended, one has failed, the one that is
// left is idle for long or ctx is done. Then it closes both conns. A conn whose bytes have not all come through is reset,
// so that nobody takes a part for the whole. Between TCP and the mesh nothing is copied, and no memory held that waits.
func Pipe(ctx context.Context, a, b net.Conn) error {
	failed := func() {
		reset(a)
		reset(b)
	}
	stop := context.AfterFunc(ctx, failed)
	defer stop()
	back := make(chan error, 1)
	half := new(atomic.Bool)
	go func() { // ends with the conns
		err := carry(a, b, half)
		if err != nil {
			failed()
		}
		back <- err
	}()
	err := carry(b, a, half)
	if err != nil {
		failed()
	}
	err = errors.Join(err, <-back)
	a.Close()
	b.Close()
	return err
}

// carry copies until src ends, and ends dst. half is whether either way has ended.
func carry(dst, src net.Conn, half *atomic.Bool) error {
	for {
		if half.Load() {
			_ = src.SetReadDeadline(time.Now().Add(halfOpen)) // it fails for what is closed, as Copy will
		}
		n, err := io.Copy(dst, src)
		switch {
		case err == nil:
			half.Store(true)
			_ = dst.SetReadDeadline(time.Now().Add(halfOpen)) // the other way may be in Copy
			return closeWrite(dst)
		case n == 0 || !half.Load() || !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		}
	}
}

// closeWrite ends the sending direction. What can't do that has its end in Close.
func closeWrite(c net.Conn) error {
	if w, ok := c.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}

// reset closes a conn so that its peer sees an error, not an end.
func reset(c net.Conn) {
	if l, ok := c.(interface{ SetLinger(int) error }); ok {
		_ = l.SetLinger(0) // it fails for what is closed
	}
	c.Close()
}
