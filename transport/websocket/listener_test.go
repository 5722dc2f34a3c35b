//go:build !js

package websocket

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"

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
	// A ClientHello of 65,535 bytes, begun.
	hello := append([]byte{22, 3, 1, 64, 0, 1, 0, 255, 255}, make([]byte, 16380)...)
	hello = append(append(hello, 22, 3, 1, 64, 0), make([]byte, 1<<14)...)[:maxFirst-1]
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
