package main

import (
	"container/list"
	"context"
	"crypto/tls"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/transport"
	"github.com/splitmesh/splitmesh/transport/websocket"
)

// A site is the transport of WebSockets whose listener is a web server: strangers see the pages, over HTTP/2 too, and who
// brings an opening that the node admits gets a WebSocket on the same port.
type site struct {
	websocket.Transport // dials
	// pages answers strangers.
	pages http.Handler
	// tls has the certificates; nil: wss can't be listened on.
	tls *tls.Config
	// announce is what others are told of where it listens; nil: where it does.
	announce func(bound multiaddr.Multiaddr) multiaddr.Multiaddr
	// most is how many strangers there may be; 0: maxStrangers.
	most int
	log  *slog.Logger
}

// What a request may take. The opening is up to 5.5 KiB of a header.
const (
	headerTimeout = 10 * time.Second
	readTimeout   = 20 * time.Second
	writeTimeout  = 30 * time.Second
	idleTimeout   = time.Minute
	maxHeader     = 8 << 10
	maxStrangers  = 1024
)

// Listen implements transport.Transport.
func (s *site) Listen(ctx context.Context, addr multiaddr.Multiaddr, admit transport.Admit) (transport.Listener, error) {
	network, hostport, suffix, err := transport.HostPort(addr)
	if err != nil || !s.CanDial(addr) {
		return nil, fmt.Errorf("site: %w: %v", transport.ErrUnsupported, addr)
	}
	_, secure := isWeb(addr)
	if secure && s.tls == nil {
		return nil, fmt.Errorf("site: listen on %v: there is no certificate", addr)
	}
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("site: listen on %v: %w", addr, err)
	}
	nl, err := new(net.ListenConfig).Listen(ctx, network, hostport)
	if err != nil {
		return nil, fmt.Errorf("site: listen on %v: %w", addr, err)
	}
	s.log.Info("listening", "what", "site", "addr", nl.Addr().String())
	bound := append(transport.FromTCP(nl.Addr().(*net.TCPAddr).AddrPort()), suffix...)
	l := &siteListener{bound: bound, visible: bound}
	if s.announce != nil {
		l.visible = s.announce(bound)
	}
	l.pages = s.Handler(func(opening []byte) func(net.Conn) {
		if !l.enter() {
			return nil
		}
		defer l.running.Done()
		return admit(opening)
	}, s.pages)
	l.server = newServer(l, s.log)
	if s.most > 0 {
		l.server.ConnState = newStrangers(s.most).note
	}
	l.server.Protocols.SetHTTP2(secure)
	if secure {
		l.server.TLSConfig = s.tls.Clone() // which the server adds its protocols to
		l.running.Go(func() { _ = l.server.ServeTLS(nl, "", "") })
	} else {
		l.running.Go(func() { _ = l.server.Serve(nl) }) // both end with Close
	}
	return l, nil
}

// newServer is a web server for whoever comes.
func newServer(h http.Handler, log *slog.Logger) *http.Server {
	s := &http.Server{
		Handler: h, ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug), Protocols: new(http.Protocols),
		ConnState: newStrangers(maxStrangers).note,
		HTTP2:     &http.HTTP2Config{MaxConcurrentStreams: 32, MaxReceiveBufferPerConnection: 128 << 10, MaxReceiveBufferPerStream: 64 << 10, WriteByteTimeout: writeTimeout},
	}
	s.Protocols.SetHTTP1(true)
	return s
}

type siteListener struct {
	bound, visible multiaddr.Multiaddr
	pages          http.Handler
	server         *http.Server
	once           sync.Once
	err            error

	mu      sync.Mutex
	closed  bool           // guarded by mu
	running sync.WaitGroup // Serve, and each request; Add under mu while not closed
}

func (l *siteListener) Multiaddr() multiaddr.Multiaddr { return l.visible }

func (l *siteListener) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !l.enter() {
		return // its connection is being closed
	}
	defer l.running.Done()
	l.pages.ServeHTTP(w, r)
}

// enter has Close wait. It reports false when that was called.
func (l *siteListener) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.running.Add(1)
	}
	return !l.closed
}

func (l *siteListener) Close() error {
	l.once.Do(func() {
		l.mu.Lock()
		l.closed = true
		l.mu.Unlock()
		l.err = l.server.Close()
	})
	l.running.Wait()
	return l.err
}

// strangers are the connections that are no WebSockets yet. One over the limit cuts the one that was silent longest, so
// that nobody keeps members out by coming and staying.
type strangers struct {
	max int

	mu    sync.Mutex
	order *list.List // of net.Conn, the one heard of last at the back
	place map[net.Conn]*list.Element
}

func newStrangers(limit int) *strangers {
	return &strangers{max: limit, order: list.New(), place: make(map[net.Conn]*list.Element)}
}

// note is http.Server.ConnState.
func (s *strangers) note(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.place[c]
	switch {
	case state == http.StateNew:
		s.place[c] = s.order.PushBack(c)
		if s.order.Len() > s.max { // it is out now, not when that is told: more may come before
			longest := s.order.Front()
			s.leave(longest)
			cut(longest.Value.(net.Conn))
		}
	case at == nil: // a member's, or cut
	case state == http.StateHijacked || state == http.StateClosed:
		s.leave(at)
	default:
		s.order.MoveToBack(at)
	}
}

// leave takes a connection out. mu is held.
func (s *strangers) leave(at *list.Element) {
	s.order.Remove(at)
	delete(s.place, at.Value.(net.Conn))
}

// cut closes the socket: to close TLS may take a while.
func cut(c net.Conn) {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	c.Close()
}

// A website is the files that strangers see: no lists of what is in a directory, and nothing whose name begins with a dot,
// which is there for others, but what RFC 8615 says they may look for.
type website struct{ fs.FS }

// Open implements fs.FS.
func (w website) Open(name string) (fs.File, error) {
	none := &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	for part := range strings.SplitSeq(name, "/") {
		if strings.HasPrefix(part, ".") && part != "." && part != ".well-known" {
			return nil, none
		}
	}
	f, err := w.FS.Open(name)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || info.IsDir() {
		if _, missing := fs.Stat(w.FS, path.Join(name, "index.html")); err != nil || missing != nil {
			f.Close()
			return nil, none
		}
	}
	return f, nil
}
