//go:build !js

package websocket

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/internal/buf"
	"github.com/splitmesh/splitmesh/transport"
)

// A raw is the other end of a connection of ours, over a socket, that writes frames
// by hand.
type raw struct {
	net.Conn
	r      *bufio.Reader
	client bool
}

// opaque is a socket of which only net.Conn shows, so that no poll reads it.
type opaque struct{ net.Conn }

type opaqueListener struct{ net.Listener }

func (l opaqueListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return opaque{c}, err
}

// rawClient returns a server's end of ours, and a client that sent early right
// behind its request.
func rawClient(t *testing.T, hide bool, early string) (*conn, *raw) {
	t.Helper()
	delivered := make(chan net.Conn, 1)
	s := httptest.NewUnstartedServer((&Transport{}).Handler(
		func([]byte) func(net.Conn) { return func(c net.Conn) { delivered <- c } }, nil))
	if hide {
		s.Listener = opaqueListener{s.Listener}
	}
	s.Start()
	t.Cleanup(s.Close)
	peer, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	io.WriteString(peer, "GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer\r\n\r\n"+early)
	p := &raw{peer, bufio.NewReader(peer), true}
	resp, err := http.ReadResponse(p.r, nil)
	// The key and its answer are those of RFC 6455 §1.3.
	if err != nil || resp.StatusCode != 101 || resp.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Fatalf("the answer: %v, %v", resp, err)
	}
	c := (<-delivered).(*conn)
	t.Cleanup(func() { c.Close() })
	return c, p
}

// rawServer returns a client's end of ours, and a server that sent early right
// behind its answer.
func rawServer(t *testing.T, hide bool, early string) (*conn, *raw) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	peers := make(chan *raw, 1)
	go func() { // ends with the dial
		peer, err := l.Accept()
		if err != nil {
			return
		}
		p := &raw{peer, bufio.NewReader(peer), false}
		req, err := http.ReadRequest(p.r)
		if err != nil {
			return
		}
		key := req.Header.Get("Sec-WebSocket-Key")
		if nonce, err := base64.StdEncoding.DecodeString(key); err != nil || len(nonce) != 16 {
			t.Errorf("the key is %q", key)
		}
		io.WriteString(p, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: "+accept(key)+"\r\n\r\n"+early)
		peers <- p
	}()
	tr := &Transport{}
	if hide {
		tr.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, address)
			return opaque{c}, err
		}
	}
	c, err := tr.Dial(t.Context(), transport.FromTCP(l.Addr().(*net.TCPAddr).AddrPort()).Encapsulate(multiaddr.StringCast("/ws")), nil)
	if err != nil {
		t.Fatal(err)
	}
	p := <-peers
	t.Cleanup(func() { c.Close(); p.Close() })
	return c.(*conn), p
}

// A piece is a frame to be sent, or bytes as they are.
type piece struct {
	first   byte
	payload string
	bytes   []byte // instead, if not nil; the mask bit is set for a client
}

// encode masks with a key that changes from frame to frame.
func (p *raw) encode(pieces []piece) []byte {
	var b []byte
	for i, pc := range pieces {
		if pc.bytes != nil {
			b = append(b, pc.bytes...)
			continue
		}
		f := frame(pc.first, pc.payload)
		size := len(f) - len(pc.payload)
		if !p.client {
			f[1] &= 0x7f
			b = append(append(b, f[:size-4]...), pc.payload...)
			continue
		}
		key := []byte{0x9d, byte(i), 0x5f, 0xc3}
		copy(f[size-4:], key)
		for j := range len(pc.payload) {
			f[size+j] ^= key[j%4]
		}
		b = append(b, f...)
	}
	return b
}

// next reads a frame, which must be masked by a client and by nobody else.
func (p *raw) next() (first byte, payload string, err error) {
	h := make([]byte, 2, maxFrameHeader)
	if _, err := io.ReadFull(p.r, h); err != nil {
		return 0, "", err
	}
	rest := map[byte]int{126: 2, 127: 8}[h[1]&0x7f]
	if !p.client {
		rest += 4
	}
	h = h[:2+rest]
	if _, err := io.ReadFull(p.r, h[2:]); err != nil {
		return 0, "", err
	}
	hd, size, err := parseHeader(h, !p.client)
	if err != nil || size != len(h) {
		return 0, "", fmt.Errorf("header % x: %w", h, err)
	}
	b := make([]byte, hd.length)
	if _, err := io.ReadFull(p.r, b); err != nil {
		return 0, "", err
	}
	for i := range b {
		b[i] ^= byte(hd.key >> (i % 4 * 8))
	}
	return h[0], string(b), nil
}

// echo sends back what comes, until the connection ends.
func echo(c *conn, inPlace bool) error {
	if !inPlace {
		_, err := io.CopyBuffer(struct{ io.Writer }{c}, struct{ io.Reader }{c}, make([]byte, 1000))
		return err
	}
	for {
		p, owner, err := c.ReadBuf()
		if err != nil {
			return err
		}
		if !owner.Around(p, c.Headroom()) { // a piece of the largest size
			b := buf.Get(c.Headroom() + len(p))
			copy(b.B[c.Headroom():], p)
			owner.Release()
			owner = b
		}
		if err := c.WriteBuf(owner, false); err != nil {
			return err
		}
	}
}

// What the public Autobahn suite asks of an implementation, by its numbers, with
// SPEC.md's exceptions: text is refused, and a message has 256 KiB at most.
func TestAutobahn(t *testing.T) {
	for _, role := range []struct {
		name string
		end  func(t *testing.T, hide bool, early string) (*conn, *raw)
	}{{"server", rawClient}, {"client", rawServer}} {
		for _, hide := range []bool{false, true} {
			for _, inPlace := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s,poll=%t,inPlace=%t", role.name, !hide, inPlace), func(t *testing.T) {
					for _, tt := range autobahn(role.name == "server") {
						t.Run(tt.name, func(t *testing.T) {
							c, p := role.end(t, hide, "")
							tt.run(t, c, p, inPlace)
						})
					}
				})
			}
		}
	}
}

func (tt *autobahnCase) run(t *testing.T, c *conn, p *raw, inPlace bool) {
	ended := make(chan error, 1)
	go func() { ended <- echo(c, inPlace) }() // ends with c
	sends := p.encode(tt.sends)
	if tt.status == statusNormal && !tt.closes {
		sends = append(sends, p.encode([]piece{{first: closeMsg, payload: "\x03\xe8"}})...)
	}
	chop := tt.chop
	if chop == 0 {
		chop = len(sends)
	}
	go func() { // ends with the last byte, or with either end
		for at := 0; at < len(sends); at += chop {
			if _, err := p.Write(sends[at:min(at+chop, len(sends))]); err != nil {
				return
			}
		}
		p.Conn.(*net.TCPConn).CloseWrite() // so that an end that waits for more is found out
	}()
	p.SetReadDeadline(time.Now().Add(time.Minute)) // a test that hangs says which
	var data, pongs strings.Builder
	for {
		first, payload, err := p.next()
		if err != nil {
			t.Fatalf("after %d bytes and pongs %.100q: %v; want a close frame with %d", data.Len(), pongs.String(), err, tt.status)
		}
		switch first {
		case binMsg:
			data.WriteString(payload)
			continue
		case pong:
			pongs.WriteString(payload + ";")
			continue
		case closeMsg:
		default:
			t.Fatalf("frame %#x", first)
		}
		got := statusNone
		if len(payload) == 2 {
			got = status(binary.BigEndian.Uint16([]byte(payload)))
		}
		if got != tt.status || len(payload) != 2 && got != statusNone {
			t.Errorf("the close frame has % x; want the status %d", payload, tt.status)
		}
		break
	}
	if data.String() != tt.echoes {
		t.Errorf("echoed %d bytes, %.50q; want %d, %.50q", data.Len(), data.String(), len(tt.echoes), tt.echoes)
	}
	if pongs.String() != tt.pongs {
		t.Errorf("pongs %.200q; want %.200q", pongs.String(), tt.pongs)
	}
	if first, _, err := p.next(); err == nil {
		t.Errorf("after the close frame came frame %#x", first)
	}
	err := <-ended
	var wrong *protocolError
	switch violated := errors.As(err, &wrong); {
	case tt.violates && (!violated || wrong.status != tt.status):
		t.Errorf("it ended with %v; want a protocol error of status %d", err, tt.status)
	case !tt.violates && (violated || err == nil && tt.status != statusNormal && tt.status != statusNone && tt.status != statusGoingAway):
		t.Errorf("it ended with %v; the other side said %d", err, tt.status)
	}
}

// What comes in one segment with the upgrade is not lost, and none of it twice.
func TestEarlyFrames(t *testing.T) {
	for _, hide := range []bool{false, true} {
		masked := (&raw{client: true}).encode([]piece{{first: binMsg, payload: "hello "}, {first: binMsg, payload: strings.Repeat("x", 700)}})
		plain := (&raw{}).encode([]piece{{first: binMsg, payload: "hello "}, {first: binMsg, payload: strings.Repeat("x", 700)}})
		server, client := rawClient(t, hide, string(masked[:len(masked)-1]))
		client.Write(masked[len(masked)-1:])
		other, peer := rawServer(t, hide, string(plain[:len(plain)-1]))
		peer.Write(plain[len(plain)-1:])
		for _, c := range []*conn{server, other} {
			got := make([]byte, 706)
			c.SetReadDeadline(time.Now().Add(10 * time.Second))
			if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, []byte("hello "+strings.Repeat("x", 700))) {
				t.Errorf("read %.20q, %v", got, err)
			}
		}
	}
}
