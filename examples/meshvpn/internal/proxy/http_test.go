package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/forward"
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
	for port, want := range map[string]string{"1": "exceeded 65536 bytes", "2": "does the server run"} {
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
