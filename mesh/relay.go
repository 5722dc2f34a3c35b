package mesh

import (
	"encoding/binary"
	"maps"
	"sync"
	"sync/atomic"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/internal/session"
	"golang.org/x/time/rate"
)

// RelayConfig says what a relay does for others. Zero fields mean the defaults. A
// dialler that runs into a limit gets a *LimitError that names the field.
type RelayConfig struct {
	// MaxReservations bounds the peers that may be reached through the relay.
	// 0 means 4096.
	MaxReservations int
	// MaxCircuits bounds the circuits at once, MaxCircuitsPerPeer those that one
	// peer dialled, MaxCircuitsPerNetwork those dialled from one network (IPv4
	// /16, IPv6 /32). 0 means 8192, 256 and 2048.
	MaxCircuits, MaxCircuitsPerPeer, MaxCircuitsPerNetwork int
	// MaxCircuitBytes bounds what one circuit carries, both ways together.
	// 0 means no limit.
	MaxCircuitBytes uint64
	// BytesPerSecond bounds what the circuits of one dialling peer carry
	// together. 0 means no limit.
	BytesPerSecond int
	// BufferBytes is the budget of all streams' windows above their first
	// 256 KiB. 0 means 256 MiB.
	BufferBytes int64
	// Allow says who may reserve and dial. Nil: everyone.
	Allow func(peer identity.ID) bool
}

// limiterBurst is more than any buffer that a splice is given at once.
const limiterBurst = 64 << 10

const limitBytes = "MaxCircuitBytes"

func (c RelayConfig) withDefaults() RelayConfig {
	fill := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	fill(&c.MaxReservations, 4096)
	fill(&c.MaxCircuits, 8192)
	fill(&c.MaxCircuitsPerPeer, 256)
	fill(&c.MaxCircuitsPerNetwork, 2048)
	if c.BufferBytes == 0 {
		c.BufferBytes = windowBytes
	}
	return c
}

// RelayStats counts what a relay does.
type RelayStats struct {
	Reservations, Circuits int
	// Bytes counts what the circuits have carried, both ways together.
	Bytes uint64
	// Refused counts the requests refused by the RelayConfig field that refused them,
	// such as "MaxCircuits" and "Allow". A field that refused none is not in it.
	Refused map[string]uint64
}

// A relay splices streams. It holds no key of what they carry, dials nobody, and
// forwards only between sessions that live.
type relay struct {
	n *Node

	mu           sync.Mutex // guards all below
	cfg          RelayConfig
	refused      map[string]uint64
	running      map[*splice]struct{}
	reservations map[identity.ID]*session.Session
	peers        map[identity.ID]*usage // of the diallers of circuits
	networks     map[string]int
	circuits     int
	drained      chan struct{} // nil: it does not drain; closed when it has no circuit left

	bytes atomic.Uint64
}

// usage is what one dialling peer uses.
type usage struct {
	circuits int
	limiter  *rate.Limiter // nil: no limit
}

func newRelay(n *Node, cfg RelayConfig) *relay {
	return &relay{
		n: n, cfg: cfg.withDefaults(), reservations: make(map[identity.ID]*session.Session),
		peers: make(map[identity.ID]*usage), networks: make(map[string]int),
		refused: make(map[string]uint64), running: make(map[*splice]struct{}),
	}
}

func (r *relay) stats() RelayStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return RelayStats{len(r.reservations), r.circuits, r.bytes.Load(), maps.Clone(r.refused)}
}

// serveRelay answers a request to relay.
func (n *Node) serveRelay(s *session.Session, st *session.Stream, q openRequest) {
	r := n.relay
	if r == nil || !r.allows(s.Peer()) {
		refuse(st, openAnswer{status: statusRefused, body: []byte("this node does not relay for you")})
		return
	}
	if q.service == serviceReserve {
		refuse(st, r.reserve(s))
		return
	}
	r.connect(s, st, identity.ID(q.body[:len(identity.ID{})]), q.body[len(identity.ID{}):])
}

// reserve makes s's peer reachable through the relay until s ends. Of two
// sessions with a peer, the newer counts.
func (r *relay) reserve(s *session.Session) openAnswer {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.drained != nil {
		return goingAway
	}
	if r.reservations[s.Peer()] == nil && len(r.reservations) >= r.cfg.MaxReservations {
		return r.over("MaxReservations", r.cfg.MaxReservations)
	}
	if s.Err() == nil {
		r.reservations[s.Peer()] = s
	}
	return openAnswer{}
}

func (r *relay) sessionEnded(s *session.Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.reservations[s.Peer()] == s {
		delete(r.reservations, s.Peer())
	}
}

// connect carries an opening to target and, if it is admitted, the circuit.
func (r *relay) connect(s *session.Session, st *session.Stream, target identity.ID, opening []byte) {
	use, done, limit := r.admit(s)
	if limit != nil {
		refuse(st, *limit)
		return
	}
	defer done()
	r.mu.Lock()
	to := r.reservations[target]
	r.mu.Unlock()
	if to == nil {
		refuse(st, openAnswer{status: statusNotReserved})
		return
	}
	source := s.Peer()
	out, _, err := r.n.ask(r.n.ctx, to, openRequest{serviceCircuit, append(source[:], opening...)})
	if err != nil {
		r.n.log.Debug("circuit refused", "source", source.Short(), "target", target.Short(), "err", err)
		refuse(st, openAnswer{status: statusRefused})
		return
	}
	c := r.splice(source, target, st, out, use)
	defer r.ended(c)
	ok := openAnswer{}
	if c.max > 0 {
		ok.body = binary.BigEndian.AppendUint64(nil, c.max)
	}
	if _, err := st.Write(appendAnswer(nil, ok)); err != nil {
		out.Reset()
		st.Reset()
		return
	}
	c.run()
}

// admit counts a circuit that s's peer wants, or says which limit forbids it.
func (r *relay) admit(s *session.Session) (use *usage, done func(), limit *openAnswer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	peer, network := s.Peer(), ""
	if host, ok := seenAt(s); ok {
		network = networkOf(host)
	}
	over := func(name string, value int) (*usage, func(), *openAnswer) {
		a := r.over(name, value)
		return nil, nil, &a
	}
	use = r.peers[peer]
	switch {
	case r.drained != nil:
		return nil, nil, &goingAway
	case r.circuits >= r.cfg.MaxCircuits:
		return over("MaxCircuits", r.cfg.MaxCircuits)
	case use != nil && use.circuits >= r.cfg.MaxCircuitsPerPeer:
		return over("MaxCircuitsPerPeer", r.cfg.MaxCircuitsPerPeer)
	case network != "" && r.networks[network] >= r.cfg.MaxCircuitsPerNetwork:
		return over("MaxCircuitsPerNetwork", r.cfg.MaxCircuitsPerNetwork)
	}
	if use == nil {
		r.forgetful()
		use = new(usage)
		use.limitTo(r.cfg.BytesPerSecond)
		r.peers[peer] = use
	}
	use.circuits++
	r.circuits++
	r.networks[network]++
	return use, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.circuits--; r.circuits == 0 && r.drained != nil {
			close(r.drained)
		}
		// With a limiter it stays, or a peer would get a fresh burst with each
		// circuit; forgetful makes room.
		if use.circuits--; use.circuits == 0 && use.limiter == nil {
			delete(r.peers, peer)
		}
		if r.networks[network]--; r.networks[network] == 0 {
			delete(r.networks, network)
		}
	}, nil
}

// forgetful forgets the peers without circuits when it knows too many. mu is held.
func (r *relay) forgetful() {
	if len(r.peers) < r.cfg.MaxCircuits+maxIdlePeers {
		return
	}
	for id, use := range r.peers {
		if use.circuits == 0 {
			delete(r.peers, id)
		}
	}
}

// maxIdlePeers is how many peers without circuits a relay remembers the rate of.
const maxIdlePeers = 4096
