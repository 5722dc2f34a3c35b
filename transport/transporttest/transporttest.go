// Package transporttest is the conformance suite of package transport: what
// every implementation promises, as tests.
//
//	func TestConformance(t *testing.T) {
//		transporttest.Run(t, func(t *testing.T) transporttest.Harness {
//			return transporttest.Harness{
//				Transport: &tcp.Transport{},
//				Listen:    multiaddr.StringCast("/ip4/127.0.0.1/tcp/0"),
//				CanDial:   map[string]bool{"/ip4/192.0.2.1/tcp/1": true, "/memory/1": false},
//			}
//		})
//	}
//
// It neither sleeps nor asserts a duration: what should end and does not hangs
// until the test binary's own timeout, whose stacks then show where.
package transporttest

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/multiformats/go-multiaddr"
	"go.uber.org/goleak"

	"github.com/splitmesh/splitmesh/transport"
)

// A Harness is one transport under test and what the suite must know of it.
type Harness struct {
	Transport transport.Transport
	// Listen is an address to listen at whose listener's Multiaddr can be
	// dialled, any number of times in turn: with port 0, say.
	Listen multiaddr.Multiaddr
	// CanDial maps addresses to what CanDial says of them. Dial and Listen
	// must fail with ErrUnsupported at those that are false.
	CanDial map[string]bool
	// SeesRefusal says that Dial itself fails, with ErrRefused, when the
	// opening is not admitted. Otherwise it may instead return a connection
	// that ends before its first byte.
	SeesRefusal bool
	// Raw connects to a listener's address below the transport, as a stranger
	// would. nil: nobody can.
	Raw func(ctx context.Context, addr multiaddr.Multiaddr) (net.Conn, error)
	// Impatient is one like Transport whose listeners cut arrivals that stall
	// after a short time, such as 200 ms. Needed with Raw.
	Impatient transport.Transport
	// Stalled returns an address at which Dial waits for ever, and a channel
	// that is closed once it does. nil: Dial never waits.
	Stalled func(t *testing.T) (addr multiaddr.Multiaddr, dialling <-chan struct{})
}

// Run runs the suite. newHarness is called for each test.
func Run(t *testing.T, newHarness func(t *testing.T) Harness) {
	for _, tt := range []struct {
		name string
		test func(*testing.T, Harness)
	}{
		{"Addresses", testAddresses},
		{"Echo", testEcho},
		{"Transfer", testTransfer},
		{"ConcurrentUse", testConcurrentUse},
		{"Opening", testOpening},
		{"OpeningTooLarge", testOpeningTooLarge},
		{"Refused", testRefused},
		{"ManyDials", testManyDials},
		{"ContextBefore", testContextBefore},
		{"ContextDuring", testContextDuring},
		{"ContextAfter", testContextAfter},
		{"ListenerClose", testListenerClose},
		{"ListenerCloseDuringDials", testListenerCloseDuringDials},
		{"ListenerCloseWaits", testListenerCloseWaits},
		{"ConnClose", testConnClose},
		{"ConnCloseUnblocks", testConnCloseUnblocks},
		{"ReadDeadline", testReadDeadline},
		{"WriteDeadline", testWriteDeadline},
		{"Strangers", testStrangers},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := goleak.IgnoreCurrent()
			// Registered first, so run when all else is cleaned up.
			t.Cleanup(func() { goleak.VerifyNone(t, before) })
			tt.test(t, newHarness(t))
		})
	}
}

// An arrival is what an admitted dial looks like to the listener.
type arrival struct {
	opening string
	conn    net.Conn
}

// A server is a listener that admits everyone but those whose opening is
// refuseMe, and queues who came.
type server struct {
	transport.Listener
	arrivals chan arrival
}

const refuseMe = "refuse me"

func serve(t *testing.T, h Harness) *server {
	t.Helper()
	s := &server{arrivals: make(chan arrival, 1024)}
	l, err := h.Transport.Listen(t.Context(), h.Listen, func(opening []byte) func(net.Conn) {
		o := string(opening)
		if o == refuseMe {
			return nil
		}
		return func(c net.Conn) { s.arrivals <- arrival{o, c} }
	})
	if err != nil {
		t.Fatalf("Listen(%v): %v", h.Listen, err)
	}
	s.Listener = l
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("Listener.Close: %v", err)
		}
	})
	return s
}

// dial dials s and returns both ends, which are closed with the test.
func (s *server) dial(t *testing.T, h Harness, opening string) (client, remote net.Conn) {
	t.Helper()
	client, err := h.Transport.Dial(t.Context(), s.Multiaddr(), []byte(opening))
	if err != nil {
		t.Fatalf("Dial(%v): %v", s.Multiaddr(), err)
	}
	t.Cleanup(func() { client.Close() })
	a := <-s.arrivals
	if a.conn == nil {
		t.Fatal("the admitted arrival has no connection")
	}
	t.Cleanup(func() { a.conn.Close() })
	if a.opening != opening {
		t.Fatalf("opening arrived as %.40q (%d bytes), want %q", a.opening, len(a.opening), opening)
	}
	return client, a.conn
}

// mustReach fails the test unless what is written to from is read from to.
func mustReach(t *testing.T, from, to net.Conn, text string) {
	t.Helper()
	if n, err := from.Write([]byte(text)); err != nil || n != len(text) {
		t.Fatalf("Write = %d, %v; want %d", n, err, len(text))
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(to, got); err != nil || string(got) != text {
		t.Fatalf("read %q, %v; want %q", got, err, text)
	}
}

// tryRefused dials with an opening that is not admitted, and reports how that
// failed; nil when it did not.
func (s *server) tryRefused(ctx context.Context, h Harness) error {
	conn, err := h.Transport.Dial(ctx, s.Multiaddr(), []byte(refuseMe))
	if err != nil {
		return err
	}
	defer conn.Close()
	if h.SeesRefusal {
		return nil
	}
	if _, err = conn.Read(make([]byte, 1)); err == nil {
		return errors.New("a byte came back")
	}
	return transport.ErrRefused
}
