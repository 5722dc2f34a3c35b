package mesh

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/multiformats/go-multiaddr"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/internal/buf"
	"github.com/splitmesh/splitmesh/internal/mux"
	"github.com/splitmesh/splitmesh/internal/session"
	"github.com/splitmesh/splitmesh/splitter"
	"github.com/splitmesh/splitmesh/transport"
)

// A circuit is one end of a stream to a relay that the relay splices to a stream
// to the peer. To all above, it is a transport's connection.
type circuit struct {
	*session.Stream
	relay   identity.ID
	limit   uint64 // bytes that the relay carries, 0: no limit
	carried atomic.Uint64
}

// Read implements net.Conn.
func (c *circuit) Read(p []byte) (int, error) {
	n, err := c.Stream.Read(p)
	c.carried.Add(uint64(n))
	return n, c.explain(err)
}

// ReadBuf implements buf.Reader.
func (c *circuit) ReadBuf() ([]byte, *buf.Buf, error) {
	p, owner, err := c.Stream.ReadBuf()
	c.carried.Add(uint64(len(p)))
	return p, owner, c.explain(err)
}

// Write implements net.Conn.
func (c *circuit) Write(p []byte) (int, error) {
	c.carried.Add(uint64(len(p)))
	n, err := c.Stream.Write(p)
	return n, c.explain(err)
}

// WriteBuf implements buf.Writer.
func (c *circuit) WriteBuf(b *buf.Buf, more bool) error {
	c.carried.Add(uint64(len(b.B) - c.Headroom()))
	return c.explain(c.Stream.WriteBuf(b, more))
}

// explain names the relay that ended the circuit, and its limit where that explains
// it: one more frame may have been on its way to us.
func (c *circuit) explain(err error) error {
	switch {
	case !errors.Is(err, mux.ErrReset):
		return err
	case c.limit > 0 && c.carried.Load()+mux.MaxFrame > c.limit:
		return &LimitError{Relay: c.relay, Limit: limitBytes, Value: c.limit}
	}
	return fmt.Errorf("relay %s, or the peer behind it, ended the circuit: %w", c.relay.Short(), err)
}

// hopKey is the key of the session with a relay that carries circuits.
func hopKey(relay identity.ID) linkKey { return linkKey{peer: relay, hop: true} }

var hopPolicy = splitter.Policy{Purpose: splitter.Throughput, MinPaths: 1, MaxShare: 1}

// hop returns the session with a relay at addr.
func (n *Node) hop(ctx context.Context, relay identity.ID, addr multiaddr.Multiaddr) (*session.Session, error) {
	var hints []multiaddr.Multiaddr
	if addr != nil {
		hints = append(hints, transport.WithPeer(addr, relay))
	}
	return n.session(ctx, hopKey(relay), demand{hopPolicy, 1}, hints...)
}

// dialCircuit asks a relay to carry an opening to target.
func (n *Node) dialCircuit(ctx context.Context, r *route, target identity.ID, opening []byte) (net.Conn, error) {
	s, err := n.hop(ctx, r.relay, r.addr)
	if err != nil {
		if ctx.Err() == nil {
			n.noteHop(n.firstHops.failed(r.relay, time.Now()))
		}
		return nil, err
	}
	st, answer, err := n.ask(ctx, s, openRequest{serviceConnect, append(target[:], opening...)})
	if err != nil {
		return nil, err
	}
	var limit uint64
	if len(answer) == 8 {
		limit = binary.BigEndian.Uint64(answer)
	}
	st.SetAddrs(Addr{ID: n.id}, Addr{ID: target})
	return &circuit{Stream: st, relay: r.relay, limit: limit}, nil
}

// noteHop reports first hops that could not be kept.
func (n *Node) noteHop(err error) {
	if err != nil {
		n.log.Warn("first hops not saved", "err", err)
	}
}

// ask makes one of the mesh's own requests and waits for the answer, openTimeout
// at most. answer is what the consent came with.
func (n *Node) ask(ctx context.Context, s *session.Session, q openRequest) (_ *session.Stream, answer []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	st, err := s.Open(hopPolicy, splitter.Interactive)
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { st.SetDeadline(time.Unix(1, 0)) })
	_, err = st.Write(appendRequest(nil, q))
	var a openAnswer
	if err == nil {
		if a, err = readAnswer(st); err == nil {
			err = a.err(s.Peer())
		}
	}
	if !stop() && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		st.Reset()
		if cause := s.Err(); cause != nil {
			err = cause
		}
		return nil, nil, err
	}
	return st, a.body, nil
}

// serveCircuit takes a circuit that a relay brings us.
func (n *Node) serveCircuit(s *session.Session, st *session.Stream, q openRequest) {
	n.mu.Lock()
	reserved := n.asked[s.Peer()] == s // it may forward before we have its answer
	n.mu.Unlock()
	if !reserved {
		refuse(st, openAnswer{status: statusRefused})
		return
	}
	source, opening := identity.ID(q.body[:len(identity.ID{})]), q.body[len(identity.ID{}):]
	st.SetAddrs(Addr{ID: n.id}, Addr{ID: source})
	accept := n.admit(opening, session.PathInfo{Relay: s.Peer(), Remote: "relay " + s.Peer().Short()})
	if accept == nil {
		refuse(st, openAnswer{status: statusRefused})
		return
	}
	st.SetWriteDeadline(time.Now().Add(openTimeout))
	if _, err := st.Write(appendAnswer(nil, openAnswer{})); err != nil {
		st.Reset()
		accept(nil)
		return
	}
	st.SetWriteDeadline(time.Time{})
	accept(st)
}

// dialSelf joins both ends of a pipe in this process.
func (n *Node) dialSelf(opening []byte) (net.Conn, error) {
	accept := n.admit(opening, session.PathInfo{Remote: "this node itself"})
	if accept == nil {
		return nil, ErrRefused
	}
	here, there := net.Pipe()
	if !n.goRun(func() { accept(there) }) { // ends with the handshake
		accept(nil)
		return nil, errNodeClosed
	}
	return here, nil
}
