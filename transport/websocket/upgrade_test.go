//go:build !js

package websocket_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	coder "github.com/coder/websocket"
	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/transport"
	"github.com/splitmesh/splitmesh/transport/websocket"
)

// answering returns a listener that gives one request the answer that is made of the
// Sec-WebSocket-Accept that its key asks for.
func answering(t *testing.T, answer func(accept string) string) net.Listener {
	t.Helper()
	l := listenTCP(t)
	go func() { // ends with the dial
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		r, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		io.WriteString(c, answer(base64.StdEncoding.EncodeToString(sum[:])))
		io.Copy(io.Discard, c) // until the dialler leaves
	}()
	return l
}

// An answer 101 that is not the one that RFC 6455 §4.1 has the client wait for ends
// the dial, and says what is wrong with it. Nobody refused us then.
func TestAnswers(t *testing.T) {
	good := []string{"Connection: keep-alive, upgrade", "Upgrade: WebSocket", "Sec-WebSocket-Accept: ACCEPT"}
	for _, tt := range []struct{ says, without, with string }{
		{says: ""},
		{says: "", with: "X-Anything: else"},
		{says: "Connection", without: "Connection"},
		{says: "Connection", without: "Connection", with: "Connection: keep-alive"},
		{says: "Upgrade", without: "Upgrade", with: "Upgrade: h2c"},
		{says: "Sec-WebSocket-Accept", without: "Sec-WebSocket-Accept"},
		{says: "Sec-WebSocket-Accept", without: "Sec-WebSocket-Accept", with: "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="},
		{says: "Sec-WebSocket-Accept", with: "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="},
		{says: "Sec-WebSocket-Extensions", with: "Sec-WebSocket-Extensions: permessage-deflate"},
		{says: "Sec-WebSocket-Protocol", with: "Sec-WebSocket-Protocol: binary"},
	} {
		l := answering(t, func(accept string) string {
			answer := "HTTP/1.1 101 Switching Protocols\r\n"
			for _, line := range good {
				if tt.without == "" || !strings.HasPrefix(line, tt.without+":") {
					answer += strings.Replace(line, "ACCEPT", accept, 1) + "\r\n"
				}
			}
			if tt.with != "" {
				answer += tt.with + "\r\n"
			}
			return answer + "\r\n"
		})
		// What the caller's header would negotiate is not asked for.
		tr := &websocket.Transport{Header: http.Header{"Sec-Websocket-Extensions": {"permessage-deflate"}, "Sec-Websocket-Protocol": {"binary"}}}
		c, err := tr.Dial(t.Context(), addrOf(l, "ws"), nil)
		switch {
		case err == nil:
			c.Close()
			fallthrough
		case tt.says == "":
			if tt.says != "" || err != nil {
				t.Errorf("without %q, with %q: %v", tt.without, tt.with, err)
			}
		case !strings.Contains(err.Error(), tt.says+" is") || errors.Is(err, transport.ErrRefused):
			t.Errorf("without %q, with %q: %v; want something about %s", tt.without, tt.with, err, tt.says)
		}
	}
}

// Answers of the kind 1xx may come before the one that counts, but not for ever, nor
// may any be without end.
func TestInterimAnswers(t *testing.T) {
	hint := "HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n"
	for _, tt := range []struct{ before, after, says string }{
		{before: hint, after: "early"},
		{before: strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 5)},
		{before: strings.Repeat(hint, 6), says: "1xx"},
		{before: "HTTP/1.1 103 Early Hints\r\nLink: " + strings.Repeat("x", 64<<10), says: "over 65536 bytes"},
		{before: strings.Repeat("X", 64<<10), says: "over 65536 bytes"},
		{before: "HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nnot found", says: "404 Not Found"},
	} {
		l := answering(t, func(accept string) string {
			answer := tt.before
			if tt.says == "" {
				answer += "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: " +
					accept + "\r\n\r\n\x82" + string(rune(len(tt.after))) + tt.after
			}
			return answer
		})
		c, err := new(websocket.Transport).Dial(t.Context(), addrOf(l, "ws"), nil)
		if err == nil {
			got := make([]byte, len(tt.after))
			if _, err := io.ReadFull(c, got); err != nil || string(got) != tt.after {
				t.Errorf("after %.50q: read %q, %v", tt.before, got, err)
			}
			c.Close()
		}
		if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("after %.50q: %v; want %q", tt.before, err, tt.says)
		}
	}
}

// Ours and coder/websocket's, either as the client, over a socket and over TLS: they
// understand each other's messages, pings and ends.
func TestInterop(t *testing.T) {
	cert, roots := certificate(t)
	for _, secure := range []bool{false, true} {
		name := map[bool]string{false: "ws", true: "wss"}[secure]
		start := func(h http.Handler) *httptest.Server {
			s := httptest.NewUnstartedServer(h)
			if secure {
				s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
				s.StartTLS()
			} else {
				s.Start()
			}
			t.Cleanup(s.Close)
			return s
		}
		tr := &websocket.Transport{TLSConfig: &tls.Config{RootCAs: roots}}
		t.Run(name+", coder dials", func(t *testing.T) {
			admit, delivered := door()
			s := start(tr.Handler(admit, nil))
			ws, _, err := coder.Dial(t.Context(), s.URL, &coder.DialOptions{
				HTTPClient:      &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}},
				HTTPHeader:      http.Header{"Authorization": {"Bearer " + base64.RawURLEncoding.EncodeToString([]byte(letMeIn))}},
				CompressionMode: coder.CompressionContextTakeover, // which ours is not to agree on
			})
			if err != nil {
				t.Fatal(err)
			}
			interop(t, <-delivered, ws)
		})
		t.Run(name+", coder serves", func(t *testing.T) {
			accepted := make(chan *coder.Conn, 1)
			s := start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				ws, err := coder.Accept(w, r, &coder.AcceptOptions{CompressionMode: coder.CompressionContextTakeover})
				if err != nil {
					t.Error(err)
				}
				accepted <- ws
			}))
			c, err := tr.Dial(t.Context(), addrOf(s.Listener, name), nil)
			if err != nil {
				t.Fatal(err)
			}
			interop(t, c, <-accepted)
		})
	}
}

func interop(t *testing.T, c net.Conn, ws *coder.Conn) {
	defer c.Close()
	defer ws.CloseNow()
	ws.SetReadLimit(websocket.MaxMessage)
	rng := rand.New(rand.NewPCG(3, 4))
	var sent bytes.Buffer
	sizes := []int{1, 125, 126, 65535, 65536, websocket.MaxMessage}
	for range 20 {
		sizes = append(sizes, 1+rng.IntN(100_000))
	}
	data := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return b
	}
	// From ours, which echoes what it reads, too.
	echoed := make(chan error, 1)
	go func() { // ends with the close frame
		_, err := io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
		echoed <- err
	}()
	got := make(chan []byte, 1)
	go func() { // ends when as much came as was sent, or with ws
		var all []byte
		for total := sum(sizes); len(all) < total; {
			_, p, err := ws.Read(context.Background())
			if err != nil {
				t.Error(err)
				break
			}
			all = append(all, p...)
		}
		got <- all
		ws.Read(context.Background()) // answers the ping's pong, and the end
	}()
	for _, n := range sizes {
		p := data(n)
		sent.Write(p)
		w, err := ws.Writer(t.Context(), coder.MessageBinary)
		if err != nil {
			t.Fatal(err)
		}
		w.Write(p[:n/2]) // a fragment of its own, if it is not small
		w.Write(p[n/2:])
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if all := <-got; !bytes.Equal(all, sent.Bytes()) {
		t.Errorf("%d bytes came back of %d, or others", len(all), sent.Len())
	}
	if err := ws.Ping(t.Context()); err != nil {
		t.Errorf("ping: %v", err)
	}
	if err := ws.Close(coder.StatusGoingAway, "that is all"); err != nil {
		t.Errorf("our answer to its close: %v", err)
	}
	if err := <-echoed; err != nil {
		t.Errorf("the end was read as %v", err)
	}
}

func sum(ns []int) (n int) {
	for _, k := range ns {
		n += k
	}
	return n
}

// And the other way round: coder reads our end as an orderly one.
func TestInteropOurClose(t *testing.T) {
	admit, delivered := door()
	s := serve(t, (&websocket.Transport{}).Handler(admit, nil))
	ws, _, err := coder.Dial(t.Context(), s.URL, &coder.DialOptions{
		HTTPHeader: http.Header{"Authorization": {"Bearer " + base64.RawURLEncoding.EncodeToString([]byte(letMeIn))}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	(<-delivered).Close()
	if _, _, err := ws.Read(t.Context()); coder.CloseStatus(err) != coder.StatusNormalClosure {
		t.Errorf("coder read %v; want status 1000", err)
	}
}

// The handler's connections are early arrivals' too: a listener of ours that
// serves the upgrade and the first message in one segment, over TLS.
func TestEarlyOverTLS(t *testing.T) {
	cert, roots := certificate(t)
	delivered := make(chan net.Conn, 1)
	tr := &websocket.Transport{TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}}
	l, err := tr.Listen(t.Context(), multiaddr.StringCast("/ip4/127.0.0.1/tcp/0/wss"),
		func([]byte) func(net.Conn) { return func(c net.Conn) { delivered <- c } })
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, hostport, _, err := transport.HostPort(l.Multiaddr())
	if err != nil {
		t.Fatal(err)
	}
	c, err := tls.Dial("tcp", hostport, &tls.Config{RootCAs: roots})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer\r\n\r\n\x82\x85\x00\x00\x00\x00hello")
	remote := <-delivered
	defer remote.Close()
	got := make([]byte, 5)
	if _, err := io.ReadFull(remote, got); err != nil || string(got) != "hello" {
		t.Errorf("read %q, %v", got, err)
	}
}
