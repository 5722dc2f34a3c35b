// Package websocket carries bytes to a neighbour over WebSockets, so that they
// pass where web traffic does: through NATs, HTTP and SOCKS proxies and CDNs,
// and beside a website on its own port.
//
//	t := &websocket.Transport{}
//	conn, err := t.Dial(ctx, multiaddr.StringCast("/dns/example.org/tcp/443/wss"), opening)
//
//	mux.Handle("/", t.Handler(admit, website)) // or t.Listen
//
// Addresses are a host and /tcp/PORT, then /ws, /wss, /tls/ws or /tls/sni/NAME/ws,
// then optionally /http-path/PATH, percent-encoded. A path that ends in a slash, as
// the default /api/v1/ws/ does, is completed with random characters by each dial.
//
// The opening travels in the upgrade request as `Authorization: Bearer OPENING`,
// in base64url without padding; a browser, which cannot set that header, offers the
// subprotocols "binary" and "bearer.OPENING" instead. Whoever brings none that is
// admitted, upgrade request or not, is answered by the server around it, with what
// it answers to anyone: there is nothing for a probe to see. Dial reports that
// answer as ErrRefused.
//
// Then each Write is one binary message (several when it is over 128 KiB), and Read
// runs over the messages' ends. There is no compression. A text message, or one over
// 256 KiB, ends the connection. A ping goes out when nothing was heard for a
// PingInterval, and a peer from which a waiting Read has heard nothing for three of
// them is taken for dead.
//
// A deadline that expires in the midst of a Read or Write ends the connection, as
// what it interrupts could not be taken up again; one that expires while nothing
// waits does no harm and may be moved.
package websocket

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/transport"
)

const (
	// DefaultPath is what the paths that Dial asks for begin with.
	DefaultPath = "/api/v1/ws/"
	// DefaultPingInterval is under half the idle limits of CDNs, which are 60 s and
	// more: silence is noticed at the end of the second interval.
	DefaultPingInterval = 25 * time.Second
	// DefaultArrivalTimeout is how long an arrival at a listener may take, from
	// its first packet to the end of its request.
	DefaultArrivalTimeout = 10 * time.Second
	// DefaultMaxArrivals is how many may be at it at once.
	DefaultMaxArrivals = 1024

	// MaxMessage is the largest message, in bytes, that we send.
	MaxMessage = 128 << 10
	// MaxReadMessage is the largest that we take.
	MaxReadMessage = 256 << 10
)

// A Transport is useful as its zero value. Its fields are not to be changed once
// it is in use. In a browser only Path counts: the rest is the browser's business.
type Transport struct {
	// TLSConfig is for wss: what to trust when dialling, our certificate when
	// listening. nil dials with the system's trust, and cannot listen.
	TLSConfig *tls.Config
	// ServerName is the name asked for in TLS (SNI) and checked in the
	// certificate; "" is the address's /sni, else TLSConfig's, else the host.
	ServerName string
	// Host is the Host header; "" is the address's host and port. With
	// ServerName it reaches a server through another one, such as a CDN's.
	Host string
	// Header is added to the upgrade request: a User-Agent, say.
	Header http.Header
	// Path is the path to ask for when the address has no /http-path; one that
	// ends in a slash is completed with random characters. "" is DefaultPath.
	Path string
	// Proxy chooses the proxy for a request, whose URL has the scheme http or
	// https; nil is [http.ProxyFromEnvironment]. http and https proxies are
	// sent a CONNECT, socks5 and socks5h ones resolve the name themselves; a
	// user and password in the URL are presented.
	Proxy func(*http.Request) (*url.URL, error)
	// DialContext connects, to the server or to the proxy; nil is that of a
	// zero net.Dialer.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
	// PingInterval is how long nothing may be heard before a ping is sent, in the
	// interval after; 0 is DefaultPingInterval.
	PingInterval time.Duration
	// ArrivalTimeout cuts an arrival at a listener whose request is not complete
	// by then; 0 is DefaultArrivalTimeout.
	ArrivalTimeout time.Duration
	// MaxArrivals bounds, for each listener, the arrivals not yet admitted; one
	// more cuts the oldest. 0 is DefaultMaxArrivals.
	MaxArrivals int
	// Logger is told, at debug level, what goes wrong within a listener;
	// strangers' addresses may be in it. nil: nobody is.
	Logger *slog.Logger
}

var _ transport.Transport = (*Transport)(nil)

// CanDial reports whether addr is one of a WebSocket.
func (t *Transport) CanDial(addr multiaddr.Multiaddr) bool {
	_, err := parseTarget(addr)
	return err == nil
}

// A target is an address taken apart.
type target struct {
	network  string // tcp, tcp4 or tcp6
	hostport string
	tls      bool
	sni      string // "" unless the address has it
	path     string // "" unless the address has it
	suffix   multiaddr.Multiaddr
}

func parseTarget(addr multiaddr.Multiaddr) (target, error) {
	network, hostport, suffix, err := transport.HostPort(addr)
	if err != nil {
		return target{}, fmt.Errorf("websocket: %w: %w", transport.ErrUnsupported, err)
	}
	tgt := target{network: network, hostport: hostport, suffix: suffix}
	rest := suffix
	next := func(code int) (value string, ok bool) {
		if len(rest) == 0 || rest[0].Code() != code {
			return "", false
		}
		value, rest = string(rest[0].RawValue()), rest[1:]
		return value, true
	}
	if _, tgt.tls = next(multiaddr.P_TLS); tgt.tls {
		tgt.sni, _ = next(multiaddr.P_SNI)
	}
	_, ws := next(multiaddr.P_WS)
	if !ws && !tgt.tls {
		_, ws = next(multiaddr.P_WSS)
		tgt.tls = ws
	}
	tgt.path, _ = next(multiaddr.P_HTTP_PATH)
	if !ws || len(rest) > 0 {
		return target{}, fmt.Errorf("websocket: %w: %v is not a host and a port, then /ws, /wss or /tls/ws",
			transport.ErrUnsupported, addr)
	}
	return tgt, nil
}

// url is what to ask for, with a path of this dial's own.
func (t *Transport) url(tgt target) *url.URL {
	u := &url.URL{Scheme: "http", Host: tgt.hostport, Path: tgt.path}
	if tgt.tls {
		u.Scheme = "https"
	}
	if u.Path == "" {
		u.Path = orDefault(t.Path, DefaultPath)
	}
	if !strings.HasPrefix(u.Path, "/") {
		u.Path = "/" + u.Path
	}
	if strings.HasSuffix(u.Path, "/") {
		u.Path += strings.ToLower(rand.Text())
	}
	return u
}

func orDefault[T comparable](v, d T) T {
	if v == *new(T) {
		return d
	}
	return v
}

// How an opening is written in an upgrade request.
const (
	bearer      = "Bearer"  // the authorization scheme, RFC 6750
	bearerToken = "bearer." // before the opening as a subprotocol
	subprotocol = "binary"  // the subprotocol that is agreed on, when one is offered
)

var base64url = base64.RawURLEncoding.Strict()

func encodeOpening(opening []byte) string { return base64url.EncodeToString(opening) }
