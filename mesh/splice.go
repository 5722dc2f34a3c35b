package mesh

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/internal/buf"
	"github.com/splitmesh/splitmesh/internal/session"
	"golang.org/x/time/rate"
)

// A splice carries a circuit through a relay: what either stream delivers is
// written to the other, from the memory that received it, so that an idle
// circuit holds none. Back-pressure is the streams' own.
type splice struct {
	r              *relay
	source, target identity.ID
	since          time.Time
	a, b           *session.Stream
	limiter        *rate.Limiter // nil: no limit
	max            uint64        // bytes that it may carry, 0: no limit
	left           atomic.Int64  // of max, if there is one
	bytes          atomic.Uint64 // carried
}

// run returns when both directions have ended.
func (c *splice) run() {
	var wg sync.WaitGroup
	wg.Go(func() { c.copy(c.a, c.b) }) // ends with either stream
	c.copy(c.b, c.a)
	wg.Wait()
	c.a.Close()
	c.b.Close()
}

// copy writes to dst what src delivers, and ends dst as src ended.
func (c *splice) copy(dst, src *session.Stream) {
	err := c.move(dst, src)
	if err == nil {
		err = dst.CloseWrite()
	}
	if err != nil {
		c.a.Reset()
		c.b.Reset()
	}
}

// move writes to dst what src delivers until that ends. What arrived whole is sent
// on in the memory that it came in, its headers overwritten.
func (c *splice) move(dst, src *session.Stream) error {
	for {
		p, owner, err := src.ReadBuf()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		n := len(p)
		if err = c.allow(n); err != nil {
			owner.Release()
			return err
		}
		if !owner.Around(p, dst.Headroom()) {
			owner = copied(p, dst.Headroom(), owner)
		}
		// What has arrived already follows at once.
		if err = dst.WriteBuf(owner, c.limiter == nil && src.Stats().Buffered > 0); err != nil {
			return err
		}
		c.bytes.Add(uint64(n))
		c.r.bytes.Add(uint64(n))
	}
}

// copied returns p, which lies in owner, in a Buf of its own behind so much room. owner
// is released.
func copied(p []byte, headroom int, owner *buf.Buf) *buf.Buf {
	b := buf.Get(headroom + len(p))
	copy(b.B[headroom:], p)
	owner.Release()
	return b
}

var errCircuitBytes = errors.New("the circuit has carried all it may")

// allow waits until the relay's limits let n bytes more through.
func (c *splice) allow(n int) error {
	if c.max > 0 && c.left.Add(int64(-n)) < 0 {
		return errCircuitBytes
	}
	if c.limiter == nil {
		return nil
	}
	return c.limiter.WaitN(c.r.n.ctx, n)
}
