// Package proxy is SOCKS5 (RFC 1928) and HTTP proxies whose hosts are peers of the mesh, and the exit through which they
// may reach others.
//
// The host NAME.mesh or ID.mesh with port 80 is the peer's service tcp/80. TCP ends in the proxy, and its bytes travel in
// a conn of the mesh.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/forward"
	"github.com/splitmesh/splitmesh/mesh"
)

// ErrOutside is for a host that is no peer, when there is no exit.
var ErrOutside = errors.New("the host's name does not end in .mesh, and no peer is set as exit (--exit PEER)")

const suffix = ".mesh"

// A Dialer reaches hosts as the proxies name them.
type Dialer struct {
	// Mesh opens "peer:service".
	Mesh forward.Dial
	// Exit is the address of the peer, as mesh.Dial has it, that dials hosts outside the mesh. Empty: nobody does.
	Exit string
}

// Dial connects to a host.
func (d *Dialer) Dial(ctx context.Context, host string, port uint16) (net.Conn, error) {
	if host == "" || port == 0 {
		return nil, fmt.Errorf("%.80q, port %d: no host has such an address", host, port)
	}
	ctx, cancel := context.WithTimeout(ctx, forward.DialPatience)
	defer cancel()
	name := strings.TrimSuffix(host, ".")
	if cut := len(name) - len(suffix); cut >= 0 && strings.EqualFold(name[cut:], suffix) {
		addr, err := forward.PeerAddr(name[:cut]) // an ID as libp2p spells it has capitals
		if err != nil {
			addr, err = forward.PeerAddr(strings.ToLower(name[:cut]))
		}
		if err != nil {
			return nil, err
		}
		return d.Mesh(ctx, addr+":tcp/"+strconv.Itoa(int(port)))
	}
	if d.Exit == "" {
		return nil, fmt.Errorf("%w: %.80q", ErrOutside, host)
	}
	return dialExit(ctx, d.Mesh, d.Exit, host, port)
}

// A failure is what an error means to who speaks SOCKS or HTTP.
type failure int

const (
	unreachable failure = iota
	forbidden
	refused
	timeout
)

func failureOf(err error) failure {
	var exit exitError
	_, noWay := errors.AsType[*mesh.RouteError](err) // it wraps what those said who were asked for a way
	switch {
	case errors.As(err, &exit):
		return exit.failure()
	case noWay:
		return unreachable
	case errors.Is(err, mesh.ErrNoService):
		return refused
	case errors.Is(err, ErrOutside), errors.Is(err, mesh.ErrRefused):
		return forbidden
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return timeout
	}
	return unreachable
}
