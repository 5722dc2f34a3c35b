// Package forward carries TCP connections over the mesh: a local port to a peer's service, a peer's port to us, and what
// all of these need, who may come, how many at once, and bytes both ways.
package forward

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Buffers. A conn that carries little has a small one, so that many that wait cost little; one that fills it has a large
// one, of which there are so many at most.
const (
	smallBuffer = 16 << 10
	largeBuffer = 1 << 20
	maxLarge    = 128 // 128 MiB in all
)

var (
	largeBuffers = sync.Pool{New: func() any { return new([largeBuffer]byte) }}
	largeInUse   atomic.Int32
)

// halfOpen is how long a conn of which one way has ended may carry nothing the other way. Who sends no more and who has
// gone altogether look the same, and some would never be told that there is nobody for their answer.
const halfOpen = 15 * time.Minute

// Pipe carries bytes both ways, and the end of each way by itself, until both have ended, one has failed, the one that is
// left is idle for long or ctx is done. Then it closes both conns. A TCP conn whose bytes have not all come through is reset, so that nobody takes a part for
// the whole.
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
	small := make([]byte, smallBuffer)
	buf, release := small, func() {}
	defer func() { release() }()
	for {
		if half.Load() {
			_ = src.SetReadDeadline(time.Now().Add(halfOpen)) // it fails for what is closed, as Read will
		}
		n, err := src.Read(buf)
		if n > 0 {
			if _, err := dst.Write(buf[:n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			half.Store(true)
			_ = dst.SetReadDeadline(time.Now().Add(halfOpen)) // the other way may be in Read
			return closeWrite(dst)
		case err != nil:
			return err
		case n == smallBuffer && len(buf) == smallBuffer:
			if large, put := takeLarge(); large != nil {
				buf, release = large, put
			}
		case n < smallBuffer && len(buf) == largeBuffer:
			release()
			buf, release = small, func() {}
		}
	}
}

// takeLarge returns a large buffer and what gives it back, or nil when there are enough of them.
func takeLarge() ([]byte, func()) {
	if largeInUse.Add(1) > maxLarge {
		largeInUse.Add(-1)
		return nil, nil
	}
	b := largeBuffers.Get().(*[largeBuffer]byte)
	return b[:], func() {
		largeBuffers.Put(b)
		largeInUse.Add(-1)
	}
}

// closeWrite ends the sending direction. What can't do that has its end in Close.
func closeWrite(c net.Conn) error {
	if w, ok := c.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}

// reset closes a conn so that a TCP peer sees an error, not an end.
func reset(c net.Conn) {
	if l, ok := c.(interface{ SetLinger(int) error }); ok {
		_ = l.SetLinger(0) // it fails for what is closed
	}
	c.Close()
}
