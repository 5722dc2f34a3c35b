package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/splitmesh/splitmesh/examples/internal/doctor"
	"github.com/splitmesh/splitmesh/examples/internal/node"
	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/engine"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/forward"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/proxy"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
)

// doctorCommand is the doctor that takes targets as proxy and forward do, and looks at what they and the network device do.
func doctorCommand(a *program.App, s *settings) *cobra.Command {
	c := doctor.CommandWith(a, func(ctx context.Context, state *program.State, q doctor.Question) (*doctor.Doctor, string, func() error, error) {
		h := &host{log: a.Log, settings: s}
		n, err := node.Open(ctx, &s.Node, state, a.Log, h.use)
		if err != nil {
			return nil, "", nil, err
		}
		ctx, cancel := context.WithCancel(ctx)
		h.node = n
		h.packets = &packets{node: n.Node, path: state.Path("addresses"), relays: s.Relays, log: a.Log}
		endPackets := h.packets.begin(ctx)
		return h.doctor(q, state.Dir, nil), q.Target, func() error {
			cancel()
			endPackets()
			return n.Close()
		}, nil
	})
	c.Use = "doctor PEER:PORT"
	c.Short = "Find out, step by step, why a peer's port can't be reached"
	c.Long = "It looks at this machine's disk and clock, the name, the peer's record, each address (DNS, proxy, port, TLS), the relays,\n" +
		"and then tries the port as proxy and forward do: the service tcp/PORT, which the peer's serve publishes, and if it does not,\n" +
		"the port of the peer's address, if the peer is up. A meshvpn that is up here tries that address by its network device, too.\n" +
		"It asks the meshvpn that runs, if one does, and otherwise makes a node of the settings.\n\n" +
		"PEER:PORT is spelled as forward local has it: PEER is a name, with or without .mesh, or an ID; PORT is a port, or what serve\n" +
		"--as calls it. tcp/PORT is the same; vpn-exit and vpn-forward are what exit and forward accept offer. Without a port it is a\n" +
		"bad target.\n\n" +
		"What a stranger is not told (wrong key, wrong network key, no node there) it can only name together, and so a rule that\n" +
		"does not allow the port and a firewall that drops what comes."
	c.Example = "  meshvpn doctor ann.mesh:80\n  meshvpn doctor --by-relays ann:db"
	return c
}

// What takes which way.
const (
	byDial   = "proxy and forward"
	byDevice = "the network device"
)

// spelled is a target as a person writes it, as mesh.Dial wants it.
func spelled(target string) (string, error) {
	peer, service, _ := strings.Cut(target, ":")
	if service == "" {
		return "", errors.New("it names no port: write one after the peer, such as ann:80")
	}
	if slices.Contains([]string{proxy.ExitService, forward.RemoteService}, service) {
		addr, err := forward.PeerAddr(peer)
		return addr + ":" + service, err
	}
	return forward.ServiceAddr(peer + ":" + strings.TrimPrefix(service, "tcp/"))
}

// handleDoctor has the admin socket answer the command.
func (h *host) handleDoctor(mux *http.ServeMux, dir string, t *tunnel) {
	doctor.Answer(mux, func(_ context.Context, q doctor.Question) (*doctor.Doctor, string, error) {
		return h.doctor(q, dir, t), q.Target, nil
	})
}

// doctor examines from where the node stands. t is nil if there is no network device.
func (h *host) doctor(q doctor.Question, dir string, t *tunnel) *doctor.Doctor {
	only := q.RelayedOnly || h.settings.Relays.Only
	d := doctor.Of(h.node, &h.settings.Node, dir, only)
	d.Spell, d.Way = spelled, byDial
	d.Dialer = relaySettings{Only: only, Paths: h.settings.Relays.Paths}.dialer(h.node.Node)
	d.Further = func(ctx context.Context, peer identity.ID, service string, failed error) []doctor.Step {
		port, ok := portOfService(service)
		if !ok || peer == h.node.ID() {
			return nil
		}
		s := doctor.Step{Name: "port", Target: fmt.Sprintf("%d of %s", port, peer.Short())}
		switch {
		case only != h.settings.Relays.Only:
			s.Skipped, s.Detail = true, "packets to a peer's address go by relays alone only if relays.only is set"
		case t != nil:
			s.Way = byDevice
			at, err := t.connect(ctx, peer, port)
			found(&s, port, at, err)
		case failed == nil:
			s.Skipped, s.Detail = true, "proxy and forward take the service, and no network device is up here"
		case errors.Is(failed, mesh.ErrNoService):
			s.Way = byDial
			var at net.Addr
			c, err := h.packets.dial(ctx, peer, port)
			if err == nil {
				at = c.RemoteAddr()
				c.Close()
			}
			found(&s, port, at, err)
		default: // then they try nothing else
			return nil
		}
		return []doctor.Step{s}
	}
	return d
}

// found tells what came of connecting to a port of a peer's address.
func found(s *doctor.Step, port uint16, at net.Addr, err error) {
	const whose = "where NAME is this node's there"
	if err == nil {
		s.Detail = fmt.Sprintf("%v is reached", at)
		return
	}
	s.Detail = err.Error()
	_, there := errors.AsType[*portError](err)
	rule := fmt.Sprintf("meshvpn up --rules 'allow NAME tcp %d'", port)
	switch {
	case there && errors.Is(err, syscall.ECONNREFUSED):
		s.Cause = doctor.ClosedPort
	case there:
		s.Cause = doctor.NoAnswer
		s.Advice = "The peer is up, and nothing came back from the port. Which it is the peer does not tell: no rule there allows this node the port (" + rule + ", " + whose + "), or a firewall there drops what comes."
	case errors.Is(err, engine.ErrNotHeard):
		s.Cause = doctor.Unauthorized
		s.Advice = "The peer is up and takes no packet of this node: no rule there allows it anything, or too many send to it. There: " + rule + ", " + whose + "."
	case errors.Is(err, mesh.ErrNoService):
		s.Cause = doctor.UnknownService
		s.Detail = "the peer is not up: it has no network device"
		s.Advice = fmt.Sprintf("The peer runs, and offers no such service. There: meshvpn serve %d --allow NAME, for proxy and forward alone, or %s, %s.", port, rule, whose)
	default:
		s.Cause = cmp.Or(doctor.CauseOf(err), doctor.Unknown)
	}
}

// connect connects to a port of a peer as other programs here do, by the device: at whichever of the peer's addresses answers.
func (t *tunnel) connect(ctx context.Context, peer identity.ID, port uint16) (net.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, forward.Patience) // a packet that no rule allows is not answered
	defer cancel()
	if err := t.engine.Ping(ctx, peer, 1, func(engine.Pong) error { return nil }); err != nil {
		return nil, err
	}
	if err := t.book.Pin(peer); err != nil {
		return nil, err
	}
	v4, v6 := t.book.Addrs(peer)
	type end struct {
		at  net.Addr
		err error
	}
	ends, running := make(chan end, 2), 0
	for _, a := range []netip.Addr{v4, v6} {
		if !slices.ContainsFunc(t.device.Addrs(), func(own netip.Addr) bool { return a.IsValid() && own.Is4() == a.Is4() }) {
			continue
		}
		running++
		go func() { // ends with ctx
			c, err := new(net.Dialer).DialContext(ctx, "tcp", netip.AddrPortFrom(a, port).String())
			if err != nil {
				ends <- end{err: err}
				return
			}
			defer c.Close()
			ends <- end{at: c.RemoteAddr()}
		}()
	}
	if running == 0 {
		return nil, errors.New("the peer has no address here that the network device has a way to: see status")
	}
	var failed error
	for range running {
		switch e := <-ends; {
		case e.err == nil:
			return e.at, nil
		case failed == nil:
			failed = e.err
		default:
			failed = fmt.Errorf("%w; %w", failed, e.err)
		}
	}
	return nil, &portError{failed}
}
