package tcp

import (
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splitmesh/splitmesh/transport"
	"github.com/splitmesh/splitmesh/transport/internal/stall"
)

func refuseAll([]byte) func(net.Conn) { return nil }

// A stranger who stalls within the opening makes us hold 64 KiB at most.
func TestStalledArrivalsHoldLittle(t *testing.T) {
	const arrivals, allowed = 500, 64 << 10
	says := append([]byte{transport.MaxOpening >> 8, transport.MaxOpening & 0xff}, make([]byte, transport.MaxOpening-1)...)
	held := stall.PerArrival(t, arrivals, stall.Say(says), func(nl net.Listener) {
		l := newListener(nl, refuseAll, time.Hour, arrivals)
		t.Cleanup(func() { l.Close() })
	})
	t.Logf("%d bytes an arrival", held)
	if held > allowed {
		t.Errorf("an arrival that stalls holds %d bytes, more than %d", held, allowed)
	}
}

// The arrival's time limit ends with its admission.
func TestNoDeadlineAfterAdmission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &failing{closed: make(chan struct{}), conns: make(chan net.Conn, 1)}
		here, there := net.Pipe()
		defer here.Close()
		f.conns <- there
		delivered := make(chan net.Conn, 1)
		l := newListener(f, func([]byte) func(net.Conn) { return func(c net.Conn) { delivered <- c } }, time.Minute, 1)
		defer l.Close()
		if _, err := here.Write([]byte{0, 0}); err != nil {
			t.Fatal(err)
		}
		conn := <-delivered
		defer conn.Close()
		time.Sleep(time.Hour) // of the bubble's time
		go here.Write([]byte("x"))
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			t.Errorf("an hour after admission: %v", err)
		}
	})
}

// failing is a listener whose Accept fails until it has done so often enough.
type failing struct {
	net.Listener
	failures int
	closed   chan struct{}
	conns    chan net.Conn
}

func (f *failing) Accept() (net.Conn, error) {
	if f.failures--; f.failures >= 0 {
		return nil, errors.New("too many open files")
	}
	select {
	case c := <-f.conns:
		return c, nil
	case <-f.closed:
		return nil, net.ErrClosed
	}
}

func (f *failing) Close() error   { close(f.closed); return nil }
func (f *failing) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// Accept failing for a while, as it does without file descriptors, ends nothing.
func TestAcceptFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &failing{failures: 3, closed: make(chan struct{}), conns: make(chan net.Conn, 1)}
		here, there := net.Pipe()
		defer here.Close()
		f.conns <- there
		delivered := make(chan net.Conn, 1)
		l := newListener(f, func([]byte) func(net.Conn) { return func(c net.Conn) { delivered <- c } }, time.Minute, 1)
		if _, err := here.Write([]byte{0, 0}); err != nil {
			t.Fatal(err)
		}
		(<-delivered).Close()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	synctest.Test(t, func(t *testing.T) { // Close does not wait for the pause to pass
		l := newListener(&failing{failures: 1 << 30, closed: make(chan struct{})}, refuseAll, time.Minute, 1)
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}
