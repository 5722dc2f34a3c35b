// Package engine carries packets between a device and the peers of the mesh.
//
//	e := engine.New(engine.Config{Node: node, Device: device, Book: book, Rules: rules})
//	err := e.Run(ctx)
//
// A packet that the device gives goes to the peer whose address it is sent to, who is dialled when the first one comes.
// The packets of a flow go over one conn, in their order; each peer has a few, and those of what a person waits for go
// first. What the kernel left undone, such as cutting a super-packet of 64 KiB into segments, travels undone: the conn
// loses nothing and has no MTU.
//
// What the package promises:
//
//   - A packet is given to the device only if its sender's key is that of its source address, or a grant says that the
//     sender has the address; and if a rule allows it, or it answers a packet of ours.
//   - It remembers and queues a bounded amount for each peer, and for all of them.
//   - A sender on this machine is told by ICMP when a packet can't be delivered.
package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/acl"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/overlay"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/packet"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
)

// Service is what peers are dialled for.
const Service = "vpn"

// A Device gives and takes IP packets, each behind a virtio header (see package packet). Read is called by one goroutine,
// with room for any packet; Write by many. After Close both return an error that is net.ErrClosed or os.ErrClosed; other
// errors of Write are about that packet alone.
type Device interface {
	io.ReadWriteCloser
}

// A Config says what an Engine joins. Node, Device and Book are required.
type Config struct {
	Node   *mesh.Node
	Device Device
	Book   *overlay.Book
	// Policy is what counts until Set. Names says whom a petname in it means; nil: nobody.
	Policy Policy
	Names  acl.Names
	// Known are the peers that are dialled when a packet is sent to them. It is asked again when an address is unknown,
	// once a second at most. Nil: those of the Book.
	Known func() []identity.ID
	// Dialer is how peers are dialled; its Node, Class and FastOpen don't matter.
	Dialer mesh.Dialer
	Logger *slog.Logger
}

// A Policy says what peers may do.
type Policy struct {
	Rules  acl.List   // for what they begin to send
	Grants acl.Grants // networks beyond the overlay's
}

// Bounds. A guest is a peer that nobody here named or asked for; the others are as many as the Book's owner wanted, and
// guests take nothing from them.
const (
	maxGuests   = overlay.MaxGuests
	maxConns    = 16 // of one peer to us
	guestConns  = 8
	guestFlows  = 256
	guestMemory = 64 << 20        // for what guests have sent half of
	idleStream  = 5 * time.Minute // then its conn is closed
	dialTimeout = 20 * time.Second
	retryDial   = time.Second   // how long packets are refused at once when a peer could not be reached
	retryNobody = 3 * retryDial // or takes none: its refusal came after the first packet, and TCP sends that again after a second
	sweepEvery  = 30 * time.Second
)

// An Engine is made by New and run once.
type Engine struct {
	cfg    Config
	errors *rate.Limiter // of ICMP errors
	ctx    context.Context
	tasks  sync.WaitGroup
	counts counters
	pool   pool
	policy atomic.Pointer[Policy]
	lent   atomic.Int64 // of guestMemory

	mu     sync.Mutex // guards the rest
	peers  map[identity.ID]*peer
	guests int       // of peers
	looked time.Time // when Known was asked
}

// New makes an engine that does nothing until Run.
func New(cfg Config) *Engine {
	if cfg.Names == nil {
		cfg.Names = func(string) (identity.ID, bool) { return identity.ID{}, false }
	}
	if cfg.Known == nil {
		cfg.Known = func() []identity.ID { return nil }
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Dialer.Node, cfg.Dialer.FastOpen = cfg.Node, true
	e := &Engine{cfg: cfg, errors: rate.NewLimiter(100, 100), peers: make(map[identity.ID]*peer)}
	e.policy.Store(&cfg.Policy)
	return e
}

// Set has another policy count. What a peer began that may not be any more ends.
func (e *Engine) Set(policy Policy) {
	e.policy.Store(&policy)
	for _, p := range e.all() {
		p.flows.Judge(func(x *packet.Packet) bool {
			return policy.Rules.Allows(p.id, x, e.cfg.Names) && e.theirs(x.Src, p.id) && e.ours(x.Dst, p.id)
		})
		if !e.hears(p) {
			p.hangUp()
		}
	}
}

// hears is whether a peer may send at all: if a rule would ever allow it, or if we have begun to send to it.
func (e *Engine) hears(p *peer) bool {
	return e.policy.Load().Rules.Hears(p.id, e.cfg.Names) || p.flows.Ours()
}

// Run carries packets until ctx ends, which is no error, or the device or the listener fails. It closes the device.
func (e *Engine) Run(ctx context.Context) error {
	l, err := e.cfg.Node.Listen(Service)
	if err != nil {
		return errors.Join(fmt.Errorf("vpn: %w", err), e.cfg.Device.Close())
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	e.ctx = ctx
	e.look()
	e.tasks.Go(func() { cancel(e.outbound()) })
	e.tasks.Go(func() { cancel(e.accept(l)) })
	e.tasks.Go(e.sweep)
	<-ctx.Done()
	err = context.Cause(ctx)
	closing := errors.Join(e.cfg.Device.Close(), l.Close())
	e.tasks.Wait()
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return closing
	}
	return errors.Join(err, closing)
}

// look pins the peers that are known, unless it has just done so.
func (e *Engine) look() {
	e.mu.Lock()
	now := time.Now()
	recent := now.Sub(e.looked) < time.Second
	if !recent {
		e.looked = now
	}
	e.mu.Unlock()
	if recent {
		return
	}
	if err := e.cfg.Book.Pin(e.cfg.Known()...); err != nil {
		e.cfg.Logger.Warn("addresses are not pinned", "err", err)
	}
}

// peer is what is known of a peer; nil: there are too many guests.
func (e *Engine) peer(id identity.ID) *peer {
	guest := !e.cfg.Book.Pinned(id)
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.peers[id]
	switch {
	case p == nil:
		if guest && e.guests >= maxGuests && !e.forgetGuest() {
			return nil
		}
		p = &peer{id: id, engine: e, streams: make(map[slot]*stream), conns: make(map[net.Conn]struct{})}
		e.peers[id] = p
		if p.guest.Store(guest); guest {
			e.guests++
			p.flows.Limit(guestFlows)
		}
	case !guest && p.guest.Load(): // it was named since
		p.guest.Store(false)
		e.guests--
		p.flows.Limit(0)
	}
	p.used = time.Now()
	return p
}

// forgetGuest forgets the guest that was used longest ago, of those that have no conn.
func (e *Engine) forgetGuest() bool {
	var oldest *peer
	for _, p := range e.peers {
		if p.guest.Load() && p.idle() && (oldest == nil || p.used.Before(oldest.used)) {
			oldest = p
		}
	}
	if oldest == nil {
		return false
	}
	e.forget(oldest)
	return true
}

func (e *Engine) forget(p *peer) {
	delete(e.peers, p.id)
	if p.guest.Load() {
		e.guests--
	}
}

// known is the peer, if anything is known of it.
func (e *Engine) known(id identity.ID) *peer {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.peers[id]
}

// all are the peers of now.
func (e *Engine) all() (out []*peer) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range e.peers {
		out = append(out, p)
	}
	return out
}

// sweep forgets flows and peers that are no more.
func (e *Engine) sweep() {
	again := time.NewTicker(sweepEvery)
	defer again.Stop()
	for {
		select {
		case <-e.ctx.Done():
			return
		case now := <-again.C:
			for _, p := range e.all() {
				flows := p.flows.Sweep(now)
				e.mu.Lock()
				if flows == 0 && now.Sub(p.used) > sweepEvery && p.idle() {
					e.forget(p)
				}
				e.mu.Unlock()
			}
		}
	}
}

// accept takes what peers send. Its goroutines end with the engine.
func (e *Engine) accept(l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return fmt.Errorf("vpn: %w", err)
		}
		e.tasks.Go(func() {
			defer c.Close()
			id := c.RemoteAddr().(mesh.Addr).ID
			log := e.cfg.Logger.With("peer", id.Short())
			if err := e.serve(id, c); err != nil && e.ctx.Err() == nil {
				log.Debug("a conn of a peer ended", "err", err)
			}
		})
	}
}
