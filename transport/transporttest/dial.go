package transporttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/transport"
)

func testAddresses(t *testing.T, h Harness) {
	for s, want := range h.CanDial {
		addr, err := multiaddr.NewMultiaddr(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := h.Transport.CanDial(addr); got != want {
			t.Errorf("CanDial(%s) = %v, want %v", s, got, want)
		}
		if want {
			continue
		}
		if _, err := h.Transport.Dial(t.Context(), addr, nil); !errors.Is(err, transport.ErrUnsupported) {
			t.Errorf("Dial(%s): %v; want ErrUnsupported", s, err)
		}
		if _, err := h.Transport.Listen(t.Context(), addr, nil); !errors.Is(err, transport.ErrUnsupported) {
			t.Errorf("Listen(%s): %v; want ErrUnsupported", s, err)
		}
	}
	if h.Transport.CanDial(nil) {
		t.Error("CanDial(nil) = true")
	}
	if addr := serve(t, h).Multiaddr(); !h.Transport.CanDial(addr) {
		t.Errorf("CanDial(%v), where we listen, = false", addr)
	}
}

func testOpening(t *testing.T, h Harness) {
	s := serve(t, h)
	for _, size := range []int{0, 1, 2, 255, 256, 1184, transport.MaxOpening} {
		opening := make([]byte, size)
		for i := range opening {
			opening[i] = byte(i*7 + size)
		}
		want := string(opening)
		client, err := h.Transport.Dial(t.Context(), s.Multiaddr(), opening)
		if err != nil {
			t.Fatalf("Dial with an opening of %d bytes: %v", size, err)
		}
		clear(opening) // a transport does not keep it
		if _, err := client.Write([]byte("first byte")); err != nil {
			t.Fatal(err)
		}
		a := <-s.arrivals
		if a.opening != want {
			t.Errorf("an opening of %d bytes arrived as %d other ones", size, len(a.opening))
		}
		got := make([]byte, 10)
		if _, err := io.ReadFull(a.conn, got); err != nil || string(got) != "first byte" {
			t.Errorf("after an opening of %d bytes: read %q, %v", size, got, err)
		}
		client.Close()
		a.conn.Close()
	}
}

func testOpeningTooLarge(t *testing.T, h Harness) {
	s := serve(t, h)
	conn, err := h.Transport.Dial(t.Context(), s.Multiaddr(), make([]byte, transport.MaxOpening+1))
	if conn != nil || !errors.Is(err, transport.ErrOpeningTooLarge) {
		t.Fatalf("Dial = %v, %v; want ErrOpeningTooLarge", conn, err)
	}
	// Nothing of it reached the listener: the next arrival is the first.
	s.dial(t, h, "next")
}

func testRefused(t *testing.T, h Harness) {
	s := serve(t, h)
	client, remote := s.dial(t, h, "before")
	for range 3 {
		if err := s.tryRefused(t.Context(), h); !errors.Is(err, transport.ErrRefused) {
			t.Errorf("an opening that is not admitted: %v; want ErrRefused", err)
		}
	}
	mustReach(t, client, remote, "as before")
	s.dial(t, h, "after")
}

func testManyDials(t *testing.T, h Harness) {
	s := serve(t, h)
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			text := fmt.Sprintf("dialler %d", i)
			c, err := h.Transport.Dial(t.Context(), s.Multiaddr(), []byte(text))
			if err != nil {
				t.Errorf("%s: %v", text, err)
				s.arrivals <- arrival{}
				return
			}
			defer c.Close()
			got := make([]byte, len(text))
			if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
				t.Errorf("%s read %q, %v", text, got, err)
			}
		})
		wg.Go(func() { // serves whoever comes
			a := <-s.arrivals
			if a.conn == nil {
				t.Error("an arrival without a connection")
				return
			}
			defer a.conn.Close()
			if _, err := io.WriteString(a.conn, a.opening); err != nil {
				t.Error(err)
			}
			a.conn.Read(make([]byte, 1)) // until the dialler closes
		})
	}
	wg.Wait()
}

func testContextBefore(t *testing.T, h Harness) {
	s := serve(t, h)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if c, err := h.Transport.Dial(ctx, s.Multiaddr(), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Dial = %v, %v; want context.Canceled", c, err)
	}
	if l, err := h.Transport.Listen(ctx, h.Listen, func([]byte) func(net.Conn) { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("Listen = %v, %v; want context.Canceled", l, err)
	}
}

func testContextDuring(t *testing.T, h Harness) {
	if h.Stalled == nil {
		return
	}
	addr, dialling := h.Stalled(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { // ends when the dial is under way, as it must be
		<-dialling
		cancel()
	}()
	if c, err := h.Transport.Dial(ctx, addr, []byte("opening")); !errors.Is(err, context.Canceled) {
		t.Errorf("Dial(%v) = %v, %v; want context.Canceled", addr, c, err)
	}
}

func testContextAfter(t *testing.T, h Harness) {
	ctx, cancel := context.WithCancel(t.Context())
	arrivals := make(chan net.Conn, 1)
	l, err := h.Transport.Listen(ctx, h.Listen, func([]byte) func(net.Conn) {
		return func(c net.Conn) { arrivals <- c }
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := h.Transport.Dial(ctx, l.Multiaddr(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	remote := <-arrivals
	defer remote.Close()
	cancel() // of the Dial and of the Listen: both are over
	for range 10 {
		mustReach(t, client, remote, "there")
		mustReach(t, remote, client, "and back")
	}
	again, err := h.Transport.Dial(t.Context(), l.Multiaddr(), nil)
	if err != nil {
		t.Fatalf("the listener ended with its ctx: %v", err)
	}
	defer again.Close()
	(<-arrivals).Close()
}

func testListenerClose(t *testing.T, h Harness) {
	s := serve(t, h)
	addr := s.Multiaddr()
	client, remote := s.dial(t, h, "early")
	var stalled net.Conn
	if h.Raw != nil {
		var err error
		if stalled, err = h.Raw(t.Context(), addr); err != nil {
			t.Fatal(err)
		}
		defer stalled.Close()
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := s.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
	wg.Wait()
	if stalled != nil {
		if _, err := io.Copy(io.Discard, stalled); errors.Is(err, net.ErrClosed) {
			t.Error(err) // anything but our own doing is an end
		}
	}
	if got := s.Multiaddr(); !got.Equal(addr) {
		t.Errorf("Multiaddr after Close = %v, want %v", got, addr)
	}
	mustReach(t, client, remote, "there")
	mustReach(t, remote, client, "and back")
	if c, err := h.Transport.Dial(t.Context(), addr, []byte("late")); err == nil {
		defer c.Close()
		t.Errorf("Dial after the listener's Close succeeded")
	}
	if err := s.Close(); err != nil {
		t.Errorf("another Close: %v", err)
	}
}

// testListenerCloseDuringDials closes while dials arrive. Whoever was admitted is
// handed over once, connected or not, and nobody is admitted after Close.
func testListenerCloseDuringDials(t *testing.T, h Harness) {
	for range 5 {
		var admitted, handed atomic.Int64
		var closed atomic.Bool
		started := make(chan struct{}, 1024)
		var owners sync.WaitGroup
		l, err := h.Transport.Listen(t.Context(), h.Listen, func([]byte) func(net.Conn) {
			if closed.Load() {
				t.Error("admit called after Close")
			}
			admitted.Add(1)
			owners.Add(1)
			return func(c net.Conn) {
				defer owners.Done()
				handed.Add(1)
				started <- struct{}{}
				if c != nil {
					c.Close()
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 100 {
					c, err := h.Transport.Dial(ctx, l.Multiaddr(), []byte("now"))
					if err != nil {
						if closed.Load() {
							return
						}
						continue
					}
					c.Close()
				}
			})
		}
		<-started
		if err := l.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		closed.Store(true)
		cancel()
		wg.Wait()
		owners.Wait()
		if a, h := admitted.Load(), handed.Load(); a != h {
			t.Errorf("%d admitted, %d handed over", a, h)
		}
	}
}

// testListenerCloseWaits closes while an arrival is being judged: Close returns
// when admit has.
func testListenerCloseWaits(t *testing.T, h Harness) {
	var judged atomic.Bool
	judging, judge := make(chan struct{}), make(chan struct{})
	delivered := make(chan net.Conn, 1)
	l, err := h.Transport.Listen(t.Context(), h.Listen, func(opening []byte) func(net.Conn) {
		if string(opening) == refuseMe {
			return nil
		}
		close(judging)
		<-judge
		judged.Store(true)
		return func(c net.Conn) { delivered <- c }
	})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if c, err := h.Transport.Dial(t.Context(), l.Multiaddr(), []byte("judge me")); err == nil {
			c.Close()
		}
	})
	<-judging
	wg.Go(func() {
		if err := l.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if !judged.Load() {
			t.Error("Close returned while admit ran")
		}
	})
	for { // until Close is under way, which is when nothing listens any more
		c, err := h.Transport.Dial(t.Context(), l.Multiaddr(), []byte(refuseMe))
		if err == nil {
			c.Close()
		} else if !errors.Is(err, transport.ErrRefused) {
			break
		}
	}
	close(judge)
	wg.Wait()
	if c := <-delivered; c != nil {
		c.Close()
	}
}

// testStrangers has arrivals below the transport that are no peers of ours. Each
// is cut, and peers are served meanwhile and afterwards.
func testStrangers(t *testing.T, h Harness) {
	if h.Raw == nil {
		return
	}
	h.Transport = h.Impatient
	s := serve(t, h)
	var strangers []net.Conn
	for _, says := range [][]byte{
		nil, {0}, {0xff}, {0xff, 0xff}, {0, 9, 'r', 'e', 'f'}, []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), []byte("GET / HT"),
		{22, 3, 1, 2, 0}, []byte("SSH-2.0-x\r\n"), bytes.Repeat([]byte{0xa5}, 64<<10),
	} {
		c, err := h.Raw(t.Context(), s.Multiaddr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.Write(says) // may fail, when it is already cut
		strangers = append(strangers, c)
	}
	s.dialImpatient(t, h, "meanwhile")
	for _, c := range strangers {
		io.Copy(io.Discard, c) // until it is cut
	}
	s.dialImpatient(t, h, "afterwards")
	if len(s.arrivals) != 0 {
		t.Errorf("a stranger was admitted with %.40q", (<-s.arrivals).opening)
	}
}

// dialImpatient has an exchange with a listener that is so impatient that on a
// busy machine it may cut a peer too, which then tries again.
func (s *server) dialImpatient(t *testing.T, h Harness, opening string) {
	t.Helper()
	for {
		client, err := h.Transport.Dial(t.Context(), s.Multiaddr(), []byte(opening))
		if err != nil {
			t.Logf("dialling again: %v", err)
			continue
		}
		defer client.Close()
		got := make(chan error, 1)
		go func() { // ends with the byte below, or when the peer was cut
			_, err := client.Read(make([]byte, 1))
			got <- err
		}()
		select {
		case a := <-s.arrivals:
			if a.opening != opening {
				t.Fatalf("opening arrived as %.40q (%d bytes), want %q", a.opening, len(a.opening), opening)
			}
			if a.conn == nil {
				continue
			}
			defer a.conn.Close()
			a.conn.Write([]byte("x"))
			if err := <-got; err != nil {
				t.Errorf("after admission: %v", err)
			}
			return
		case err := <-got:
			t.Logf("dialling again: %v", err)
		}
	}
}
