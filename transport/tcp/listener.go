package tcp

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/transport"
	"github.com/splitmesh/splitmesh/transport/internal/gate"
)

// acceptPause is how long the listener leaves accepting alone after it failed,
// for want of file descriptors for instance.
const acceptPause = 50 * time.Millisecond

type listener struct {
	net     net.Listener
	addr    multiaddr.Multiaddr
	admit   transport.Admit
	timeout time.Duration
	gate    *gate.Gate

	closing chan struct{} // closed by the first Close
	once    sync.Once
	err     error          // of closing net; set in once
	running sync.WaitGroup // accept, and each arrival until it is judged
}

func newListener(nl net.Listener, admit transport.Admit, timeout time.Duration, most int) *listener {
	l := &listener{
		net:     nl,
		addr:    transport.FromTCP(nl.Addr().(*net.TCPAddr).AddrPort()),
		admit:   admit,
		timeout: timeout,
		gate:    gate.New(most),
		closing: make(chan struct{}),
	}
	l.running.Go(l.accept) // ends when Close closes l.net
	return l
}

func (l *listener) Multiaddr() multiaddr.Multiaddr { return l.addr }

func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.closing)
		l.err = l.net.Close()
		l.gate.Close()
	})
	l.running.Wait()
	return l.err
}

func (l *listener) accept() {
	for {
		conn, err := l.net.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			select {
			case <-l.closing:
				return
			case <-time.After(acceptPause):
			}
			continue
		}
		ticket := l.gate.Enter(conn)
		if ticket == nil {
			return
		}
		l.running.Add(1)
		// The arrival's own goroutine: the listener's until the arrival is judged,
		// which the timeout and Close both bring about, then the admitter's.
		go l.arrive(conn, ticket)
	}
}

func (l *listener) arrive(conn net.Conn, ticket *gate.Ticket) {
	deliver := l.judge(conn)
	in := ticket.Leave()
	l.running.Done()
	switch {
	case deliver == nil:
		conn.Close()
	case !in: // cut by newer arrivals or by Close while it was judged
		deliver(nil)
	default:
		deliver(conn)
	}
}

// judge reads the opening and asks for admission. It returns nil when there is
// none of either.
func (l *listener) judge(conn net.Conn) func(net.Conn) {
	if err := conn.SetReadDeadline(time.Now().Add(l.timeout)); err != nil {
		return nil
	}
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil
	}
	n := binary.BigEndian.Uint16(size[:])
	if n > transport.MaxOpening {
		return nil
	}
	opening := make([]byte, n)
	if _, err := io.ReadFull(conn, opening); err != nil {
		return nil
	}
	_ = conn.SetReadDeadline(time.Time{}) // fails when conn is closed, which its ticket tells
	return l.admit(opening)
}
