package memory

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/transport"
	"github.com/splitmesh/splitmesh/transport/link"
)

// The first bytes of a connection: the dialler sends its opening after the
// opening's length, two bytes big-endian; the listener answers with one byte.
const (
	lengthSize = 2
	refused    = 0
	admitted   = 1
)

// knock sends the opening and waits for the answer.
func knock(ctx context.Context, p *link.Pipe, opening []byte) (net.Conn, error) {
	conn, _ := p.Conns()
	stop := context.AfterFunc(ctx, func() { // its goroutine ends with the one call
		_ = conn.SetDeadline(time.Unix(1, 0)) // fails only if conn is closed: fine too
	})
	var answer [1]byte
	_, err := conn.Write(appendOpening(nil, opening))
	if err == nil {
		_, err = io.ReadFull(conn, answer[:])
	}
	switch {
	case !stop():
		err = ctx.Err()
	case err == io.EOF: // the listener was closed before it judged
		err = syscall.ECONNREFUSED
	case err == nil && answer[0] == refused:
		err = transport.ErrRefused
	}
	if err != nil {
		// Where the opening has not arrived nobody knows of us yet; otherwise we
		// leave as anybody does, which a black hole holds back.
		if sent, _ := p.Carried(); sent < uint64(lengthSize+len(opening)) {
			p.Cut()
		}
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// A listener is one of a host's.
type listener struct {
	net    *Network
	host   string
	number uint64
	admit  transport.Admit

	arrivals sync.WaitGroup // goroutines that have not judged yet; Add under the network's lock

	mu      sync.Mutex              // guards pending; taken after the network's, before any link's
	pending map[*link.Conn]struct{} // arrivals not yet judged
}

func newListener(n *Network, host string, number uint64, admit transport.Admit) *listener {
	return &listener{net: n, host: host, number: number, admit: admit, pending: make(map[*link.Conn]struct{})}
}

// Multiaddr returns the address bound.
func (l *listener) Multiaddr() multiaddr.Multiaddr {
	return multiaddr.StringCast(Addr{Number: l.number}.String())
}

// Close frees the address, abandons arrivals not yet admitted, and waits for
// calls of admit to return.
func (l *listener) Close() error {
	l.net.leave(l)
	l.stop()
	return nil
}

// stop is Close for a listener that the network has forgotten, so that no more
// arrive.
func (l *listener) stop() {
	l.mu.Lock()
	for c := range l.pending {
		c.Close()
	}
	l.mu.Unlock()
	l.arrivals.Wait()
}

// arrive starts to serve c, under the network's lock. It does not block.
func (l *listener) arrive(c *link.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending[c] = struct{}{}
	l.arrivals.Add(1)
	go l.serve(c) // ends when c ends, is refused, or its new owner's function returns
}

// serve has c judged and hands it over.
func (l *listener) serve(c *link.Conn) {
	owner, conn := l.judge(c)
	l.arrivals.Done()
	if owner != nil {
		owner(conn)
	}
}

// judge reads c's opening and answers it. It returns the function that admit
// returned, and c if that is to have it; otherwise it has closed c.
func (l *listener) judge(c *link.Conn) (owner func(net.Conn), conn net.Conn) {
	opening, err := readOpening(c)
	answer := []byte{refused}
	if err == nil {
		if owner = l.admit(opening); owner != nil {
			answer[0] = admitted
		}
	}
	l.mu.Lock()
	delete(l.pending, c) // from here on, stop lets it be
	l.mu.Unlock()
	if _, err := c.Write(answer); err == nil && owner != nil {
		return owner, c
	}
	c.Close()
	return owner, nil
}

// appendOpening appends what a dialler sends first.
func appendOpening(b, opening []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(opening)))
	return append(b, opening...)
}

// readOpening reads what appendOpening wrote.
func readOpening(r io.Reader) ([]byte, error) {
	var length [lengthSize]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint16(length[:])
	if n > transport.MaxOpening {
		return nil, fmt.Errorf("arrival: %w", transport.ErrOpeningTooLarge)
	}
	opening := make([]byte, n)
	_, err := io.ReadFull(r, opening)
	return opening, err
}
