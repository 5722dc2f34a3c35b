package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"net/http"
	"time"

	"github.com/coder/websocket"
)

// What there is without a mesh: TLS, and WebSockets with no cipher at all. A
// stream is a connection.
var plainSystems = []system{
	{name: "tls", about: "crypto/tls 1.3 over TCP, no resumption", one: true, start: startTLS},
	{name: "ws", about: "coder/websocket NetConn, binary, not encrypted", one: true, start: startWS},
}

func startTLS(_ context.Context, at gateway) (*world, error) {
	serve, dial, err := certificate()
	if err != nil {
		return nil, err
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", serve)
	if err != nil {
		return nil, err
	}
	w := newWorld()
	w.onClose(func() { l.Close() })
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the handshake, for which the dialler waits
				if c.(*tls.Conn).Handshake() == nil {
					w.deliver(c)
				}
			}()
		}
	}()
	addr, err := at(l.Addr().String())
	w.client = func(context.Context) (client, error) {
		return client{
			open: func(ctx context.Context) (stream, error) {
				return (&tls.Dialer{Config: dial}).DialContext(ctx, "tcp", addr)
			},
			close: func() {},
		}, nil
	}
	return w, err
}

// certificate makes one for 127.0.0.1, and returns what the listener and the
// dialler need to use it.
func certificate() (serve, dial *tls.Config, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	serve = &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	return serve, &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots}, nil
}

func startWS(_ context.Context, at gateway) (*world, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w := newWorld()
	life, end := context.WithCancel(context.Background())
	srv := &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(rw, r, nil)
		if err != nil {
			return
		}
		c.SetReadLimit(-1)
		w.deliver(websocket.NetConn(life, c, websocket.MessageBinary))
	})}
	go func() { _ = srv.Serve(l) }() // ends with the world
	w.onClose(func() { end(); srv.Close() })
	addr, err := at(l.Addr().String())
	w.client = func(context.Context) (client, error) {
		return client{
			open: func(ctx context.Context) (stream, error) {
				c, _, err := websocket.Dial(ctx, "ws://"+addr, nil) //nolint:bodyclose // it is closed by Dial
				if err != nil {
					return nil, err
				}
				c.SetReadLimit(-1)
				return websocket.NetConn(life, c, websocket.MessageBinary), nil
			},
			close: func() {},
		}, nil
	}
	return w, err
}
