package link

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multiformats/go-multiaddr"
	"golang.org/x/net/nettest"

	"github.com/splitmesh/splitmesh/transport"
	"github.com/splitmesh/splitmesh/transport/tcp"
	"github.com/splitmesh/splitmesh/transport/transporttest"
	"github.com/splitmesh/splitmesh/transport/websocket"
)

// tcpPair returns both ends of a real TCP connection.
func tcpPair(tb testing.TB) (client, server *net.TCPConn) {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	s, err := ln.Accept()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { s.Close() })
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

// wrapPair is tcpPair with the client's end behind l. It is cut when the test
// ends, whatever that left behind.
func wrapPair(tb testing.TB, l *Link) (near net.Conn, far *net.TCPConn) {
	c, s := tcpPair(tb)
	near = Wrap(c, l)
	tb.Cleanup(func() { l.Cut(); near.Close() })
	return near, s
}

func TestWrapNettest(t *testing.T) {
	for name, c := range map[string]Config{
		"plain":  {},
		"shaped": {Up: Shape{Rate: 100 << 20, Delay: time.Millisecond}, Down: Shape{Jitter: time.Millisecond}},
	} {
		t.Run(name, func(t *testing.T) {
			nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
				near, far := wrapPair(t, New(c))
				return near, far, func() { near.Close(); far.Close() }, nil
			})
		})
	}
}

func TestWrapCutIsAReset(t *testing.T) {
	l := new(Link)
	near, far := wrapPair(t, l)
	mustWrite(t, near, []byte("hello"))
	mustRead(t, far, []byte("hello"))
	l.Cut()
	if _, err := far.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the real end's Read: %v, want ECONNRESET", err)
	}
	if _, err := near.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("Read: %v, want ECONNRESET", err)
	}
}

// Nor does a cut of a WebSocket look like an end, whether what reads it waits for
// the network or for the link.
func TestWrapCutOfWebSocket(t *testing.T) {
	for name, sent := range map[string]int{"idle": 0, "stuck": 30_000} {
		t.Run(name, func(t *testing.T) {
			delivered := make(chan net.Conn, 1)
			tr := &websocket.Transport{}
			ln, err := tr.Listen(t.Context(), multiaddr.StringCast("/ip4/127.0.0.1/tcp/0/ws"),
				func([]byte) func(net.Conn) { return func(c net.Conn) { delivered <- c } })
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			c, err := tr.Dial(t.Context(), ln.Multiaddr(), nil)
			if err != nil {
				t.Fatal(err)
			}
			far := <-delivered
			defer far.Close()
			l := New(Config{Down: Shape{Buffer: 4096}})
			near := Wrap(c, l)
			defer near.Close()
			mustWrite(t, far, make([]byte, sent))
			mustRead(t, near, make([]byte, sent/4)) // so that the link is full of what follows, or will be
			l.Cut()
			if _, err := far.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the real end's Read: %v, want ECONNRESET", err)
			}
		})
	}
}

// Cut works while the real connection can't take a byte more.
func TestWrapCutWhileStuck(t *testing.T) {
	for name, pair := range map[string]func() (net.Conn, net.Conn){
		"tcp":             func() (net.Conn, net.Conn) { c, s := tcpPair(t); return c, s },
		"pipe":            func() (net.Conn, net.Conn) { return net.Pipe() },
		"tcp in disguise": func() (net.Conn, net.Conn) { c, s := tcpPair(t); return disguise{c, c}, s },
	} {
		t.Run(name, func(t *testing.T) {
			c, s := pair()
			defer s.Close()
			l := new(Link)
			near := Wrap(c, l)
			defer near.Close()
			near.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
			if _, err := near.Write(make([]byte, 64<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("Write: %v, want a timeout", err)
			}
			l.Cut()
			if name == "pipe" { // which no one reads, and still it ends
				for err := error(nil); err == nil; {
					_, err = s.Write([]byte{1})
				}
			} else if _, err := io.Copy(io.Discard, s); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the real end: %v, want ECONNRESET", err)
			}
			if l.Live() != 0 {
				t.Error("live after the cut")
			}
		})
	}
}

// disguise is a connection over another, as TLS is.
type disguise struct {
	net.Conn
	inner net.Conn
}

func (d disguise) NetConn() net.Conn { return d.inner }

func TestWrapBlackHole(t *testing.T) {
	l := new(Link)
	near, far := wrapPair(t, l)
	sent := random(DefaultBuffer)
	l.BlackHole()
	mustWrite(t, near, sent)
	near.SetWriteDeadline(time.Now().Add(time.Millisecond))
	if n, err := near.Write([]byte{1}); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Write to a full link = %d, %v, want a timeout", n, err)
	}
	near.SetWriteDeadline(time.Time{})
	mustWrite(t, far, sent[:1000])
	if up, down := l.Carried(); up != 0 || down != 0 {
		t.Errorf("%d and %d bytes came through a black hole", up, down)
	}
	l.Heal()
	mustRead(t, far, sent)
	mustRead(t, near, sent[:1000])

	l.BlackHole()
	mustWrite(t, near, sent)
	near.Close() // and all the same it is delivered
	l.Heal()
	if got, err := io.ReadAll(far); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("after Close and Heal: %d bytes, %v; want %d", len(got), err, len(sent))
	}
}

// What was written before Close arrives, and then the end.
func TestWrapCloseDelivers(t *testing.T) {
	for name, end := range map[string]func(net.Conn) error{
		"Close":      net.Conn.Close,
		"CloseWrite": func(c net.Conn) error { return c.(closeWriter).CloseWrite() },
	} {
		t.Run(name, func(t *testing.T) {
			near, far := wrapPair(t, New(Config{Up: Shape{Rate: 20 << 20, Delay: time.Millisecond}}))
			sent := random(1 << 20)
			go func() {
				mustWrite(t, near, sent)
				if err := end(near); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}()
			if got, err := io.ReadAll(far); err != nil || !bytes.Equal(got, sent) {
				t.Fatalf("read %d bytes, %v", len(got), err)
			}
			if name == "Close" {
				return
			}
			mustWrite(t, far, sent[:1000])
			mustRead(t, near, sent[:1000])
			near.Close()
			if _, err := io.ReadAll(far); err != nil {
				t.Errorf("after Close: %v", err)
			}
		})
	}
}

// The other way round: what the real end wrote before it closed, and how.
func TestWrapRealEndCloses(t *testing.T) {
	sent := random(100_000)
	for name, tt := range map[string]struct {
		end  func(*net.TCPConn)
		want error
	}{
		"CloseWrite": {func(c *net.TCPConn) { c.CloseWrite() }, nil},
		"Close":      {func(c *net.TCPConn) { c.Close() }, nil},
		"reset":      {func(c *net.TCPConn) { c.SetLinger(0); c.Close() }, syscall.ECONNRESET},
	} {
		t.Run(name, func(t *testing.T) {
			near, far := wrapPair(t, new(Link))
			mustWrite(t, far, sent)
			mustRead(t, near, sent)
			tt.end(far)
			if _, err := io.ReadAll(near); !errors.Is(err, tt.want) || err == nil && tt.want != nil {
				t.Errorf("Read: %v, want %v", err, tt.want)
			}
			if name == "CloseWrite" {
				mustWrite(t, near, sent)
				mustRead(t, far, sent)
				return
			}
			var err error
			for err == nil { // the first may still go out
				_, err = near.Write(sent)
			}
			if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
				t.Errorf("Write: %v, want ECONNRESET or EPIPE", err)
			}
		})
	}
}

func TestWrapHidesWhatConnHasNot(t *testing.T) {
	c, s := net.Pipe()
	defer s.Close()
	near := Wrap(c, new(Link))
	defer near.Close()
	if _, ok := near.(closeWriter); ok {
		t.Error("CloseWrite over a connection that has none")
	}
}

func TestWrappedTransportConformance(t *testing.T) {
	transporttest.Run(t, func(t *testing.T) transporttest.Harness {
		shape := Config{Up: Shape{Delay: 100 * time.Microsecond}, Down: Shape{Rate: 200 << 20}}
		var mu sync.Mutex
		var links []*Link
		fresh := func() *Link {
			mu.Lock()
			defer mu.Unlock()
			links = append(links, New(shape))
			return links[len(links)-1]
		}
		t.Cleanup(func() {
			mu.Lock()
			defer mu.Unlock()
			for _, l := range links {
				l.Cut()
			}
		})
		return transporttest.Harness{
			Transport: WrapTransport(&tcp.Transport{}, Wrapper{
				Dial:   func(multiaddr.Multiaddr) *Link { return fresh() },
				Accept: func(net.Conn) *Link { return fresh() },
			}),
			Listen:  multiaddr.StringCast("/ip4/127.0.0.1/tcp/0"),
			CanDial: map[string]bool{"/ip4/192.0.2.1/tcp/1": true, "/memory/1": false},
		}
	})
}

// fake is a transport whose dials are joined to its last listener in memory.
type fake struct {
	transport.Transport // not called
	admit               transport.Admit
}

func (f *fake) Dial(context.Context, multiaddr.Multiaddr, []byte) (net.Conn, error) {
	take := f.admit(nil)
	if take == nil {
		return nil, transport.ErrRefused
	}
	a, b := new(Link).Pipe(nil, nil).Conns()
	go take(b) // ends when the test's function does
	return a, nil
}

func (f *fake) Listen(_ context.Context, _ multiaddr.Multiaddr, admit transport.Admit) (transport.Listener, error) {
	f.admit = admit
	return nil, nil
}

func TestWrappedDialTakesARoundTrip(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := New(Config{Up: Shape{Delay: time.Second}, Down: Shape{Delay: 2 * time.Second}})
		tr := WrapTransport(&fake{}, Wrapper{Dial: func(multiaddr.Multiaddr) *Link { return l }})
		conns := make(chan net.Conn, 1)
		tr.Listen(t.Context(), nil, func([]byte) func(net.Conn) { return func(c net.Conn) { conns <- c } })
		start := time.Now()
		a, err := tr.Dial(t.Context(), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("the dial took %v, want 3s", took)
		}
		b := <-conns
		mustWrite(t, a, []byte("hello"))
		mustRead(t, b, []byte("hello"))
		if took := time.Since(start); took != 4*time.Second {
			t.Errorf("with a word there it took %v, want 4s", took)
		}
		a.Close()
		b.Close()

		l.BlackHole()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := tr.Dial(ctx, nil, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("black-holed: %v, want DeadlineExceeded", err)
		}
		errs := make(chan error)
		go func() { _, err := tr.Dial(t.Context(), nil, nil); errs <- err }()
		synctest.Wait()
		l.Cut()
		if err := <-errs; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("cut: %v, want ECONNRESET", err)
		}
	})
}

// Functions that are nil or return nil leave connections alone, and refusals
// and failures pass.
func TestWrapperLeavesAlone(t *testing.T) {
	none := func(net.Conn) *Link { return nil }
	for _, w := range []Wrapper{{}, {Dial: func(multiaddr.Multiaddr) *Link { return nil }, Accept: none}} {
		tr := WrapTransport(&fake{}, w)
		conns := make(chan net.Conn, 1)
		tr.Listen(t.Context(), nil, func([]byte) func(net.Conn) { return func(c net.Conn) { conns <- c } })
		a, err := tr.Dial(t.Context(), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if b := (<-conns).(*Conn); b.pipe != a.(*Conn).pipe {
			t.Error("wrapped all the same")
		}
	}
	inner := &fake{}
	tr := WrapTransport(inner, Wrapper{Dial: func(multiaddr.Multiaddr) *Link { return new(Link) }, Accept: none})
	tr.Listen(t.Context(), nil, func([]byte) func(net.Conn) { return nil })
	if _, err := tr.Dial(t.Context(), nil, nil); !errors.Is(err, transport.ErrRefused) {
		t.Errorf("refused: %v", err)
	}
	var got net.Conn = disguise{}
	tr.Listen(t.Context(), nil, func([]byte) func(net.Conn) { return func(c net.Conn) { got = c } })
	if inner.admit(nil)(nil); got != nil {
		t.Error("an arrival without a connection got one")
	}
}
