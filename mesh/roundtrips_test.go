package mesh_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multiformats/go-multiaddr"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/splitter"
	"github.com/splitmesh/splitmesh/transport"
	"github.com/splitmesh/splitmesh/transport/link"
	"github.com/splitmesh/splitmesh/transport/websocket"
)

// A farnet is a network on which everything is 100 ms of round trip away: real
// WebSockets, HTTP and TLS over emulated sockets. A dial takes a round trip, as TCP's
// does.
type farnet struct {
	mu      sync.Mutex
	servers map[string]*farListener // by host and port
	silent  map[string]bool         // take every packet and answer none
}

const (
	farRTT  = 100 * time.Millisecond
	farName = "far.example"
)

func newFarnet() *farnet {
	return &farnet{servers: make(map[string]*farListener), silent: make(map[string]bool)}
}

// dial connects to what listens there.
func (f *farnet) dial(ctx context.Context, _, address string) (net.Conn, error) {
	f.mu.Lock()
	l, silent := f.servers[address], f.silent[address]
	f.mu.Unlock()
	if silent {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	select {
	case <-time.After(farRTT): // SYN, and what answers it
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if l == nil {
		return nil, syscall.ECONNREFUSED
	}
	way := link.Shape{Delay: farRTT / 2}
	near, far := link.New(link.Config{Up: way, Down: way}).Pipe(farAddr("here"), farAddr(address)).Conns()
	select {
	case l.arrivals <- far:
		return near, nil
	case <-l.closed:
		return nil, syscall.ECONNREFUSED
	}
}

type farAddr string

func (a farAddr) Network() string { return "tcp" }
func (a farAddr) String() string  { return string(a) }

// transport is that of a node on the network.
func (f *farnet) transport(cert *tls.Certificate, trust *x509.CertPool) *farTransport {
	t := &farTransport{f: f}
	t.DialContext = f.dial
	t.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil }
	t.TLSConfig = &tls.Config{RootCAs: trust, ServerName: farName}
	if cert != nil {
		t.TLSConfig.Certificates = []tls.Certificate{*cert}
	}
	return t
}

// A farTransport dials as websocket.Transport does, and listens on the farnet.
type farTransport struct {
	websocket.Transport
	f *farnet
}

func (t *farTransport) Listen(_ context.Context, addr multiaddr.Multiaddr, admit transport.Admit) (transport.Listener, error) {
	_, hostport, rest, err := transport.HostPort(addr)
	if err != nil {
		return nil, err
	}
	l := &farListener{addr: addr, arrivals: make(chan net.Conn), closed: make(chan struct{})}
	l.server = &http.Server{Handler: t.Handler(admit, nil), ErrorLog: log.New(io.Discard, "", 0)}
	t.f.mu.Lock()
	t.f.servers[hostport] = l
	t.f.mu.Unlock()
	var sockets net.Listener = l
	if rest[0].Code() == multiaddr.P_TLS || rest[0].Code() == multiaddr.P_WSS {
		cfg := t.TLSConfig.Clone()
		cfg.NextProtos = []string{"http/1.1"}
		sockets = tls.NewListener(l, cfg)
	}
	l.serving.Go(func() { _ = l.server.Serve(sockets) }) // ends with Close
	return farTransportListener{l}, nil
}

type farListener struct {
	addr     multiaddr.Multiaddr
	server   *http.Server
	serving  sync.WaitGroup
	arrivals chan net.Conn
	once     sync.Once
	closed   chan struct{}
}

func (l *farListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.arrivals:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *farListener) Addr() net.Addr { return farAddr("listener") }

func (l *farListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

type farTransportListener struct{ l *farListener }

func (l farTransportListener) Multiaddr() multiaddr.Multiaddr { return l.l.addr }

func (l farTransportListener) Close() error {
	err := l.l.server.Close()
	l.l.serving.Wait()
	return err
}

// farCert is a certificate of farName, and who trusts it.
func farCert(t testing.TB) (*tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{farName}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// firstEcho is how long a fresh dialler takes to the first byte echoed.
func firstEcho(t testing.TB, d *mesh.Dialer, peer identity.ID) time.Duration {
	t.Helper()
	start := time.Now()
	c, err := d.Dial(t.Context(), peer.String()+":echo")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	one := []byte{1}
	if _, err := c.Write(one); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, one); err != nil {
		t.Fatal(err)
	}
	return time.Since(start)
}

// TestRoundTrips counts those from Dial to the first byte echoed, TCP's and TLS's own
// included. Over ws: TCP; the opening in the upgrade request, and message 2 behind the
// 101; message 3 with the request and the data behind it, and the echo. TLS 1.3 is one
// more, and whoever waits for the service to accept before writing pays another.
//
// Through a relay the dialler has its session with the relay to make first, which is
// as long as a direct one up to the opening of a stream: TCP, the upgrade, and message
// 3 with the request for a circuit. That request brings the opening to the target,
// whose session with the relay is there already; so the answer takes a round trip of
// each hop, as does what follows. Both hops are as long as the direct way.
func TestRoundTrips(t *testing.T) {
	for _, tt := range []struct {
		name     string
		suffix   string
		fastOpen bool
		relay    bool
		want     float64
	}{
		{"ws, FastOpen", "/ws", true, false, 3},
		{"ws", "/ws", false, false, 4},
		{"wss, FastOpen", "/wss", true, false, 4},
		{"wss", "/wss", false, false, 5},
		{"relay over ws, FastOpen", "/ws", true, true, 2 + 2 + 2},
		{"relay over ws", "/ws", false, true, 2 + 2 + 2 + 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFarnet()
				cert, trust := farCert(t)
				node := func(k int, listen string, boot ...multiaddr.Multiaddr) *mesh.Node {
					n := &mesh.Node{Identity: key(t, k), Bootstrap: boot, Transports: []transport.Transport{f.transport(cert, trust)}}
					if listen != "" {
						n.ListenAddrs = []multiaddr.Multiaddr{addr(t, listen+tt.suffix)}
					}
					return n
				}
				server := node(1, "/ip4/10.0.0.1/tcp/443")
				d := &mesh.Dialer{FastOpen: tt.fastOpen}
				reserved := 0
				if tt.relay {
					relay := node(3, "/ip4/10.0.0.3/tcp/443")
					relay.Relay = &mesh.RelayConfig{}
					start(t, relay)
					server = node(1, "", relay.Addrs()...)
					d.RelayedOnly, d.Paths, d.Split = true, 1, splitter.Policy{MinPaths: 1}
					reserved = 1
				}
				start(t, server)
				l := listen(t, server, "echo", reserved)
				go echo(l)
				defer l.Close()
				boot := server.Addrs()
				if tt.relay {
					boot = server.Bootstrap
				}
				d.Node = start(t, node(2, "", boot...))
				took := firstEcho(t, d, server.ID())
				if got := float64(took) / float64(farRTT); got != tt.want {
					t.Errorf("%v round trips, want %v", got, tt.want)
				}
				// A session that is there saves all but the last.
				again := firstEcho(t, d, server.ID())
				want := 1.0
				if tt.relay {
					want *= 2
				}
				if !tt.fastOpen {
					want *= 2
				}
				if got := float64(again) / float64(farRTT); got != want {
					t.Errorf("%v round trips over the session that is there, want %v", got, want)
				}
			})
		})
	}
}

// TestHappyEyeballs: an address that swallows everything costs the stagger, one that
// refuses costs its round trip, and neither the dial.
func TestHappyEyeballs(t *testing.T) {
	for _, tt := range []struct {
		name  string
		first string // of the peer's addresses; nobody is there
		want  time.Duration
	}{
		{"none before it", "", 3 * farRTT},
		{"one that is silent", "/ip4/10.0.0.8/tcp/443/ws", 250*time.Millisecond + 3*farRTT},
		{"one that refuses", "/ip4/10.0.0.9/tcp/443/ws", farRTT + 3*farRTT},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFarnet()
				f.silent["10.0.0.8:443"] = true
				server := start(t, &mesh.Node{Identity: key(t, 1), Transports: []transport.Transport{f.transport(nil, nil)},
					ListenAddrs: []multiaddr.Multiaddr{addr(t, "/ip4/10.0.0.1/tcp/443/ws")}})
				l := listen(t, server, "echo", 0)
				go echo(l)
				defer l.Close()
				var boot []multiaddr.Multiaddr
				if tt.first != "" {
					boot = append(boot, addr(t, fmt.Sprintf("%s/p2p/%s", tt.first, server.ID())))
				}
				client := start(t, &mesh.Node{Identity: key(t, 2), Bootstrap: append(boot, server.Addrs()...), Transports: []transport.Transport{f.transport(nil, nil)}})
				if took := firstEcho(t, &mesh.Dialer{Node: client, FastOpen: true}, server.ID()); took != tt.want {
					t.Errorf("%v, want %v", took, tt.want)
				}
			})
		})
	}
}
