//go:build !js

package websocket_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"
	"go.uber.org/goleak"

	"github.com/splitmesh/splitmesh/transport"
	"github.com/splitmesh/splitmesh/transport/transporttest"
	"github.com/splitmesh/splitmesh/transport/websocket"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	for _, suffix := range []string{"ws", "wss", "tls/ws", "ws/http-path/api%2Fv2"} {
		t.Run(suffix, func(t *testing.T) {
			cert, roots := certificate(t)
			transporttest.Run(t, func(t *testing.T) transporttest.Harness {
				return transporttest.Harness{
					Transport: &websocket.Transport{
						TLSConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{cert}},
					},
					Impatient: &websocket.Transport{
						TLSConfig:      &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{cert}},
						ArrivalTimeout: 200 * time.Millisecond,
					},
					Listen: multiaddr.StringCast("/ip4/127.0.0.1/tcp/0/" + suffix),
					CanDial: map[string]bool{
						"/ip4/192.0.2.1/tcp/1/ws":                            true,
						"/ip6/2001:db8::1/tcp/1/wss":                         true,
						"/dns/example.org/tcp/1/tls/ws":                      true,
						"/dns4/example.org/tcp/1/tls/sni/cdn.example.net/ws": true,
						"/dns6/example.org/tcp/1/wss/http-path/a%2Fb":        true,
						"/ip4/192.0.2.1/tcp/1":                               false,
						"/ip4/192.0.2.1/tcp/1/tls":                           false,
						"/ip4/192.0.2.1/tcp/1/tls/wss":                       false,
						"/ip4/192.0.2.1/tcp/1/ws/ws":                         false,
						"/ip4/192.0.2.1/tcp/1/http-path/a/ws":                false,
						"/ip4/192.0.2.1/udp/1/ws":                            false,
						"/ip4/192.0.2.1/tcp/1/sni/example.org/ws":            false,
						"/ip4/192.0.2.1/tcp/1/ws/http-path/a/http-path/b":    false,
						"/ws": false,
					},
					SeesRefusal: true,
					Raw:         dialRaw,
					Stalled: func(t *testing.T) (multiaddr.Multiaddr, <-chan struct{}) {
						l, dialling := stalled(t)
						return addrOf(l, suffix), dialling
					},
				}
			})
		})
	}
}

func dialRaw(ctx context.Context, addr multiaddr.Multiaddr) (net.Conn, error) {
	network, hostport, _, err := transport.HostPort(addr)
	if err != nil {
		return nil, err
	}
	return new(net.Dialer).DialContext(ctx, network, hostport)
}

// stalled is a server that reads what comes and does not answer. The channel is
// closed when something came.
func stalled(t *testing.T) (net.Listener, <-chan struct{}) {
	l := listenTCP(t)
	dialling := make(chan struct{})
	go func() { // ends with the listener or with the dial
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		buf := make([]byte, 4096)
		c.Read(buf)
		close(dialling)
		for {
			if _, err := c.Read(buf); err != nil {
				return
			}
		}
	}()
	return l, dialling
}

func listenTCP(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// addrOf is the multiaddr of a listener on loopback.
func addrOf(l net.Listener, suffix string) multiaddr.Multiaddr {
	base := transport.FromTCP(l.Addr().(*net.TCPAddr).AddrPort())
	return base.Encapsulate(multiaddr.StringCast("/" + suffix))
}

// certificate is one for localhost, 127.0.0.1 and peer.example.org, and the
// authority that signed it.
func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: authority.NotBefore, NotAfter: authority.NotAfter,
		DNSNames: []string{"localhost", "peer.example.org"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	sign := func(cert *x509.Certificate, pub any, key any) []byte {
		der, err := x509.CreateCertificate(rand.Reader, cert, authority, pub, key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	newKey := func() *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	caKey, leafKey := newKey(), newKey()
	ca, err := x509.ParseCertificate(sign(authority, &caKey.PublicKey, caKey))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	return tls.Certificate{Certificate: [][]byte{sign(leaf, &leafKey.PublicKey, caKey)}, PrivateKey: leafKey}, roots
}

func discardLog() *log.Logger { return log.New(io.Discard, "", 0) }
