package link

import (
	"context"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/internal/buf"
	"github.com/splitmesh/splitmesh/transport"
)

// Wrap puts a real connection behind l, as a Pipe whose far end is joined to
// conn: Up is what the caller writes. The caller owns the connection returned
// and leaves conn alone.
//
// Close returns at once; what was written before is still delivered, over the
// link, and then conn is closed, as with TCP. A black-holed link therefore keeps
// conn open until it is healed or cut. When l is cut, conn is closed at once,
// with an RST if there is TCP below it. The connection has CloseWrite if conn has.
func Wrap(conn net.Conn, l *Link) net.Conn {
	w := &wrapped{conn: conn}
	p := l.pipe(conn.LocalAddr(), conn.RemoteAddr(), w.reset)
	near, far := p.Conns()
	w.far = far
	go w.send()    // ends once the caller has closed and conn has all, conn fails, or the pipe is cut
	go w.receive() // ends when conn has no more, or is closed, which send and reset do
	if _, ok := conn.(closeWriter); !ok {
		return struct{ net.Conn }{near}
	}
	return near
}

type closeWriter interface{ CloseWrite() error }

// wrapped joins the far end of a pipe to a real connection.
type wrapped struct {
	conn net.Conn
	far  *Conn
}

// send moves what arrives over the link to the real connection, and closes both
// when it is done.
func (w *wrapped) send() {
	last := w.copyOut()
	if last == nil {
		w.far.awaitGone()
	} else {
		w.reset() // which may not have been called yet: a cut is not to look like an end
	}
	// Nothing is left to say to the real connection, and an error of its Close
	// nobody to hear it.
	_ = w.conn.Close()
	w.far.closeWith(errorOr(last, io.EOF))
}

// copyOut is nil when the caller sent its last byte.
func (w *wrapped) copyOut() error {
	b := buf.Get(buf.Classes[len(buf.Classes)-2])
	defer b.Release()
	for {
		n, err := w.far.Read(b.B)
		if n > 0 {
			if _, err := w.conn.Write(b.B[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			if c, ok := w.conn.(closeWriter); ok && !w.far.otherGone() {
				return c.CloseWrite()
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// receive moves what comes from the real connection onto the link.
func (w *wrapped) receive() {
	b := buf.Get(buf.Classes[len(buf.Classes)-2])
	defer b.Release()
	for {
		n, err := w.conn.Read(b.B)
		if n > 0 {
			if _, err := w.far.Write(b.B[:n]); err != nil {
				return // the caller has closed or the pipe is cut: send sees it too
			}
		}
		if err == io.EOF {
			_ = w.far.CloseWrite() // fails only where there is no one to tell
			return
		}
		if err != nil {
			w.far.closeWith(err)
			return
		}
	}
}

// reset closes the real connection as rudely as it can be. It does not wait:
// send does the rest.
func (w *wrapped) reset() {
	inner := w.conn
	for {
		c, ok := inner.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		inner = c.NetConn()
	}
	if c, ok := inner.(interface{ SetLinger(sec int) error }); ok {
		_ = c.SetLinger(0)
		_ = inner.Close()
		return
	}
	_ = w.conn.SetDeadline(time.Unix(1, 0))
}

func errorOr(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

// A Wrapper says which links a wrapped transport's connections go over. A nil
// function, or one that returns nil, leaves connections as they are.
type Wrapper struct {
	// Dial is called before each dial. The dial then takes at least the link's
	// round trip, in which a byte goes each way, and waits while the link is
	// black-holed.
	Dial func(addr multiaddr.Multiaddr) *Link
	// Accept is called with each connection that a listener admitted. Its Up is
	// what the listening side writes.
	Accept func(conn net.Conn) *Link
}

// WrapTransport returns tr with its connections behind links. What tr exchanges
// while it connects, the opening included, is not shaped.
func WrapTransport(tr transport.Transport, w Wrapper) transport.Transport {
	return &wrappedTransport{Transport: tr, w: w}
}

type wrappedTransport struct {
	transport.Transport
	w Wrapper
}

// Dial dials and puts the connection behind its link.
func (t *wrappedTransport) Dial(ctx context.Context, addr multiaddr.Multiaddr, opening []byte) (net.Conn, error) {
	var l *Link
	if t.w.Dial != nil {
		l = t.w.Dial(addr)
	}
	if l == nil {
		return t.Transport.Dial(ctx, addr, opening)
	}
	if err := l.roundTrip(ctx); err != nil {
		return nil, fmt.Errorf("dial %s over the link: %w", addr, err)
	}
	conn, err := t.Transport.Dial(ctx, addr, opening)
	if err != nil {
		return nil, err
	}
	return Wrap(conn, l), nil
}

// Listen puts the connections admitted behind their links.
func (t *wrappedTransport) Listen(ctx context.Context, addr multiaddr.Multiaddr, admit transport.Admit) (transport.Listener, error) {
	if t.w.Accept == nil {
		return t.Transport.Listen(ctx, addr, admit)
	}
	return t.Transport.Listen(ctx, addr, func(opening []byte) func(net.Conn) {
		take := admit(opening)
		if take == nil {
			return nil
		}
		return func(conn net.Conn) {
			if conn != nil {
				if l := t.w.Accept(conn); l != nil {
					conn = Wrap(conn, l)
				}
			}
			take(conn)
		}
	})
}

// roundTrip takes as long as a byte to the other end of the link and back.
func (l *Link) roundTrip(ctx context.Context) error {
	a, b := l.Pipe(nil, nil).Conns()
	defer a.Close()
	defer b.Close()
	stop := context.AfterFunc(ctx, func() { // ends with the two calls
		_ = a.SetDeadline(time.Unix(1, 0))
		_ = b.SetDeadline(time.Unix(1, 0))
	})
	defer stop()
	var one [1]byte
	for _, step := range []func([]byte) (int, error){a.Write, b.Read, b.Write, a.Read} {
		if _, err := step(one[:]); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return err
		}
	}
	return nil
}
