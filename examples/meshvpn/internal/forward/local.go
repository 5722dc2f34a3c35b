package forward

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/registry"
)

// A Dial opens a conn to "peer:service".
type Dial func(ctx context.Context, addr string) (net.Conn, error)

// DialPatience bounds a dial, local or over the mesh.
const DialPatience = 30 * time.Second

// PeerAddr is a peer, an ID or a name with or without .mesh, as mesh.Dial wants it.
func PeerAddr(peer string) (string, error) {
	peer = strings.TrimSuffix(peer, ".mesh")
	if id, err := identity.ParseID(peer); err == nil {
		return id.String(), nil
	}
	if !registry.ValidName(peer) {
		return "", NoPeer(peer)
	}
	return peer + ".mesh", nil
}

// NoPeer says why a text is neither an ID nor a name. What is longer than a name may be is an ID that was mistyped.
func NoPeer(text string) error {
	if _, err := identity.ParseID(text); err != nil && len(text) > registry.MaxName && !strings.ContainsAny(text, ".-:/ ") {
		return err
	}
	return fmt.Errorf("%.80q is neither an ID nor a name", text)
}

// ServiceAddr is "PEER:PORT", as a person writes it, as mesh.Dial wants it.
func ServiceAddr(text string) (string, error) {
	peer, port, _ := strings.Cut(text, ":")
	addr, err := PeerAddr(peer)
	if err != nil {
		return "", err
	}
	service, err := Service(port)
	return addr + ":" + service, err
}

// Service is the service of a port or of a name: "tcp/80", "tcp/wiki".
func Service(port string) (string, error) {
	n, err := strconv.ParseUint(port, 10, 16)
	digits := strings.Trim(port, "0123456789") == ""
	if digits && err == nil && n > 0 && strconv.FormatUint(n, 10) == port || !digits && registry.ValidName(port) {
		return "tcp/" + port, nil
	}
	return "", fmt.Errorf("%.80q is neither a port nor a service's name: 1 to %d characters a-z, 0-9 and hyphen", port, registry.MaxName)
}

// Local takes the conns of a local listener to a service of a peer, until ctx is done.
func Local(ctx context.Context, l net.Listener, dial Dial, addr string, log *slog.Logger) error {
	return Serve(ctx, l, MaxConns, log, func(ctx context.Context, c net.Conn) {
		far, err := dialWithin(ctx, dial, addr)
		if err != nil {
			log.Warn("nothing is forwarded", "to", addr, "err", err)
			reset(c)
			return
		}
		ended(log, addr, Pipe(ctx, c, far))
	})
}

// Publish takes the conns of a mesh listener to a TCP server, until ctx is done.
func Publish(ctx context.Context, l net.Listener, target string, log *slog.Logger) error {
	d := new(net.Dialer)
	return Serve(ctx, l, MaxConns, log, func(ctx context.Context, c net.Conn) {
		near, err := dialWithin(ctx, func(ctx context.Context, addr string) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) }, target)
		if err != nil {
			log.Warn("what is published does not answer", "err", err)
			c.Close()
			return
		}
		ended(log, target, Pipe(ctx, c, near))
	})
}

func dialWithin(ctx context.Context, dial Dial, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, DialPatience)
	defer cancel()
	return dial(ctx, addr)
}

func ended(log *slog.Logger, addr string, err error) {
	if err != nil && !errors.Is(err, net.ErrClosed) {
		log.Debug("a conn broke", "to", addr, "err", err)
	}
}

// ErrNotLoopback is what a listener that only this machine may reach says of other addresses.
var ErrNotLoopback = errors.New("not a loopback address: everybody who reaches this machine could use it; listen on 127.0.0.1")

// ListenLoopback listens on "PORT" or "HOST:PORT", for this machine only.
func ListenLoopback(ctx context.Context, addr string) (*net.TCPListener, error) {
	if !strings.Contains(addr, ":") {
		addr = "127.0.0.1:" + addr
	}
	host, port, err := net.SplitHostPort(addr)
	if err == nil {
		_, err = net.DefaultResolver.LookupPort(ctx, "tcp", port)
	}
	if err != nil {
		return nil, &program.Error{Status: program.Usage, Err: fmt.Errorf("listen %.80q: %w", addr, err)}
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	if ip, err := netip.ParseAddr(host); err != nil || !ip.IsLoopback() {
		return nil, &program.Error{Status: program.Usage, Err: fmt.Errorf("listen %.80q: %w", addr, ErrNotLoopback)}
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// Caller is who is at the other end of a conn of the mesh.
func Caller(c net.Conn) identity.ID {
	a, _ := c.RemoteAddr().(mesh.Addr)
	return a.ID
}
