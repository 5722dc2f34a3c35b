package engine

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/acl"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/packet"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/splitter"
)

// streamsPerClass is over how many conns the flows of one class to one peer are spread, so that a lost piece of one holds
// up a part of them.
const streamsPerClass = 4

// A slot is one of a peer's conns.
type slot struct {
	class splitter.Class
	n     uint8
}

// A peer is one that we send to, or that sends to us.
type peer struct {
	id     identity.ID
	engine *Engine
	flows  acl.Table
	guest  atomic.Bool // written under the engine's mu
	used   time.Time   // guarded by the engine's mu

	sent, received traffic
	waiting        atomic.Int64 // buffers, in the streams' queues

	mu      sync.Mutex // guards the rest
	streams map[slot]*stream
	conns   map[net.Conn]struct{} // of the peer's
	refuse  time.Time             // until then its packets are refused
	err     error                 // why
}

type traffic struct{ packets, bytes atomic.Uint64 }

func (t *traffic) add(n int) {
	t.packets.Add(1)
	t.bytes.Add(uint64(n))
}

// stream is the one in a slot, begun if need be; nil: the peer can't be reached.
func (p *peer) stream(at slot) *stream {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.streams[at]
	if s == nil {
		if time.Now().Before(p.refuse) {
			return nil
		}
		s = &stream{peer: p, at: at, wake: make(chan struct{}, 1)}
		p.streams[at] = s
		p.engine.tasks.Go(s.run)
	}
	return s
}

// remove has the next packet begin a new stream.
func (p *peer) remove(s *stream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.streams[s.at] == s {
		delete(p.streams, s.at)
	}
}

// failed takes note of why the peer can't be reached.
func (p *peer) failed(err error) {
	wait := retryDial
	if errors.Is(err, mesh.ErrNoService) {
		wait = retryNobody
		err = fmt.Errorf("it is not up, and takes no packets: what it serves is reached by meshvpn proxy and forward (%w)", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err, p.refuse = err, time.Now().Add(wait)
}

// refusal is what packets are refused for.
func (p *peer) refusal() packet.Reason {
	p.mu.Lock()
	defer p.mu.Unlock()
	if errors.Is(p.err, mesh.ErrNoService) {
		return packet.Prohibited
	}
	return packet.NoHost
}

// reached takes note that it can, by a stream's conn.
func (p *peer) reached(s *stream, c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = nil
	s.conn, _ = c.(*mesh.Conn)
}

// enter takes note of a conn of the peer's, if it may have one more.
func (p *peer) enter(c net.Conn) bool {
	most := maxConns
	if p.guest.Load() {
		most = guestConns
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.conns) >= most {
		return false
	}
	p.conns[c] = struct{}{}
	p.err, p.refuse = nil, time.Time{} // it is there
	return true
}

func (p *peer) leave(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// hangUp ends the peer's conns.
func (p *peer) hangUp() {
	p.mu.Lock()
	conns := slices.Collect(maps.Keys(p.conns))
	p.mu.Unlock()
	for _, c := range conns {
		c.Close()
	}
}

// paths are those that lead to the peer now.
func (p *peer) paths() []mesh.Path {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.streams {
		if s.conn != nil {
			return s.conn.Paths()
		}
	}
	for c := range p.conns {
		if c, ok := c.(*mesh.Conn); ok {
			return c.Paths()
		}
	}
	return nil
}

func (p *peer) idle() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.streams) == 0 && len(p.conns) == 0
}
