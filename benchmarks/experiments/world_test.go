package experiments

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
	directory "github.com/splitmesh/splitmesh/registry/memory"
	"github.com/splitmesh/splitmesh/splitter"
	"github.com/splitmesh/splitmesh/transport"
	"github.com/splitmesh/splitmesh/transport/link"
	"github.com/splitmesh/splitmesh/transport/memory"
	"github.com/splitmesh/splitmesh/transport/tcp"
)

// A shape is a link between the dialler and a relay, alike in both directions.
type shape struct {
	mbit   float64       // Mbit/s
	rtt    time.Duration // of an idle link
	buffer int           // as link.Shape.Buffer
}

func (s shape) String() string { return fmt.Sprintf("%g Mbit/s, %v", s.mbit, s.rtt) }

func (s shape) link() *link.Link {
	way := link.Shape{Rate: int64(s.mbit * 1e6 / 8), Delay: s.rtt / 2, Buffer: s.buffer}
	return link.New(link.Config{Up: way, Down: way})
}

// bytes is how many the link carries in d.
func (s shape) bytes(d time.Duration) int { return int(s.mbit * 1e6 / 8 * d.Seconds()) }

// A world is a mesh in this process:
//
//	dialler ──link 0── relay 0 ────┐
//	        ──link 1── relay 1 ────┼── listener
//	        ──link 2── relay 2 ────┘
//
// The links on the left have the shapes asked for, those on the right none.
// Made with direct, it has one such link from end to end in place of relays.
type world struct {
	t      testing.TB
	wire   *memory.Network // nil when the network is real
	dir    *directory.Directory
	relays []*relay
	direct *link.Link // nil when there are relays

	dialler, listener *mesh.Node
	doors             [2]*door   // their transports
	near, far         *mesh.Conn // the conn under test
}

const (
	service  = "experiment"
	diallers = "dialler"
	listens  = "listener"
	// patience bounds every wait. In virtual time it costs nothing.
	patience = 5 * time.Minute
)

// key is that of the named node.
func key(t testing.TB, name string) *identity.Key {
	t.Helper()
	s := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("splitmesh experiment "+name), *seed))
	k, err := identity.NewKeyFromSeed(s[:])
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// newWorld starts a relay behind a link of each shape, and both ends, which know
// them all, over a network in memory. It ends with the test.
func newWorld(t testing.TB, shapes ...shape) *world {
	t.Helper()
	w := &world{t: t}
	w.wire = memory.NewNetwork(memory.Options{Shape: w.linkBetween})
	t.Cleanup(func() { w.wire.Close() })
	w.start(shapes)
	return w
}

// newRealWorld is newWorld over TCP, with the links emulated at the ends'
// sockets.
func newRealWorld(t testing.TB, shapes ...shape) *world {
	t.Helper()
	w := &world{t: t}
	w.start(shapes)
	return w
}

// newDirectWorld has a single link from end to end, and a directory by which the
// dialler finds the listener.
func newDirectWorld(t testing.TB, s shape) *world {
	t.Helper()
	w := &world{t: t, direct: s.link()}
	w.wire = memory.NewNetwork(memory.Options{Shape: w.linkBetween})
	t.Cleanup(func() { w.wire.Close() })
	w.start(nil)
	return w
}

func (w *world) start(shapes []shape) {
	w.t.Helper()
	w.dir = directory.New()
	w.t.Cleanup(w.close)
	var boot []multiaddr.Multiaddr
	for i, s := range shapes {
		r := &relay{w: w, name: fmt.Sprintf("relay%d", i), front: s.link(), back: new(link.Link), addr: multiaddr.StringCast("/ip4/127.0.0.1/tcp/0")}
		if w.wire != nil {
			r.addr = multiaddr.StringCast(fmt.Sprintf("/memory/%d", 1000+i))
		}
		w.relays = append(w.relays, r)
		if err := r.start(); err != nil {
			w.t.Fatal(err)
		}
		at := r.node.Addrs()[0]
		if r.addr, _, _, _ = transport.SplitPeer(at); r.addr == nil {
			w.t.Fatalf("a relay listens at %v", at)
		}
		boot = append(boot, at)
	}
	for i, name := range []string{diallers, listens} {
		w.doors[i] = &door{Transport: w.transport(name), w: w, end: name}
		n := &mesh.Node{Identity: key(w.t, name), Bootstrap: boot, Directory: w.dir, Transports: []transport.Transport{w.doors[i]}}
		if name == listens {
			w.listener = n
			if w.direct != nil {
				n.ListenAddrs = []multiaddr.Multiaddr{multiaddr.StringCast("/memory/0")}
			}
		} else {
			w.dialler = n
		}
		if err := n.Start(w.within()); err != nil {
			w.t.Fatal(err)
		}
	}
}

// transport is what the named node reaches the others by.
func (w *world) transport(name string) transport.Transport {
	if w.wire != nil {
		return w.wire.Host(name)
	}
	return link.WrapTransport(&tcp.Transport{}, link.Wrapper{Dial: func(addr multiaddr.Multiaddr) *link.Link {
		if r := w.relayAt(addr); r != nil {
			return r.linkTo(name)
		}
		return nil
	}})
}

// linkBetween is the shape of the network in memory.
func (w *world) linkBetween(from, to string) *link.Link {
	for _, r := range w.relays {
		if r.name == to {
			return r.linkTo(from)
		}
	}
	return w.direct
}

func (w *world) relayAt(addr multiaddr.Multiaddr) *relay {
	for _, r := range w.relays {
		if r.addr.Equal(addr) {
			return r
		}
	}
	return nil
}

func (w *world) within() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	w.t.Cleanup(cancel)
	return ctx
}

// connect makes the conn under test over as many relays as there are, or
// directly.
func (w *world) connect(split splitter.Policy) error {
	l, err := w.listener.Listen(service)
	if err != nil {
		return err
	}
	if err := w.listener.WaitReserved(w.within(), len(w.relays)); err != nil {
		return err
	}
	var wg sync.WaitGroup
	wg.Go(func() { // ends with the conn, or with l
		if c, err := l.Accept(); err == nil {
			w.far = c.(*mesh.Conn)
		}
	})
	d := &mesh.Dialer{Node: w.dialler, Split: split, RelayedOnly: w.direct == nil, Paths: len(w.relays)}
	c, err := d.Dial(w.within(), l.Addr().String())
	if err != nil {
		l.Close()
		wg.Wait()
		return err
	}
	wg.Wait()
	if w.far == nil {
		return errors.New("the listener has nothing to accept")
	}
	w.near = c.(*mesh.Conn)
	return nil
}

// throughput is a policy that stripes over n paths and lets each carry all.
func throughput(n int) splitter.Policy {
	return splitter.Policy{Purpose: splitter.Throughput, MinPaths: n, MaxShare: 1}
}

// mustConnect is connect for what must not fail.
func (w *world) mustConnect(split splitter.Policy) {
	w.t.Helper()
	if err := w.connect(split); err != nil {
		w.t.Fatal(err)
	}
}

// close closes every node and waits for them.
func (w *world) close() {
	for _, r := range w.relays { // nobody waits for a link that is held
		r.front.Heal()
		r.back.Heal()
	}
	var wg sync.WaitGroup
	for _, n := range []*mesh.Node{w.dialler, w.listener} {
		if n != nil {
			wg.Go(func() { n.Close() })
		}
	}
	wg.Wait()
	for _, r := range w.relays {
		wg.Go(r.kill)
	}
	wg.Wait()
}

// A relay may die, and come back as it was.
type relay struct {
	w           *world
	name        string
	front, back *link.Link          // to the dialler, and to the listener
	addr        multiaddr.Multiaddr // the same in every life
	busy        atomic.Bool         // dying, or being born

	mu   sync.Mutex // guards the rest
	node *mesh.Node // nil while dead
	shut bool       // to those who dial, it isn't there
}

// linkTo is the link of the end that dials.
func (r *relay) linkTo(end string) *link.Link {
	if end == diallers {
		return r.front
	}
	return r.back
}

// start brings the relay up, at the address that it had.
func (r *relay) start() error {
	n := &mesh.Node{
		Identity: key(r.w.t, r.name), ListenAddrs: []multiaddr.Multiaddr{r.addr},
		Transports: []transport.Transport{&tcp.Transport{}}, Relay: &mesh.RelayConfig{},
	}
	if r.w.wire != nil {
		n.Transports = []transport.Transport{r.w.wire.Host(r.name)}
	}
	if err := n.Start(r.w.within()); err != nil {
		n.Close()
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.node, r.shut = n, false
	return nil
}

// kill ends the relay as a crash would: its connections are reset at once.
func (r *relay) kill() {
	r.lose()
	r.mu.Lock()
	n := r.node
	r.node = nil
	r.mu.Unlock()
	if n != nil {
		n.Close()
	}
}

// lose resets the relay's connections and lets nobody in again, until admit.
func (r *relay) lose() {
	r.mu.Lock()
	r.shut = true
	r.mu.Unlock()
	r.front.Cut()
	r.back.Cut()
}

// admit ends lose.
func (r *relay) admit() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shut = false
}

func (r *relay) refuses() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.shut
}
