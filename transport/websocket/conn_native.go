//go:build !js

package websocket

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

const (
	// farewell bounds the wait for the network when a connection ends.
	farewell = 250 * time.Millisecond
	// maxUnsent bounds the answers, in bytes, to a peer that pings and does not read.
	maxUnsent = 4 << 10
)

var errUnsent = errors.New("protocol error: pings came that the other side reads no answer to")

// A link stands between the WebSocket and its socket and has three tasks. It puts
// a message together before it writes, so that one message is one write to the
// socket (or to TLS) where the library writes each 4 KiB by itself. It lets no
// Read wait for the network: the library answers pings from within Read, and
// fails when that takes long, which a slow uplink with full buffers does. And it
// knows the socket beneath TLS, whose Close does not wait.
type link struct{ *wire }

type wire struct {
	net.Conn               // the socket
	rw       io.ReadWriter // what frames go over: the socket, TLS over it, or an HTTP client's hold on either
	client   bool          // masks its frames
	received atomic.Int64  // bytes read

	// writing holds a token while rw is written to. A channel, as a goroutine
	// that waits for one lets a synctest bubble's time pass. Taken before mu.
	writing chan struct{}

	mu     sync.Mutex
	out    *[]byte // frames to be written, or nil; out of buffers
	corked bool    // a message is being put together in out
	later  []byte  // control frames of ours that came while it was
	unsent int     // bytes of control frames in out
	bye    bool    // a close frame is queued or written
	closed bool
	err    error          // of writing to rw
	flush  sync.WaitGroup // flushes in their own goroutine
	aside  bool           // a goroutine of flush waits for its turn; guarded by mu
}

// buffers holds *[]byte, of which a message was put together.
var buffers sync.Pool

func newLink(socket net.Conn, rw io.ReadWriter, client bool) link {
	return link{&wire{Conn: socket, rw: rw, client: client, writing: make(chan struct{}, 1)}}
}

// Read is called by the library, for one Read at a time.
func (w *wire) Read(p []byte) (int, error) {
	n, err := w.rw.Read(p)
	w.received.Add(int64(n))
	return n, err
}

func (w *wire) heard() int64 { return w.received.Load() }

// send sends p as a message. It is called by one goroutine at a time, and waits
// until the network took it.
func (w *wire) send(ws *websocket.Conn, p []byte) error {
	w.mu.Lock()
	w.corked = true
	w.mu.Unlock()
	err := ws.Write(context.Background(), websocket.MessageBinary, p) // into w.out
	w.mu.Lock()
	w.corked = false
	w.append(w.later)
	w.later = nil
	w.mu.Unlock()
	if err != nil {
		return err
	}
	return w.writeOut(false)
}

// Write is called by the library: from send with parts of a message's frame, and
// from its Reader with a whole control frame, which never comes between the former.
// It does not wait for the network.
func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.admits(len(p)); err != nil {
		return 0, err
	}
	w.append(p)
	if !w.corked {
		w.unsent += len(p)
		w.bye = w.bye || len(p) > 0 && p[0] == opClose
		w.flushAside()
	}
	return len(p), nil
}

// admits reports why n more bytes of a control frame, or of the message while
// there is a cork, are not to be queued. The caller holds mu.
func (w *wire) admits(n int) error {
	switch {
	case w.err != nil:
		return w.err
	case w.closed:
		return net.ErrClosed
	case !w.corked && w.unsent+n > maxUnsent:
		return errUnsent
	}
	return nil
}

// append queues p. The caller holds mu.
func (w *wire) append(p []byte) {
	if len(p) == 0 {
		return
	}
	if w.out == nil {
		if w.out, _ = buffers.Get().(*[]byte); w.out == nil {
			w.out = new([]byte)
		}
	}
	*w.out = append(*w.out, p...)
}

// control queues a control frame of our own, to be written after the message that
// is being put together, if there is one. What cannot be queued is dropped. The
// caller holds mu.
func (w *wire) control(frame []byte) {
	switch {
	case w.admits(len(frame)) != nil || len(w.later) > maxUnsent:
	case w.corked:
		w.later = append(w.later, frame...)
	default:
		w.append(frame)
		w.unsent += len(frame)
	}
}

// flushAside writes what is queued from a goroutine that the wire owns and that
// Close ends. The caller holds mu.
// One at a time waits for its turn: it will take all that is queued by then.
func (w *wire) flushAside() {
	if w.aside {
		return
	}
	w.aside = true
	w.flush.Go(func() { _ = w.writeOut(true) })
}

// writeOut writes what is queued and waits for the network. aside says that the
// caller is flushAside's goroutine.
func (w *wire) writeOut(aside bool) error {
	w.writing <- struct{}{}
	defer func() { <-w.writing }()
	w.mu.Lock()
	if aside {
		w.aside = false
	}
	out, err := w.out, w.err
	if !w.corked { // else it is half a frame; who put the cork in will be back
		w.out, w.unsent = nil, 0
	} else {
		out = nil
	}
	w.mu.Unlock()
	if out == nil || err != nil {
		return err
	}
	_, err = w.rw.Write(*out)
	*out = (*out)[:0]
	buffers.Put(out)
	if err != nil {
		w.mu.Lock()
		w.err = err
		w.mu.Unlock()
		w.Conn.Close() // the Read that waits is to learn of it
	}
	return err
}

// Close is called by the library when the WebSocket ends, and by shut. What is
// being written and what is queued have a farewell's time.
func (w *wire) Close() error {
	w.mu.Lock()
	closed := w.closed
	w.closed = true
	w.mu.Unlock()
	if closed {
		return net.ErrClosed
	}
	if w.Conn.SetWriteDeadline(time.Now().Add(farewell)) == nil {
		_ = w.writeOut(false)
	}
	err := w.Conn.Close()
	w.flush.Wait()
	return err
}

// shut ends the WebSocket, telling the other side unless status is abrupt.
func (w *wire) shut(ws *websocket.Conn, status websocket.StatusCode) {
	if status == abrupt {
		w.Conn.Close()
	}
	w.mu.Lock()
	if !w.bye && status != abrupt {
		w.control(w.frame(opClose, binary.BigEndian.AppendUint16(nil, uint16(status))))
	}
	w.mu.Unlock()
	_ = ws.CloseNow() // which calls Close, which writes what is queued
}

func (w *wire) ping() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.control(w.frame(opPing, nil))
	if !w.corked && !w.closed {
		w.flushAside()
	}
}

// The first byte of the control frames that we write ourselves: FIN and the
// opcode. RFC 6455 §5.2.
const (
	opClose = 0x88
	opPing  = 0x89
)

// frame is a control frame; a client's is masked.
func (w *wire) frame(op byte, payload []byte) []byte {
	f := []byte{op, byte(len(payload))}
	if !w.client {
		return append(f, payload...)
	}
	f[1] |= 0x80
	var mask [4]byte
	rand.Read(mask[:])
	f = append(f, mask[:]...)
	for i, b := range payload {
		f = append(f, b^mask[i%4])
	}
	return f
}
