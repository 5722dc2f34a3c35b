// Package dht finds records without any server: nodes keep them for one another, each those whose keys are closest to
// its own, in the way of Kademlia.
//
//	d := dht.New(dht.Config{})
//	node := &mesh.Node{Directory: d, Bootstrap: addrs, ListenAddrs: listen, Capabilities: []string{registry.CapDHTServer}}
//	if err := d.Start(node); err != nil {
//		return err
//	}
//	defer d.Close()
//
// What the package promises:
//
//   - Only records that their peers signed are stored, passed on or returned: nobody can make up a record, alter one, or
//     name a node that does not exist. A record older than one that was seen is not returned, and a revocation is final.
//   - A lookup goes eight ways that have no node in common, so that nodes that lie have to be on all of them.
//   - From few networks nobody fills a node's table, a lookup, or the set of nodes that keep a record.
//   - What strangers can make a node keep and do is bounded: records, queries, memory, time. Who is not in a private
//     network itself makes it dial no private address.
//
// It does not hide: who keeps a record, or is on the way to it, learns who looks for whom. Simulations of 10,000 nodes,
// with liars among them, are in docs/DHT.md.
package dht

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/internal/kad"
	"github.com/splitmesh/splitmesh/registry"
)

// Service is the name under which nodes answer queries.
const Service = "dht"

const (
	queryTimeout  = 5 * time.Second
	lookupTimeout = 30 * time.Second
	// bootPatience is how long a lookup waits for the first answer ever.
	bootPatience = 2 * time.Second
	// enough answers with a record end a lookup: the newest of them counts.
	enough = 3
	// circlePatience is how long a lookup goes on when a query waits for it; see lookup.
	circlePatience = 100 * time.Millisecond
	// maxSeen bounds the records that a node remembers to have seen, and those that it has looked for.
	maxSeen = 4096
	// maxRepublished bounds the records of others that a node publishes again each minute.
	maxRepublished = 4
	// republishAfter is when a record that is kept for others is published again, if nobody brought it meanwhile.
	republishAfter = time.Hour
	refreshAfter   = time.Hour
	tick           = time.Minute
)

// A Network is what a DHT asks others over; a [*mesh.Node] is one.
type Network interface {
	ID() identity.ID
	Dial(ctx context.Context, addr string) (net.Conn, error)
	Listen(service string) (net.Listener, error)
}

// A fastDialer is a Network whose conns need not wait for the peer's consent, which saves each query a round trip.
type fastDialer interface {
	FastDial(ctx context.Context, addr string) (net.Conn, error)
}

// A blocker is a Network that can block a peer which floods us with queries.
type blocker interface {
	Block(peer identity.ID, d time.Duration)
}

// Config says how a node takes part. Its zero value, with a Bootstrap, is a node that answers queries once its own record
// announces [registry.CapDHTServer].
type Config struct {
	// Bootstrap are nodes to ask first. The Network must know how to reach them. None: those that it says to know, as a
	// [*mesh.Node] does of its own Bootstrap. It is asked each time: it may learn of more.
	Bootstrap []identity.ID
	// Client makes the node ask, and not answer: for nodes that listen at no address.
	Client bool
	// Saved is a file in which the nodes that are known are kept across restarts; "" keeps none.
	Saved string
	// MaxRecords bounds the records kept for others; 0 means [kad.DefaultMaxRecords], 8192.
	MaxRecords int
	// Rate is how many queries a second are answered for one peer; 0 means DefaultRate, 50.
	Rate int
	// Private tells that all nodes are of one network to which nobody else has the key: addresses of private
	// networks then count one by one, and not as one network, as in one office they all are; and whoever names a node
	// may name one at such an address.
	Private bool
	// Now is the clock. nil means time.Now.
	Now func() time.Time
	// Logger gets what goes wrong, at debug level, and what the node does. nil: nothing.
	Logger *slog.Logger
}

// A DHT is a [registry.Finder]. Make one with [New].
type DHT struct {
	cfg Config
	log *slog.Logger

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup
	ready  chan struct{} // closed by Start
	booted chan struct{} // closed when anybody has answered, or nobody of those who were known at first
	back   chan struct{} // of size 1: one of the lost answers

	bootOnce sync.Once // closes booted

	limits  limits
	calling calling
	check   func([]byte) (*registry.Record, error) // registry.Parse, which takes long: not with mu held

	mu       sync.Mutex // guards all below
	net      Network
	dial     func(ctx context.Context, addr string) (net.Conn, error)
	listener net.Listener
	closed   bool
	self     *registry.Record // our own, as published last
	selfPut  time.Time        // when we stored it with others last
	table    *kad.Table
	store    *kad.Store
	seen     *recent                  // the newest record seen of each peer
	sought   *recent                  // likewise, of those looked for: no stranger pushes any out
	checking map[identity.ID]struct{} // askers that are being asked back
	lost     map[identity.ID]*missed  // who did not answer
	reached  time.Time                // when they were asked again last
	stats    Stats
}

// Stats counts what the node did and holds.
type Stats struct {
	Contacts, Records                  int
	Lookups, Queries, Answered, Failed uint64
	Served, Refused                    uint64
	// Busy is how many queries others were too busy for.
	Busy uint64
}

// New returns a DHT that asks nobody before Start. It only stores the Config: node and directory need each other.
func New(cfg Config) *DHT {
	d := &DHT{
		cfg: cfg, log: cfg.Logger, ready: make(chan struct{}), store: kad.NewStore(), check: registry.Parse,
		seen: newRecent(maxSeen), sought: newRecent(maxSeen), checking: make(map[identity.ID]struct{}), lost: make(map[identity.ID]*missed), back: make(chan struct{}, 1), booted: make(chan struct{}),
	}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	if d.cfg.Now == nil {
		d.cfg.Now = time.Now
	}
	d.store.MaxRecords = cfg.MaxRecords
	d.limits.rate = float64(cmp.Or(cfg.Rate, DefaultRate))
	d.ctx, d.cancel = context.WithCancel(context.Background())
	return d
}

// Start begins to answer and to ask. It does not wait for an answer.
func (d *DHT) Start(n Network) error {
	id := n.ID()
	d.mu.Lock()
	switch {
	case d.closed:
		d.mu.Unlock()
		return fmt.Errorf("dht: start: %w", net.ErrClosed)
	case d.net != nil:
		d.mu.Unlock()
		return errors.New("dht: start: it runs already")
	}
	d.net, d.dial, d.table = n, n.Dial, kad.NewTable(kad.PeerKey(id))
	if f, ok := n.(fastDialer); ok {
		d.dial = f.FastDial
	}
	d.mu.Unlock()
	var l net.Listener
	if !d.cfg.Client {
		var err error
		if l, err = n.Listen(Service); err != nil { // may publish
			d.mu.Lock()
			d.net = nil
			d.mu.Unlock()
			return fmt.Errorf("dht: start: %w", err)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		if l != nil {
			l.Close()
		}
		return fmt.Errorf("dht: start: %w", net.ErrClosed)
	}
	if l != nil {
		d.listener = l
		d.wg.Go(func() { d.serve(l) }) // ends when the listener is closed
	}
	d.wg.Go(d.maintain) // ends with ctx
	d.wg.Go(d.seek)     // likewise
	close(d.ready)
	return nil
}

// Close ends all that goes on, and saves what is known. It is idempotent.
func (d *DHT) Close() error {
	d.mu.Lock()
	first := !d.closed
	d.closed = true
	l := d.listener
	d.mu.Unlock()
	d.cancel()
	if l != nil {
		l.Close()
	}
	d.wg.Wait()
	if first {
		return d.save()
	}
	return nil
}

// first are the nodes to ask when nobody else is known.
func (d *DHT) first() []identity.ID {
	if k, ok := d.net.(interface{ Known() []identity.ID }); ok && d.cfg.Bootstrap == nil {
		return k.Known()
	}
	return d.cfg.Bootstrap
}

// begun returns an error if Start was not called, and otherwise waits for the first answer, for a little.
func (d *DHT) begun(ctx context.Context) error {
	d.mu.Lock()
	begun := d.net != nil
	d.mu.Unlock()
	if !begun {
		return errNotStarted
	}
	if err := d.started(ctx); err != nil {
		return err
	}
	t := time.NewTimer(bootPatience)
	defer t.Stop()
	select {
	case <-d.booted:
	case <-t.C:
	case <-d.ctx.Done():
		return net.ErrClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

func (d *DHT) boot() { d.bootOnce.Do(func() { close(d.booted) }) }

var errNotStarted = errors.New("the DHT has not begun: call Start first")

// start waits until Start was called, and returns an error if ctx or the DHT ends before.
func (d *DHT) started(ctx context.Context) error {
	select {
	case <-d.ready:
	case <-d.ctx.Done():
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return net.ErrClosed
	}
	return nil
}

// Stats returns what the node did and holds.
func (d *DHT) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.stats
	if d.table != nil {
		s.Contacts = d.table.Len()
	}
	s.Records = d.store.Len()
	return s
}

// parse returns the record that b is, and whether it is no older than the newest of its peer. One that is from the future
// is not remembered: it would take the place of what comes until then.
func (d *DHT) parse(b []byte) (r *registry.Record, newest bool, err error) {
	hash := sha256.Sum256(b)
	d.mu.Lock()
	r = d.seen.known(hash)
	d.mu.Unlock()
	if r == nil {
		if r, err = d.check(b); err != nil {
			return nil, false, err
		}
	}
	if errors.Is(r.Check(d.cfg.Now()), registry.ErrFuture) {
		return r, false, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return r, d.learn(r), nil
}

// learn remembers r, and reports whether it is no older than what is known of its peer. mu is held.
func (d *DHT) learn(r *registry.Record) (newest bool) {
	newest = d.seen.add(r)
	if old := d.sought.get(r.ID); old != nil && old.Newer(r) {
		newest = false
	}
	if newest && r.Revoked && d.table != nil {
		d.table.Remove(kad.PeerKey(r.ID))
	}
	return newest
}

// newest returns the newest record of the peer that is remembered, or nil. mu is held.
func (d *DHT) newest(id identity.ID) *registry.Record {
	r := d.seen.get(id)
	if s := d.sought.get(id); s != nil && s.Newer(r) {
		return s
	}
	return r
}

func randomKey() (k kad.Key) {
	rand.Read(k[:])
	return k
}
