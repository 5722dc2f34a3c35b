package main

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/examples/internal/node"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/tun"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/registry"
	httpregistry "github.com/splitmesh/splitmesh/registry/http"
	"github.com/splitmesh/splitmesh/registry/multi"
	"github.com/splitmesh/splitmesh/transport"
	"github.com/splitmesh/splitmesh/transport/tcp"
	"github.com/splitmesh/splitmesh/transport/websocket"
)

// Bounds of what is asked by HTTP.
const (
	idleHTTP      = 90 * time.Second
	handshakeHTTP = 10 * time.Second
)

// A past is the way past the device for what this process itself sends: the mesh does not go through itself.
type past struct {
	device    *tun.Device
	upstreams atomic.Pointer[[]netip.AddrPort] // of our own name server
}

// process has the process look up names, and ask registries and for first addresses, past the device.
func (p *past) process() {
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: p.dialServer}
	http.DefaultTransport = p.roundTripper()
}

func (p *past) roundTripper() *http.Transport {
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: p.device.Dialer().DialContext, ForceAttemptHTTP2: true,
		MaxIdleConnsPerHost: 4, IdleConnTimeout: idleHTTP, TLSHandshakeTimeout: handshakeHTTP, MaxResponseHeaderBytes: 16 << 10,
	}
}

// node has a node's transports and directories dial past the device, and the node tell nobody that it were reached there.
// It is for node.Open.
func (p *past) node(n *mesh.Node) {
	dial := p.device.Dialer().DialContext
	n.Transports = []transport.Transport{&websocket.Transport{DialContext: dial}, &tcp.Transport{DialContext: dial}}
	n.Interfaces = p.interfaces
	var each func(registry.Directory)
	each = func(d registry.Directory) {
		switch d := d.(type) {
		case *httpregistry.Client:
			d.HTTPClient = &http.Client{Transport: p.roundTripper()}
		case *multi.Directory:
			for _, d := range d.Directories {
				each(d)
			}
		}
	}
	each(n.Directory)
}

// interfaces are the machine's addresses but for the device's.
func (p *past) interfaces() ([]net.Addr, error) {
	all, err := net.InterfaceAddrs()
	return slices.DeleteFunc(all, func(x net.Addr) bool {
		a, err := netip.ParsePrefix(x.String())
		return err == nil && slices.Contains(p.device.Addrs(), a.Addr().Unmap())
	}), err
}

// ask has names that this process looks up be asked of the servers, where it would ask its own.
func (p *past) ask(servers []netip.AddrPort) { p.upstreams.Store(&servers) }

// servers are those that ask has named.
func (p *past) servers() []netip.AddrPort {
	if up := p.upstreams.Load(); up != nil {
		return *up
	}
	return nil
}

// dialServer dials a name server. Our own would ask by the device, if everything is routed to that.
func (p *past) dialServer(ctx context.Context, network, address string) (net.Conn, error) {
	if up := p.servers(); len(up) > 0 {
		if a, err := netip.ParseAddrPort(address); err == nil {
			if i := slices.Index(p.device.Addrs(), a.Addr().Unmap()); i >= 0 {
				address = up[i%len(up)].String()
			}
		}
	}
	return p.device.Dialer().DialContext(ctx, network, address)
}

// ports are those of TCP at which the node listens: what it answers there does not go to the device either.
func ports(s *node.Settings) (out []uint16) {
	for _, a := range s.Listen {
		text, err := a.ValueForProtocol(multiaddr.P_TCP)
		if err != nil {
			continue
		}
		if n, err := strconv.ParseUint(text, 10, 16); err == nil && n > 0 && !slices.Contains(out, uint16(n)) {
			out = append(out, uint16(n))
		}
	}
	return out
}
