package proxy_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"
	"go.uber.org/goleak"

	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/forward"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/proxy"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/registry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// background runs f until the test ends, and waits for it.
func background(t *testing.T, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func loopback(t *testing.T) *net.TCPListener {
	t.Helper()
	l, err := forward.ListenLoopback(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

type names map[string]identity.ID

func (n names) Resolve(_ context.Context, name string) (identity.ID, error) {
	if id, ok := n[name]; ok {
		return id, nil
	}
	return identity.ID{}, registry.ErrNotFound
}

// A world is proxies of a node, and a peer that is called ann.
type world struct {
	peer        *mesh.Node
	gate        forward.Gate
	dialer      *proxy.Dialer
	socks, http string
}

// newWorld has the peer publish a web server as tcp/80, for all, and as tcp/81, for nobody. With nets it is the exit, too.
func newWorld(t *testing.T, nets ...netip.Prefix) *world {
	t.Helper()
	w := new(world)
	w.peer = &mesh.Node{ListenAddrs: []multiaddr.Multiaddr{multiaddr.StringCast("/ip4/127.0.0.1/tcp/0/ws")}, Authorize: w.gate.Authorize}
	if err := w.peer.Start(within(t)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.peer.Close() })
	me := &mesh.Node{Bootstrap: w.peer.Addrs(), Names: names{"ann": w.peer.ID()}}
	t.Cleanup(func() { me.Close() })
	web := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(rw, "%s %s %s %s%s", r.Method, r.Host, r.URL, r.Header.Get("X-Forwarded-For"), r.Header.Get("Proxy-Authorization"))
	}))
	t.Cleanup(web.Close)
	for service, who := range map[string]*forward.Access{"tcp/80": {All: true}, "tcp/81": {}} {
		l, err := w.gate.Listen(w.peer, service, who)
		if err != nil {
			t.Fatal(err)
		}
		background(t, func(ctx context.Context) error { return forward.Publish(ctx, l, web.Listener.Addr().String(), quiet) })
	}
	d := &proxy.Dialer{Mesh: me.Dial}
	if nets != nil {
		d.Exit = w.peer.ID().String()
		l, err := w.gate.Listen(w.peer, proxy.ExitService, &forward.Access{All: true})
		if err != nil {
			t.Fatal(err)
		}
		background(t, func(ctx context.Context) error { return (&proxy.Exit{Nets: nets, Log: quiet}).Serve(ctx, l) })
	}
	w.dialer = d
	w.socks, w.http = w.serve(t, "")
	return w
}

// serve starts proxies.
func (w *world) serve(t *testing.T, password proxy.Password) (socks, http string) {
	t.Helper()
	s, h := loopback(t), loopback(t)
	background(t, func(ctx context.Context) error { return proxy.SOCKS(ctx, s, w.dialer, password, quiet) })
	background(t, func(ctx context.Context) error { return proxy.HTTP(ctx, h, w.dialer, password, quiet) })
	return s.Addr().String(), h.Addr().String()
}

// get asks through a proxy.
func get(t *testing.T, through, target string) (int, string, error) {
	t.Helper()
	at, err := url.Parse(through)
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{Proxy: http.ProxyURL(at)}
	defer tr.CloseIdleConnections()
	r, err := http.NewRequestWithContext(within(t), http.MethodGet, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := tr.RoundTrip(r)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, string(b), err
}

func TestGet(t *testing.T) {
	w := newWorld(t)
	for _, through := range []string{"socks5h://" + w.socks, "http://" + w.http} {
		for _, host := range []string{"ann.mesh", "ANN.mesh", "ann.mesh.", w.peer.ID().String() + ".mesh", w.peer.ID().PeerID() + ".mesh"} {
			status, body, err := get(t, through, "http://"+host+"/a?b=c")
			if err != nil || status != 200 || body != "GET "+host+" /a?b=c " {
				t.Error(through, host, status, body, err)
			}
		}
	}
}

// connect asks a SOCKS5 proxy for a host and returns the reply.
func connect(t *testing.T, at, host string, port uint16, more ...byte) (net.Conn, byte) {
	t.Helper()
	c, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	request := append([]byte{5, 1, 0, 5, 1, 0, 3, byte(len(host))}, host...)
	request = append(binary.BigEndian.AppendUint16(request, port), more...)
	if _, err := c.Write(request); err != nil { // all at once, as those do who are in a hurry
		t.Fatal(err)
	}
	var reply [12]byte
	if _, err := io.ReadFull(c, reply[:]); err != nil {
		t.Fatal(err)
	}
	return c, reply[3]
}

// tunnel asks an HTTP proxy for a host and returns the status.
func tunnel(t *testing.T, at, host string, port uint16) int {
	t.Helper()
	c, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	addr := net.JoinHostPort(host, strconv.Itoa(int(port)))
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", addr, addr)
	res, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: http.MethodConnect})
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	return res.StatusCode
}

// TestReplies: each refusal has its own.
func TestReplies(t *testing.T) {
	w := newWorld(t)
	other, err := identity.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		host   string
		port   uint16
		reply  byte
		status int
	}{
		{"ann.mesh", 80, 0, 200},
		{"ann.mesh", 81, 2, 403}, // not allowed
		{"ann.mesh", 82, 5, 502}, // not there
		{"bob.mesh", 80, 4, 502}, // nobody
		{other.ID().String() + ".mesh", 80, 4, 502},
		{"a.b.mesh", 80, 4, 502},
		{".mesh", 80, 4, 502},
		{"", 80, 4, 502},
		{"ann.mesh", 0, 4, 502},
		{"example.com", 80, 2, 403}, // outside
		{"mesh", 80, 2, 403},
		{"ann.mesh.example.com", 80, 2, 403},
		{"127.0.0.1", 80, 2, 403},
		{"localhost", 22, 2, 403},
	} {
		c, reply := connect(t, w.socks, tt.host, tt.port)
		c.Close()
		if reply != tt.reply {
			t.Errorf("socks %s:%d: reply %d, want %d", tt.host, tt.port, reply, tt.reply)
		}
		if status := tunnel(t, w.http, tt.host, tt.port); status != tt.status {
			t.Errorf("connect %s:%d: status %d, want %d", tt.host, tt.port, status, tt.status)
		}
	}
}

// TestExit: hosts outside are dialled by the peer, who knows what is not to be dialled.
func TestExit(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, "outside") }))
	defer web.Close()
	closed := loopback(t)
	closed.Close()
	port := func(addr string) uint16 { return netip.MustParseAddrPort(addr).Port() }

	w := newWorld(t, netip.MustParsePrefix("127.0.0.1/32"))
	for _, through := range []string{"socks5h://" + w.socks, "http://" + w.http} {
		if _, body, err := get(t, through, web.URL); body != "outside" {
			t.Error(through, body, err)
		}
	}
	for host, want := range map[string]byte{"127.0.0.1": 5, "127.0.0.2": 2, "169.254.169.254": 2, "10.0.0.1": 2, "::1": 2, "[::1]": 4, "no such host": 4} {
		if _, reply := connect(t, w.socks, host, port(closed.Addr().String())); reply != want {
			t.Errorf("%s: reply %d, want %d", host, reply, want)
		}
	}
}

// TestExitDeniesThisMachine: by name too, and without --net.
func TestExitDeniesThisMachine(t *testing.T) {
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	w := newWorld(t, netip.MustParsePrefix("192.0.2.0/24"))
	hosts := []string{"localhost", "127.0.0.1", "::ffff:127.0.0.1", "0.0.0.0", "::"}
	here, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range here {
		hosts = append(hosts, a.(*net.IPNet).IP.String())
	}
	for _, host := range hosts {
		if _, reply := connect(t, w.socks, host, uint16(web.Listener.Addr().(*net.TCPAddr).Port)); reply != 2 {
			t.Errorf("%s: reply %d", host, reply)
		}
	}
}
