package main

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/splitmesh/splitmesh/examples/internal/node"
	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/dns"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/engine"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/overlay"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/tun"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/splitter"
	"github.com/splitmesh/splitmesh/transport"
	"github.com/splitmesh/splitmesh/transport/tcp"
	"github.com/splitmesh/splitmesh/transport/websocket"
)

// A tunnel is a network device by which this machine reaches peers.
type tunnel struct {
	node   *node.Node
	book   *overlay.Book
	device *tun.Device
	engine *engine.Engine
	log    *slog.Logger

	names   *dns.Resolver // nil: none are answered for
	sockets []dns.Socket
	system  *dns.System // nil: it does not ask us
}

// adjust has the node dial past the device, if everything is routed to that. It is for node.Open.
func (s *settings) adjust(n *mesh.Node) {
	for _, g := range s.Networks {
		if g.Via && g.Prefix.Bits() == 0 {
			d := tun.Dialer()
			n.Transports = []transport.Transport{&websocket.Transport{DialContext: d.DialContext}, &tcp.Transport{DialContext: d.DialContext}}
		}
	}
}

// openTunnel makes the device. It carries nothing until run, which closes it.
func openTunnel(s *settings, n *node.Node, state *program.State, log *slog.Logger) (*tunnel, error) {
	t := &tunnel{node: n, log: log}
	var err error
	if t.book, err = overlay.Open(state.Path("addresses"), n.ID(), s.TUN.IPv4); err != nil {
		return nil, err
	}
	v4, v6 := t.book.Addrs(n.ID())
	c := tun.Config{Name: s.TUN.Name, MTU: s.TUN.MTU, Addrs: []netip.Addr{v6}, Nets: []netip.Prefix{overlay.Net6}}
	if s.TUN.IPv4 {
		c.Addrs, c.Nets = append(c.Addrs, v4), append(c.Nets, overlay.Net4)
	}
	for _, g := range s.Networks {
		if g.Via {
			c.Nets = append(c.Nets, g.Prefix)
		}
	}
	if t.device, err = tun.Open(c); err != nil {
		return nil, err
	}
	d := mesh.Dialer{RelayedOnly: s.Relays.Only, Paths: s.Relays.Paths}
	if d.Paths == 1 {
		d.Split = splitter.Policy{MinPaths: 1} // who wants one relay is not to wait for a second
	}
	t.engine = engine.New(engine.Config{
		Node: n.Node, Device: t.device, Book: t.book, Policy: engine.Policy{Rules: s.Rules, Grants: s.Networks}, Names: n.Hosts.Petname, Known: t.known,
		Dialer: d, Logger: log,
	})
	if s.DNS == dnsOff {
		return t, nil
	}
	if t.sockets, err = dns.Listen(c.Addrs); err != nil {
		err = &program.Error{Status: program.Status(err), Err: err, Hint: "Another name server may have port 53 of all addresses: bind it to its own, or do without names of the mesh by --dns=off."}
		return nil, errors.Join(err, t.device.Close())
	}
	t.names = &dns.Resolver{Resolve: t.addrsOf, Clients: c.Addrs, Dialer: tun.Dialer(), Logger: log}
	if s.DNS == dnsAuto {
		t.system = system(state.Dir)
	}
	return t, nil
}

// system is the machine's resolver.
func system(dir string) *dns.System {
	return &dns.System{File: "/etc/resolv.conf", Saved: filepath.Join(dir, "resolv.conf.saved")}
}

// known are the peers of the hosts file.
func (t *tunnel) known() (ids []identity.ID) {
	for _, p := range t.node.Hosts.Peers() {
		ids = append(ids, p.ID)
	}
	return ids
}

// run carries packets, and answers for names, until ctx ends.
func (t *tunnel) run(ctx context.Context) (err error) {
	v4, v6 := t.book.Addrs(t.node.ID())
	t.log.Info("up", "device", t.device.Name(), "id", t.node.ID(), "ipv4", v4, "ipv6", v6)
	if t.names == nil {
		return t.engine.Run(ctx)
	}
	if t.system != nil {
		defer func() { err = errors.Join(err, t.system.Restore()) }()
		if t.names.Upstreams, err = t.system.Take(ctx, t.device.Name(), t.names.Clients); err != nil {
			t.log.Warn("the system does not ask for names of the mesh here", "err", err)
		}
	}
	tasks, ctx := errgroup.WithContext(ctx) // one that fails ends both
	tasks.Go(func() error { return t.names.Serve(ctx, t.sockets) })
	tasks.Go(func() error { return t.engine.Run(ctx) })
	return tasks.Wait()
}

// restore takes back what a process that crashed has left of its tunnel.
func restore(dir string) error { return errors.Join(tun.Restore(), system(dir).Restore()) }
