package proxy_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/forward"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/proxy"
)

// TestEarly: what comes with the request is not lost.
func TestEarly(t *testing.T) {
	w := newWorld(t)
	c, reply := connect(t, w.socks, "ann.mesh", 80, []byte("GET / HTTP/1.0\r\n\r\n")...)
	if b, err := io.ReadAll(c); err != nil || reply != 0 || !bytes.Contains(b, []byte("200 OK")) {
		t.Error(reply, string(b), err)
	}
}

// TestOtherRequests are answered, not served.
func TestOtherRequests(t *testing.T) {
	w := newWorld(t)
	for name, tt := range map[string]struct{ at, send, want string }{
		"bind":          {w.socks, "\x05\x01\x00\x05\x02\x00\x01\x7f\x00\x00\x01\x00\x50", "\x05\x00\x05\x07"},
		"udp":           {w.socks, "\x05\x01\x00\x05\x03\x00\x01\x7f\x00\x00\x01\x00\x50", "\x05\x00\x05\x07"},
		"with password": {w.socks, "\x05\x01\x02", "\x05\xff"},
		"socks4":        {w.socks, "\x04\x01\x00\x50\x7f\x00\x00\x01\x00", ""},
		"http to socks": {w.socks, "GET / HTTP/1.1\r\n\r\n", ""},
		"no proxy":      {w.http, "GET / HTTP/1.1\r\nHost: ann.mesh\r\nConnection: close\r\n\r\n", "HTTP/1.1 400 "},
		"ftp":           {w.http, "GET ftp://ann.mesh/ HTTP/1.1\r\nHost: ann.mesh\r\nConnection: close\r\n\r\n", "HTTP/1.1 400 "},
		"no port":       {w.http, "CONNECT ann.mesh HTTP/1.1\r\nHost: ann.mesh\r\nConnection: close\r\n\r\n", "HTTP/1.1 502 "},
	} {
		c, err := net.Dial("tcp", tt.at)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte(tt.send)); err != nil {
			t.Fatal(err)
		}
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		b, err := io.ReadAll(c) // a reset is as good as an end
		if !strings.HasPrefix(string(b), tt.want) || tt.want == "" && len(b) > 0 {
			t.Errorf("%s: %q, %v", name, b, err)
		}
		c.Close()
	}
}

// TestSlow: who does not get on with the handshake is put out, and others are served meanwhile.
func TestSlow(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits for the deadline")
	}
	w := newWorld(t)
	var slow []net.Conn
	for _, at := range []string{w.socks, w.http} {
		for range 200 {
			c, err := net.Dial("tcp", at)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			slow = append(slow, c)
			if _, err := c.Write([]byte("\x05\xff")); err != nil {
				t.Fatal(err)
			}
		}
	}
	began := time.Now()
	for _, through := range []string{"socks5h://" + w.socks, "http://" + w.http} {
		if status, _, err := get(t, through, "http://ann.mesh/"); status != 200 {
			t.Error(through, status, err)
		}
	}
	if took := time.Since(began); took > forward.Patience/2 {
		t.Errorf("others waited %v", took)
	}
	tick := time.NewTicker(time.Second) // each byte in time, but never the whole
	defer tick.Stop()
	for _, c := range slow {
		_ = c.SetReadDeadline(time.Now().Add(2 * forward.Patience))
	}
	end := time.After(forward.Patience * 6 / 5)
	for dripping := true; dripping; {
		select {
		case <-tick.C:
			for _, c := range slow {
				_, _ = c.Write([]byte{1}) // it fails in the end
			}
		case <-end:
			dripping = false
		}
	}
	for i, c := range slow {
		if _, err := io.Copy(io.Discard, c); errors.Is(err, context.DeadlineExceeded) || err != nil && strings.Contains(err.Error(), "timeout") {
			t.Fatalf("slow one %d is still there: %v", i, err)
		}
	}
}

// FuzzSOCKS: whatever comes, it ends, and nothing is dialled that the bytes do not name.
func FuzzSOCKS(f *testing.F) {
	f.Add([]byte("\x05\x01\x00\x05\x01\x00\x03\x08ann.mesh\x00\x50GET /"))
	f.Add([]byte("\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50"))
	f.Add([]byte("\x05\x01\x00\x05\x01\x00\x04" + strings.Repeat("\x00", 18)))
	f.Add([]byte("\x05\xff"))
	l, err := forward.ListenLoopback(context.Background(), "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	dialled := errors.New("nobody is there")
	d := &proxy.Dialer{Mesh: func(context.Context, string) (net.Conn, error) { return nil, dialled }}
	go func() { ended <- proxy.SOCKS(ctx, l, d, "", quiet) }()
	f.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			f.Error(err)
		}
	})
	f.Fuzz(func(t *testing.T, in []byte) {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Skip(err) // the fuzzer is faster than ports get free
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(forward.Patience))
		_, _ = c.Write(in) // it may be closed already
		_ = c.(*net.TCPConn).CloseWrite()
		if n, err := io.Copy(io.Discard, c); n > 12 || err != nil && strings.Contains(err.Error(), "timeout") {
			t.Errorf("%d bytes, %v", n, err)
		}
	})
}
