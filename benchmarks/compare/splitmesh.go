package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/multiformats/go-multiaddr"
	"github.com/splitmesh/splitmesh/frame"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/splitter"
	"github.com/splitmesh/splitmesh/transport"
	"github.com/splitmesh/splitmesh/transport/tcp"
	"github.com/splitmesh/splitmesh/transport/websocket"
)

const (
	overTCP = "/ip4/127.0.0.1/tcp/0"
	overWS  = overTCP + "/ws"
	overWSS = overTCP + "/wss"
)

// Ours, as an application has it. Conns are dialled with FastOpen, so that the
// first byte travels with the request, as it does with a libp2p stream.
//
// There is no way to ask a node for ChaCha20-Poly1305: it takes that when a
// machine has no AES, which GODEBUG says for all of splitmesh-ws-chacha's process.
var splitmeshSystems = []system{
	ours("splitmesh-ws", "direct", meshWay{listen: overWS}),
	ours("splitmesh-ws-chacha", "direct, ChaCha20-Poly1305 on both sides", meshWay{listen: overWS, chacha: true}, "GODEBUG=cpu.aes=off"),
	ours("splitmesh-tcp", "direct", meshWay{listen: overTCP}),
	ours("splitmesh-wss", "direct, TLS 1.3 below", meshWay{listen: overWSS}),
	ours("splitmesh-relay1-ws", "one relay", meshWay{listen: overWS, relays: 1}),
	ours("splitmesh-relay2-ws", "two relays, split", meshWay{listen: overWS, relays: 2}),
	ours("splitmesh-relay3-ws", "three relays, split", meshWay{listen: overWS, relays: 3}),
	ours("splitmesh-secrecy-2of3", "three relays over ws, Secrecy 2 of 3", meshWay{
		listen: overWS, relays: 3, split: splitter.Policy{Purpose: splitter.Secrecy, K: 2, N: 3},
	}),
}

// A meshWay is how two nodes reach each other.
type meshWay struct {
	listen string // the server's address, or the relays' when there are any
	relays int
	split  splitter.Policy
	chacha bool // whether there had better be no AES
}

func ours(name, about string, way meshWay, env ...string) system {
	return system{name: name, about: about, relays: way.relays, env: env, start: way.start}
}

func (m meshWay) start(ctx context.Context, at gateway) (_ *world, err error) {
	if m.chacha && frame.HasAES() {
		return nil, errors.New("AES is there, and would be taken")
	}
	mw := &meshWorld{way: m, w: newWorld()}
	mw.w.client = mw.client
	defer func() {
		if err != nil {
			mw.w.close()
		}
	}()
	if m.listen == overWSS {
		if mw.serve, mw.dial, err = certificate(); err != nil {
			return nil, err
		}
	}
	listen, err := transport.Parse(m.listen)
	if err != nil {
		return nil, err
	}
	server := &mesh.Node{Transports: mw.transports(mw.serve)}
	for range m.relays {
		relay := &mesh.Node{
			ListenAddrs: []multiaddr.Multiaddr{listen}, Transports: mw.transports(mw.serve),
			Relay: &mesh.RelayConfig{MaxCircuitsPerNetwork: 1 << 20, MaxCircuits: 1 << 20},
		}
		if err := mw.run(ctx, relay); err != nil {
			return nil, err
		}
		server.Bootstrap = append(server.Bootstrap, relay.Addrs()...)
	}
	if m.relays == 0 {
		server.ListenAddrs = []multiaddr.Multiaddr{listen}
	}
	if err := mw.run(ctx, server); err != nil {
		return nil, err
	}
	l, err := server.Listen("compare")
	if err != nil {
		return nil, err
	}
	accept(mw.w, l.Accept)
	if err := server.WaitReserved(ctx, m.relays); err != nil {
		return nil, err
	}
	mw.peer = l.Addr().String()
	for _, a := range slices.Concat(server.Bootstrap, server.Addrs()) {
		if a, err = through(at, a); err != nil {
			return nil, err
		}
		mw.boot = append(mw.boot, a)
	}
	return mw.w, nil
}

type meshWorld struct {
	way         meshWay
	w           *world
	serve, dial *tls.Config
	peer        string
	boot        []multiaddr.Multiaddr
}

func (mw *meshWorld) transports(c *tls.Config) []transport.Transport {
	return []transport.Transport{&websocket.Transport{TLSConfig: c}, &tcp.Transport{}}
}

// run starts a node that ends with the world.
func (mw *meshWorld) run(ctx context.Context, n *mesh.Node) error {
	mw.w.onClose(func() { n.Close() })
	return n.Start(ctx)
}

// client is a node of its own: nodes have one session with a peer.
func (mw *meshWorld) client(ctx context.Context) (client, error) {
	n := &mesh.Node{Bootstrap: mw.boot, Transports: mw.transports(mw.dial)}
	if err := n.Start(ctx); err != nil {
		n.Close()
		return client{}, err
	}
	d := &mesh.Dialer{Node: n, Split: mw.way.split, FastOpen: true}
	if mw.way.relays > 0 {
		d.RelayedOnly, d.Paths, d.Split.MinPaths = true, mw.way.relays, mw.way.relays
	}
	return client{
		open: func(ctx context.Context) (stream, error) {
			c, err := d.Dial(ctx, mw.peer)
			if err != nil {
				return nil, err
			}
			if err := mw.check(ctx, c.(*mesh.Conn)); err != nil {
				c.Close()
				return nil, err
			}
			return c, nil
		},
		close: func() { n.Close() },
	}, nil
}

// check fails when the conn's bytes go other ways than the system's name says.
func (mw *meshWorld) check(ctx context.Context, c *mesh.Conn) error {
	want := max(mw.way.relays, 1)
	for {
		paths := c.Paths()
		relayed := make(map[identity.ID]bool)
		for _, p := range paths {
			if p.Relay != (identity.ID{}) {
				relayed[p.Relay] = true
			}
		}
		if len(paths) == want && len(relayed) == mw.way.relays {
			if at := mw.boot[0].String(); want == 1 && mw.way.relays == 0 && !strings.HasPrefix(at, paths[0].Remote) {
				return fmt.Errorf("the path leads to %s, not to %s", paths[0].Remote, at)
			}
			return nil
		}
		if len(paths) > want || len(relayed) > mw.way.relays || ctx.Err() != nil {
			return fmt.Errorf("%d paths by %d relays, want %d by %d", len(paths), len(relayed), want, mw.way.relays)
		}
		pause(ctx, time.Millisecond) // a path is on its way
	}
}
