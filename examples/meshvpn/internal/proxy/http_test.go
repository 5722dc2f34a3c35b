package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/forward"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/proxy"
)

// TestPassword: who does not know it reaches nobody, and the peer does not see it.
func TestPassword(t *testing.T) {
	w := newWorld(t)
	socks, http := w.serve(t, "correct horse")
	for _, tt := range []struct {
		user string
		ok   bool
	}{{"anyone:correct%20horse@", true}, {":correct%20horse@", true}, {"anyone:wrong@", false}, {"anyone:@", false}, {"anyone@", false}, {"", false}} {
		status, body, err := get(t, "http://"+tt.user+http, "http://ann.mesh/")
		if want := map[bool]int{true: 200, false: 407}[tt.ok]; err != nil || status != want || tt.ok && body != "GET ann.mesh / " {
			t.Errorf("http %q: %d %q, %v", tt.user, status, body, err)
		}
		if tt.user == ":correct%20horse@" {
			continue // RFC 1929 has no empty user
		}
		if _, _, err := get(t, "socks5h://"+tt.user+socks, "http://ann.mesh/"); (err == nil) != tt.ok {
			t.Errorf("socks %q: %v", tt.user, err)
		}
	}
	if status := tunnel(t, http, "ann.mesh", 80); status != 407 {
		t.Error("connect:", status)
	}
}

// TestWhichHost: of two that a request names the URL's counts, for us and for the peer; and there is one length only.
func TestWhichHost(t *testing.T) {
	w := newWorld(t)
	for name, tt := range map[string]struct{ send, want string }{
		"other host":        {"GET http://ann.mesh/a HTTP/1.1\r\nHost: bob.mesh\r\nConnection: close\r\n\r\n", "GET ann.mesh /a "},
		"credentials":       {"GET http://bob.mesh@ann.mesh/a HTTP/1.1\r\nHost: bob.mesh\r\nConnection: close\r\n\r\n", "GET ann.mesh /a "},
		"two lengths":       {"POST http://ann.mesh/a HTTP/1.1\r\nHost: ann.mesh\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nGET ", "400 Bad Request"},
		"length and chunks": {"POST http://ann.mesh/a HTTP/1.1\r\nHost: ann.mesh\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\nGET http://ann.mesh/b HTTP/1.1\r\n", "POST ann.mesh /a "},
		"other coding":      {"POST http://ann.mesh/a HTTP/1.1\r\nHost: ann.mesh\r\nTransfer-Encoding: xchunked\r\n\r\n", "501 Not Implemented"},
		"space":             {"GET http://ann.mesh/a HTTP/1.1\r\nHost : ann.mesh\r\n\r\n", "400 Bad Request"},
	} {
		c, err := net.Dial("tcp", w.http)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		fmt.Fprint(c, tt.send)
		b, err := io.ReadAll(c)
		if c.Close(); !strings.Contains(string(b), tt.want) || strings.Count(string(b), "HTTP/1.1 ") != 1 {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
}

// raw has the peer publish, as tcp/port, what answers each conn with f.
func (w *world) raw(t *testing.T, service string, f func(net.Conn)) {
	t.Helper()
	l, err := w.gate.Listen(w.peer, service, &forward.Access{All: true})
	if err != nil {
		t.Fatal(err)
	}
	background(t, func(ctx context.Context) error {
		return forward.Serve(ctx, l, forward.MaxConns, quiet, func(_ context.Context, c net.Conn) {
			defer c.Close()
			f(c)
		})
	})
}

// TestHostileAnswers: of a header without an end little is kept, and what is no answer is told.
func TestHostileAnswers(t *testing.T) {
	w := newWorld(t)
	request := func(c net.Conn) { _, _ = http.ReadRequest(bufio.NewReader(c)) }
	w.raw(t, "tcp/1", func(c net.Conn) {
		request(c)
		if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 1<<20)); err != nil {
			return // that is as it should be
		}
		_, _ = io.WriteString(c, "\r\nContent-Length: 0\r\n\r\n")
	})
	w.raw(t, "tcp/2", request)
	for port, want := range map[string]string{"1": "exceeded 65536 bytes", "2": "meshvpn: the peer has ended the conn without an answer"} {
		if status, body, err := get(t, "http://"+w.http, "http://ann.mesh:"+port+"/"); status != 502 || !strings.Contains(body, want) {
			t.Errorf("tcp/%s: %d, %.200q, %v", port, status, body, err)
		}
	}
}

// TestUpgrade: a WebSocket, or what begins like one, passes the proxy both ways, and ends with it.
func TestUpgrade(t *testing.T) {
	w := newWorld(t)
	w.raw(t, "tcp/3", func(c net.Conn) {
		r := bufio.NewReader(c)
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_, _ = io.Copy(c, r)
	})
	c, err := net.Dial("tcp", w.http)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() }) // after the proxy has ended
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprint(c, "GET http://ann.mesh:3/ HTTP/1.1\r\nHost: ann.mesh:3\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	r := bufio.NewReader(c)
	res, err := http.ReadResponse(r, nil)
	if err != nil || res.StatusCode != 101 {
		t.Fatal(res, err)
	}
	fmt.Fprint(c, "there and back\n")
	if s, err := r.ReadString('\n'); err != nil || s != "there and back\n" {
		t.Error(s, err)
	}
}

// slowConn is a conn whose Close takes until release is closed.
type slowConn struct {
	net.Conn
	closing func()
	release chan struct{}
}

func (c *slowConn) Close() error {
	c.closing()
	<-c.release
	return c.Conn.Close()
}

// TestUpgradedIsWaitedFor: the proxy has not ended before the conns have that it gave away for an upgrade.
func TestUpgradedIsWaitedFor(t *testing.T) {
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	closing := make(chan struct{})
	release := make(chan struct{})
	near, far := net.Pipe()
	back := &slowConn{near, sync.OnceFunc(func() { close(closing) }), release}
	go func() { // ends with far
		if _, err := http.ReadRequest(bufio.NewReader(far)); err == nil {
			_, _ = io.WriteString(far, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		}
	}()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { // ends with ctx
		d := &proxy.Dialer{Mesh: func(context.Context, string) (net.Conn, error) { return back, nil }}
		ended <- proxy.HTTP(ctx, l, d, "", quiet)
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprint(c, "GET http://ann.mesh:3/ HTTP/1.1\r\nHost: ann.mesh:3\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	if res, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || res.StatusCode != 101 {
		t.Fatal(res, err)
	}
	cancel()
	<-closing
	select {
	case err := <-ended:
		t.Errorf("it has ended with a conn still open: %v", err)
		ended <- nil
	case <-time.After(200 * time.Millisecond):
	}
	close(release)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	far.Close()
}
