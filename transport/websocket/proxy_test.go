//go:build !js

package websocket_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/transport"
	"github.com/splitmesh/splitmesh/transport/websocket"
)

const proxyUser, proxyPassword = "user@site", "p:ss/word?"

// connectProxy is an HTTP proxy that tunnels, for whoever has the password.
type connectProxy struct {
	tunnels atomic.Int64
	conns   sync.WaitGroup
}

func (p *connectProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect {
		http.Error(w, "this proxy tunnels only", http.StatusMethodNotAllowed)
		return
	}
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte(proxyUser+":"+proxyPassword))
	if r.Header.Get("Proxy-Authorization") != want {
		w.Header().Set("Proxy-Authenticate", "Basic")
		w.WriteHeader(http.StatusProxyAuthRequired)
		return
	}
	if strings.HasSuffix(r.Host, ":1") {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	out, err := net.Dial("tcp", r.Host)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	in, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		out.Close()
		return
	}
	p.tunnels.Add(1)
	io.WriteString(in, "HTTP/1.1 200 Connection established\r\n\r\n")
	splice(&p.conns, in, out)
}

// splice copies both ways until either end closes.
func splice(wg *sync.WaitGroup, a, b net.Conn) {
	for _, pair := range [][2]net.Conn{{a, b}, {b, a}} {
		wg.Go(func() {
			io.Copy(pair[0], pair[1])
			a.Close()
			b.Close()
		})
	}
}

// A socksProxy is a SOCKS5 proxy with user and password, RFC 1928 and RFC 1929.
type socksProxy struct {
	net.Listener
	tunnels atomic.Int64
	names   atomic.Int64 // of them, to a name that was ours to resolve
	conns   sync.WaitGroup
}

func newSOCKS(t *testing.T) *socksProxy {
	p := &socksProxy{Listener: listenTCP(t)}
	p.conns.Go(func() { // ends with the listener
		for {
			c, err := p.Accept()
			if err != nil {
				return
			}
			p.conns.Go(func() {
				if err := p.serve(c); err != nil {
					c.Close()
				}
			})
		}
	})
	t.Cleanup(func() {
		p.Close()
		p.conns.Wait()
	})
	return p
}

func (p *socksProxy) serve(c net.Conn) error {
	r := bufio.NewReader(c)
	take := func(n int) []byte {
		b := make([]byte, n)
		if _, err := io.ReadFull(r, b); err != nil {
			return make([]byte, n)
		}
		return b
	}
	methods := take(int(take(2)[1]))
	if !strings.Contains(string(methods), "\x02") {
		c.Write([]byte{5, 0xff})
		return errors.New("no password offered")
	}
	c.Write([]byte{5, 2})
	user := string(take(int(take(2)[1])))
	password := string(take(int(take(1)[0])))
	if user != proxyUser || password != proxyPassword {
		c.Write([]byte{1, 1})
		return errors.New("wrong password")
	}
	c.Write([]byte{1, 0})
	host := ""
	switch take(4)[3] {
	case 1:
		addr, _ := netip.AddrFromSlice(take(4))
		host = addr.String()
	case 3:
		host = string(take(int(take(1)[0])))
		p.names.Add(1)
		if host == "peer.example.org" { // which resolves nowhere else
			host = "127.0.0.1"
		}
	}
	port := take(2)
	out, err := net.Dial("tcp", net.JoinHostPort(host, strconv.Itoa(int(port[0])<<8|int(port[1]))))
	if err != nil {
		c.Write([]byte{5, 5, 0, 1, 0, 0, 0, 0, 0, 0})
		return err
	}
	p.tunnels.Add(1)
	c.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	splice(&p.conns, c, out)
	return nil
}

func proxyAt(scheme, hostport, password string) func(*http.Request) (*url.URL, error) {
	return http.ProxyURL(&url.URL{Scheme: scheme, Host: hostport, User: url.UserPassword(proxyUser, password)})
}

func TestProxies(t *testing.T) {
	cert, roots := certificate(t)
	tlsConfig := &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{cert}}
	connect := &connectProxy{}
	plain := serve(t, connect)
	secure := httptest.NewUnstartedServer(connect)
	secure.TLS = tlsConfig.Clone()
	secure.StartTLS()
	t.Cleanup(secure.Close)
	t.Cleanup(connect.conns.Wait)
	socks := newSOCKS(t)

	for _, tt := range []struct {
		scheme, hostport string
		tunnels          *atomic.Int64
	}{
		{"http", plain.Listener.Addr().String(), &connect.tunnels},
		{"https", secure.Listener.Addr().String(), &connect.tunnels},
		{"socks5", socks.Addr().String(), &socks.tunnels},
		{"socks5h", socks.Addr().String(), &socks.tunnels},
	} {
		for _, suffix := range []string{"ws", "wss"} {
			t.Run(tt.scheme+" to "+suffix, func(t *testing.T) {
				admit, delivered := door()
				tr := &websocket.Transport{TLSConfig: tlsConfig, Proxy: proxyAt(tt.scheme, tt.hostport, proxyPassword)}
				l, err := tr.Listen(t.Context(), multiaddr.StringCast("/ip4/127.0.0.1/tcp/0/"+suffix), admit)
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				before := tt.tunnels.Load()
				c, err := tr.Dial(t.Context(), l.Multiaddr(), []byte(letMeIn))
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				remote := <-delivered
				defer remote.Close()
				exchange(t, c, remote)
				if got := tt.tunnels.Load() - before; got != 1 {
					t.Errorf("%d tunnels through the proxy, want 1", got)
				}
				if got := c.RemoteAddr().String(); got != tt.hostport {
					t.Errorf("RemoteAddr is %s; the socket's other end is the proxy, %s", got, tt.hostport)
				}

				_, err = tr.Dial(t.Context(), l.Multiaddr(), []byte("not let in"))
				if !errors.Is(err, transport.ErrRefused) {
					t.Errorf("refused through a proxy: %v", err)
				}
				wrong := *tr
				wrong.Proxy = proxyAt(tt.scheme, tt.hostport, "wrong-secret")
				_, err = wrong.Dial(t.Context(), l.Multiaddr(), []byte(letMeIn))
				if err == nil || errors.Is(err, transport.ErrRefused) || strings.Contains(err.Error(), "wrong-secret") {
					t.Errorf("with a wrong password: %v; want an error that does not give it away", err)
				}
			})
		}
	}

	t.Run("the proxy resolves", func(t *testing.T) {
		admit, delivered := door()
		tr := &websocket.Transport{TLSConfig: tlsConfig, Proxy: proxyAt("socks5", socks.Addr().String(), proxyPassword)}
		l, err := tr.Listen(t.Context(), multiaddr.StringCast("/ip4/127.0.0.1/tcp/0/wss"), admit)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		port, _ := l.Multiaddr().ValueForProtocol(multiaddr.P_TCP)
		c, err := tr.Dial(t.Context(), multiaddr.StringCast("/dns/peer.example.org/tcp/"+port+"/wss"), []byte(letMeIn))
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		(<-delivered).Close()
		if socks.names.Load() == 0 {
			t.Error("the name was resolved here")
		}
	})
}

// What goes wrong with a proxy is told from what goes wrong beyond it.
func TestProxyErrors(t *testing.T) {
	s := serve(t, &connectProxy{})
	scripted := func(answer string) net.Listener {
		l := listenTCP(t)
		go func() { // ends with the listener
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				http.ReadRequest(bufio.NewReader(c))
				io.WriteString(c, answer)
				c.Close()
			}
		}()
		return l
	}
	closed := listenTCP(t)
	closed.Close()
	good := s.Listener.Addr().String()
	for _, tt := range []struct{ name, scheme, proxy, password, says string }{
		{"wrong password", "http", good, "wrong", "user and a password"},
		{"forbidden target", "http", good, proxyPassword, "403"},
		{"nobody", "http", closed.Addr().String(), proxyPassword, "nothing listens"},
		{"no proxy at all", "http", scripted("220 mail ready\r\n").Addr().String(), proxyPassword, "answer to CONNECT"},
		{"endless answer", "http", scripted("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20)).Addr().String(), proxyPassword, "answer to CONNECT"},
		{"talkative", "http", scripted("HTTP/1.1 200 OK\r\n\r\nmore").Addr().String(), proxyPassword, "more than its answer"},
		{"no TLS", "https", good, proxyPassword, "proxy " + good},
		{"default port", "http", "proxy.invalid", proxyPassword, "proxy.invalid:80"},
		{"default port of https", "https", "proxy.invalid", proxyPassword, "proxy.invalid:443"},
		{"unknown scheme", "gopher", good, proxyPassword, "gopher"},
	} {
		tr := &websocket.Transport{
			Proxy: proxyAt(tt.scheme, tt.proxy, tt.password),
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				if strings.HasPrefix(address, "proxy.invalid") {
					return nil, &net.DNSError{IsNotFound: true, Name: address}
				}
				return new(net.Dialer).DialContext(ctx, network, address)
			},
		}
		_, err := tr.Dial(t.Context(), multiaddr.StringCast("/ip4/127.0.0.1/tcp/1/ws"), nil)
		if err == nil || errors.Is(err, transport.ErrRefused) || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), proxyPassword) {
			t.Errorf("%s: %v; want something about %q", tt.name, err, tt.says)
		}
	}
}

// A dial that is given up leaves nothing behind, whatever it waited for: TestMain
// looks for goroutines.
func TestGiveUpOnProxies(t *testing.T) {
	for _, scheme := range []string{"http", "https", "socks5"} {
		l, dialling := stalled(t)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { // ends when the proxy is asked, as it must be
			<-dialling
			cancel()
		}()
		tr := &websocket.Transport{Proxy: proxyAt(scheme, l.Addr().String(), proxyPassword)}
		if _, err := tr.Dial(ctx, multiaddr.StringCast("/ip4/127.0.0.1/tcp/1/ws"), nil); !errors.Is(err, context.Canceled) {
			t.Errorf("Dial through a %s proxy that stalls: %v; want context.Canceled", scheme, err)
		}
	}
}
