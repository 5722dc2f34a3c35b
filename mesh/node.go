package mesh

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/multiformats/go-multiaddr"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/internal/handshake"
	"github.com/splitmesh/splitmesh/internal/mux"
	"github.com/splitmesh/splitmesh/internal/session"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/splitter"
	"github.com/splitmesh/splitmesh/transport"
	"github.com/splitmesh/splitmesh/transport/tcp"
	"github.com/splitmesh/splitmesh/transport/websocket"
)

// Bounds of a node; docs/SPEC.md, "Bounds".
const (
	maxPendingOf      = 64   // of these, from one address or relay
	maxPending        = 1024 // handshakes at once
	maxSessions       = 16384
	maxSessionsOfPeer = 16
	maxTokens         = 64        // unused, of one session
	waitingBytes      = 1 << 30   // out of order or incomplete, in all sessions
	windowBytes       = 256 << 20 // of streams' windows above their first 256 KiB
)

// A Node is one member of the mesh. Its zero value is useful: a node with a key
// of its own that listens nowhere. Fields are read-only after the first method
// call. A Node must not be copied.
type Node struct {
	// Identity is the node's key. Nil: a fresh one, forgotten on exit.
	Identity *identity.Key
	// ListenAddrs are where neighbours reach this node. None: only by relays.
	ListenAddrs []multiaddr.Multiaddr
	// Interfaces are the addresses of this machine: where others reach listeners on an
	// unspecified host. They are looked at again and again. Nil: net.InterfaceAddrs; who
	// makes some that lead through the mesh itself leaves those out.
	Interfaces func() ([]net.Addr, error)
	// Transports carry bytes to neighbours. Nil: websocket and tcp.
	Transports []transport.Transport
	// Bootstrap are addresses, each ending in /p2p/ID, of relays and peers known
	// from the start. A node that listens on a service reserves at those that relay.
	Bootstrap []multiaddr.Multiaddr
	// Reservations is at how many relays a node that listens on a service wants to be
	// reserved. Those of Bootstrap are used first, however many they are; if they are
	// too few, others that the Directory knows are taken, of many operators and
	// networks, if it is a [registry.Finder] or [registry.Lister]. 0 means 3, and 8 is
	// the most; negative: none of the Directory's. A node that itself relays takes none.
	Reservations int
	// Directory says where peers and relays are, and is told where this node is. May be nil.
	Directory registry.Directory
	// Names says whom a name means in Dial("name.mesh:service"), before the Directory
	// is asked, if that is a [registry.Namer]. May be nil. A name is never more than
	// the word of whoever was asked: what is dialled, and proven, is the ID.
	Names Resolver
	// Authority says whether a peer may join, and every 5 min whether it may stay; one
	// that can't tell lets nobody in, and puts out who is in after 15 min. Nil: everyone
	// may join.
	Authority registry.Authority
	// NetworkKey closes the network to all who don't have it. Nil: public.
	NetworkKey *[32]byte
	// Split is the policy of conns that are dialled without one of their own,
	// and the least strict by which this node sends on conns that it accepts. A
	// node with a private policy (secrecy, unlinkability) accepts no others.
	Split splitter.Policy
	// Scheduler picks the path of each piece that this node sends, as far as the
	// policy leaves it free: for Throughput. It is called from many goroutines,
	// with locks held: it must be quick and keep nothing. Nil:
	// splitter.EarliestCompletion.
	Scheduler splitter.Scheduler
	// Grace is how long a conn lives on without any path to its peer, waiting for
	// the network to come back. 0 means 60 s; negative: not at all.
	Grace time.Duration
	// FirstHops are the relays preferred when only relays may be used. Nil: those
	// that worked since the node was made.
	FirstHops *FirstHops
	// OnPath is told of every path that comes, goes or changes its state, one event
	// at a time and in order. While it blocks, events wait; over 4,096 of them, the
	// oldest are dropped. Close waits for it. Nil: nobody is told.
	OnPath func(PathEvent)
	// Operator names who runs the node, for those who would rather not split
	// over two relays of one operator. It is published in the node's record.
	Operator string
	// Network is the network that the node is in, such as its provider's, for the same
	// use. Name is what the node would like to be called: a directory that is a
	// [registry.Namer] gives it to one at a time, and a node that does not get it is
	// published without ([Stats.Unpublished] says so). Capabilities are what the node does
	// for others beside relaying, such as [registry.CapDHTServer]. All are published in
	// its record.
	Network, Name string
	Capabilities  []string
	// Relay makes the node carry circuits for others. Nil: it does not.
	Relay *RelayConfig
	// Authorize is asked before a conn of peer's to service is accepted. An
	// error refuses it; its text is for the log, not for the peer. Nil: accept.
	Authorize func(ctx context.Context, peer identity.ID, service string) error
	// Logger gets what the node does. No keys, no payload. Nil: nothing.
	Logger *slog.Logger

	once     sync.Once
	startErr error
	started  chan struct{} // closed when start has ended
	setup    sync.Once

	// Set by init, then read-only.
	key        *identity.Key
	id         identity.ID
	instance   [16]byte
	transports []transport.Transport
	interfaces func() ([]net.Addr, error)
	policy     splitter.Policy
	log        *slog.Logger
	ctx        context.Context // ends with Close
	cancel     context.CancelFunc
	seen       *handshake.ReplayCache
	budget     *mux.Budget
	limit      *session.Limit
	pending    chan struct{}
	moved      chan struct{} // of size 1: the record is to be published anew
	dialled    chan struct{} // of size 1: there is a peer more that could observe us
	callers    callers
	relay      *relay
	firstHops  *FirstHops
	operators  operators

	wg sync.WaitGroup // every goroutine of the node; Add under mu while not closed

	mu           sync.Mutex // guards all below
	closed       bool
	arrivals     []transport.Listener
	healths      map[identity.ID]health
	unpublished  error                 // why the directory did not take the record
	observed     []multiaddr.Multiaddr // at which peers say that they reach us
	services     map[string]*listener
	links        map[linkKey]*link
	sessions     map[*session.Session]*accepted     // of both directions
	peers        map[identity.ID][]*session.Session // the same, by peer
	tokens       map[[32]byte]*session.Session      // by the token's SHA-256
	reservations map[identity.ID]*session.Session   // relays that forward to us
	asked        map[identity.ID]*session.Session   // those, and relays that have yet to answer
	reserves     bool
	reserving    map[identity.ID]struct{}         // relays that are being asked for the first time
	wanted       int                              // reservations
	found        map[identity.ID]*registry.Record // relays in use that the directory told of
	relayRests   map[identity.ID]pace             // of such that failed
	relayMet     map[identity.ID]string           // the networks in which such were met
	seekErr      error                            // why the directory told of no more
	reservedC    chan struct{}                    // closed and replaced when any of these changes
	lastSequence int64
	past         Stats                         // of the sessions that ended: no more than what they carried
	pathless     map[*session.Session]struct{} // that wait for a path, or did
	bounding     bool                          // boundPathless runs
	boundAgain   bool                          // and is to look again
	events       []PathEvent                   // that OnPath has yet to be told
	telling      bool                          // tellAll runs
	refusals     map[identity.ID]error         // why there is no reservation at a relay
	sources      map[string]int                // handshakes at once, by address or relay
	blocks       map[identity.ID]*block
}

// init fills what the fields leave open. It starts nothing.
func (n *Node) init() {
	n.setup.Do(func() {
		n.ctx, n.cancel = context.WithCancel(context.Background())
		n.started = make(chan struct{})
		n.services = make(map[string]*listener)
		n.links = make(map[linkKey]*link)
		n.sessions = make(map[*session.Session]*accepted)
		n.peers = make(map[identity.ID][]*session.Session)
		n.tokens = make(map[[32]byte]*session.Session)
		n.pathless = make(map[*session.Session]struct{})
		if n.firstHops = n.FirstHops; n.firstHops == nil {
			n.firstHops = new(FirstHops)
		}
		n.reservations = make(map[identity.ID]*session.Session)
		n.asked = make(map[identity.ID]*session.Session)
		n.refusals = make(map[identity.ID]error)
		n.reserving = make(map[identity.ID]struct{})
		n.healths = make(map[identity.ID]health)
		n.found = make(map[identity.ID]*registry.Record)
		n.relayRests = make(map[identity.ID]pace)
		n.relayMet = make(map[identity.ID]string)
		n.wanted = min(cmp.Or(n.Reservations, defaultReservations), maxReservations)
		n.moved = make(chan struct{}, 1)
		n.dialled = make(chan struct{}, 1)
		n.sources = make(map[string]int)
		n.reservedC = make(chan struct{})
		n.pending = make(chan struct{}, maxPending)
		if n.interfaces = n.Interfaces; n.interfaces == nil {
			n.interfaces = net.InterfaceAddrs
		}
		n.log = n.Logger
		if n.log == nil {
			n.log = slog.New(slog.DiscardHandler)
		}
		n.transports = n.Transports
		if n.transports == nil {
			n.transports = []transport.Transport{&websocket.Transport{}, &tcp.Transport{}}
		}
		n.seen = new(handshake.ReplayCache)
		rand.Read(n.instance[:])
		n.key = n.Identity
		if n.key == nil {
			n.key, n.startErr = identity.GenerateKey()
		}
		if n.startErr != nil {
			return
		}
		n.id = n.key.ID()
		n.log = n.log.With("node", n.id.Short())
		n.policy, n.startErr = n.Split.WithDefaults(false)
		n.budget = mux.NewBudget(windowBytes)
		n.limit = session.NewLimit(waitingBytes)
		if n.Relay != nil {
			n.relay = newRelay(n, *n.Relay)
			n.budget = mux.NewBudget(n.relay.cfg.BufferBytes)
		}
	})
}

// Start begins to listen on ListenAddrs. Dial and Listen start the node
// themselves; to call Start is to learn early what is wrong. ctx bounds the wait
// only: the node starts once, for all who ask.
func (n *Node) Start(ctx context.Context) error {
	n.init()
	n.once.Do(func() {
		starts := n.goRun(func() { // ends with start, which n.ctx bounds
			defer close(n.started)
			if n.startErr == nil {
				n.startErr = n.start(n.ctx)
			}
		})
		if !starts {
			close(n.started)
		}
	})
	select {
	case <-n.started:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed { // which may be why the start failed
		return errNodeClosed
	}
	return n.startErr
}

func (n *Node) start(ctx context.Context) error {
	if n.NetworkKey != nil && *n.NetworkKey == [32]byte{} {
		return &OpError{Op: "start", Err: errors.New("the network key is all zeros; nil means none")}
	}
	if n.Relay != nil && len(n.ListenAddrs) == 0 {
		return &OpError{Op: "start", Err: errors.New("a relay needs ListenAddrs")}
	}
	for _, b := range n.Bootstrap {
		base, id, ok, err := transport.SplitPeer(b)
		if err != nil || !ok || id.IsZero() {
			return &OpError{Op: "start", Err: fmt.Errorf("bootstrap address %s does not end in /p2p/ID", b)}
		}
		if !n.canDial(base) {
			return &OpError{Op: "start", Err: fmt.Errorf("bootstrap address %s: %w", b, transport.ErrUnsupported)}
		}
	}
	if err := n.record().Sign(n.key); err != nil {
		return &OpError{Op: "start", Err: fmt.Errorf("what the node says of itself (Name, Operator, Network, Capabilities): %w", err)}
	}
	for _, addr := range n.ListenAddrs {
		l, err := n.listenOn(ctx, addr)
		if err == nil && !n.keepArrivals(l) {
			l.Close()
			err = errNodeClosed
		}
		if err != nil {
			n.closeArrivals()
			if errors.Is(err, transport.ErrUnsupported) {
				err = fmt.Errorf("listen on %s: %w (leave out /p2p/ID here)", addr, err)
			}
			return &OpError{Op: "start", Err: err}
		}
		n.log.Info("listening", "addr", l.Multiaddr().String())
	}
	if n.Directory != nil {
		n.goRun(n.keepPublished) // ends with n.ctx
	}
	if n.tellsWhere() && len(n.unsure()) > 0 {
		n.goRun(n.keepObserved) // ends with n.ctx
	}
	if n.Directory != nil || n.Authority != nil {
		n.goRun(n.keepStanding) // ends with n.ctx
	}
	return nil
}

// listenOn listens with the first transport that knows the address.
func (n *Node) listenOn(ctx context.Context, addr multiaddr.Multiaddr) (transport.Listener, error) {
	admit := func(opening []byte) func(net.Conn) { return n.admit(opening, session.PathInfo{}) }
	for _, t := range n.transports {
		l, err := t.Listen(ctx, addr, admit)
		if !errors.Is(err, transport.ErrUnsupported) {
			return l, err
		}
	}
	return nil, transport.ErrUnsupported
}

func (n *Node) keepArrivals(l transport.Listener) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return false
	}
	n.arrivals = append(n.arrivals, l)
	return true
}

func (n *Node) closeArrivals() {
	n.mu.Lock()
	arrivals := n.arrivals
	n.arrivals = nil
	n.mu.Unlock()
	for _, l := range arrivals {
		l.Close()
	}
}

// ID is the node's identity. It is fixed from the first method call on.
func (n *Node) ID() identity.ID {
	n.init()
	return n.id
}

// Addrs are the addresses that the node listens on, each ending in /p2p/ID: what
// others put into Bootstrap. An unspecified host, such as 0.0.0.0, is to be
// replaced by one at which they reach this machine.
func (n *Node) Addrs() []multiaddr.Multiaddr {
	n.init()
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []multiaddr.Multiaddr
	for _, l := range n.arrivals {
		out = append(out, transport.WithPeer(l.Multiaddr(), n.id))
	}
	return out
}

// Listen accepts conns to a service of this node. It starts the node, and lets it
// reserve at relays (see Reservations); WaitReserved waits for that.
// Errors are *OpError, and wrap ErrServiceTaken, or net.ErrClosed when the node is
// closed, or say why it does not start.
func (n *Node) Listen(service string) (net.Listener, error) {
	if err := checkService(service); err != nil {
		return nil, &OpError{Op: "listen", Service: service, Err: err}
	}
	if err := n.Start(context.Background()); err != nil {
		return nil, err
	}
	l := &listener{n: n, addr: Addr{n.id, service}, in: make(chan *Conn, backlog), done: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.closed:
		return nil, &OpError{Op: "listen", Service: service, Err: errNodeClosed}
	case n.services[service] != nil:
		return nil, &OpError{Op: "listen", Service: service, Err: ErrServiceTaken}
	}
	n.services[service] = l
	if !n.reserves {
		n.reserves = true
		n.reserveAll()
	}
	return l, nil
}

func (n *Node) forget(l *listener) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.services[l.addr.Service] == l {
		delete(n.services, l.addr.Service)
	}
}

// goRun starts f in a goroutine that Close waits for; f ends when n.ctx does. It
// reports false, and does not start f, when the node is closed.
func (n *Node) goRun(f func()) bool {
	ok := n.hold()
	if ok {
		defer n.wg.Done()
		n.wg.Go(f)
	}
	return ok
}

// hold has Close wait for the caller, until n.wg.Done. It reports false when Close
// waits already.
func (n *Node) hold() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.closed {
		n.wg.Add(1)
	}
	return !n.closed
}

// Close ends every session in order, each in 6 s at most, and returns when all
// of the node's goroutines have ended. A session that waits for its peer to come
// back is ended at once. It is idempotent and safe at any moment.
func (n *Node) Close() error {
	n.init()
	n.mu.Lock()
	already := n.closed
	n.closed = true
	services := n.services
	n.services = make(map[string]*listener)
	n.mu.Unlock()
	if already {
		n.wg.Wait()
		return nil
	}
	for _, l := range services {
		l.Close()
	}
	n.closeArrivals()
	// Sessions over circuits first: they need those with relays to say goodbye.
	for _, hop := range []bool{false, true} {
		n.closeSessions(hop)
	}
	n.cancel()
	n.closeSessions(false)
	n.closeSessions(true)
	n.wg.Wait()
	return nil
}

// closeSessions closes the sessions that are (or are not) with relays.
func (n *Node) closeSessions(hop bool) {
	n.mu.Lock()
	var closing []*session.Session
	for s, a := range n.sessions {
		if isHop := a.hop || n.reservations[s.Peer()] == s; isHop == hop {
			closing = append(closing, s)
		}
	}
	n.mu.Unlock()
	var wg sync.WaitGroup
	for _, s := range closing {
		if since, _ := s.Pathless(); !since.IsZero() { // a closed node joins no paths
			s.Abort(session.CodeNormal)
			continue
		}
		wg.Go(func() { s.Close() })
	}
	wg.Wait()
}
