package main

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/dht"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/transport"
	"github.com/splitmesh/splitmesh/transport/link"
	"github.com/splitmesh/splitmesh/transport/websocket"
)

// A member is one node of the network, through its lives.
type member struct {
	key    *identity.Key
	relay  bool
	hidden bool

	mu     sync.Mutex // guards the rest
	node   *mesh.Node // nil: it is dead
	dht    *dht.DHT
	addrs  []multiaddr.Multiaddr // at which it listened in its first life, and does again
	echoes int                   // conns that it answered
}

// A world is the network.
type world struct {
	s       *settings
	log     *slog.Logger
	members []*member // relays first
	tally   tally
	began   time.Time

	wg sync.WaitGroup
}

func newWorld(s *settings, log *slog.Logger) *world {
	w := &world{s: s, log: log, began: time.Now()}
	for i := range s.Nodes {
		m := &member{relay: i < s.Relays}
		m.hidden = !m.relay && (i-s.Relays)*100 < s.Hidden*(s.Nodes-s.Relays)
		w.members = append(w.members, m)
	}
	return w
}

// start brings all nodes up, and tells how many are.
func (w *world) start(ctx context.Context, up func(n int)) error {
	for i, m := range w.members {
		var err error
		if m.key, err = identity.GenerateKey(); err != nil {
			return err
		}
		if err := w.live(ctx, m); err != nil {
			return fmt.Errorf("node %d of %d: %w", i+1, len(w.members), err)
		}
		up(i + 1)
	}
	return nil
}

// service is what every peer answers at.
const service = "echo"

// live starts a member, or starts it again.
func (w *world) live(ctx context.Context, m *member) error {
	var carrier transport.Transport = new(websocket.Transport)
	if w.s.Delay > 0 || w.s.Rate > 0 {
		shape := link.Shape{Rate: int64(w.s.Rate), Delay: w.s.Delay}
		carrier = link.WrapTransport(carrier, link.Wrapper{Dial: func(multiaddr.Multiaddr) *link.Link { return link.New(link.Config{Up: shape, Down: shape}) }})
	}
	n := &mesh.Node{Identity: m.key, Transports: []transport.Transport{carrier}, Logger: w.log, Bootstrap: w.bootstrap(m)}
	if m.relay {
		n.Relay = new(mesh.RelayConfig)
	}
	cfg := dht.Config{Client: m.hidden, Logger: w.log}
	if !m.hidden {
		n.Capabilities = []string{registry.CapDHTServer}
		n.ListenAddrs = m.addrs
		if n.ListenAddrs == nil {
			n.ListenAddrs = []multiaddr.Multiaddr{multiaddr.StringCast("/ip4/127.0.0.1/tcp/0/ws")}
		}
	}
	d := dht.New(cfg)
	n.Directory = d
	err := n.Start(ctx)
	if err == nil {
		err = d.Start(n)
	}
	if err != nil {
		d.Close()
		n.Close()
		return err
	}
	l, err := n.Listen(service)
	if err != nil {
		d.Close()
		n.Close()
		return err
	}
	w.wg.Go(func() { w.answer(m, l) }) // ends with the node
	m.mu.Lock()
	defer m.mu.Unlock()
	m.node, m.dht, m.addrs = n, d, nil
	for _, a := range n.Addrs() {
		if base, _, _, err := transport.SplitPeer(a); err == nil {
			m.addrs = append(m.addrs, base)
		}
	}
	return nil
}

// bootstrap is what a node knows at first: two relays that live.
func (w *world) bootstrap(m *member) (out []multiaddr.Multiaddr) {
	for _, other := range w.members[:w.s.Relays] {
		if n, _ := other.alive(); n != nil && other != m && len(out) < 2 {
			out = append(out, n.Addrs()[0])
		}
	}
	return out
}

func (m *member) alive() (*mesh.Node, *dht.DHT) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.node, m.dht
}

// die ends a member, as far as it lives.
func (m *member) die() bool {
	m.mu.Lock()
	n, d := m.node, m.dht
	m.node, m.dht = nil, nil
	m.mu.Unlock()
	if n == nil {
		return false
	}
	d.Close()
	n.Close()
	return true
}

func (w *world) close() {
	var wg sync.WaitGroup
	for _, m := range w.members {
		wg.Go(func() { m.die() })
	}
	wg.Wait()
	w.wg.Wait()
}

// run has peers talk and relays die until ctx ends.
func (w *world) run(ctx context.Context) {
	for _, m := range w.members[w.s.Relays:] {
		w.wg.Go(func() { w.talk(ctx, m) }) // ends with ctx
	}
	if w.s.Cuts > 0 {
		w.wg.Go(func() { // ends with ctx
			for sleep(ctx, w.s.Cuts) {
				w.cut(ctx)
			}
		})
	}
}

// cut has a relay die, and come back later.
func (w *world) cut(ctx context.Context) {
	relays := slices.Clone(w.members[:w.s.Relays])
	rand.Shuffle(len(relays), func(i, j int) { relays[i], relays[j] = relays[j], relays[i] })
	for _, m := range relays {
		if !m.die() {
			continue
		}
		w.tally.died()
		w.wg.Go(func() { // ends with ctx
			for sleep(ctx, max(w.s.Cuts, 5*time.Second)) {
				err := w.live(ctx, m)
				if err == nil {
					return
				}
				w.log.Warn("a relay does not come back", "err", err)
			}
		})
		return
	}
}

// sleep waits, and reports false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
