package session

import (
	"io"
	"math/rand/v2"
	"net"
	"testing"

	"github.com/splitmesh/splitmesh/internal/buf"
	"github.com/splitmesh/splitmesh/internal/mux"
)

// corked is a conn whose WriteBuf takes its word: what is written with more waits
// until the rest follows or Flush. What it reads it hands over in any pieces.
type corked struct {
	net.Conn
	held []byte
	rng  *rand.Rand // the reader's
}

func newCorked(c net.Conn, seed uint64) *corked {
	return &corked{Conn: c, rng: rand.New(rand.NewPCG(seed, 0))}
}

func (c *corked) Headroom() int { return 5 }

func (c *corked) WriteBuf(b *buf.Buf, more bool) error {
	c.held = append(c.held, b.B[5:]...)
	clear(b.B) // it is ours
	b.Release()
	if more {
		return nil
	}
	return c.flush()
}

func (c *corked) Flush() { _ = c.flush() }

func (c *corked) flush() error {
	_, err := c.Conn.Write(c.held)
	c.held = c.held[:0]
	return err
}

func (c *corked) ReadBuf() ([]byte, *buf.Buf, error) {
	b := buf.Get(1 + c.rng.IntN(buf.Max))
	n, err := c.Conn.Read(b.B)
	if n == 0 {
		b.Release()
		return nil, nil, err
	}
	return b.B[:n], b, nil
}

// TestPromiseOfMore: bytes that were written as the first of more do not wait when
// the rest turns out not to be needed.
func TestPromiseOfMore(t *testing.T) {
	p := newPair(t, nil)
	ca, cb := tcpPipe(t)
	c := newCorked(ca, 1)
	p.join(t, 1, c, cb) // over a relay, so that each record is a write of its own
	here, there := p.stream(t)
	here.Write([]byte("x"))
	io.ReadFull(there, make([]byte, 1))

	s := p.a
	path := s.paths[0]
	path.wmu.Lock()
	s.lock()
	for range 2 {
		b := buf.Get(dataHeader + mux.ChunkSize)
		clear(b.B)
		s.control.push(b, nil)
	}
	s.schedule()
	path.woken = false
	s.mu.Unlock()
	if !path.write() || len(c.held) < mux.ChunkSize {
		t.Errorf("%d bytes wait for the second record, want the first", len(c.held))
	}
	s.lock()
	s.control.segments.items()[s.control.segments.len()-1].acked = true // as if another path had brought it
	s.mu.Unlock()
	if path.write() || len(c.held) > 0 {
		t.Errorf("%d bytes wait for what nobody sends", len(c.held))
	}
	path.wmu.Unlock()
}
