//go:build !js

package websocket

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/splitmesh/splitmesh/internal/buf"
)

const (
	// farewell bounds the wait for the network when a connection ends.
	farewell = 250 * time.Millisecond
	// maxUnsent bounds the control frames, in bytes, that wait for the network.
	maxUnsent = 4 << 10
)

var (
	errText   = &protocolError{statusUnsupported, "a text message came, where all are binary"}
	errTooBig = &protocolError{statusTooBig, fmt.Sprintf("a message over %d bytes came", MaxReadMessage)}
)

// A link is an upgraded connection. A frame is one write to the socket, or to TLS.
// No Read waits for the network to take something: what it has to answer is
// written by a goroutine that lives as long as that takes. Beneath TLS it knows the
// socket, whose Close does not wait.
type link struct {
	reader
	socket net.Conn
	w      io.Writer // what frames go over: the socket, TLS over it, or an HTTP client's hold on either

	// writing holds a token while w is written to. A channel, as a goroutine
	// that waits for one lets a synctest bubble's time pass. Taken before mu.
	writing chan struct{}

	mu     sync.Mutex
	keys   keys
	out    *buf.Buf // control frames to be written, or nil
	closed bool
	err    error          // of writing to w
	flush  sync.WaitGroup // flushes in their own goroutine
	aside  bool           // such a goroutine waits for its turn
}

// newLink takes over a connection: its socket, what bytes go over, and what of them
// has been read already, at most maxPiece.
func newLink(socket net.Conn, rw io.ReadWriter, early []byte, client bool) *link {
	l := &link{socket: socket, w: rw, writing: make(chan struct{}, 1)}
	l.reader = reader{src: rw, client: client, control: l.answer}
	l.poll = newPoll(rw)
	if len(early) > 0 {
		l.in = get(len(early))
		l.in.B = append(l.in.B, early...)
	}
	return l
}

func (l *link) LocalAddr() net.Addr  { return l.socket.LocalAddr() }
func (l *link) RemoteAddr() net.Addr { return l.socket.RemoteAddr() }
func (l *link) heard() int64         { return l.received.Load() }

// turn waits until nobody else writes. Unless there is an error, done must follow;
// the key is for one frame.
func (l *link) turn() (key uint32, err error) {
	l.writing <- struct{}{}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.err != nil:
		err = l.err
	case l.closed:
		err = net.ErrClosed
	case l.client:
		key = l.keys.next()
	}
	if err != nil {
		<-l.writing
	}
	return key, err
}

func (l *link) done() { <-l.writing }

// write writes p to the network, in its caller's turn.
func (l *link) write(p []byte) error {
	_, err := l.w.Write(p)
	if err != nil {
		l.mu.Lock()
		l.err = err
		l.mu.Unlock()
		l.socket.Close() // the Read that waits is to learn of it
	}
	return err
}

// send sends p as a message, and waits until the network took it. One that is
// larger than a Buf takes several writes.
func (l *link) send(p []byte) error {
	key, err := l.turn()
	if err != nil {
		return err
	}
	defer l.done()
	h := header{op: opBinary, fin: true, masked: l.client, key: key, length: uint64(len(p))}
	for size := h.size(); len(p) > 0; size = 0 {
		b := buf.Get(min(size+len(p), buf.Max))
		if size > 0 {
			h.put(b.B)
		}
		n := len(b.B) - size
		if l.client {
			key = xor(b.B[size:], p[:n], key)
		} else {
			copy(b.B[size:], p)
		}
		err := l.write(b.B)
		b.Release()
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// headroom is for the longest header, and a multiple of eight where there is
// something to mask.
func (l *link) headroom() int {
	if l.client {
		return 16
	}
	return 10
}

// sendBuf is send of p[headroom:], in place.
func (l *link) sendBuf(p []byte) error {
	room := l.headroom()
	data := p[room:]
	key, err := l.turn()
	if err != nil {
		return err
	}
	defer l.done()
	h := header{op: opBinary, fin: true, masked: l.client, key: key, length: uint64(len(data))}
	from := room - h.size()
	h.put(p[from:])
	if l.client {
		xor(data, data, key)
	}
	return l.write(p[from:])
}

// answer deals with a control frame that came. It does not wait for the network.
func (l *link) answer(op byte, payload []byte) error {
	switch op {
	case opClose:
		return parseClose(payload)
	case opPing:
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.queue(opPong, payload)
	}
	return nil // a pong has been heard, which is all that it is for
}

// ping pings, if the network may yet take it.
func (l *link) ping() {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.queue(opPing, nil)
}

// queue has a control frame written aside. Where there is no room for one, those
// that wait give way: of many pings only the newest wants an answer (RFC 6455
// §5.5.3). The caller holds mu.
func (l *link) queue(op byte, payload []byte) error {
	h := header{op: op, fin: true, masked: l.client, length: uint64(len(payload))}
	n := h.size() + len(payload)
	switch {
	case l.err != nil:
		return l.err
	case l.closed:
		return net.ErrClosed
	case l.out == nil:
		l.out = buf.Get(maxUnsent)
		l.out.B = l.out.B[:0]
	case len(l.out.B)+n > maxUnsent:
		l.out.B = l.out.B[:0]
	}
	if l.client {
		h.key = l.keys.next()
	}
	at := len(l.out.B)
	l.out.B = l.out.B[:at+n]
	f := l.out.B[at:]
	xor(f[h.put(f):], payload, h.key) // with no key, a copy
	l.flushAside()
	return nil
}

// flushAside writes what is queued from a goroutine that the link owns and that
// shut ends. The caller holds mu.
// One at a time waits for its turn: it will take all that is queued by then.
func (l *link) flushAside() {
	if l.aside {
		return
	}
	l.aside = true
	l.flush.Go(func() { l.writeOut(true) })
}

// writeOut writes what is queued and waits for the network. aside says that the
// caller is flushAside's goroutine.
func (l *link) writeOut(aside bool) {
	l.writing <- struct{}{}
	defer l.done()
	l.mu.Lock()
	if aside {
		l.aside = false
	}
	out, err := l.out, l.err
	l.out = nil
	l.mu.Unlock()
	if out != nil && err == nil {
		_ = l.write(out.B)
	}
	if out != nil {
		out.Release()
	}
}

// shut ends the connection, telling the other side unless status is abrupt. What
// is being written and what is queued have a farewell's time.
func (l *link) shut(s status) {
	l.mu.Lock()
	if s != abrupt {
		var payload []byte
		if s != statusNone {
			payload = binary.BigEndian.AppendUint16(nil, uint16(s))
		}
		_ = l.queue(opClose, payload)
	}
	l.closed = true
	l.mu.Unlock()
	if s != abrupt && l.socket.SetWriteDeadline(time.Now().Add(farewell)) == nil {
		l.writeOut(false)
	}
	l.socket.Close()
	l.flush.Wait()
}

// failure says with what status and for what cause an error of the link's ends the
// connection.
func failure(err error) (s status, cause error) {
	var (
		closed *closeError
		wrong  *protocolError
	)
	switch {
	case errors.As(err, &closed):
		if closed.status != statusNormal && closed.status != statusGoingAway && closed.status != statusNone {
			return closed.status, fmt.Errorf("%w: %w", errPeerClosed, closed)
		}
		return closed.status, io.EOF
	case errors.As(err, &wrong):
		return wrong.status, err
	case err == io.EOF:
		return abrupt, io.EOF
	case errors.Is(err, net.ErrClosed): // not by us, or there would be a cause
		return abrupt, errPeerClosed
	default:
		return abrupt, err
	}
}

var (
	_ buf.Writer = (*conn)(nil)
	_ buf.Reader = (*conn)(nil)
)

// ReadBuf implements [buf.Reader]. It may take turns with Read.
func (c *conn) ReadBuf() (p []byte, owner *buf.Buf, err error) {
	if err := c.begin(&c.reading, 1); err != nil {
		return nil, nil, c.opError("read", err)
	}
	defer c.reading.end()
	c.readMu.Lock()
	defer c.readMu.Unlock()
	if p, owner, err = c.link.readBuf(); err != nil {
		err = c.opError("read", c.fail(err))
	}
	return p, owner, err
}

// NetConn returns the socket, as tls.Conn's does. Whoever has to end the connection
// without a word, as a cut link does, closes that.
func (c *conn) NetConn() net.Conn { return c.link.socket }

// Headroom implements [buf.Writer].
func (c *conn) Headroom() int { return c.link.headroom() }

// Flush implements [buf.Writer]: nothing waits.
func (c *conn) Flush() {}

// WriteBuf implements [buf.Writer]. What comes is enough for a message.
func (c *conn) WriteBuf(b *buf.Buf, _ bool) error {
	defer b.Release()
	size := len(b.B) - c.link.headroom()
	if err := c.begin(&c.writing, size); err != nil || size == 0 {
		return c.opError("write", err)
	}
	defer c.writing.end()
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	if err := c.link.sendBuf(b.B); err != nil {
		return c.writeError(err)
	}
	return nil
}
