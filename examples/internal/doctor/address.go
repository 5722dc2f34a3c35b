package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/transport"
	"github.com/splitmesh/splitmesh/transport/websocket"
)

// maxAddresses bounds those that are looked at one by one.
const maxAddresses = 16

// addresses looks at each that a dial would take: the peer's own, and those of its relays and of the bootstrap nodes, of
// which each may be a relay.
func (e *examination) addresses(ctx context.Context, peer identity.ID, rec *registry.Record) {
	var all []multiaddr.Multiaddr
	if rec != nil {
		all = append(all, rec.Addrs...)
	}
	all = append(all, e.Node.Bootstrap...)
	seen := make(map[string]bool)
	own, circuits := false, false
	for _, a := range all {
		if relay, target, ok, err := transport.SplitCircuit(a); err == nil && ok {
			if target != peer {
				continue
			}
			a, circuits = relay, true
		}
		base, id, named, err := transport.SplitPeer(a)
		if err != nil || seen[base.String()] || len(seen) >= maxAddresses {
			continue
		}
		whose, relay := "the peer's", named && id != peer
		if relay {
			whose = "of relay " + id.Short()
		} else if e.RelayedOnly {
			continue
		}
		own = own || !relay
		seen[base.String()] = true
		s := address(ctx, base, whose)
		if of, ok := ofRelay[s.Cause]; ok && relay {
			s.Cause = of
			e.blame(of, fmt.Sprintf("relay %s at %s", id.Short(), base))
		}
		e.add(s)
	}
	e.relayed = circuits || !own
}

// address connects to an address, as far as one gets without being known: name, proxy, port, TLS.
func address(ctx context.Context, a multiaddr.Multiaddr, whose string) Step {
	s := Step{Name: stepAddress, Target: a.String()}
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	network, hostport, rest, err := transport.HostPort(a)
	if err != nil {
		s.Skipped, s.Detail = true, err.Error()
		return s
	}
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		s.Skipped, s.Detail = true, err.Error()
		return s
	}
	via, err := proxyFor(rest, hostport)
	if err != nil {
		s.Cause, s.Detail = Unknown, err.Error()
		return s
	}
	if via != nil { // the proxy resolves and connects, as the transport has it do
		return throughProxy(ctx, a, s, whose, via)
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, hostport)
	if err != nil {
		s.Cause, s.Detail = CauseOf(err), fmt.Sprintf("%s: %v", whose, err)
		if s.Cause == "" {
			s.Cause = Blocked
		}
		return s
	}
	defer conn.Close()
	s.Detail = whose + ": the port is open"
	name, secure := tlsName(rest, host)
	if !secure {
		return s
	}
	t := tls.Client(conn, &tls.Config{ServerName: name})
	if err := t.HandshakeContext(ctx); err != nil {
		if s.Cause = CauseOf(err); s.Cause == "" {
			s.Cause = Certificate
		}
		s.Detail = fmt.Sprintf("%s: the port is open, and TLS with %q fails: %v", whose, name, err)
		return s
	}
	s.Detail = fmt.Sprintf("%s: the port is open, and TLS with %q works", whose, name)
	return s
}

// throughProxy asks the transport itself: what it says of an opening that means nothing tells how far it got.
func throughProxy(ctx context.Context, a multiaddr.Multiaddr, s Step, whose string, via *url.URL) Step {
	conn, err := new(websocket.Transport).Dial(ctx, a, make([]byte, 32))
	switch {
	case err == nil:
		conn.Close()
	case errors.Is(err, transport.ErrRefused): // by the server, which was reached
	default:
		if s.Cause = CauseOf(err); s.Cause == "" {
			s.Cause = Blocked
		}
		s.Detail = fmt.Sprintf("%s, through the proxy %s: %v", whose, via.Host, err)
		return s
	}
	s.Detail = fmt.Sprintf("%s: reached through the proxy %s", whose, via.Host)
	return s
}

// proxyFor is the proxy that the transport would take; nil: none.
func proxyFor(rest multiaddr.Multiaddr, hostport string) (*url.URL, error) {
	web, secure := false, false
	for _, c := range rest {
		switch c.Code() {
		case multiaddr.P_WS:
			web = true
		case multiaddr.P_WSS:
			web, secure = true, true
		case multiaddr.P_TLS:
			secure = true
		}
	}
	if !web {
		return nil, nil
	}
	u := &url.URL{Scheme: "http", Host: hostport}
	if secure {
		u.Scheme = "https"
	}
	return http.ProxyFromEnvironment(&http.Request{URL: u})
}

// tlsName is the name that TLS asks for, if there is TLS.
func tlsName(rest multiaddr.Multiaddr, host string) (name string, secure bool) {
	name = host
	for _, c := range rest {
		switch c.Code() {
		case multiaddr.P_TLS, multiaddr.P_WSS:
			secure = true
		case multiaddr.P_SNI:
			name = c.Value()
		}
	}
	return name, secure
}
