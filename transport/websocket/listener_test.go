//go:build !js

package websocket

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/transport"
	"github.com/splitmesh/splitmesh/transport/internal/stall"
)

// What a stranger who stalls can make us hold, at every stage of an arrival: 64 KiB.
func TestStalledArrivalsHoldLittle(t *testing.T) {
	const arrivals, allowed = 500, 64 << 10
	cert := selfSigned(t)
	lines := "GET / HTTP/1.1\r\n"
	for i := range maxLines - 10 {
		lines += string(rune('a'+i/26)) + string(rune('a'+i%26)) + ":\r\n"
	}
	long := lines + "X: " + strings.Repeat("y", maxHeader+3<<10)
	hello := clientHello()[:maxFirst-1]
	overTLS := func(say func(net.Conn) error) func(net.Conn) error {
		return func(c net.Conn) error {
			return say(tls.Client(c, &tls.Config{InsecureSkipVerify: true}))
		}
	}
	for _, tt := range []struct {
		name, suffix string
		say          func(net.Conn) error
	}{
		{"silent", "/ws", stall.Say(nil)},
		{"in a long header line", "/ws", stall.Say([]byte("GET / HTTP/1.1\r\nX: " + strings.Repeat("y", maxHeader+3<<10)))},
		{"in many header lines", "/ws", stall.Say([]byte(lines))},
		{"in many lines and a long one", "/ws", stall.Say([]byte(long))},
		{"in the request line", "/ws", stall.Say([]byte("GET /" + strings.Repeat("y", maxHeader+3<<10)))},
		{"reading no answer", "/ws", stall.Say([]byte(lines + "Host: x\r\nContent-Length: 100000\r\n\r\n"))},
		{"silent before TLS", "/wss", stall.Say(nil)},
		{"in a ClientHello", "/wss", stall.Say(hello)},
		{"in a header, over TLS", "/wss", overTLS(stall.Say([]byte(long)))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tr := &Transport{ArrivalTimeout: time.Hour, MaxArrivals: arrivals, TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}}
			held := stall.PerArrival(t, arrivals, tt.say, func(nl net.Listener) {
				tgt, err := parseTarget(multiaddr.StringCast("/ip4/127.0.0.1/tcp/1" + tt.suffix))
				if err != nil {
					t.Fatal(err)
				}
				l := tr.newListener(nl, tgt, func([]byte) func(net.Conn) { return nil })
				t.Cleanup(func() { l.Close() })
			})
			t.Logf("%d bytes an arrival", held)
			if held > allowed {
				t.Errorf("an arrival that stalls %s holds %d bytes, more than %d", tt.name, held, allowed)
			}
		})
	}
}

// clientHello is most of a ClientHello of 65,535 bytes, in two records.
func clientHello() []byte {
	hello := append([]byte{22, 3, 1, 64, 0, 1, 0, 255, 255}, make([]byte, 16380)...)
	return append(append(hello, 22, 3, 1, 64, 0), make([]byte, 1<<14)...)
}

// crypto/tls would read on.
func TestLongClientHelloIsCut(t *testing.T) {
	tr := &Transport{ArrivalTimeout: time.Hour, TLSConfig: &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}}}
	l, err := tr.Listen(t.Context(), multiaddr.StringCast("/ip4/127.0.0.1/tcp/0/wss"), func([]byte) func(net.Conn) { return nil })
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, hostport, _, err := transport.HostPort(l.Multiaddr())
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", hostport)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Write(clientHello()) // may fail, when it is already cut
	io.Copy(io.Discard, c) // until it is cut
}

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
