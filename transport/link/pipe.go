package link

import (
	"errors"
	"io"
	"net"
	"slices"
	"syscall"
	"time"
)

// A Pipe is one connection over a Link, seen from outside: what a test cuts,
// holds and counts. Its ends are ordinary connections.
type Pipe struct {
	link  *Link
	onCut func() // called once by Cut, without the lock; may be nil
	addrs [2]net.Addr
	conns [2]Conn
	flows [2]flow // flows[i] carries what conns[i] writes

	// Under link.mu:
	cut   bool
	holed bool
}

// A Conn is one end of a Pipe: a net.Conn that can also close its sending
// direction alone. Deadlines are those of the standard library: one that has
// passed fails calls that wait and later ones until it is moved.
type Conn struct {
	pipe    *Pipe
	side    int
	in, out *flow
	closed  bool // under link.mu
}

func newPipe(l *Link, a, b net.Addr, onCut func()) *Pipe {
	p := &Pipe{link: l, onCut: onCut, addrs: [2]net.Addr{a, b}}
	for i := range p.flows {
		if p.addrs[i] == nil {
			p.addrs[i] = noAddr{}
		}
		f := &p.flows[i]
		f.pipe, f.side = p, i
		f.canRead.L, f.canWrite.L = &l.mu, &l.mu
		p.conns[i] = Conn{pipe: p, side: i, out: f, in: &p.flows[1-i]}
	}
	return p
}

// Conns returns the two ends: the link's Up is from a to b.
func (p *Pipe) Conns() (a, b *Conn) { return &p.conns[0], &p.conns[1] }

// Link returns the link that carries p.
func (p *Pipe) Link() *Link { return p.link }

// Live reports whether p is neither cut nor closed at both ends.
func (p *Pipe) Live() bool {
	p.link.mu.Lock()
	defer p.link.mu.Unlock()
	return p.live()
}

func (p *Pipe) live() bool { return !p.cut && !(p.conns[0].closed && p.conns[1].closed) }

// Carried returns how many bytes have arrived in each direction.
func (p *Pipe) Carried() (upBytes, downBytes uint64) {
	p.link.mu.Lock()
	defer p.link.mu.Unlock()
	p.advance(p.link.now())
	return p.flows[up].carried, p.flows[down].carried
}

// Cut resets this connection, as [Link.Cut] does all.
func (p *Pipe) Cut() {
	p.link.mu.Lock()
	if !p.live() {
		p.link.mu.Unlock()
		return
	}
	p.cut = true
	p.end()
	p.link.mu.Unlock()
	if p.onCut != nil {
		p.onCut()
	}
}

// BlackHole holds this connection's bytes, as [Link.BlackHole] does all. A
// connection moves only while neither it nor its link is black-holed.
func (p *Pipe) BlackHole() {
	p.link.mu.Lock()
	defer p.link.mu.Unlock()
	now := p.link.now()
	p.advance(now)
	p.holed = true
	p.hold()
	p.link.rebook(now)
}

// Heal ends this connection's black hole, as [Link.Heal] does the link's.
func (p *Pipe) Heal() {
	p.link.mu.Lock()
	defer p.link.mu.Unlock()
	if !p.holed {
		return
	}
	p.holed = false
	if !p.link.holed {
		p.link.resume(p.link.now(), []*Pipe{p})
	}
}

// end forgets a pipe that is cut or closed at both ends, and wakes whoever waits.
func (p *Pipe) end() {
	for i := range p.flows {
		p.flows[i].abandon()
	}
	if i := slices.Index(p.link.pipes, p); i >= 0 {
		p.link.pipes = slices.Delete(p.link.pipes, i, i+1)
	}
	p.link.rebook(p.link.now())
}

// Read reads what has arrived. It returns io.EOF after the other end's last byte.
func (c *Conn) Read(b []byte) (int, error) {
	c.pipe.link.mu.Lock()
	n, err := c.read(b)
	c.pipe.link.mu.Unlock()
	return n, c.opError("read", err)
}

// read is Read under the lock.
func (c *Conn) read(b []byte) (int, error) {
	f := c.in
	for {
		if f.segs.len() > 0 {
			f.advance(c.pipe.link.now())
		}
		switch {
		case c.closed:
			return 0, net.ErrClosed
		case c.pipe.cut:
			return 0, syscall.ECONNRESET
		case f.readBy.passed():
			return 0, errDeadline
		case len(b) == 0:
			return 0, nil
		case f.ready > 0:
			return f.take(b), nil
		case f.end != nil:
			return 0, f.end
		}
		f.awaitArrival()
	}
}

// Write writes all of b, waiting while the link's buffer is full. It returns the
// number of bytes taken when it fails before. Concurrent Writes don't interleave.
func (c *Conn) Write(b []byte) (int, error) {
	c.pipe.link.mu.Lock()
	n, err := c.write(b)
	c.pipe.link.mu.Unlock()
	return n, c.opError("write", err)
}

// write is Write under the lock.
func (c *Conn) write(b []byte) (n int, err error) {
	f := c.out
	for f.busy {
		if err := c.writeError(); err != nil {
			return 0, err
		}
		f.canWrite.Wait()
	}
	f.busy = true
	defer func() {
		f.busy = false
		f.canWrite.Broadcast()
	}()
	for {
		if err := c.writeError(); err != nil {
			return n, err
		}
		if n == len(b) {
			return n, nil
		}
		space := f.way().shape.limit() - f.stored
		if space <= 0 {
			f.canWrite.Wait()
			continue
		}
		k := min(space, len(b)-n)
		f.store(b[n : n+k])
		f.launch(k, nil, false)
		n += k
	}
}

// writeError is why c can't write now; nil when it can.
func (c *Conn) writeError() error {
	switch {
	case c.closed:
		return net.ErrClosed
	case c.pipe.cut:
		return syscall.ECONNRESET
	case c.out.writeBy.passed():
		return errDeadline
	case c.out.shut:
		return syscall.EPIPE
	case c.in.gone == io.EOF:
		return syscall.EPIPE
	default:
		return c.in.gone
	}
}

// CloseWrite tells the other end that no more bytes follow: it reads io.EOF
// after the last. c can still read.
func (c *Conn) CloseWrite() error {
	c.pipe.link.mu.Lock()
	defer c.pipe.link.mu.Unlock()
	switch {
	case c.closed:
		return c.opError("close", net.ErrClosed)
	case c.pipe.cut:
		return c.opError("close", syscall.ECONNRESET)
	case !c.out.shut:
		c.out.shut = true
		c.out.launch(0, io.EOF, false)
		c.out.canWrite.Broadcast()
	}
	return nil
}

// Close closes c. The other end still reads what was written, then io.EOF; its
// writes fail once the news has travelled the link. Close is idempotent.
func (c *Conn) Close() error {
	c.closeWith(io.EOF)
	return nil
}

// closeWith closes c and has the other end read last, instead of io.EOF, after
// the bytes written.
func (c *Conn) closeWith(last error) {
	p := c.pipe
	p.link.mu.Lock()
	defer p.link.mu.Unlock()
	if c.closed {
		return
	}
	c.closed = true
	c.in.readBy.stop()
	c.out.writeBy.stop()
	if p.cut {
		return
	}
	if !p.live() {
		p.end()
		return
	}
	c.out.launch(0, last, true)
	c.out.canWrite.Broadcast()
	c.in.ignore()
}

// otherGone reports whether the news that the other end has closed has arrived.
func (c *Conn) otherGone() bool {
	c.pipe.link.mu.Lock()
	defer c.pipe.link.mu.Unlock()
	return c.in.gone != nil
}

// awaitGone returns once the news that the other end has closed has arrived, or
// c is cut or closed.
func (c *Conn) awaitGone() {
	c.pipe.link.mu.Lock()
	defer c.pipe.link.mu.Unlock()
	for c.in.gone == nil && !c.pipe.cut && !c.closed {
		c.in.awaitArrival()
	}
}

// LocalAddr returns the address of this end.
func (c *Conn) LocalAddr() net.Addr { return c.pipe.addrs[c.side] }

// RemoteAddr returns the address of the other end.
func (c *Conn) RemoteAddr() net.Addr { return c.pipe.addrs[1-c.side] }

// SetDeadline sets the time after which Read and Write fail with an error whose
// Timeout is true; the zero time is never.
func (c *Conn) SetDeadline(t time.Time) error {
	return c.setDeadlines(t, true, true)
}

// SetReadDeadline is SetDeadline for Read.
func (c *Conn) SetReadDeadline(t time.Time) error {
	return c.setDeadlines(t, true, false)
}

// SetWriteDeadline is SetDeadline for Write.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	return c.setDeadlines(t, false, true)
}

func (c *Conn) setDeadlines(t time.Time, read, write bool) error {
	c.pipe.link.mu.Lock()
	defer c.pipe.link.mu.Unlock()
	if c.closed {
		return c.opError("set", net.ErrClosed)
	}
	if read {
		c.in.readBy.set(t, &c.in.canRead)
	}
	if write {
		c.out.writeBy.set(t, &c.out.canWrite)
	}
	return nil
}

// opError dresses err as the net package's connections do. io.EOF stays bare.
func (c *Conn) opError(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	if inner, ok := errors.AsType[*net.OpError](err); ok {
		err = inner.Err
	}
	return &net.OpError{Op: op, Net: c.LocalAddr().Network(), Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

// noAddr is the address of an end without one.
type noAddr struct{}

func (noAddr) Network() string { return "link" }
func (noAddr) String() string  { return "link" }
