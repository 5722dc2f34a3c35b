package mesh

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/splitmesh/splitmesh/internal/session"
	"github.com/splitmesh/splitmesh/splitter"
)

// A Conn is a conn of the mesh: what Dial and Accept return as a net.Conn. It
// passes golang.org/x/net/nettest. Methods may be called from many goroutines at
// once. A Write that is not waiting for a deadline may do the sealing and the
// system call itself.
type Conn struct {
	stream        *session.Stream
	session       *session.Session
	local, remote Addr
	closed        atomic.Bool // here: no datagrams any more
	resets        atomic.Bool // Close is to reset the conn

	// A conn dialled with FastOpen has yet to read the peer's answer.
	answer    sync.Mutex // held while reading it; guards the rest
	unread    bool
	partial   bytes.Buffer // what has come of it before a deadline passed
	answerErr error
}

// Read implements net.Conn. On a conn dialled with FastOpen, the first Read
// returns the refusal that Dial would have returned.
func (c *Conn) Read(p []byte) (int, error) {
	if err := c.readAnswer(); err != nil {
		return 0, err
	}
	return c.stream.Read(p)
}

func (c *Conn) readAnswer() error {
	c.answer.Lock()
	defer c.answer.Unlock()
	if !c.unread {
		return c.answerErr
	}
	seen := bytes.NewReader(bytes.Clone(c.partial.Bytes()))
	a, err := readAnswer(io.MultiReader(seen, io.TeeReader(c.stream, &c.partial)))
	if err != nil {
		return err
	}
	c.unread, c.partial = false, bytes.Buffer{}
	if err := a.err(c.remote.ID); err != nil {
		c.answerErr = &OpError{Op: "dial", Peer: c.remote.ID, Service: c.remote.Service, Err: err}
	}
	return c.answerErr
}

// Write implements net.Conn. It returns when the session has taken the bytes,
// which it then delivers for as long as it lives. It waits while there is no room for
// more, and at once while the session has no path at all. When a deadline ends its
// wait for paths, of which there are too few or none, the error is a *WaitError that
// says so.
func (c *Conn) Write(p []byte) (int, error) {
	n, err := c.stream.Write(p)
	return n, c.whyNot(err)
}

// A WaitError reports a Write whose deadline passed while nothing could be sent, and
// why. It is a timeout, and wraps os.ErrDeadlineExceeded as well as the reason, which
// may be a *splitter.TooFewPathsError.
type WaitError struct{ Why error }

func (e *WaitError) Error() string {
	return fmt.Sprintf("%v: nothing could be sent, because %v", os.ErrDeadlineExceeded, e.Why)
}

// Timeout reports true.
func (e *WaitError) Timeout() bool { return true }

// Temporary reports true.
func (e *WaitError) Temporary() bool { return true }

// Unwrap returns os.ErrDeadlineExceeded and the reason.
func (e *WaitError) Unwrap() []error { return []error{os.ErrDeadlineExceeded, e.Why} }

// Close closes both directions and does not wait. The node goes on delivering what
// was written; end a program with the node's Close, which waits for that.
func (c *Conn) Close() error {
	c.closed.Store(true)
	if c.resets.Load() {
		c.stream.Reset()
		return nil
	}
	return c.stream.Close()
}

// SetLinger says what Close does, as that of [net.TCPConn]: with 0 it gives up what was
// written and not delivered, and the peer reads an error in place of io.EOF. Otherwise what
// was written is delivered, however long that takes.
func (c *Conn) SetLinger(sec int) error {
	c.resets.Store(sec == 0)
	return nil
}

// CloseWrite ends the sending direction: the peer reads io.EOF after the data.
func (c *Conn) CloseWrite() error { return c.stream.CloseWrite() }

// LocalAddr returns this node's Addr.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr returns the peer's Addr: who is calling, and for which service.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error { return c.stream.SetDeadline(t) }

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.stream.SetReadDeadline(t) }

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.stream.SetWriteDeadline(t) }

// Policy is by what the bytes written here are divided: as asked for, or more
// strictly when either node's Split demands it.
func (c *Conn) Policy() splitter.Policy { return c.stream.Policy() }

// Class is the priority of the conn's bytes.
func (c *Conn) Class() splitter.Class { return c.stream.Class() }

// MaxDatagram is the most bytes of one datagram. On a lossy path a small one, of
// 1,200 bytes say, waits less.
const MaxDatagram = session.MaxDatagram

// SendDatagram sends p beside the conn's stream of bytes: sealed as they are, but
// delivered once or not at all and in any order, over the path that is the
// fastest now. It never waits; what finds no room is dropped. The other end must
// have called ReceiveDatagram before. Errors are ErrDatagramSize,
// ErrDatagramPolicy, *splitter.TooFewPathsError, and what ended the conn.
func (c *Conn) SendDatagram(p []byte) error { return c.sendDatagram(p, false) }

// SendDatagramOverAll is SendDatagram, but over one path of every relay at once. The
// first copy that arrives counts: a relay that dies or stalls delays nothing.
func (c *Conn) SendDatagramOverAll(p []byte) error { return c.sendDatagram(p, true) }

func (c *Conn) sendDatagram(p []byte, all bool) error {
	if c.closed.Load() {
		return net.ErrClosed
	}
	return c.stream.SendDatagram(p, all)
}

// ReceiveDatagram returns the next datagram, which the caller owns. What comes
// before its first call is dropped, and what comes faster than it is read, the
// oldest first. It waits no longer than ctx.
func (c *Conn) ReceiveDatagram(ctx context.Context) ([]byte, error) {
	if c.closed.Load() {
		return nil, net.ErrClosed
	}
	return c.stream.ReceiveDatagram(ctx)
}

// Paths returns the live paths to the peer, by age. Conns to one peer share them.
func (c *Conn) Paths() []Path { return pathsOf(c.session) }

// PeerHost is the IP address of the peer by a direct path: zero when there is none, or when
// the transport does not tell. If it was dialled, the peer answers there; who dialled us
// from there may be reached elsewhere, or be behind a translation, or a proxy of ours.
func (c *Conn) PeerHost() (host netip.Addr, dialled bool) {
	for _, p := range c.session.Stats().Paths {
		if p.Direct() && p.Host.IsValid() && !dialled {
			host, dialled = p.Host, p.Dialled
		}
	}
	return host, dialled
}

// Carried returns what each relay has carried so far, by relay. Conns to one peer
// share it.
func (c *Conn) Carried() []Carried {
	var out []Carried
	for _, r := range c.session.Stats().Carried {
		out = append(out, Carried{Relay: r.Relay, Sent: r.SentBytes, Received: r.ReceivedBytes, ReSent: r.ResentBytes})
	}
	return out
}
