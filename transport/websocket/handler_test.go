//go:build !js

package websocket_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"testing"

	coder "github.com/coder/websocket"
	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/transport"
	"github.com/splitmesh/splitmesh/transport/websocket"
)

// website is what a mounting server serves: a page, and 404 for the rest.
func website() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, r *http.Request) {
		dump, _ := httputil.DumpRequest(r, true)
		w.Header().Set("X-Site", "yes")
		fmt.Fprintf(w, "<h1>A website</h1>\n%s", dump) // shows whether the request is as it came
	})
	return mux
}

// undated makes answers comparable.
func undated(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Date"] = nil
		h.ServeHTTP(w, r)
	})
}

// ask sends a request as it stands and returns all that comes back.
func ask(t *testing.T, s *httptest.Server, request string) string {
	t.Helper()
	c, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(answer)
}

func serve(t *testing.T, h http.Handler) *httptest.Server {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

const letMeIn = "let me in!" // 10 bytes: base64 has 4 bits left over

// door admits letMeIn, and delivers to the channel.
func door() (transport.Admit, chan net.Conn) {
	delivered := make(chan net.Conn, 16)
	return func(opening []byte) func(net.Conn) {
		if string(opening) != letMeIn {
			return nil
		}
		return func(c net.Conn) { delivered <- c }
	}, delivered
}

// Whoever is not admitted sees the website, byte for byte, and nothing else.
func TestProbesSeeTheWebsite(t *testing.T) {
	admit, delivered := door()
	tr := &websocket.Transport{}
	plain, mounted := serve(t, undated(website())), serve(t, undated(tr.Handler(admit, website())))
	bare, nilNext := serve(t, undated(http.NotFoundHandler())), serve(t, undated(tr.Handler(admit, nil)))

	b64 := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	const upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	authorized := "Authorization: Bearer " + b64(letMeIn) + "\r\n"
	for _, tt := range []struct{ name, method, header, body string }{
		{"nothing special", "GET", "", ""},
		{"a head", "HEAD", "", ""},
		{"a post", "POST", "Content-Length: 5\r\n", "hello"},
		{"no opening", "GET", upgrade, ""},
		{"another scheme", "GET", upgrade + "Authorization: Basic dTpw\r\n", ""},
		{"an empty opening", "GET", upgrade + "Authorization: Bearer\r\n", ""},
		{"an opening that is not admitted", "GET", upgrade + "Authorization: Bearer " + b64("let me out") + "\r\n", ""},
		{"no base64", "GET", upgrade + "Authorization: Bearer !!!\r\n", ""},
		{"padded base64", "GET", upgrade + "Authorization: Bearer " + base64.URLEncoding.EncodeToString([]byte(letMeIn)) + "\r\n", ""},
		{"base64 with bits left over", "GET", upgrade + "Authorization: Bearer " + strings.TrimSuffix(b64(letMeIn), "Q") + "R\r\n", ""},
		{"too large an opening", "GET", upgrade + "Authorization: Bearer " + b64(strings.Repeat("x", transport.MaxOpening+1)) + "\r\n", ""},
		{"two openings", "GET", upgrade + authorized + authorized, ""},
		{"the opening of a browser, not admitted", "GET", upgrade + "Sec-WebSocket-Protocol: binary, bearer." + b64("x") + "\r\n", ""},
		{"the opening of a browser, alone", "GET", upgrade + "Sec-WebSocket-Protocol: bearer." + b64(letMeIn) + "\r\n", ""},
		{"the opening of a browser, beside another", "GET", upgrade + "Authorization: Basic dTpw\r\nSec-WebSocket-Protocol: binary, bearer." + b64(letMeIn) + "\r\n", ""},
		{"admitted, no upgrade", "GET", authorized, ""},
		{"admitted, a post", "POST", upgrade + authorized, ""},
		{"admitted, another version", "GET", strings.Replace(upgrade, "13", "12", 1) + authorized, ""},
		{"admitted, no key", "GET", strings.Replace(upgrade, "-Key", "-Quay", 1) + authorized, ""},
		{"admitted, a short key", "GET", strings.Replace(upgrade, "dGhl", "", 1) + authorized, ""},
		{"admitted, another upgrade", "GET", strings.Replace(upgrade, ": websocket", ": h2c", 1) + authorized, ""},
	} {
		for _, path := range []string{"/", "/nowhere", "/api/v1/ws/abc"} {
			for _, proto := range []string{"1.1", "1.0"} {
				request := tt.method + " " + path + " HTTP/" + proto + "\r\nHost: site.example\r\nConnection: close\r\n" + tt.header + "\r\n" + tt.body
				want, got := ask(t, plain, request), ask(t, mounted, request)
				if got != want || want == "" || strings.Contains(got, " 101 ") {
					t.Errorf("%s, %s HTTP/%s: got\n%s\nwant\n%s", tt.name, path, proto, got, want)
				}
				if want, got := ask(t, bare, request), ask(t, nilNext, request); got != want {
					t.Errorf("%s, %s HTTP/%s, without a website: got\n%s\nwant\n%s", tt.name, path, proto, got, want)
				}
			}
		}
	}
	if len(delivered) != 0 {
		t.Errorf("%d probes were admitted", len(delivered))
	}
}

// One server, one port: the website for visitors, the mesh for peers, through
// the wrapper that a middleware puts around a ResponseWriter.
func TestMountedBesideAWebsite(t *testing.T) {
	admit, delivered := door()
	tr := &websocket.Transport{}
	inner := tr.Handler(admit, website())
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { inner.ServeHTTP(middleware{w}, r) }))
	resp, err := s.Client().Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	page, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if !strings.Contains(string(page), "A website") {
		t.Errorf("visitors see %q", page)
	}
	c, err := tr.Dial(t.Context(), addrOf(s.Listener, "ws"), []byte(letMeIn))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	remote := <-delivered
	defer remote.Close()
	exchange(t, c, remote)
	if got, want := remote.RemoteAddr().String(), c.LocalAddr().String(); got != want || remote.LocalAddr().String() != c.RemoteAddr().String() {
		t.Errorf("the dialler is %s to the listener, and %s to itself", got, want)
	}
}

type middleware struct{ http.ResponseWriter }

func (m middleware) Unwrap() http.ResponseWriter { return m.ResponseWriter }

func exchange(t *testing.T, a, b net.Conn) {
	t.Helper()
	for _, pair := range [][2]net.Conn{{a, b}, {b, a}} {
		if _, err := io.WriteString(pair[0], "hello"); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 5)
		if _, err := io.ReadFull(pair[1], got); err != nil || string(got) != "hello" {
			t.Fatalf("read %q, %v", got, err)
		}
	}
}

// A server whose connections cannot be taken over, as in HTTP/2, is a website only.
func TestNoHijacker(t *testing.T) {
	admit, delivered := door()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	for _, h := range []string{"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Authorization: Bearer " + base64.RawURLEncoding.EncodeToString([]byte(letMeIn))} {
		k, v, _ := strings.Cut(h, ": ")
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	(&websocket.Transport{}).Handler(admit, nil).ServeHTTP(w, r)
	if w.Code != http.StatusNotFound || len(delivered) != 0 {
		t.Errorf("answered %d, admitted %d", w.Code, len(delivered))
	}
	// A connection that breaks while it is taken over is delivered as nil.
	(&websocket.Transport{}).Handler(admit, nil).ServeHTTP(brokenHijacker{httptest.NewRecorder()}, r)
	if c := <-delivered; c != nil {
		t.Errorf("delivered %v; want nil", c)
	}
}

type brokenHijacker struct{ *httptest.ResponseRecorder }

func (brokenHijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return nil, nil, net.ErrClosed
}

// What a browser sends: its script can set subprotocols and nothing else.
func TestBrowserOpening(t *testing.T) {
	admit, delivered := door()
	s := serve(t, (&websocket.Transport{}).Handler(admit, nil))
	c, _, err := coder.Dial(t.Context(), s.URL, &coder.DialOptions{
		Subprotocols: []string{"binary", "bearer." + base64.RawURLEncoding.EncodeToString([]byte(letMeIn))},
		HTTPHeader:   http.Header{"Origin": {"https://elsewhere.example"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	if c.Subprotocol() != "binary" {
		t.Errorf("subprotocol %q was agreed on; a browser wants one of those it offers", c.Subprotocol())
	}
	remote := <-delivered
	defer remote.Close()
	if err := c.Write(t.Context(), coder.MessageBinary, []byte("hi")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 2)
	if _, err := io.ReadFull(remote, got); err != nil || string(got) != "hi" {
		t.Errorf("read %q, %v", got, err)
	}
}

// Too much before a request is complete cuts the arrival without an answer of ours.
func TestListenerLimits(t *testing.T) {
	l, err := (&websocket.Transport{}).Listen(t.Context(), multiaddr.StringCast("/ip4/127.0.0.1/tcp/0/ws"), func([]byte) func(net.Conn) { return nil })
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, tt := range []struct {
		name, header string
		served       bool
	}{
		{"ordinary", strings.Repeat("X: y\r\n", 30), true},
		{"long", "X: " + strings.Repeat("y", 8<<10) + "\r\n", true},
		{"too many lines", strings.Repeat("X: y\r\n", 101), false},
		{"too long", "X: " + strings.Repeat("y", 64<<10) + "\r\n", false},
	} {
		c, err := dialRaw(t.Context(), l.Multiaddr())
		if err != nil {
			t.Fatal(err)
		}
		go io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n"+tt.header+"\r\n") // ends with c
		answer, _ := io.ReadAll(c)
		if got := strings.Contains(string(answer), "404 Not Found"); got != tt.served {
			t.Errorf("%s: answered %q", tt.name, answer)
		}
		c.Close()
	}
}

func TestLogger(t *testing.T) {
	var logged bytes.Buffer
	tr := &websocket.Transport{Logger: slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	l, err := tr.Listen(t.Context(), multiaddr.StringCast("/ip4/127.0.0.1/tcp/0/ws"), func([]byte) func(net.Conn) { panic("out of order") })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tr.Dial(t.Context(), l.Multiaddr(), nil); err == nil {
		t.Error("Dial succeeded")
	}
	l.Close()
	if !strings.Contains(logged.String(), "out of order") {
		t.Errorf("logged %q", logged.String())
	}
}

func TestListenErrors(t *testing.T) {
	tr := &websocket.Transport{}
	if _, err := tr.Listen(t.Context(), multiaddr.StringCast("/ip4/127.0.0.1/tcp/0/wss"), nil); err == nil || !strings.Contains(err.Error(), "TLSConfig") {
		t.Errorf("wss without a certificate: %v", err)
	}
	l := listenTCP(t)
	if _, err := tr.Listen(t.Context(), addrOf(l, "ws"), nil); err == nil {
		t.Error("listened at an address that is taken")
	}
}
