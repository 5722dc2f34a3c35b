package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"

	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/engine"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/forward"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/netstack"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/overlay"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
)

// packets reach the ports of peers that are up, without a network device here: by a TCP of our own over the virtual
// network's packets. They begin when the first is needed.
type packets struct {
	node   *mesh.Node
	path   string // of the address book
	relays relaySettings
	log    *slog.Logger

	mu      sync.Mutex // guards all below
	ctx     context.Context
	running sync.WaitGroup
	book    *overlay.Book
	stack   *netstack.Stack // nil: not begun, or ended
}

// begin has packets be possible until ctx is done. end waits for that.
func (p *packets) begin(ctx context.Context) (end func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ctx = ctx
	return p.running.Wait
}

// start returns the stack, and begins it first if it is not there. What comes in is denied: there are no rules.
func (p *packets) start() (*netstack.Stack, *overlay.Book, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.stack != nil:
		return p.stack, p.book, nil
	case p.ctx == nil || p.ctx.Err() != nil:
		return nil, nil, net.ErrClosed
	}
	book, err := overlay.Open(p.path, p.node.ID(), true)
	if err != nil {
		return nil, nil, err
	}
	v4, v6 := book.Addrs(p.node.ID())
	stack, device, err := netstack.Device(netstack.Config{Addrs: []netip.Addr{v4, v6}})
	if err != nil {
		return nil, nil, err
	}
	e := engine.New(engine.Config{Node: p.node, Device: device, Book: book, Dialer: *p.relays.dialer(p.node), Logger: p.log})
	p.book, p.stack = book, stack
	p.running.Go(func() { // ends with ctx
		err := e.Run(p.ctx)
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.stack = nil; err != nil {
			p.log.Warn("packets have ended", "err", err)
		}
	})
	return stack, book, nil
}

// dial connects to a TCP port at a peer's addresses: by IPv6, and if that is refused, or is not answered in a third of the
// time, by IPv4, where a server may listen that knows no other, and which a peer's kernel may have alone.
func (p *packets) dial(ctx context.Context, peer identity.ID, port uint16) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, forward.Patience) // a packet that no rule allows is not answered
	defer cancel()
	probe := engine.New(engine.Config{Node: p.node, Dialer: *p.relays.dialer(p.node)})
	if err := probe.Ping(ctx, peer, 1, func(engine.Pong) error { return nil }); err != nil { // it is not up, or hears nothing of ours
		return nil, err
	}
	stack, book, err := p.start()
	if err != nil {
		return nil, err
	}
	if err := book.Pin(peer); err != nil {
		return nil, err
	}
	v4, v6 := book.Addrs(peer)
	first, done := context.WithTimeout(ctx, forward.Patience/3)
	defer done()
	c, err := stack.DialTCP(first, netip.AddrPortFrom(v6, port))
	if err != nil && v4.IsValid() && ctx.Err() == nil {
		var failed error
		if c, failed = stack.DialTCP(ctx, netip.AddrPortFrom(v4, port)); failed == nil {
			return c, nil
		}
		err = fmt.Errorf("%w; %w", err, failed)
	}
	if err != nil {
		return nil, &portError{err}
	}
	return c, nil
}

// A portError is of a port that does not answer well, of a peer that is up and hears us.
type portError struct{ error }

func (e *portError) Unwrap() error { return e.error }

// dial is how a part reaches a peer's services. A port that the peer does not publish is tried at its address: if it is
// up, its rules decide.
func (h *host) dial(d *dialling) forward.Dial {
	overMesh := d.dialer(h)
	return func(ctx context.Context, addr string) (net.Conn, error) {
		c, err := overMesh.Dial(ctx, addr)
		if h.packets == nil || !errors.Is(err, mesh.ErrNoService) || overMesh.RelayedOnly != h.packets.relays.Only {
			return c, err
		}
		peer, port, ok := h.portOf(ctx, addr)
		if !ok {
			return nil, err
		}
		c, failed := h.packets.dial(ctx, peer, port)
		if failed != nil {
			return nil, fmt.Errorf("%w; nor is it reached at the peer's address: %w", err, failed)
		}
		return c, nil
	}
}

// portOf is the peer and the port of "peer:tcp/80".
func (h *host) portOf(ctx context.Context, addr string) (peer identity.ID, port uint16, ok bool) {
	text, service, _ := strings.Cut(addr, ":")
	if port, ok = portOfService(service); !ok {
		return identity.ID{}, 0, false
	}
	var err error
	if name, named := strings.CutSuffix(text, ".mesh"); named {
		peer, err = h.book.Resolve(ctx, name)
	} else {
		peer, err = identity.ParseID(text)
	}
	return peer, port, err == nil
}

// portOfService is the port of "tcp/80".
func portOfService(service string) (port uint16, ok bool) {
	digits, tcp := strings.CutPrefix(service, "tcp/")
	n, err := strconv.ParseUint(digits, 10, 16)
	return uint16(n), tcp && err == nil
}
