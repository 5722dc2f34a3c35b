//go:build !js

package websocket

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
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
	c, err := t.dial(ctx, tgt, opening)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	if err != nil {
		return nil, fmt.Errorf("websocket: dial %v: %w", addr, explain(err))
	}
	return c, nil
}

func (t *Transport) dial(ctx context.Context, tgt target, opening []byte) (net.Conn, error) {
	u := t.url(tgt)
	d := &dialer{Transport: t, target: tgt}
	defer d.letGo()
	over, err := d.open(ctx, u)
	if err != nil {
		return nil, err
	}
	req := &http.Request{Method: http.MethodGet, URL: u, Host: t.Host, Header: t.Header.Clone()}
	if req.Header == nil {
		req.Header = make(http.Header)
	}
	req.Header.Set("Authorization", bearer+" "+encodeOpening(opening))
	early, err := upgrade(over, req)
	if err == nil && !d.letGo() {
		err = context.Cause(ctx)
	}
	if err != nil {
		d.close()
		return nil, err
	}
	return newConn(newLink(d.socket, over, early, true), orDefault(t.PingInterval, DefaultPingInterval)), nil
}

// A dialer makes the one connection of one dial.
type dialer struct {
	*Transport
	target
	socket net.Conn    // beneath all else, or nil
	stop   func() bool // keeps the context's end from closing socket
}

// letGo parts the socket from the dial's context, and reports whether that has not
// ended before.
func (d *dialer) letGo() bool { return d.stop == nil || d.stop() }

func (d *dialer) close() {
	if d.socket != nil {
		d.socket.Close()
	}
}

// connect connects the socket, to the server or to a proxy. Until letGo it does not
// outlive ctx, so that nothing over it has to look at ctx.
func (d *dialer) connect(ctx context.Context, network, address string) (net.Conn, error) {
	dial := d.DialContext
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	if address == d.hostport {
		network = d.network
	}
	c, err := dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	d.socket, d.stop = c, context.AfterFunc(ctx, func() { c.Close() })
	return c, nil
}

// open returns what HTTP goes over to the server of u: the socket or TLS over it,
// through the proxy that is set for u. On error there is no socket left.
func (d *dialer) open(ctx context.Context, u *url.URL) (net.Conn, error) {
	choose := d.Proxy
	if choose == nil {
		choose = http.ProxyFromEnvironment
	}
	via, err := choose(&http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Header: http.Header{}})
	if err != nil {
		return nil, fmt.Errorf("choose a proxy: check HTTP_PROXY and HTTPS_PROXY: %w", err)
	}
	var over net.Conn
	switch {
	case via == nil:
		over, err = d.connect(ctx, d.network, d.hostport)
	case via.Scheme == "http" || via.Scheme == "https":
		// For ws too: most proxies will not forward an upgrade, and RFC 6455
		// §4.1 asks for a tunnel either way.
		over, err = d.connectThrough(ctx, via)
	case via.Scheme == "socks5" || via.Scheme == "socks5h":
		over, err = d.connectSOCKS(ctx, via)
	default:
		return nil, fmt.Errorf("proxy %s: the scheme %q is not supported: use http, https or socks5", via.Host, via.Scheme)
	}
	if err == nil && d.tls {
		secure := tls.Client(over, d.clientTLS())
		over, err = secure, secure.HandshakeContext(ctx)
	}
	if err != nil {
		d.close()
		return nil, err
	}
	return over, nil
}

func (d *dialer) clientTLS() *tls.Config {
	cfg := d.TLSConfig.Clone()
	if cfg == nil {
		cfg = &tls.Config{}
	}
	cfg.ServerName = orDefault(d.ServerName, orDefault(d.sni, orDefault(cfg.ServerName, d.host())))
	cfg.NextProtos = []string{"http/1.1"} // HTTP/2 has no upgrade
	return cfg
}

// host is the address's, without its port.
func (d *dialer) host() string {
	host, _, _ := net.SplitHostPort(d.hostport)
	return host
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
		hint = "the server's certificate is of an authority that is not trusted here: add it to the system's, or name its file in the variable SSL_CERT_FILE, where the system heeds that, or have the program add it to Transport.TLSConfig.RootCAs"
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
