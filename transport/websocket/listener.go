//go:build !js

package websocket

import (
	"bytes"
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

// What an arrival may send until its request is complete, so that no stage of it
// makes us hold over 64 KiB. An opening takes up to 5.5 KiB of a header.
const (
	maxHeader = 6 << 10           // of one request, to which net/http adds 4 KiB
	maxFirst  = maxHeader + 8<<10 // in all, with the TLS handshake, whose own limit is 64 KiB
	maxLines  = 100               // in the header: net/http holds 100 bytes for the shortest
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
		MaxHeaderBytes: maxHeader,
		ConnState:      l.connState,
		ErrorLog:       log.New(io.Discard, "", 0),
		Protocols:      new(http.Protocols),
	}
	l.server.Protocols.SetHTTP1(true)
	if t.Logger != nil {
		l.server.ErrorLog = slog.NewLogLogger(t.Logger.Handler(), slog.LevelDebug)
	}
	serve := &gated{Listener: nl, gate: l.gate}
	if tgt.tls {
		cfg := t.TLSConfig.Clone()
		cfg.NextProtos = []string{"http/1.1"}
		serve.tls = cfg
	}
	l.server.SetKeepAlivesEnabled(false)               // one request each, to which the limits apply
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
	case http.StateActive: // the request's header is complete
		c.(*arrival).complete.Store(true)
	}
}

// gated is a net.Listener whose connections are arrivals in a gate.
type gated struct {
	net.Listener
	gate *gate.Gate
	tls  *tls.Config // nil: none
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
	a := &arrival{socket: c, ticket: ticket}
	a.Conn = &limited{Conn: c, arrival: a, left: maxFirst}
	if g.tls != nil {
		a.Conn = tls.Server(a.Conn, g.tls) // the first Read shakes hands
	}
	return a, nil
}

// An arrival is a connection that has not been admitted yet.
type arrival struct {
	net.Conn // a limited, or TLS over one
	socket   net.Conn
	ticket   *gate.Ticket
	lines    int         // read so far; of the one Read that runs
	complete atomic.Bool // the request is: from here on nothing is limited
}

var errTooMuch = errors.New("too much came before the request was complete")

func (a *arrival) Read(p []byte) (int, error) {
	n, err := a.Conn.Read(p)
	if !a.complete.Load() {
		if a.lines += bytes.Count(p[:n], []byte{'\n'}); a.lines > maxLines {
			return 0, errTooMuch
		}
	}
	return n, err
}

// Close closes the socket: to close TLS may take a while.
func (a *arrival) Close() error {
	a.ticket.Leave()
	return a.socket.Close()
}

// admitted takes a out of the gate and returns what its bytes go over. It reports
// false when the gate has closed a.
func (a *arrival) admitted() (rw io.ReadWriter, in bool) {
	if l, ok := a.Conn.(*limited); ok {
		return l.Conn, a.ticket.Leave()
	}
	return a.Conn, a.ticket.Leave()
}

// limited bounds what an arrival sends, below TLS.
type limited struct {
	net.Conn
	arrival *arrival
	left    int // of the one Read that runs
}

func (l *limited) Read(p []byte) (int, error) {
	if l.arrival.complete.Load() {
		return l.Conn.Read(p)
	}
	if l.left == 0 {
		return 0, errTooMuch
	}
	n, err := l.Conn.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}
