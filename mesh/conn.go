package mesh

import (
	"bytes"
	"io"
	"net"
	"sync"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/internal/session"
)

// A Conn is a conn of the mesh: what Dial and Accept return as a net.Conn. It
// passes golang.org/x/net/nettest. Methods may be called from many goroutines at
// once. A Write that is not waiting for a deadline may do the sealing and the
// system call itself.
type Conn struct {
	stream        *session.Stream
	session       *session.Session
	local, remote Addr

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
// which it then delivers for as long as it lives.
func (c *Conn) Write(p []byte) (int, error) { return c.stream.Write(p) }

// Close closes both directions and does not wait. The node goes on delivering what
// was written; end a program with the node's Close, which waits for that.
func (c *Conn) Close() error { return c.stream.Close() }

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

// A Path is one of the ways that a conn's bytes take.
type Path struct {
	ID uint32
	// Relay is the node that carries the path, zero when none does.
	Relay identity.ID
	// Remote is where the path leads, for people to read.
	Remote string
	// Sent and Received count the session's bytes that the path carried, ReSent
	// those of Sent that another had carried before. They include the few bytes
	// of framing that streams need.
	Sent, Received, ReSent uint64
	// RTT is the smoothed round-trip time, 0 until measured.
	RTT time.Duration
	// Rate is the proven delivery rate in bytes a second, 0 until measured.
	Rate float64
}

// Paths returns the live paths to the peer, by age. Conns to one peer with one
// policy share them.
func (c *Conn) Paths() []Path { return pathsOf(c.session) }

// Carried is what one relay has carried of the session's bytes: over the paths
// that live and those that died. The zero ID stands for direct paths.
type Carried struct {
	Relay                  identity.ID
	Sent, Received, ReSent uint64
}

// Carried returns what each relay has carried so far, by relay. Conns to one
// peer with one policy share it.
func (c *Conn) Carried() []Carried {
	var out []Carried
	for _, r := range c.session.Stats().Carried {
		out = append(out, Carried{Relay: r.Relay, Sent: r.SentBytes, Received: r.ReceivedBytes, ReSent: r.ResentBytes})
	}
	return out
}

func pathsOf(s *session.Session) []Path {
	var out []Path
	for _, p := range s.Stats().Paths {
		out = append(out, Path{
			ID: p.ID, Relay: p.Relay, Remote: p.Remote, Sent: p.SentBytes, Received: p.ReceivedBytes,
			ReSent: p.ResentBytes, RTT: p.SRTT, Rate: p.Rate,
		})
	}
	return out
}
