package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/transport"
	"github.com/splitmesh/splitmesh/transport/transporttest"
)

// A pair is a certificate that signs itself, in files.
type pair struct {
	cert, key string
	roots     *x509.CertPool
	serial    *big.Int
}

// newPair makes one for localhost in dir. roots, which may be nil, will trust it too.
func newPair(t testing.TB, dir string, roots *x509.CertPool) pair {
	t.Helper()
	if roots == nil {
		roots = x509.NewCertPool()
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	p := pair{filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), roots, serial}
	write(t, p.cert, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, p.key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})))
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	p.roots.AddCert(cert)
	return p
}

func write(t testing.TB, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func newSite(t testing.TB, secure bool) *site {
	s := &site{pages: http.NotFoundHandler(), log: slog.New(slog.DiscardHandler)}
	if secure {
		p := newPair(t, t.TempDir(), nil)
		cert, err := tls.LoadX509KeyPair(p.cert, p.key)
		if err != nil {
			t.Fatal(err)
		}
		s.tls = &tls.Config{Certificates: []tls.Certificate{cert}}
		s.TLSConfig = &tls.Config{RootCAs: p.roots, MinVersion: tls.VersionTLS12}
	}
	return s
}

// TestSiteConforms: the site is a transport like any other.
func TestSiteConforms(t *testing.T) {
	for name, secure := range map[string]bool{"ws": false, "wss": true} {
		t.Run(name, func(t *testing.T) {
			transporttest.Run(t, func(t *testing.T) transporttest.Harness {
				return transporttest.Harness{
					Transport: newSite(t, secure), Listen: multiaddr.StringCast("/ip4/127.0.0.1/tcp/0/" + name),
					CanDial: map[string]bool{"/ip4/192.0.2.1/tcp/1/ws": true, "/ip4/192.0.2.1/tcp/1": false},
				}
			})
		})
	}
}

// TestStrangers: one over the limit cuts the one that was silent longest, and who was admitted is none of them.
func TestStrangers(t *testing.T) {
	s := newSite(t, false)
	s.most = 3
	admitted := make(chan net.Conn, 1)
	l, err := s.Listen(within(t), multiaddr.StringCast("/ip4/127.0.0.1/tcp/0/ws"), func([]byte) func(net.Conn) {
		return func(c net.Conn) { admitted <- c }
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	member, err := s.Dial(within(t), l.Multiaddr(), []byte("opening"))
	if err != nil {
		t.Fatal(err)
	}
	defer member.Close()
	there := <-admitted
	defer there.Close()
	_, hostport, _, err := transport.HostPort(l.Multiaddr())
	if err != nil {
		t.Fatal(err)
	}
	dial := func() net.Conn {
		c, err := net.Dial("tcp", hostport)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(time.Minute))
		return c
	}
	get := func(c net.Conn) error {
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			return err
		}
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		_, err = io.Copy(io.Discard, res.Body)
		return err
	}
	first := dial()
	if err := get(first); err != nil {
		t.Fatal(err)
	}
	silent := dial()
	if err := errors.Join(get(silent), get(first), get(first)); err != nil { // which was heard of last
		t.Fatal(err)
	}
	for range s.most - 1 { // which say nothing
		dial()
	}
	if _, err := silent.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Error("the one that was silent longest is still there:", err)
	}
	if err := errors.Join(get(first), get(dial())); err != nil {
		t.Error("one that was heard of, and one that came:", err)
	}
	go there.Write([]byte("x"))
	if _, err := io.ReadFull(member, make([]byte, 1)); err != nil {
		t.Error("a member was cut:", err)
	}
}

// A closed counts who was closed. It is a connection that nobody tells of: what a server does before it comes to that.
type closed struct {
	net.Conn
	count *int
}

func (c *closed) Close() error { *c.count++; return nil }

// TestStrangersAtOnce: of however many come before the first that was cut is told as closed, no more are left than may be.
func TestStrangersAtOnce(t *testing.T) {
	s, count := newStrangers(4), 0
	for range 100 {
		s.note(&closed{count: &count}, http.StateNew)
	}
	if count != 96 || s.order.Len() != 4 || len(s.place) != 4 {
		t.Errorf("%d were cut, and %d are left", count, s.order.Len())
	}
}

// pipes are what a server accepts.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	if c, ok := <-p; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// TestSlow: who says half of what he has to say, or nothing more, is not waited for; nor is who says too much listened to.
func TestSlow(t *testing.T) {
	for name, tt := range map[string]struct{ says, hears string }{
		"nothing":       {"", ""},
		"half a header": {"GET / HTTP/1.1\r\nHost: x\r\n", ""},
		"half a body":   {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx", "HTTP/1.1 200 OK"},
		"nothing more":  {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK"},
		"a long header": {"GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", maxHeader+4096) + "\r\n\r\n", "HTTP/1.1 431 "},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := newServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }), slog.New(slog.DiscardHandler))
				l := make(pipes)
				served := make(chan error)
				go func() { served <- server.Serve(l) }() // ends with l
				c, there := net.Pipe()
				l <- there
				go io.WriteString(c, tt.says) // ends with c
				heard, err := io.ReadAll(c)   // for ever, if nothing ends the connection: the bubble tells of that
				if err != nil || !strings.HasPrefix(string(heard), tt.hears) {
					t.Errorf("%q, %v", heard, err)
				}
				c.Close()
				close(l)
				<-served
				server.Close()
			})
		})
	}
}
