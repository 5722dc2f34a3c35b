package main

import (
	"context"
	"net"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/splitter"
)

// A world is the nodes of this program: on as many machines, they would differ
// in nothing but the addresses.
type world struct {
	relays         []*mesh.Node
	server, client *mesh.Node
	// dial is how the client dials: what http.Transport wants.
	dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// newWorld starts k relays, a server and a client.
func newWorld(ctx context.Context, k int) (w *world, err error) {
	w = new(world)
	defer func() {
		if err != nil {
			w.Close()
		}
	}()
	loopback, err := multiaddr.NewMultiaddr("/ip4/127.0.0.1/tcp/0/ws")
	if err != nil {
		return w, err
	}
	var known []multiaddr.Multiaddr
	for range k {
		r := &mesh.Node{ListenAddrs: []multiaddr.Multiaddr{loopback}, Relay: &mesh.RelayConfig{}}
		w.relays = append(w.relays, r)
		if err := r.Start(ctx); err != nil {
			return w, err
		}
		known = append(known, r.Addrs()...)
	}
	w.server = &mesh.Node{Bootstrap: known}
	if k == 0 {
		w.server.ListenAddrs = []multiaddr.Multiaddr{loopback}
	}
	if err := w.server.Start(ctx); err != nil {
		return w, err
	}
	w.client = &mesh.Node{Bootstrap: append(known, w.server.Addrs()...)}
	w.dial = w.client.DialContext
	if k > 0 {
		// Over all of them, and never by less: no relay sees the whole.
		d := &mesh.Dialer{Node: w.client, RelayedOnly: true, Paths: k, Split: splitter.Policy{MinPaths: k}}
		w.dial = d.DialContext
	}
	return w, nil
}

// listen listens on a service of the server, and returns when the relays forward
// to it: whoever dials before that is told that they don't know it.
func (w *world) listen(ctx context.Context, service string) (net.Listener, error) {
	l, err := w.server.Listen(service)
	if err != nil {
		return nil, err
	}
	if err := w.server.WaitReserved(ctx, len(w.relays)); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Close ends the nodes.
func (w *world) Close() {
	for _, n := range append([]*mesh.Node{w.client, w.server}, w.relays...) {
		if n != nil {
			n.Close()
		}
	}
}
