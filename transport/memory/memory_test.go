package memory_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multiformats/go-multiaddr"
	"go.uber.org/goleak"
	"golang.org/x/net/nettest"

	"github.com/splitmesh/splitmesh/transport"
	"github.com/splitmesh/splitmesh/transport/link"
	"github.com/splitmesh/splitmesh/transport/memory"
	"github.com/splitmesh/splitmesh/transport/transporttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var anywhere = multiaddr.StringCast("/memory/0")

func TestConformance(t *testing.T) {
	for name, shape := range map[string]func(from, to string) *link.Link{
		// The suite wants a MiB taken that nobody reads.
		"plain": func(string, string) *link.Link {
			return link.New(link.Config{Up: link.Shape{Buffer: 2 << 20}, Down: link.Shape{Buffer: 2 << 20}})
		},
		"shaped": func(string, string) *link.Link {
			return link.New(link.Config{
				Up:   link.Shape{Rate: 100 << 20, Delay: 100 * time.Microsecond, Buffer: 2 << 20},
				Down: link.Shape{Jitter: 100 * time.Microsecond, Buffer: 2 << 20},
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			transporttest.Run(t, func(t *testing.T) transporttest.Harness {
				network := memory.NewNetwork(memory.Options{Shape: shape})
				return transporttest.Harness{
					Transport:   network.Transport(),
					Listen:      anywhere,
					SeesRefusal: true,
					CanDial: map[string]bool{
						"/memory/1": true, "/memory/18446744073709551615": true,
						"/memory/1/tcp/1": false, "/ip4/127.0.0.1/tcp/1": false, "/tcp/1/memory/1": false,
					},
					Stalled: func(t *testing.T) (multiaddr.Multiaddr, <-chan struct{}) {
						return stalled(t, network)
					},
				}
			})
		})
	}
}

// stalled returns an address that is cut off from everybody, and a channel that
// is closed once somebody dials it.
func stalled(t *testing.T, network *memory.Network) (multiaddr.Multiaddr, <-chan struct{}) {
	l := listen(t, network, "far", func([]byte) func(net.Conn) { return nil })
	network.Partition("far")
	dialling := make(chan struct{})
	go func() { // ends when the dial is there
		for len(network.Conns()) == 0 {
			runtime.Gosched()
		}
		close(dialling)
	}()
	return l.Multiaddr(), dialling
}

func TestNettest(t *testing.T) {
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		network := memory.NewNetwork(memory.Options{})
		a, b := connect(t, network, "a", "b")
		return a, b, func() { a.Close(); b.Close(); network.Close() }, nil
	})
}

func listen(t *testing.T, network *memory.Network, host string, admit transport.Admit) transport.Listener {
	t.Helper()
	l, err := network.Host(host).Listen(t.Context(), anywhere, admit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// queue returns an Admit that admits all, and where the connections come.
func queue(n int) (transport.Admit, chan net.Conn) {
	conns := make(chan net.Conn, n)
	return func([]byte) func(net.Conn) { return func(c net.Conn) { conns <- c } }, conns
}

// connect returns a connection from one host to another: the dialler's end first.
func connect(t *testing.T, network *memory.Network, from, to string) (net.Conn, net.Conn) {
	t.Helper()
	admit, conns := queue(1)
	l := listen(t, network, to, admit)
	defer l.Close()
	a, err := network.Host(from).Dial(t.Context(), l.Multiaddr(), []byte("opening"))
	if err != nil {
		t.Fatal(err)
	}
	return a, <-conns
}

func TestNetworksAreSeparate(t *testing.T) {
	one, two := memory.NewNetwork(memory.Options{}), memory.NewNetwork(memory.Options{})
	l := listen(t, one, "a", nil)
	if _, err := two.Transport().Dial(t.Context(), l.Multiaddr(), nil); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("Dial in another network: %v, want ECONNREFUSED", err)
	}
	if other := listen(t, two, "a", nil); !other.Multiaddr().Equal(l.Multiaddr()) {
		t.Errorf("the first free addresses are %v and %v", l.Multiaddr(), other.Multiaddr())
	}
}

func TestAddresses(t *testing.T) {
	network := memory.NewNetwork(memory.Options{})
	tr := network.Transport()
	if tr.CanDial(anywhere) {
		t.Error("CanDial(/memory/0)")
	}
	if _, err := tr.Dial(t.Context(), anywhere, nil); !errors.Is(err, transport.ErrUnsupported) {
		t.Errorf("Dial(/memory/0): %v", err)
	}
	two := multiaddr.StringCast("/memory/2")
	l, err := tr.Listen(t.Context(), two, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tr.Listen(t.Context(), two, nil); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("Listen again: %v, want EADDRINUSE", err)
	}
	for _, want := range []string{"/memory/1", "/memory/3"} { // 2 is taken
		if got := listen(t, network, "", nil).Multiaddr().String(); got != want {
			t.Errorf("a free address: %v, want %v", got, want)
		}
	}
	l.Close()
	again, err := tr.Listen(t.Context(), two, nil)
	if err != nil {
		t.Fatalf("Listen after Close: %v", err)
	}
	l.Close() // the old one: no harm to the new
	if _, err := tr.Listen(t.Context(), two, nil); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("Listen again: %v, want EADDRINUSE", err)
	}
	again.Close()

	a, b := connect(t, network, "alice", "bob")
	defer a.Close()
	defer b.Close()
	if a.RemoteAddr() != b.LocalAddr() || a.LocalAddr() != b.RemoteAddr() || a.LocalAddr() == a.RemoteAddr() {
		t.Errorf("addresses: %v→%v, %v→%v", a.LocalAddr(), a.RemoteAddr(), b.LocalAddr(), b.RemoteAddr())
	}
	if addr := a.RemoteAddr().(memory.Addr); addr.Host != "bob" || addr.Network() != "memory" || addr.String() != "/memory/4" {
		t.Errorf("remote address %+v", addr)
	}
}

func TestDialTakesARoundTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memory.NewNetwork(memory.Options{Shape: func(from, to string) *link.Link {
			if from != "alice" || to != "bob" {
				t.Errorf("Shape(%q, %q)", from, to)
			}
			return link.New(link.Config{Up: link.Shape{Delay: 10 * time.Millisecond, Rate: 1000}, Down: link.Shape{Delay: 20 * time.Millisecond}})
		}})
		defer network.Close()
		start := time.Now()
		a, b := connect(t, network, "alice", "bob")
		defer a.Close()
		defer b.Close()
		if took, want := time.Since(start), 39*time.Millisecond; took != want { // 9 bytes at 1 byte/ms
			t.Errorf("Dial took %v, want %v", took, want)
		}
	})
}

func mustReach(t *testing.T, from, to net.Conn) {
	t.Helper()
	if _, err := from.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(to, got); err != nil || string(got) != "hello" {
		t.Fatalf("read %q, %v", got, err)
	}
}

// A dial given up after its opening has arrived is, for the listener, a
// connection that ends.
func TestDialGivenUpLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memory.NewNetwork(memory.Options{Shape: func(string, string) *link.Link {
			return link.New(link.Config{Down: link.Shape{Delay: time.Hour}})
		}})
		defer network.Close()
		admit, conns := queue(1)
		l := listen(t, network, "bob", admit)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := network.Host("alice").Dial(ctx, l.Multiaddr(), []byte("hi")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Dial: %v, want DeadlineExceeded", err)
		}
		c := <-conns
		defer c.Close()
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("Read: %v, want EOF", err)
		}
	})
}

// A listener that closes abandons arrivals whose opening has not come, and hands
// over nil where admit had said yes.
func TestListenerClosesOnArrivals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memory.NewNetwork(memory.Options{})
		defer network.Close()
		judging, judge := make(chan struct{}), make(chan struct{})
		got := make(chan net.Conn, 1)
		l := listen(t, network, "bob", func([]byte) func(net.Conn) {
			close(judging)
			<-judge
			return func(c net.Conn) { got <- c }
		})
		errs := make(chan error, 2)
		dial := func(from string) {
			_, err := network.Host(from).Dial(t.Context(), l.Multiaddr(), []byte("hi"))
			errs <- err
		}
		network.Partition("far")
		go dial("far")
		go dial("near")
		<-judging
		synctest.Wait() // until the other is on its way too
		closed := make(chan struct{})
		go func() { l.Close(); close(closed) }()
		synctest.Wait()
		select {
		case <-closed:
			t.Error("Close did not wait for admit")
		default:
		}
		close(judge)
		<-closed
		if c := <-got; c != nil {
			t.Error("a connection was handed over after Close")
		}
		network.Heal()
		for range 2 {
			if err := <-errs; !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("Dial: %v, want ECONNREFUSED", err)
			}
		}
	})
}

// A host may die while the link to it is made.
func TestKilledWhileDialled(t *testing.T) {
	var network *memory.Network
	network = memory.NewNetwork(memory.Options{Shape: func(_, to string) *link.Link {
		network.Kill(to)
		return nil
	}})
	l := listen(t, network, "bob", nil)
	if _, err := network.Host("alice").Dial(t.Context(), l.Multiaddr(), nil); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("Dial: %v, want ECONNREFUSED", err)
	}
}

// Bytes follow the opening at once, and both ends can be half-closed.
func TestHalfClose(t *testing.T) {
	network := memory.NewNetwork(memory.Options{})
	a, b := connect(t, network, "a", "b")
	defer a.Close()
	defer b.Close()
	want := bytes.Repeat([]byte("0123456789"), 10_000)
	if _, err := a.Write(want); err != nil {
		t.Fatal(err)
	}
	if err := a.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(b); err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
	mustReach(t, b, a)
}
