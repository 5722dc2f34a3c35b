//go:build !js

package websocket_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/transport"
	"github.com/splitmesh/splitmesh/transport/websocket"
)

// Any answer but 101 is a refusal, and a redirect is not followed.
func TestRefusals(t *testing.T) {
	var followed atomic.Bool
	mux := http.NewServeMux()
	mux.HandleFunc("/403", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	mux.HandleFunc("/200", func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 100<<10)) })
	mux.HandleFunc("/302", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/followed", http.StatusFound) })
	mux.HandleFunc("/followed", func(http.ResponseWriter, *http.Request) { followed.Store(true) })
	s := serve(t, mux)
	for _, status := range []string{"200", "302", "403", "404"} {
		_, err := (&websocket.Transport{}).Dial(t.Context(), addrOf(s.Listener, "ws/http-path/"+status), []byte("secret"))
		if !errors.Is(err, transport.ErrRefused) || !strings.Contains(err.Error(), status) {
			t.Errorf("Dial answered with %s: %v; want ErrRefused and the status", status, err)
		}
	}
	if followed.Load() {
		t.Error("a redirect was followed, opening and all")
	}
}

func TestDialErrors(t *testing.T) {
	cert, roots := certificate(t)
	trusting := &tls.Config{RootCAs: roots}
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	secure.Config.ErrorLog = discardLog()
	secure.StartTLS()
	t.Cleanup(secure.Close)
	plain := serve(t, http.NotFoundHandler())
	closed := listenTCP(t)
	closed.Close()
	expired := trusting.Clone()
	expired.Time = func() time.Time { return time.Now().AddDate(1, 0, 0) }
	liar := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: whatever\r\n\r\n")
	}))
	failing := func(err error) func(context.Context, string, string) (net.Conn, error) {
		return func(context.Context, string, string) (net.Conn, error) { return nil, err }
	}
	for _, tt := range []struct {
		name string
		tr   websocket.Transport
		addr multiaddr.Multiaddr
		says string
	}{
		{"untrusted authority", websocket.Transport{}, addrOf(secure.Listener, "wss"), "RootCAs"},
		{"another name", websocket.Transport{TLSConfig: trusting, ServerName: "other.example"}, addrOf(secure.Listener, "wss"), "ServerName"},
		{"another name in the address", websocket.Transport{TLSConfig: trusting}, addrOf(secure.Listener, "tls/sni/other.example/ws"), "ServerName"},
		{"expired", websocket.Transport{TLSConfig: expired}, addrOf(secure.Listener, "wss"), "clocks"},
		{"no TLS", websocket.Transport{}, addrOf(plain.Listener, "wss"), "is it /ws"},
		{"nobody", websocket.Transport{}, addrOf(closed, "ws"), "nothing listens"},
		{"no such name", websocket.Transport{DialContext: failing(&net.DNSError{IsNotFound: true})}, addrOf(closed, "ws"), "does not exist"},
		{"no DNS", websocket.Transport{DialContext: failing(&net.DNSError{IsTimeout: true})}, addrOf(closed, "ws"), "DNS"},
		{"another protocol", websocket.Transport{}, addrOf(liar.Listener, "ws"), "Sec-WebSocket-Accept"},
		{"no proxy", websocket.Transport{Proxy: func(*http.Request) (*url.URL, error) { return nil, errors.New("odd") }}, addrOf(closed, "ws"), "HTTP_PROXY"},
	} {
		c, err := tt.tr.Dial(t.Context(), tt.addr, []byte("opening"))
		if c != nil || err == nil || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), tt.addr.String()) {
			t.Errorf("%s: %v, %v; want an error with %q and the address", tt.name, c, err, tt.says)
		}
		if errors.Is(err, transport.ErrRefused) {
			t.Errorf("%s: %v: nobody refused", tt.name, err)
		}
	}
	_, err := (&websocket.Transport{}).Dial(t.Context(), addrOf(secure.Listener, "wss"), nil)
	if !errors.As(err, new(x509.UnknownAuthorityError)) {
		t.Errorf("%v does not wrap what TLS said", err)
	}
	_, err = (&websocket.Transport{}).Dial(t.Context(), addrOf(closed, "ws"), nil)
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%v does not wrap what the system said", err)
	}
}

// What a server, or a CDN before it, sees of a dial.
func TestRequest(t *testing.T) {
	cert, roots := certificate(t)
	requests := make(chan *http.Request, 1)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests <- r
		http.NotFound(w, r)
	}))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	s.StartTLS()
	t.Cleanup(s.Close)
	tlsConfig := &tls.Config{RootCAs: roots}
	for _, tt := range []struct {
		name            string
		tr              websocket.Transport
		suffix          string
		host, sni, path string // host "": the address's; path with a final slash: a random name follows
		userAgent       string
	}{
		{"zero value", websocket.Transport{}, "wss", "", "", "/api/v1/ws/", "Go-http-client/1.1"},
		{"behind a CDN", websocket.Transport{Host: "hidden.example.org", ServerName: "peer.example.org", Path: "/live/",
			Header: http.Header{"User-Agent": {"Mozilla/5.0"}, "Authorization": {"Basic x"}}},
			"wss", "hidden.example.org", "peer.example.org", "/live/", "Mozilla/5.0"},
		{"address's own", websocket.Transport{Path: "/not/this/"}, "tls/sni/peer.example.org/ws/http-path/a%2Fb%3Fc%20d", "", "peer.example.org", "/a/b?c d", "Go-http-client/1.1"},
		{"path without slashes", websocket.Transport{Path: "exact"}, "tls/ws", "", "", "/exact", "Go-http-client/1.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.tr.TLSConfig = tlsConfig
			var paths [2]string
			for i := range paths {
				if _, err := tt.tr.Dial(t.Context(), addrOf(s.Listener, tt.suffix), []byte("opening")); !errors.Is(err, transport.ErrRefused) {
					t.Fatal(err)
				}
				r := <-requests
				paths[i] = r.URL.Path
				if want := orHost(tt.host, s); r.Host != want {
					t.Errorf("Host is %q, want %q", r.Host, want)
				}
				if r.TLS.ServerName != tt.sni || r.ProtoMajor != 1 {
					t.Errorf("SNI is %q and the protocol %s, want %q and HTTP/1.1", r.TLS.ServerName, r.Proto, tt.sni)
				}
				if ua := r.UserAgent(); ua != tt.userAgent {
					t.Errorf("User-Agent is %q, want %q", ua, tt.userAgent)
				}
				if got := r.Header["Authorization"]; len(got) != 1 || got[0] != "Bearer b3BlbmluZw" {
					t.Errorf("Authorization is %q", got)
				}
				if ext := r.Header.Get("Sec-WebSocket-Extensions"); ext != "" {
					t.Errorf("compression is offered: %q", ext)
				}
			}
			random := strings.HasSuffix(tt.path, "/")
			if !strings.HasPrefix(paths[0], tt.path) || random && (paths[0] == paths[1] || len(paths[0]) < len(tt.path)+16) || !random && paths[0] != tt.path {
				t.Errorf("paths are %q, want %q", paths, tt.path)
			}
		})
	}
	if tlsConfig.NextProtos != nil || tlsConfig.ServerName != "" {
		t.Error("the caller's TLSConfig was changed")
	}
}

func orHost(host string, s *httptest.Server) string {
	if host != "" {
		return host
	}
	return s.Listener.Addr().String()
}
