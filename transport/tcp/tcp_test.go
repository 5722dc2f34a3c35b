package tcp_test

import (
	"context"
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"
	"go.uber.org/goleak"

	"github.com/splitmesh/splitmesh/transport"
	"github.com/splitmesh/splitmesh/transport/tcp"
	"github.com/splitmesh/splitmesh/transport/transporttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	transporttest.Run(t, func(t *testing.T) transporttest.Harness {
		const nowhere = "192.0.2.1:1"
		dialling := make(chan struct{})
		return transporttest.Harness{
			Transport: &tcp.Transport{
				DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
					if address == nowhere {
						close(dialling)
						<-ctx.Done()
						return nil, ctx.Err()
					}
					return new(net.Dialer).DialContext(ctx, network, address)
				},
			},
			Listen: multiaddr.StringCast("/ip4/127.0.0.1/tcp/0"),
			CanDial: map[string]bool{
				"/ip4/192.0.2.1/tcp/1":       true,
				"/ip6/2001:db8::1/tcp/1":     true,
				"/dns/example.org/tcp/1":     true,
				"/dns4/example.org/tcp/1":    true,
				"/dns6/example.org/tcp/1":    true,
				"/ip4/192.0.2.1":             false,
				"/ip4/192.0.2.1/udp/1":       false,
				"/ip4/192.0.2.1/tcp/1/ws":    false,
				"/dnsaddr/example.org/tcp/1": false,
				"/tcp/1":                     false,
				"/memory/1":                  false,
			},
			Raw:       dialRaw,
			Impatient: &tcp.Transport{ArrivalTimeout: 100 * time.Millisecond},
			Stalled: func(*testing.T) (multiaddr.Multiaddr, <-chan struct{}) {
				return multiaddr.StringCast("/ip4/192.0.2.1/tcp/1"), dialling
			},
		}
	})
}

func dialRaw(ctx context.Context, addr multiaddr.Multiaddr) (net.Conn, error) {
	network, hostport, _, err := transport.HostPort(addr)
	if err != nil {
		return nil, err
	}
	return new(net.Dialer).DialContext(ctx, network, hostport)
}

// One arrival too many cuts the oldest, and peers get through all the same.
func TestMaxArrivals(t *testing.T) {
	tr := &tcp.Transport{MaxArrivals: 2, ArrivalTimeout: time.Hour}
	admitted := make(chan net.Conn, 1)
	l, err := tr.Listen(t.Context(), multiaddr.StringCast("/ip4/127.0.0.1/tcp/0"), func([]byte) func(net.Conn) {
		return func(c net.Conn) { admitted <- c }
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for range 10 {
		stalled, err := dialRaw(t.Context(), l.Multiaddr())
		if err != nil {
			t.Fatal(err)
		}
		defer stalled.Close()
	}
	c, err := tr.Dial(t.Context(), l.Multiaddr(), []byte("peer"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	(<-admitted).Close()
}

// An arrival that is cut while admit judges it is delivered as nil, once.
func TestCutWhileJudged(t *testing.T) {
	tr := &tcp.Transport{MaxArrivals: 1, ArrivalTimeout: time.Hour}
	judging, judge := make(chan struct{}), make(chan struct{})
	delivered := make(chan net.Conn, 2)
	l, err := tr.Listen(t.Context(), multiaddr.StringCast("/ip4/127.0.0.1/tcp/0"), func([]byte) func(net.Conn) {
		close(judging)
		<-judge
		return func(c net.Conn) { delivered <- c }
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := tr.Dial(t.Context(), l.Multiaddr(), []byte("peer"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	<-judging
	newer, err := dialRaw(t.Context(), l.Multiaddr())
	if err != nil {
		t.Fatal(err)
	}
	defer newer.Close()
	if _, err := c.Read(make([]byte, 1)); err == nil { // cut
		t.Error("the older arrival was sent a byte")
	}
	close(judge)
	if got := <-delivered; got != nil {
		t.Errorf("delivered %v; want nil", got.RemoteAddr())
	}
}

func TestDialErrors(t *testing.T) {
	tr := &tcp.Transport{}
	l, err := tr.Listen(t.Context(), multiaddr.StringCast("/ip4/127.0.0.1/tcp/0"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tr.Listen(t.Context(), l.Multiaddr(), nil); err == nil {
		t.Error("listened twice at one address")
	}
	l.Close()
	if _, err := tr.Dial(t.Context(), l.Multiaddr(), nil); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("Dial to a closed port: %v; want ECONNREFUSED", err)
	}
	broken := &tcp.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		far.Close()
		return near, nil
	}}
	if _, err := broken.Dial(t.Context(), l.Multiaddr(), nil); err == nil {
		t.Error("Dial succeeded where the opening could not be sent")
	}
	ctx, cancel := context.WithCancel(t.Context())
	stalling := &tcp.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		near, _ := net.Pipe() // whose other end never reads
		cancel()
		return near, nil
	}}
	if _, err := stalling.Dial(ctx, l.Multiaddr(), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("ctx ended while the opening was sent: %v; want context.Canceled", err)
	}
}
