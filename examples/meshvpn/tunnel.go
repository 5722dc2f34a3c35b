package main

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/splitmesh/splitmesh/examples/internal/node"
	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/dns"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/engine"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/overlay"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/tun"
	"github.com/splitmesh/splitmesh/identity"
)

// A tunnel is a network device by which this machine reaches peers. It is made before the node: what an earlier one routed
// is to go nowhere else meanwhile, and who may not have a device is to know it at once.
type tunnel struct {
	settings *settings
	id       identity.ID
	book     *overlay.Book
	device   *tun.Device
	log      *slog.Logger

	node    *node.Node
	engine  *engine.Engine
	names   *dns.Resolver // nil: none are answered for
	sockets []dns.Socket
	past    past
	asking  atomic.Pointer[string] // what status says of the system's resolver
	over    bool                   // whether it has ended because it was to
}

// openTunnel makes the device. It carries nothing until run.
func openTunnel(s *settings, id identity.ID, state *program.State, log *slog.Logger) (*tunnel, error) {
	t := &tunnel{settings: s, id: id, log: log}
	var err error
	if t.book, err = overlay.Open(state.Path("addresses"), id, s.TUN.IPv4); err != nil {
		return nil, err
	}
	v4, v6 := t.book.Addrs(id)
	c := tun.Config{Name: s.TUN.Name, MTU: s.TUN.MTU, Addrs: []netip.Addr{v6}, Nets: s.nets(), Ports: ports(&s.Node)}
	if s.TUN.IPv4 {
		c.Addrs = append(c.Addrs, v4)
	}
	if t.device, err = tun.Open(c); err != nil {
		return nil, err
	}
	if len(t.device.Addrs()) < len(c.Addrs) {
		log.Warn("the kernel has no IPv6: peers are reached by IPv4 alone")
	}
	t.past.device = t.device
	return t, nil
}

// nets are the networks that are routed to the device.
func (s *settings) nets() []netip.Prefix {
	out := []netip.Prefix{overlay.Net6}
	if s.TUN.IPv4 {
		out = append(out, overlay.Net4)
	}
	return append(out, s.policy().Grants.Nets()...)
}

// policy is what peers may do.
func (s *settings) policy() engine.Policy { return engine.Policy{Rules: s.Rules, Grants: s.Networks} }

// join has the node carry the tunnel's packets, and names be answered for.
func (t *tunnel) join(n *node.Node) (err error) {
	s := t.settings
	t.node = n
	t.engine = engine.New(engine.Config{
		Node: n.Node, Device: t.device, Book: t.book, Policy: s.policy(), Names: n.Hosts.Petname, Known: t.known,
		Dialer: *s.Relays.dialer(n.Node), Logger: t.log,
	})
	s.warn(t)
	if s.DNS == dnsOff {
		return nil
	}
	if t.sockets, err = dns.Listen(t.device.Addrs()); err != nil {
		hint := "Another name server may have port 53 of all addresses: bind it to its own, or do without names of the mesh by --dns=off."
		if errors.Is(err, fs.ErrPermission) {
			hint = "Port 53 takes CAP_NET_BIND_SERVICE: run it as root, as the service that the command unit prints, after setcap cap_net_admin,cap_net_bind_service+ep, or without names by --dns=off."
		}
		return &program.Error{Status: program.Status(err), Err: err, Hint: hint}
	}
	t.names = &dns.Resolver{Resolve: t.addrsOf, Clients: t.device.Addrs(), Upstreams: t.past.servers, Dialer: new(net.Dialer), Logger: t.log}
	return nil
}

// system is the machine's resolver.
func system() *dns.System {
	return &dns.System{File: "/etc/resolv.conf", Uplinks: "/run/systemd/resolve/resolv.conf"}
}

// known are the peers of the hosts file.
func (t *tunnel) known() (ids []identity.ID) {
	for _, p := range t.node.Hosts.Peers() {
		ids = append(ids, p.ID)
	}
	return ids
}

// run carries packets, and answers for names, until ctx ends. If that is not why it ends, what was routed to the device
// goes nowhere until the next one, or until it is given up.
func (t *tunnel) run(ctx context.Context) error {
	t.device.Hold()
	err := t.carry(ctx)
	if ctx.Err() != nil {
		t.over = true
		return errors.Join(err, tun.Restore())
	}
	return err
}

// lost adds to an error what it means for what was routed to the device, by this process or an earlier one.
func (t *tunnel) lost(err error) error {
	if err == nil || t.over || !t.device.Held() {
		return err
	}
	return &program.Error{Status: program.Status(err), Err: err, Hint: "What was routed to it goes nowhere until it is up again, or until it is given up: meshvpn down"}
}

// notAsked takes note of why programs do not ask here for names.
func (t *tunnel) notAsked(err error) {
	t.log.Warn("the system does not ask for names of the mesh here", "err", err)
	text := "the system does not ask for names of the mesh here: " + err.Error()
	t.asking.Store(&text)
}

// written takes note that another program has written the system's file.
func (t *tunnel) written(upstreams []netip.AddrPort, err error) {
	if errors.Is(err, dns.ErrEdited) {
		t.past.ask(upstreams)
		t.log.Warn("the system asks for names here as before", "err", err)
		text := err.Error()
		t.asking.Store(&text)
		return
	}
	if err != nil {
		t.notAsked(err)
		return
	}
	t.past.ask(upstreams)
	t.log.Warn("another program has changed whom the system asks for names: it asks here again, and that program's servers for the rest", "servers", upstreams)
	text := "another program has changed whom the system asks for names, last at " + time.Now().Format(time.TimeOnly) + ": it asks here again"
	t.asking.Store(&text)
}

func (t *tunnel) carry(ctx context.Context) error {
	v4, v6 := t.book.Addrs(t.id)
	t.log.Info("up", "device", t.device.Name(), "id", t.id, "ipv4", v4, "ipv6", v6)
	if t.names == nil {
		return t.engine.Run(ctx)
	}
	var kept error
	tasks, ctx := errgroup.WithContext(ctx) // one that fails ends all
	if t.settings.DNS == dnsAuto {
		s := system()
		upstreams, failed := s.Take(ctx, t.device.Name(), t.device.Addrs())
		t.past.ask(upstreams)
		if failed != nil {
			t.notAsked(failed)
		}
		tasks.Go(func() error {
			kept = s.Keep(ctx, t.device.Name(), t.device.Addrs(), t.written)
			return nil
		})
	}
	tasks.Go(func() error { return t.names.Serve(ctx, t.sockets) })
	tasks.Go(func() error { return t.engine.Run(ctx) })
	return errors.Join(tasks.Wait(), kept)
}

// close ends a tunnel that does not run. What runs has ended it itself.
func (t *tunnel) close() error {
	if err := t.device.Close(); err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}
