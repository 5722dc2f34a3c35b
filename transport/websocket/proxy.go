//go:build !js

package websocket

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"

	"golang.org/x/net/proxy"
)

// maxProxyAnswer bounds what is read of a proxy's answer to CONNECT.
const maxProxyAnswer = 16 << 10

// hostport is the proxy's, which is how errors name it: its URL may hold a password.
func hostport(via *url.URL) string {
	if via.Port() != "" {
		return via.Host
	}
	port := map[string]string{"http": "80", "https": "443"}[via.Scheme]
	return net.JoinHostPort(via.Hostname(), orDefault(port, "1080")) // RFC 1928 §3
}

// connectSOCKS has a SOCKS5 proxy, RFC 1928, resolve and connect to the server.
func (d *dialer) connectSOCKS(ctx context.Context, via *url.URL) (net.Conn, error) {
	host := hostport(via)
	var auth *proxy.Auth
	if via.User != nil {
		auth = &proxy.Auth{User: via.User.Username()}
		auth.Password, _ = via.User.Password()
	}
	socks, err := proxy.SOCKS5("tcp", host, auth, dialFunc(d.connect))
	if err == nil {
		_, err = socks.(proxy.ContextDialer).DialContext(ctx, "tcp", d.hostport)
	}
	if err != nil {
		return nil, fmt.Errorf("proxy %s: %w", host, err)
	}
	return d.socket, nil // SOCKS leaves it as it is
}

// A dialFunc dials like a net.Dialer.
type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

func (f dialFunc) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return f(ctx, network, address)
}

func (f dialFunc) Dial(network, address string) (net.Conn, error) {
	return f(context.Background(), network, address)
}

// ErrProxyAuth reports a proxy that does not let us through as who we say we are.
var ErrProxyAuth = errors.New("it wants a user and a password: put the right ones into its URL, http://user:password@host:port")

// connectThrough asks an HTTP proxy for a tunnel to the server, RFC 9110 §9.3.6.
func (d *dialer) connectThrough(ctx context.Context, via *url.URL) (net.Conn, error) {
	host := hostport(via)
	conn, err := d.connect(ctx, "tcp", host)
	if err != nil {
		return nil, fmt.Errorf("proxy %s: %w", host, err)
	}
	if via.Scheme == "https" {
		cfg := d.TLSConfig.Clone()
		if cfg == nil {
			cfg = &tls.Config{}
		}
		cfg.ServerName, cfg.NextProtos = via.Hostname(), []string{"http/1.1"}
		conn = tls.Client(conn, cfg)
	}
	if err := requestTunnel(conn, via, d.hostport); err != nil {
		return nil, fmt.Errorf("proxy %s: %w", host, err)
	}
	return conn, nil
}

func requestTunnel(conn net.Conn, via *url.URL, address string) error {
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: http.Header{}}
	if user := via.User; user != nil {
		password, _ := user.Password()
		token := base64.StdEncoding.EncodeToString([]byte(user.Username() + ":" + password))
		req.Header.Set("Proxy-Authorization", "Basic "+token)
	}
	if err := req.Write(conn); err != nil {
		return err
	}
	answer := bufio.NewReader(io.LimitReader(conn, maxProxyAnswer))
	resp, err := http.ReadResponse(answer, req)
	if err != nil {
		return fmt.Errorf("its answer to CONNECT: %w", err)
	}
	switch {
	case resp.StatusCode == http.StatusProxyAuthRequired:
		return ErrProxyAuth
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("it refused the tunnel to %s with %d %s", address, resp.StatusCode, http.StatusText(resp.StatusCode))
	case answer.Buffered() > 0: // the server waits for us to speak first
		return errors.New("it sent more than its answer to CONNECT")
	}
	return nil
}
