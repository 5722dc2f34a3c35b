// Package session keeps one conversation with one peer over any number of paths.
//
// A session is made after the first handshake and given paths as they come:
//
//	s := session.New(session.Config{Peer: peer, Dialler: true, OnStream: accept})
//	err := s.AddPath(conn, result, session.PathInfo{Remote: "wss://…"})
//	stream, err := s.Open()
//
// It promises that no byte is lost or doubled while a path remains: what a dead
// path had not acknowledged is sent again over the others. Nothing that a peer
// sends can make it hold more than the bounds in docs/SPEC.md.
//
// # Key invariants
//
//   - A path's reader takes s.mu and a lane's recvMu for short, bounded work and
//     never waits for the application, the mux or a writer.
//   - Lock order: path.wmu, lane.recvMu, Session.mu, the mux's own locks. Nothing
//     seals, reads or writes while it holds s.mu.
//   - A packet number is taken and its frame sealed under one hold of path.wmu, in
//     the same order, so that a number never repeats under a key.
//   - A segment belongs to its lane until acknowledged and is in flight on at most
//     one path.
package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/splitmesh/splitmesh/frame"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/internal/handshake"
	"github.com/splitmesh/splitmesh/internal/mux"
	"github.com/splitmesh/splitmesh/splitter"
)

// MaxPaths is the most paths that a session has at once.
const MaxPaths = 8

// FirstPath is the id of the path that a session begins with.
const FirstPath = 1

// Times of a session; SPEC.md, "Times".
const (
	ackDelay = 5 * time.Millisecond
	ackBytes = 64 << 10

	defaultKeepAlive = 20 * time.Second
	defaultDeadAfter = 10 * time.Second
	// lingerLimit bounds how long Close waits for the peer to have everything,
	// partingLimit how long for it to take the news.
	lingerLimit  = 5 * time.Second
	partingLimit = time.Second
)

const (
	initialTokens = 4
	maxTokenStock = 64
)

// Config is what a Session needs to know. Nil functions are not called; those
// given must not block and may be called from any of the session's goroutines.
type Config struct {
	Local, Peer  identity.ID
	PeerInstance [16]byte
	// Dialler says that this end dialled the session's first path. The other
	// end allots path ids and issues tokens.
	Dialler bool
	// Exporter is the first path's; the join secret comes from it.
	Exporter [32]byte
	// Policy of the throughput lane, with its defaults filled.
	Policy    splitter.Policy
	Scheduler splitter.Scheduler // nil: splitter.ShortestQueue
	// KeepAlive is how long a silent path waits before it is asked whether it
	// lives, DeadAfter how long an answer may take. 0: 20 s and 10 s.
	KeepAlive, DeadAfter time.Duration
	Budget               *mux.Budget
	Logger               *slog.Logger

	OnStream func(*mux.Stream)     // the peer opened a stream
	OnToken  func(Token)           // a token was issued to the peer: admit it
	OnPath   func(*Session, Event) // a path came or went
	OnPolicy func(splitter.Policy) // the policy by which we send became stricter
	OnEnd    func(*Session, error) // the session is over
}

// An Event tells of a path that came (Err is nil) or went.
type Event struct {
	Path PathInfo
	Err  error
}

// A Session is one conversation with one peer. Its methods are safe for
// concurrent use.
type Session struct {
	cfg     Config
	join    [32]byte
	sched   splitter.Scheduler
	control *lane
	data    *lane
	lanes   []*lane // by priority, control first; fixed

	srtt    atomic.Int64            // of the path last acknowledged, ns; read under the mux's locks
	anyPath atomic.Pointer[[]*path] // those alive, for Wake
	wg      sync.WaitGroup          // the paths' goroutines
	done    chan struct{}           // closed when the session is over

	mu       sync.Mutex // guards all below
	now      time.Time  // read when mu was taken
	paths    []*path    // alive, by age
	carriers map[identity.ID]int
	nextPath uint32
	err      error
	parting  error // what err will be when the peer closes, if we said that we part
	timer    *time.Timer
	timerAt  time.Time
	views    []splitter.Path
	tokens   []Token
	tokenC   chan struct{} // closed and replaced when tokens come
	drained  chan struct{} // closed when every lane is acknowledged, if not nil
	after    after
	// policyEnd is the control lane's offset behind our policy, 0 if we need none:
	// no data goes before the peer has that much.
	policyEnd uint64
	gone      map[identity.ID]*PathCounters // of dead paths, by relay
}

// after collects what is to be done once mu is released.
type after struct {
	killed []*path
	added  *path
	ended  bool
}

// New makes a session without paths. It does nothing until AddPath.
func New(cfg Config) *Session {
	if cfg.KeepAlive == 0 {
		cfg.KeepAlive = defaultKeepAlive
	}
	if cfg.DeadAfter == 0 {
		cfg.DeadAfter = defaultDeadAfter
	}
	if cfg.Scheduler == nil {
		cfg.Scheduler = splitter.ShortestQueue{}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Session{
		cfg: cfg, sched: cfg.Scheduler, join: handshake.JoinSecret(&cfg.Exporter),
		nextPath: FirstPath, gone: make(map[identity.ID]*PathCounters), carriers: make(map[identity.ID]int), done: make(chan struct{}), tokenC: make(chan struct{}),
	}
	s.control = newLane(s, laneControl, splitter.Policy{Purpose: splitter.Throughput, MinPaths: 1, MaxShare: 1})
	s.data = newLane(s, laneThroughput, cfg.Policy)
	s.data.mux = mux.New(mux.Config{Client: cfg.Dialler, Output: s.data, Accept: cfg.OnStream, RTT: func() time.Duration { return time.Duration(s.srtt.Load()) }, Budget: cfg.Budget})
	s.lanes = []*lane{s.control, s.data}
	return s
}

// Peer is who the session is with.
func (s *Session) Peer() identity.ID { return s.cfg.Peer }

// PeerInstance tells one run of the peer from another.
func (s *Session) PeerInstance() [16]byte { return s.cfg.PeerInstance }

// Dialler reports whether this end dialled the session.
func (s *Session) Dialler() bool { return s.cfg.Dialler }

// Done is closed when the session is over; Err then says why.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err is nil until the session is over.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Open opens a stream to the peer. It does not wait for the peer.
func (s *Session) Open() (*mux.Stream, error) {
	if err := s.Err(); err != nil {
		return nil, err
	}
	return s.data.mux.Open()
}

// NumStreams is the number of streams open, in both directions.
func (s *Session) NumStreams() int { return s.data.mux.NumStreams() }

// AllotPath returns a path id that was never used. Only the end that did not
// dial the session allots.
func (s *Session) AllotPath() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nextPath++
	return s.nextPath
}

// ErrTooManyPaths reports a path over MaxPaths.
var ErrTooManyPaths = fmt.Errorf("the session has %d paths already", MaxPaths)

// AddPath gives the session a connection over which the handshake has ended in
// r. The session owns conn from here on, and closes it when AddPath fails.
func (s *Session) AddPath(conn net.Conn, r *handshake.Result, info PathInfo) error {
	info.ID = r.PathID
	p := &path{s: s, info: info, carrier: -1, conn: conn, wake: make(chan struct{}, 1), done: make(chan struct{})}
	opener, err := frame.NewOpener(r.Suite, &r.Recv, 0)
	if err == nil {
		p.sealer, err = frame.NewSealer(r.Suite, &r.Send, 0)
	}
	if err == nil && (r.Peer != s.cfg.Peer || r.PeerInstance != s.cfg.PeerInstance) {
		err = errors.New("the path leads to another peer than the session's")
	}
	if err != nil {
		conn.Close()
		return err
	}
	s.lock()
	switch {
	case s.err != nil:
		err = s.err
	case len(s.paths) >= MaxPaths:
		err = ErrTooManyPaths
	case info.ID < FirstPath || s.pathByID(info.ID) != nil:
		err = violation("path id %d is taken", info.ID)
	}
	if err != nil {
		s.mu.Unlock()
		conn.Close()
		return err
	}
	if !info.Relay.IsZero() {
		n, ok := s.carriers[info.Relay]
		if !ok {
			n = len(s.carriers)
			s.carriers[info.Relay] = n
		}
		p.carrier = n
	}
	p.lastRecv = s.now
	s.setPaths(append(slices.Clone(s.paths), p))
	s.arm(s.now.Add(s.cfg.KeepAlive))
	s.wg.Go(func() { p.read(opener) }) // ends when the path is dead
	s.wg.Go(p.flush)                   // likewise
	if info.ID == FirstPath {
		s.greet()
	}
	s.after.added = p
	s.schedule()
	s.unlock(false)
	return nil
}

// removePath takes p out of the live ones. s.mu is held.
func (s *Session) removePath(p *path) {
	s.setPaths(slices.DeleteFunc(slices.Clone(s.paths), func(q *path) bool { return q == p }))
	if s.gone[p.info.Relay] == nil {
		s.gone[p.info.Relay] = new(PathCounters)
	}
	s.gone[p.info.Relay].add(&p.stats)
}

// setPaths replaces the live paths by a slice that nobody changes. s.mu is held.
func (s *Session) setPaths(paths []*path) {
	s.paths = paths
	s.anyPath.Store(&paths)
}

func (s *Session) pathByID(id uint32) *path {
	for _, p := range s.paths {
		if p.info.ID == id {
			return p
		}
	}
	return nil
}

// lock takes s.mu and reads the clock.
func (s *Session) lock() {
	s.mu.Lock()
	s.now = time.Now()
}

// unlock releases s.mu and then does what was put off until then. With inline,
// the first path that was given something is written to by the caller itself.
func (s *Session) unlock(inline bool) {
	var wake [MaxPaths]*path
	n := 0
	for _, p := range s.paths {
		if p.woken {
			p.woken = false
			wake[n] = p
			n++
		}
	}
	roomy := s.data.roomy()
	if roomy {
		s.data.starved = false
	}
	if s.drained != nil && s.idle() {
		close(s.drained)
		s.drained = nil
	}
	after, err := s.after, s.err
	s.after.killed, s.after.added, s.after.ended = nil, nil, false
	s.mu.Unlock()

	if roomy {
		s.data.mux.Writable()
	}
	if after.killed != nil || after.added != nil || after.ended {
		s.tell(&after, err)
	}
	for i, p := range wake[:n] {
		if inline && i == 0 {
			p.pumpInline()
		} else {
			p.signal()
		}
	}
}

// tell carries out the rare part of unlock.
func (s *Session) tell(a *after, err error) {
	if p := a.added; p != nil {
		s.cfg.Logger.Debug("path up", "peer", s.cfg.Peer.Short(), "path", p.info.ID, "via", p.info.Remote)
		if s.cfg.OnPath != nil {
			s.cfg.OnPath(s, Event{Path: p.info})
		}
	}
	for _, p := range a.killed {
		p.conn.Close()
		s.cfg.Logger.Debug("path down", "peer", s.cfg.Peer.Short(), "path", p.info.ID, "via", p.info.Remote, "cause", p.cause)
		if s.cfg.OnPath != nil {
			s.cfg.OnPath(s, Event{Path: p.info, Err: p.cause})
		}
	}
	if a.ended {
		s.data.mux.Close(err)
		close(s.done)
		if s.cfg.OnEnd != nil {
			s.cfg.OnEnd(s, err)
		}
	}
}

// TakeToken returns a token that admits one more path, waiting for the peer to
// issue one if need be, and asks the peer for another in its place. The oldest
// goes first: the peer forgets the oldest when there are too many.
func (s *Session) TakeToken(ctx context.Context) (handshake.Join, error) {
	for {
		s.mu.Lock()
		if s.err != nil {
			defer s.mu.Unlock()
			return handshake.Join{}, s.err
		}
		if len(s.tokens) > 0 {
			j := handshake.Join{Token: s.tokens[0], Secret: s.join}
			s.tokens = s.tokens[1:]
			s.now = time.Now()
			s.say(appendWant(nil, 1))
			s.schedule()
			s.unlock(false)
			return j, nil
		}
		more := s.tokenC
		s.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
			return handshake.Join{}, fmt.Errorf("waiting for %s to admit another path: %w", s.cfg.Peer.Short(), context.Cause(ctx))
		}
	}
}

// JoinSecret is mixed into the handshake of every path that joins.
func (s *Session) JoinSecret() [32]byte { return s.join }
