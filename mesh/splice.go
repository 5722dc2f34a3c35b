package mesh

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/splitmesh/splitmesh/internal/session"
	"golang.org/x/time/rate"
)

// A splice carries a circuit through a relay: what either stream delivers is
// written to the other, from the memory that received it, so that an idle
// circuit holds none. Back-pressure is the streams' own.
type splice struct {
	r       *relay
	a, b    *session.Stream
	limiter *rate.Limiter // nil: no limit
	left    atomic.Int64  // of MaxCircuitBytes, if there is one
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
	_, err := src.WriteTo(spliceWriter{c, dst})
	if err == nil {
		err = dst.CloseWrite()
	}
	if err != nil {
		c.a.Reset()
		c.b.Reset()
	}
}

var errCircuitBytes = errors.New("the circuit has carried all it may")

// A spliceWriter writes to one stream of a splice, within the relay's limits.
type spliceWriter struct {
	c   *splice
	dst *session.Stream
}

func (w spliceWriter) Write(p []byte) (int, error) {
	r := w.c.r
	if r.cfg.MaxCircuitBytes > 0 && w.c.left.Add(int64(-len(p))) < 0 {
		return 0, errCircuitBytes
	}
	if w.c.limiter != nil {
		if err := w.c.limiter.WaitN(r.n.ctx, len(p)); err != nil {
			return 0, err
		}
	}
	n, err := w.dst.Write(p)
	r.mu.Lock()
	r.bytes += uint64(n)
	r.mu.Unlock()
	return n, err
}
