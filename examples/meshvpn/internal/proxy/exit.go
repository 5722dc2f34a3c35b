package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/forward"
)

// ExitService is where a node takes hosts that it is to dial for peers. A conn begins with the host and the answer, and
// is then the conn to the host.
const ExitService = "vpn-exit"

type exitRequest struct {
	Host string `json:"host"`
	Port uint16 `json:"port"`
}

type exitAnswer struct {
	Error exitError `json:"error,omitempty"`
}

// An exitError is why an exit has not reached a host.
type exitError string

const (
	exitForbidden   exitError = "forbidden"
	exitRefused     exitError = "refused"
	exitTimeout     exitError = "timeout"
	exitUnreachable exitError = "unreachable"
)

func (e exitError) Error() string {
	switch e {
	case exitForbidden:
		return "the exit does not dial such addresses"
	case exitRefused:
		return "the host refuses"
	case exitTimeout:
		return "the host does not answer"
	}
	return "the host is not reached"
}

func (e exitError) failure() failure {
	switch e {
	case exitForbidden:
		return forbidden
	case exitRefused:
		return refused
	case exitTimeout:
		return timeout
	}
	return unreachable
}

func dialExit(ctx context.Context, dial forward.Dial, exit, host string, port uint16) (net.Conn, error) {
	c, err := dial(ctx, exit+":"+ExitService)
	if err != nil {
		return nil, fmt.Errorf("exit: %w", err)
	}
	var a exitAnswer
	err = forward.Ask(ctx, c, exitRequest{host, port}, &a)
	if err == nil && a.Error != "" {
		err = a.Error
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("exit: %.80q: %w", host, err)
	}
	return c, nil
}

// special are the addresses, beside those that netip knows, that are not on the public internet: who dials them for
// others shows them what only this machine and its neighbours are to see. Those that hold an IPv4 address in an IPv6 one
// are among them, as they lead there.
var special = prefixes(
	"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
	"::/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16", "fec0::/10",
)

func prefixes(texts ...string) (out []netip.Prefix) {
	for _, t := range texts {
		out = append(out, netip.MustParsePrefix(t))
	}
	return out
}

// An Exit dials hosts of the internet for peers.
type Exit struct {
	// Nets are those that may be dialled besides the public internet. This machine's own addresses need one of just that
	// address, loopback and link-local ones one of only such: a wide network does not mean them.
	Nets []netip.Prefix
	Log  *slog.Logger
}

var errForbidden = errors.New("not an address of the public internet")

// may reports whether an address may be dialled. here is this machine in its networks: an address and its prefix each.
// Its own public address leads past the firewall that guards it, and those of its neighbours past the router's.
func (e *Exit) may(a netip.Addr, here []netip.Prefix) bool {
	a = a.Unmap().WithZone("")
	if !a.IsValid() {
		return false
	}
	within := func(p netip.Prefix) bool { return p.Contains(a) }
	own := slices.ContainsFunc(here, func(p netip.Prefix) bool { return p.Addr() == a })
	for _, p := range e.Nets {
		switch {
		case !p.Contains(a):
		case p.IsSingleIP(), a.IsLoopback() && p.Addr().IsLoopback(), a.IsLinkLocalUnicast() && p.Addr().IsLinkLocalUnicast():
			return true
		case !own && !a.IsLoopback() && !a.IsLinkLocalUnicast() && !a.IsUnspecified():
			return true
		}
	}
	return a.IsGlobalUnicast() && !a.IsPrivate() && !slices.ContainsFunc(special, within) && !slices.ContainsFunc(here, within)
}

// networks is this machine in its networks.
func networks() (out []netip.Prefix, err error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	for _, a := range all {
		p, err := netip.ParsePrefix(a.String())
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// Serve dials for those whom l accepts, until ctx is done.
func (e *Exit) Serve(ctx context.Context, l net.Listener) error {
	d := &net.Dialer{Timeout: forward.DialPatience, Control: func(_, address string, _ syscall.RawConn) error {
		// Here the name is resolved, once and for all: what is checked is what is dialled.
		a, err := netip.ParseAddrPort(address)
		if err != nil {
			return errForbidden
		}
		here, err := networks() // now, since it moves
		if err != nil {
			return fmt.Errorf("the networks of this machine: %w", err)
		}
		if !e.may(a.Addr(), here) {
			return errForbidden
		}
		return nil
	}}
	return forward.Serve(ctx, l, forward.MaxConns, e.Log, func(ctx context.Context, c net.Conn) {
		_ = c.SetDeadline(time.Now().Add(forward.Patience)) // it fails for what is closed, as Read will
		var r exitRequest
		if err := forward.ReadMessage(c, &r); err != nil {
			c.Close()
			return
		}
		_ = c.SetDeadline(time.Time{})
		out, err := d.DialContext(ctx, "tcp", net.JoinHostPort(r.Host, strconv.Itoa(int(r.Port))))
		e.Log.Debug("exit", "peer", forward.Caller(c).Short(), "port", r.Port, "err", err)
		if err := errors.Join(err, forward.WriteMessage(c, exitAnswer{exitErrorOf(err)})); err != nil {
			c.Close()
			if out != nil {
				out.Close()
			}
			return
		}
		_ = forward.Pipe(ctx, c, out) // a conn that broke is no news here
	})
}

func exitErrorOf(err error) exitError {
	e, ok := errors.AsType[net.Error](err)
	switch {
	case err == nil:
		return ""
	case errors.Is(err, errForbidden):
		return exitForbidden
	case errors.Is(err, syscall.ECONNREFUSED):
		return exitRefused
	case errors.Is(err, os.ErrDeadlineExceeded), ok && e.Timeout():
		return exitTimeout
	}
	return exitUnreachable
}
