//go:build !js

package websocket

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/transport"
	"github.com/splitmesh/splitmesh/transport/internal/gate"
)

const (
	// maxHeader bounds a request's header, of which an opening takes up to 5.5 KiB.
	maxHeader = 12 << 10
	// maxFirst bounds what an arrival may send until its first request is
	// complete, its TLS handshake included, which has no lower limit of its own.
	maxFirst = 24 << 10
)

var errNoCertificate = errors.New("wss needs a certificate: set Transport.TLSConfig")

// Listen implements [transport.Transport] with a server of its own, which answers
// strangers with 404. To have it beside a website, mount [Transport.Handler].
func (t *Transport) Listen(ctx context.Context, addr multiaddr.Multiaddr, admit transport.Admit) (transport.Listener, error) {
	tgt, err := parseTarget(addr)
	if err != nil {
		return nil, err
	}
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("websocket: listen on %v: %w", addr, err)
	}
	if tgt.tls && (t.TLSConfig == nil ||
		len(t.TLSConfig.Certificates) == 0 && t.TLSConfig.GetCertificate == nil && t.TLSConfig.GetConfigForClient == nil) {
		return nil, fmt.Errorf("websocket: listen on %v: %w", addr, errNoCertificate)
	}
	nl, err := new(net.ListenConfig).Listen(ctx, tgt.network, tgt.hostport)
	if err != nil {
		return nil, fmt.Errorf("websocket: listen on %v: %w", addr, err)
	}
	return t.newListener(nl, tgt, admit), nil
}

type listener struct {
	addr    multiaddr.Multiaddr
	gate    *gate.Gate
	handler http.Handler
	server  *http.Server

	closing atomic.Bool
	once    sync.Once
	err     error          // of closing; set in once
	running sync.WaitGroup // Serve, each connection until it is hijacked, each request
}

func (t *Transport) newListener(nl net.Listener, tgt target, admit transport.Admit) *listener {
	l := &listener{
		addr: append(transport.FromTCP(nl.Addr().(*net.TCPAddr).AddrPort()), tgt.suffix...),
		gate: gate.New(orDefault(t.MaxArrivals, DefaultMaxArrivals)),
	}
	l.handler = t.Handler(func(opening []byte) func(net.Conn) {
		if l.closing.Load() {
			return nil
		}
		return admit(opening)
	}, nil)
	timeout := orDefault(t.ArrivalTimeout, DefaultArrivalTimeout)
	l.server = &http.Server{
		Handler:        l,
		ReadTimeout:    timeout,
		WriteTimeout:   timeout,
		IdleTimeout:    timeout,
		MaxHeaderBytes: maxHeader,
		ConnState:      l.connState,
		ErrorLog:       log.New(io.Discard, "", 0),
		Protocols:      new(http.Protocols),
	}
	l.server.Protocols.SetHTTP1(true)
	if t.Logger != nil {
		l.server.ErrorLog = slog.NewLogLogger(t.Logger.Handler(), slog.LevelDebug)
	}
	var serve net.Listener = &gated{nl, l.gate}
	if tgt.tls {
		cfg := t.TLSConfig.Clone()
		cfg.NextProtos = []string{"http/1.1"}
		serve = tls.NewListener(serve, cfg)
	}
	l.running.Go(func() { _ = l.server.Serve(serve) }) // ends with Close
	return l
}

func (l *listener) Multiaddr() multiaddr.Multiaddr { return l.addr }

func (l *listener) Close() error {
	l.once.Do(func() {
		l.closing.Store(true)
		l.err = l.server.Close()
		l.gate.Close()
	})
	l.running.Wait()
	return l.err
}

func (l *listener) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.running.Add(1) // the connection's own count is held meanwhile
	defer l.running.Done()
	l.handler.ServeHTTP(w, r)
}

func (l *listener) connState(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		l.running.Add(1) // Serve's own count is held meanwhile
	case http.StateHijacked, http.StateClosed:
		l.running.Done()
	case http.StateActive: // a request's header is complete
		if tc, ok := c.(*tls.Conn); ok {
			c = tc.NetConn()
		}
		c.(*arrival).unlimited.Store(true)
	}
}

// gated is a net.Listener whose connections go through a gate.
type gated struct {
	net.Listener
	gate *gate.Gate
}

func (g *gated) Accept() (net.Conn, error) {
	c, err := g.Listener.Accept()
	if err != nil {
		return nil, err
	}
	ticket := g.gate.Enter(c)
	if ticket == nil {
		return nil, net.ErrClosed
	}
	return &arrival{Conn: c, ticket: ticket, left: maxFirst}, nil
}

// An arrival is a connection that has not been admitted yet.
type arrival struct {
	net.Conn
	ticket    *gate.Ticket
	left      int         // bytes that may still be read; of the one Read that runs
	unlimited atomic.Bool // net/http's own limits hold from here on
}

var errTooMuch = errors.New("too much came before a request was complete")

func (a *arrival) Read(p []byte) (int, error) {
	if a.unlimited.Load() {
		return a.Conn.Read(p)
	}
	if a.left == 0 {
		return 0, errTooMuch
	}
	n, err := a.Conn.Read(p[:min(len(p), a.left)])
	a.left -= n
	return n, err
}

func (a *arrival) Close() error {
	a.ticket.Leave()
	return a.Conn.Close()
}

// admitted lifts the limits. It reports false when the gate has closed a.
func (a *arrival) admitted() bool {
	a.unlimited.Store(true)
	return a.ticket.Leave()
}
