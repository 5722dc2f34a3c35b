package websocket

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

var (
	errPeerClosed = errors.New("the other side closed the connection")
	errPeerSilent = errors.New("the other side answers no ping: it is gone, or the network is")
)

// A conn is a WebSocket as a net.Conn.
//
// Every Read and Write runs in its caller's goroutine. The first thing that ends
// the connection is its cause, which every later call reports.
type conn struct {
	link *link // to the network: link_native.go, link_js.go

	readMu  sync.Mutex // held by the Read that is at it
	writeMu sync.Mutex // held for a whole Write, so that none tears another

	reading, writing deadline

	mu       sync.Mutex
	cause    error // why the connection ended; nil while it lives
	closed   bool  // by Close
	pinger   *time.Timer
	interval time.Duration

	// Of the pinger's function alone, of which one at most runs at a time.
	heard   int64 // what link.heard was at the last tick
	silence int   // ticks in a row at which a Read waited and nothing had come
}

var _ net.Conn = (*conn)(nil)

func newConn(l *link, interval time.Duration) *conn {
	c := &conn{link: l, interval: interval}
	expire := func() { _ = c.end(os.ErrDeadlineExceeded, abrupt) }
	c.reading.kill, c.writing.kill = expire, expire
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pinger = time.AfterFunc(interval, c.tick) // until the connection ends
	return c
}

func (c *conn) LocalAddr() net.Addr  { return c.link.LocalAddr() }
func (c *conn) RemoteAddr() net.Addr { return c.link.RemoteAddr() }

func (c *conn) Read(p []byte) (int, error) {
	if err := c.begin(&c.reading, len(p)); err != nil || len(p) == 0 {
		return 0, c.opError("read", err)
	}
	defer c.reading.end()
	c.readMu.Lock()
	defer c.readMu.Unlock()
	n, err := c.link.read(p)
	if err != nil {
		err = c.opError("read", c.fail(err))
	}
	return n, err
}

func (c *conn) Write(p []byte) (int, error) {
	if err := c.begin(&c.writing, len(p)); err != nil || len(p) == 0 {
		return 0, c.opError("write", err)
	}
	defer c.writing.end()
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	for sent := 0; sent < len(p); {
		msg := p[sent:min(sent+MaxMessage, len(p))]
		if err := c.link.send(msg); err != nil {
			return sent, c.writeError(err)
		}
		sent += len(msg)
	}
	return len(p), nil
}

// writeError ends the connection because a Write failed, and returns its error.
func (c *conn) writeError(err error) error {
	if err = c.fail(err); err == io.EOF {
		err = errPeerClosed
	}
	return c.opError("write", err)
}

// begin reports why an operation on size bytes cannot start. When it returns nil
// and size is not 0, d.end must follow.
func (c *conn) begin(d *deadline, size int) error {
	c.mu.Lock()
	cause := c.cause
	c.mu.Unlock()
	switch {
	case cause == io.EOF && d == &c.writing:
		return errPeerClosed
	case cause != nil:
		return cause
	case size > 0 && !d.begin():
		return os.ErrDeadlineExceeded
	}
	return nil
}

// opError dresses an error as package net does. io.EOF stays as it is.
func (c *conn) opError(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &net.OpError{Op: op, Net: "websocket", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

// fail ends the connection because of what the link said, unless it has ended,
// and returns the cause.
func (c *conn) fail(err error) error {
	s, cause := failure(err)
	return c.end(cause, s)
}

// A status is what a close frame says, RFC 6455 §7.4.1.
type status uint16

const (
	abrupt              status = 0 // of an end of which the other side is not told
	statusNormal        status = 1000
	statusGoingAway     status = 1001
	statusProtocolError status = 1002
	statusUnsupported   status = 1003
	statusNone          status = 1005 // of a close frame without one
	statusTooBig        status = 1009
)

// end ends the connection for the given cause, telling the other side the status,
// and returns the cause, which is an earlier one's if there was one. It waits for
// the network 250 ms at most.
func (c *conn) end(cause error, status status) error {
	c.mu.Lock()
	if c.cause != nil {
		cause = c.cause
		c.mu.Unlock()
		return cause
	}
	if c.closed {
		cause = net.ErrClosed // whatever else there was at that moment
	}
	c.cause = cause
	c.pinger.Stop()
	c.mu.Unlock()
	c.link.shut(status)
	return cause
}

// Close tells the other side, if that takes no waiting, and closes. What was
// written is not waited for.
func (c *conn) Close() error {
	c.mu.Lock()
	again := c.closed
	c.closed = true
	if c.cause != nil {
		c.cause = net.ErrClosed
	}
	c.mu.Unlock()
	if again {
		return c.opError("close", net.ErrClosed)
	}
	_ = c.end(net.ErrClosed, statusNormal)
	c.reading.set(time.Time{}) // stops the timers
	c.writing.set(time.Time{})
	return nil
}

func (c *conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

func (c *conn) SetReadDeadline(t time.Time) error  { return c.setDeadline(&c.reading, t) }
func (c *conn) SetWriteDeadline(t time.Time) error { return c.setDeadline(&c.writing, t) }

func (c *conn) setDeadline(d *deadline, t time.Time) error {
	c.mu.Lock()
	closed := c.closed
	c.mu.Unlock()
	if closed {
		return c.opError("set", net.ErrClosed)
	}
	d.set(t)
	return nil
}

// maxSilence is how many ping intervals a waiting Read may hear nothing.
const maxSilence = 3

// tick pings if nothing was heard since the one before, and gives the other side up
// after maxSilence. While no Read waits, nothing can be heard, and silence says
// nothing.
func (c *conn) tick() {
	heard := c.link.heard()
	silent := heard == c.heard
	c.heard = heard
	if silent && c.reading.busy() {
		c.silence++
	} else {
		c.silence = 0
	}
	if c.silence == maxSilence {
		_ = c.end(errPeerSilent, abrupt)
		return
	}
	if silent {
		c.link.ping()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause == nil {
		c.pinger.Reset(c.interval)
	}
}
