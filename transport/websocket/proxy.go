//go:build !js

package websocket

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
)

// maxProxyAnswer bounds what is read of a proxy's answer to CONNECT.
const maxProxyAnswer = 16 << 10

// connectThrough asks an HTTP proxy for a tunnel to address, RFC 9110 §9.3.6.
// Errors name the proxy by its host: its URL may hold a password.
func (d *dialer) connectThrough(proxy *url.URL, address string) (net.Conn, error) {
	host := proxy.Host
	if proxy.Port() == "" {
		host = net.JoinHostPort(proxy.Hostname(), map[string]string{"http": "80", "https": "443"}[proxy.Scheme])
	}
	socket, err := d.connect(d.ctx, "tcp", host)
	if err != nil {
		return nil, fmt.Errorf("proxy %s: %w", host, err)
	}
	conn := socket
	if proxy.Scheme == "https" {
		cfg := d.TLSConfig.Clone()
		if cfg == nil {
			cfg = &tls.Config{}
		}
		cfg.ServerName, cfg.NextProtos = proxy.Hostname(), []string{"http/1.1"}
		conn = tls.Client(socket, cfg)
	}
	// It waits as long as the dial does: giveUp closes the socket.
	if err := requestTunnel(conn, proxy, address); err != nil {
		socket.Close()
		return nil, fmt.Errorf("proxy %s: %w", host, err)
	}
	return conn, nil
}

func requestTunnel(conn net.Conn, proxy *url.URL, address string) error {
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: http.Header{}}
	if user := proxy.User; user != nil {
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
		return errors.New("it wants a user and a password: put the right ones into its URL, http://user:password@host:port")
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("it refused the tunnel to %s with %d %s", address, resp.StatusCode, http.StatusText(resp.StatusCode))
	case answer.Buffered() > 0: // the server waits for us to speak first
		return errors.New("it sent more than its answer to CONNECT")
	}
	return nil
}
