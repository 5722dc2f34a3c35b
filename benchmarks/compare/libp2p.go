package main

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	circuit "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
	"github.com/multiformats/go-multiaddr"
)

// go-libp2p with its fastest settings: nothing that limits or counts resources,
// nothing that runs beside the transfer.
var libp2pSystems = []system{
	{name: "libp2p-tcp", about: "go-libp2p, Noise, yamux", start: startLibp2p("/ip4/127.0.0.1/tcp/0", false)},
	{name: "libp2p-ws", about: "go-libp2p, Noise, yamux", start: startLibp2p("/ip4/127.0.0.1/tcp/0/ws", false)},
	{name: "libp2p-quic", about: "go-libp2p, QUIC v1", udp: true, start: startLibp2p("/ip4/127.0.0.1/udp/0/quic-v1", false)},
	{
		name: "libp2p-relay-tcp", about: "go-libp2p, circuit relay v2, its limits lifted", relays: 1,
		start: startLibp2p("/ip4/127.0.0.1/tcp/0", true),
	},
	{
		name: "libp2p-relay-ws", about: "go-libp2p, circuit relay v2, its limits lifted", relays: 1,
		start: startLibp2p("/ip4/127.0.0.1/tcp/0/ws", true),
	},
}

const libp2pProtocol = "/compare/1"

func startLibp2p(listen string, relayed bool) func(context.Context, gateway) (*world, error) {
	return func(ctx context.Context, at gateway) (*world, error) {
		w := newWorld()
		lp := &libp2pWorld{w: w, listen: listen, relayed: relayed}
		w.onClose(lp.close)
		w.client = lp.client
		if err := lp.start(ctx, at); err != nil {
			w.close()
			return nil, err
		}
		return w, nil
	}
}

type libp2pWorld struct {
	w       *world
	listen  string
	relayed bool
	server  peer.AddrInfo // as diallers know it
	at      string        // where first is for them
	first   host.Host     // that diallers connect to: the server, or the relay

	mu    sync.Mutex // guards the rest
	hosts []host.Host
	idle  []host.Host // of clients that were closed: they have no connection
}

func (lp *libp2pWorld) host(listen bool) (host.Host, error) {
	opts := []libp2p.Option{
		libp2p.ResourceManager(&network.NullResourceManager{}), libp2p.ConnectionManager(connmgr.NullConnMgr{}),
		libp2p.DisableMetrics(), libp2p.DisableIdentifyAddressDiscovery(),
	}
	switch {
	case strings.Contains(lp.listen, "quic"):
		opts = append(opts, libp2p.Transport(quic.NewTransport))
	case strings.Contains(lp.listen, "/ws"):
		opts = append(opts, libp2p.Transport(websocket.New))
	default:
		opts = append(opts, libp2p.Transport(tcp.NewTCPTransport))
	}
	opts = append(opts, libp2p.Security(noise.ID, noise.New), libp2p.Muxer(yamux.ID, yamux.DefaultTransport))
	if listen {
		opts = append(opts, libp2p.ListenAddrStrings(lp.listen))
	} else {
		// Where it dials is what the gateway said, and nothing that it learns.
		opts = append(opts, libp2p.NoListenAddrs, libp2p.ConnectionGater(gate{lp}))
	}
	if lp.relayed {
		opts = append(opts, libp2p.EnableRelay()) // the client's part
	} else {
		opts = append(opts, libp2p.DisableRelay())
	}
	h, err := libp2p.New(opts...)
	if err != nil {
		return nil, err
	}
	lp.mu.Lock()
	defer lp.mu.Unlock()
	lp.hosts = append(lp.hosts, h)
	return h, nil
}

func (lp *libp2pWorld) start(ctx context.Context, at gateway) error {
	server, err := lp.host(!lp.relayed)
	if err != nil {
		return err
	}
	lp.first = server
	server.SetStreamHandler(libp2pProtocol, func(s network.Stream) { lp.w.deliver(s) })
	if lp.relayed {
		if lp.first, err = lp.host(true); err != nil {
			return err
		}
		rc := relay.DefaultResources()
		rc.Limit = nil
		rc.MaxReservations, rc.MaxCircuits, rc.MaxReservationsPerIP, rc.MaxReservationsPerASN = 1<<20, 1<<20, 1<<20, 1<<20
		r, err := relay.New(lp.first, relay.WithResources(rc))
		if err != nil {
			return err
		}
		lp.w.onClose(func() { r.Close() })
		if _, err := circuit.Reserve(ctx, server, peer.AddrInfo{ID: lp.first.ID(), Addrs: lp.first.Addrs()}); err != nil {
			return fmt.Errorf("reserving at the relay: %w", err)
		}
	}
	addr, err := through(at, lp.first.Addrs()[0])
	if err != nil {
		return err
	}
	lp.at = addr.String()
	if lp.relayed {
		addr = addr.Encapsulate(multiaddr.StringCast("/p2p/" + lp.first.ID().String() + "/p2p-circuit"))
	}
	lp.server = peer.AddrInfo{ID: server.ID(), Addrs: []multiaddr.Multiaddr{addr}}
	return nil
}

// client is a host that is connected to nobody. It may have been before: what
// counts is that it connects anew.
func (lp *libp2pWorld) client(context.Context) (client, error) {
	h, err := lp.idleHost()
	if err != nil {
		return client{}, err
	}
	return client{
		open: func(ctx context.Context) (stream, error) { return lp.open(ctx, h) },
		close: func() {
			_ = h.Network().ClosePeer(lp.server.ID)
			_ = h.Network().ClosePeer(lp.first.ID())
			lp.mu.Lock()
			defer lp.mu.Unlock()
			lp.idle = append(lp.idle, h)
		},
	}, nil
}

func (lp *libp2pWorld) idleHost() (host.Host, error) {
	lp.mu.Lock()
	if n := len(lp.idle); n > 0 {
		h := lp.idle[n-1]
		lp.idle = lp.idle[:n-1]
		lp.mu.Unlock()
		return h, nil
	}
	lp.mu.Unlock()
	return lp.host(false)
}

func (lp *libp2pWorld) open(ctx context.Context, h host.Host) (stream, error) {
	if h.Network().Connectedness(lp.server.ID) == network.NotConnected {
		// Identify, when it hears late of a connection that has ended, takes away
		// what would last less long.
		h.Peerstore().AddAddrs(lp.server.ID, lp.server.Addrs, peerstore.PermanentAddrTTL)
		if err := h.Connect(ctx, lp.server); err != nil {
			return nil, err
		}
	}
	s, err := h.NewStream(network.WithAllowLimitedConn(ctx, "compare"), lp.server.ID, libp2pProtocol)
	if err != nil {
		return nil, err
	}
	if err := lp.check(h, s.Conn()); err != nil {
		_ = s.Reset()
		return nil, err
	}
	return s, nil
}

// check fails when a connection goes another way than the system's name says.
func (lp *libp2pWorld) check(h host.Host, c network.Conn) error {
	remote := c.RemoteMultiaddr().String()
	if strings.Contains(remote, "p2p-circuit") != lp.relayed {
		return fmt.Errorf("the connection is to %s", remote)
	}
	for _, c := range h.Network().ConnsToPeer(lp.first.ID()) {
		if to := c.RemoteMultiaddr().String(); to != lp.at {
			return fmt.Errorf("the connection is to %s, not to %s", to, lp.at)
		}
	}
	return nil
}

// A gate lets a host dial the first of whom it needs, and nobody else. Until that
// is known, it is open.
type gate struct{ lp *libp2pWorld }

func (g gate) InterceptPeerDial(peer.ID) bool { return true }

func (g gate) InterceptAddrDial(_ peer.ID, a multiaddr.Multiaddr) bool {
	return g.lp.at == "" || a.String() == g.lp.at || strings.Contains(a.String(), "/p2p-circuit")
}

func (g gate) InterceptAccept(network.ConnMultiaddrs) bool { return true }

func (g gate) InterceptSecured(network.Direction, peer.ID, network.ConnMultiaddrs) bool { return true }

func (g gate) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }

func (lp *libp2pWorld) close() {
	lp.mu.Lock()
	defer lp.mu.Unlock()
	for _, h := range lp.hosts {
		h.Close()
	}
}

// through puts what at says in place of the host and port of an address, which
// it leaves alone when that is UDP's.
func through(at gateway, addr multiaddr.Multiaddr) (multiaddr.Multiaddr, error) {
	ip, err := addr.ValueForProtocol(multiaddr.P_IP4)
	if err != nil {
		return nil, err
	}
	port, err := addr.ValueForProtocol(multiaddr.P_TCP)
	if err != nil {
		return addr, nil //nolint:nilerr // there is none: UDP
	}
	to, err := at(ip + ":" + port)
	if err != nil {
		return nil, err
	}
	host, toPort, _ := strings.Cut(to, ":")
	return multiaddr.NewMultiaddr(strings.Replace(addr.String(), "/ip4/"+ip+"/tcp/"+port, "/ip4/"+host+"/tcp/"+toPort, 1))
}
