package handshake

import (
	"context"
	"errors"
	"io"
	"net"

	"github.com/splitmesh/splitmesh/frame"
)

// ReadMessage reads exactly one message of the handshake from r, and nothing of
// the data behind it. It allocates at most MaxMessage bytes.
func ReadMessage(r io.Reader) ([]byte, error) { return frame.ReadFull(r, MaxMessage) }

// Run does the rest of the handshake on conn, which has carried the opening: it
// reads message 2 and writes message 3. It takes at most Timeout, and no longer
// than ctx; neither bounds conn once Run has returned. On an error conn is closed.
func (d *Dialler) Run(ctx context.Context, conn net.Conn) (*Result, error) {
	return run(ctx, conn, "message 2", func() (*Result, error) {
		if d.over {
			return nil, ErrState
		}
		msg2, err := ReadMessage(conn)
		if err != nil {
			d.end()
			return nil, err
		}
		msg3, result, err := d.Finish(msg2)
		if err != nil {
			return nil, err
		}
		_, err = conn.Write(msg3)
		return result, err
	})
}

// Run does the rest of the handshake on conn, which brought the opening: it
// writes message 2, with the given answer, and reads message 3. It takes at most
// Timeout, and no longer than ctx; neither bounds conn once Run has returned. On
// an error, which ErrUnknownToken after a refusal is too, conn is closed.
func (r *Responder) Run(ctx context.Context, conn net.Conn, a Answer) (*Result, error) {
	return run(ctx, conn, "message 3", func() (*Result, error) {
		msg2, err := r.Answer(a)
		if err != nil {
			return nil, err
		}
		if _, err := conn.Write(msg2); err != nil {
			r.end()
			return nil, err
		}
		if a.Refuse {
			return r.Finish(nil)
		}
		msg3, err := ReadMessage(conn)
		if err != nil {
			r.end()
			return nil, err
		}
		return r.Finish(msg3)
	})
}

// run calls f, which uses conn, and closes conn when time is up. It is closed
// rather than given a deadline: for some connections a deadline that has passed is
// the end, and none may be left behind for who uses conn next. Closing conn
// ends f, so that f never outlives run; nor does the goroutine that closes.
func run(ctx context.Context, conn net.Conn, stage string, f func() (*Result, error)) (*Result, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, Timeout, ErrTimeout)
	defer cancel()
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		_ = conn.Close()
	})
	result, err := f()
	if !stop() {
		<-closed
		if !errors.Is(err, ErrUnknownToken) { // which is final, where time being up is not
			err = context.Cause(ctx)
		}
	}
	if err == nil {
		return result, nil
	}
	_ = conn.Close()
	if _, ok := err.(*Error); !ok {
		err = &Error{stage, err}
	}
	return nil, err
}
