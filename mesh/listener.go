package mesh

import (
	"net"
	"sync"
)

// backlog is how many conns wait for Accept before more are refused.
const backlog = 128

// A listener is the receiving end of one service.
type listener struct {
	n    *Node
	addr Addr
	in   chan *Conn // has room for every place that reserve gave out
	done chan struct{}
	once sync.Once

	mu     sync.Mutex // guards all below
	closed bool
	places int // conns in the backlog, and those about to be
}

// reserve takes a place in the backlog. It reports false when there is none.
func (l *listener) reserve() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.places == backlog {
		return false
	}
	l.places++
	return true
}

// deliver puts c in the place reserved, or gives the place up when err says that
// the peer is gone.
func (l *listener) deliver(c *Conn, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || err != nil {
		l.places--
		c.stream.Reset()
		return
	}
	l.in <- c
}

func (l *listener) accepted() {
	l.mu.Lock()
	l.places--
	l.mu.Unlock()
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.done:
		return nil, l.closedError()
	default:
	}
	select {
	case c := <-l.in:
		l.accepted()
		return c, nil
	case <-l.done:
		return nil, l.closedError()
	}
}

func (l *listener) closedError() error {
	return &OpError{Op: "accept", Service: l.addr.Service, Err: net.ErrClosed}
}

// Close stops listening and closes the conns that nobody accepted.
func (l *listener) Close() error {
	l.once.Do(func() {
		l.n.forget(l)
		l.mu.Lock()
		l.closed = true
		l.mu.Unlock()
		close(l.done)
		for {
			select {
			case c := <-l.in:
				c.stream.Reset()
			default:
				return
			}
		}
	})
	return nil
}

// Addr returns the node's ID and the service.
func (l *listener) Addr() net.Addr { return l.addr }
