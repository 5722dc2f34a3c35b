//go:build !js

package websocket

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"syscall"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/transport"
)

// Dial implements [transport.Transport]. It returns when the other side has
// admitted the opening; [transport.ErrRefused] is any HTTP answer that does not.
func (t *Transport) Dial(ctx context.Context, addr multiaddr.Multiaddr, opening []byte) (net.Conn, error) {
	tgt, err := parseTarget(addr)
	if err != nil {
		return nil, err
	}
	if len(opening) > transport.MaxOpening {
		return nil, fmt.Errorf("websocket: dial %v: %w", addr, transport.ErrOpeningTooLarge)
	}
	// The connection outlives ctx: ctx ends the dial by way of another one.
	dialCtx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	c, err := t.dial(dialCtx, tgt, opening)
	if !stop() {
		if err == nil {
			c.Close()
		}
		err = context.Cause(ctx)
	}
	if err != nil {
		cancel(nil)
		return nil, fmt.Errorf("websocket: dial %v: %w", addr, explain(err))
	}
	return c, nil
}

func (t *Transport) dial(ctx context.Context, tgt target, opening []byte) (net.Conn, error) {
	u := t.url(tgt)
	d := &dialer{Transport: t, target: tgt, ctx: ctx}
	rt, err := d.roundTripper(u)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, d.giveUp)
	defer stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	if t.Header != nil {
		req.Header = t.Header.Clone()
	}
	if t.Host != "" {
		req.Host = t.Host
	}
	req.Header.Set("Authorization", bearer+" "+encodeOpening(opening))
	l, err := d.upgrade(rt, req)
	if err != nil {
		d.giveUp()
		return nil, err
	}
	return newConn(l, orDefault(t.PingInterval, DefaultPingInterval)), nil
}

// upgrade sends req, and returns what the connection has become.
func (d *dialer) upgrade(rt *http.Transport, req *http.Request) (*link, error) {
	key := askUpgrade(req.Header)
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		d.giveUp() // no use in reading on
		resp.Body.Close()
		return nil, fmt.Errorf("%w: the answer was %d %s", transport.ErrRefused, resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	if err := checkUpgrade(resp.Header, key); err != nil {
		return nil, err
	}
	body, ok := resp.Body.(io.ReadWriter)
	if !ok { // net/http promises it
		return nil, fmt.Errorf("the upgraded connection is a %T, which cannot be written to", resp.Body)
	}
	if !d.bare {
		return newLink(d.socket.Conn, body, nil, true), nil
	}
	early, err := d.socket.drain(body)
	if err != nil {
		return nil, err
	}
	return newLink(d.socket.Conn, d.socket.Conn, early, true), nil
}

// A dialer makes the one connection of one dial.
type dialer struct {
	*Transport
	target
	// ctx is the dial's. net/http goes on with a connection whose request was
	// given up, for others to use, and calls connect with another one.
	ctx  context.Context
	bare bool // HTTP goes over the socket itself, without TLS to the server or to a proxy

	mu      sync.Mutex
	socket  *tap // what connect returned last
	givenUp bool
}

// connect is beneath all else: proxies, TLS, HTTP.
func (d *dialer) connect(_ context.Context, network, address string) (net.Conn, error) {
	dial := d.DialContext
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	if address == d.hostport {
		network = d.network
	}
	c, err := dial(d.ctx, network, address)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.givenUp {
		c.Close()
		return nil, net.ErrClosed
	}
	d.socket = &tap{Conn: c}
	return d.socket, nil
}

// giveUp ends whatever still goes on.
func (d *dialer) giveUp() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.givenUp = true
	if d.socket != nil {
		d.socket.Close()
	}
}

// roundTripper sends the upgrade request over a connection of its own, through
// the proxy that is set for u.
func (d *dialer) roundTripper(u *url.URL) (*http.Transport, error) {
	choose := d.Proxy
	if choose == nil {
		choose = http.ProxyFromEnvironment
	}
	proxy, err := choose(&http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Header: http.Header{}})
	if err != nil {
		return nil, fmt.Errorf("choose a proxy: check HTTP_PROXY and HTTPS_PROXY: %w", err)
	}
	rt := &http.Transport{
		DialContext:            d.connect,
		TLSClientConfig:        d.clientTLS(),
		DisableKeepAlives:      true,                // what is not upgraded is closed
		Protocols:              new(http.Protocols), // an upgrade needs HTTP/1.1
		MaxResponseHeaderBytes: 64 << 10,
	}
	rt.Protocols.SetHTTP1(true)
	switch {
	case proxy == nil:
	case proxy.Scheme == "http" || proxy.Scheme == "https":
		// net/http sends a CONNECT for https only, and forwards the ws that
		// most proxies will not upgrade. RFC 6455 §4.1 asks for one either way.
		rt.DialContext = func(_ context.Context, _, address string) (net.Conn, error) {
			return d.connectThrough(proxy, address)
		}
	case proxy.Scheme == "socks5" || proxy.Scheme == "socks5h":
		rt.Proxy = http.ProxyURL(proxy)
	default:
		return nil, fmt.Errorf("proxy %s: the scheme %q is not supported: use http, https or socks5", proxy.Host, proxy.Scheme)
	}
	d.bare = !d.tls && (proxy == nil || proxy.Scheme != "https")
	return rt, nil
}

func (d *dialer) clientTLS() *tls.Config {
	cfg := d.TLSConfig.Clone()
	if cfg == nil {
		cfg = &tls.Config{}
	}
	cfg.ServerName = orDefault(d.ServerName, orDefault(d.sni, cfg.ServerName))
	return cfg // net/http offers no protocol but HTTP/1.1 with an upgrade
}

// explain puts what to do before an error that a person may see.
func explain(err error) error {
	var (
		dns       *net.DNSError
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		invalid   x509.CertificateInvalidError
		record    tls.RecordHeaderError
	)
	var hint string
	switch {
	case errors.Is(err, transport.ErrRefused):
		return err
	case errors.As(err, &dns) && dns.IsNotFound:
		hint = "the name does not exist: check the address"
	case errors.As(err, &dns):
		hint = "the name could not be resolved: check this machine's DNS"
	case errors.As(err, &authority):
		hint = "the server's certificate is of an authority that is not trusted here: add it to Transport.TLSConfig.RootCAs"
	case errors.As(err, &name):
		hint = "the server's certificate is for another name: check the address, or set Transport.ServerName"
	case errors.As(err, &invalid):
		hint = "the server's certificate is not valid: check its dates and both machines' clocks"
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		hint = "the server speaks no TLS at that port: is it /ws, not /wss?"
	case errors.Is(err, syscall.ECONNREFUSED):
		hint = "nothing listens there: check the port, and that it runs"
	default:
		return err
	}
	return fmt.Errorf("%s: %w", hint, err)
}
