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
//   - Lock order: path.wmu, lane.recvMu, Session.mu, then path.omu, an inbox's and
//     the mux's own locks. Nothing
//     seals, reads or writes while it holds s.mu.
//   - A packet number is taken and its frame sealed under one hold of path.wmu, in
//     the same order, so that a number never repeats under a key.
//   - A segment belongs to its lane until acknowledged, and is in flight on one path;
//     on another too only when its path is late with it.
package session

import (
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
	"github.com/splitmesh/splitmesh/internal/buf"
	"github.com/splitmesh/splitmesh/internal/handshake"
	"github.com/splitmesh/splitmesh/internal/mux"
	"github.com/splitmesh/splitmesh/internal/rekey"
	"github.com/splitmesh/splitmesh/splitter"
	"github.com/splitmesh/splitmesh/splitter/padding"
)

// MaxPaths is the most paths that a session has at once.
const MaxPaths = 8

// FirstPath is the id of the path that a session begins with.
const FirstPath = 1

// Times of a session; SPEC.md, "Times".
const (
	ackDelay = 5 * time.Millisecond
	ackBytes = 64 << 10

	// probeEvery is how long a path may be silent while others carry data.
	probeEvery       = 250 * time.Millisecond
	defaultKeepAlive = 20 * time.Second
	defaultDeadAfter = 10 * time.Second
	// lingerLimit bounds how long Close waits for the peer to have everything,
	// partingLimit how long for it to take the news.
	lingerLimit  = 5 * time.Second
	partingLimit = time.Second
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
	// Policy is the least strict by which this end sends, with its defaults
	// filled: MinPaths and MaxShare hold for every lane, whoever began it.
	Policy    splitter.Policy
	Scheduler splitter.Scheduler // nil: splitter.EarliestCompletion
	// Grace is how long the session keeps its state without a path. 0: it ends
	// with its last one.
	Grace time.Duration
	// Rekey says when keys have served long enough.
	Rekey rekey.Limits
	// Cells makes every frame a cell of one size, and pads: for the policy
	// Unlinkability. Only the end that dials says so.
	Cells bool
	// KeepAlive is how long a silent path waits before it is asked whether it
	// lives, DeadAfter how long an answer may take. 0: 20 s and 10 s.
	KeepAlive, DeadAfter time.Duration
	Budget               *mux.Budget
	Limit                *Limit // of what this and other sessions keep; nil: none
	Logger               *slog.Logger

	OnStream func(*Stream)         // the peer opened a stream
	OnToken  func(Token)           // a token that the peer may show: admit it
	OnPath   func(*Session, Event) // a path came, went, or changed its state
	OnPolicy func(splitter.Policy) // a lane came, or the policy by which we send on one became stricter
	OnEnd    func(*Session, error) // the session is over
}

// An Event tells that a path came into a state.
type Event struct {
	Path  PathInfo
	State State
	Err   error // why it died
}

// A Session is one conversation with one peer. Its methods are safe for
// concurrent use.
type Session struct {
	cfg     Config
	join    [32]byte
	sched   splitter.Scheduler
	control *lane
	data    *lane // laneDefault

	allLanes atomic.Pointer[[]*lane] // lanes, for readers
	waiting  atomic.Int64            // what the lanes keep that came out of order or incomplete
	cells    atomic.Bool             // every frame is a cell
	suite    atomic.Uint32           // of the first path
	srtt     atomic.Int64            // of the best path, ns; read under the mux's locks
	anyPath  atomic.Pointer[[]*path] // those alive, for Wake
	wg       sync.WaitGroup          // the paths' goroutines
	done     chan struct{}           // closed when the session is over
	proven   chan struct{}           // closed when something has come from the peer

	mu        sync.Mutex // guards all below
	now       time.Time  // read when mu was taken
	paths     []*path    // alive, by age
	lanes     []*lane    // by class, control first; replaced, never changed
	nextLane  byte
	carriers  carriers
	nextPath  uint32
	joined    idWindow
	parting   map[uint32]struct{} // dead paths that the peer has yet to abandon
	err       error
	farewell  error // what err will be when the peer closes, if we said that we part
	hop       bool  // the streams are circuits
	keys      *rekey.State
	proposing bool // keys for a proposal are being made
	grace     time.Duration
	// Of a session of cells.
	padding    *padding.Framework
	padTimers  [padding.MaxMachines]padTimer
	padPaths   []uint32         // scratch
	padActions []padding.Action // likewise
	// Without paths: since when, and why the last one died.
	pathlessSince time.Time
	lastCause     error
	timer         *time.Timer
	timerAt       time.Time
	views         []splitter.Path
	bottlenecks   splitter.Bottlenecks
	begun         bool          // proven is closed
	nextToken     uint64        // to be issued, or taken
	returned      []Token       // taken, and of no use
	drained       chan struct{} // closed when every lane is acknowledged, if not nil
	after         after
	gone          map[identity.ID]*PathCounters // of dead paths, by relay
}

// after collects what is to be done once mu is released.
type after struct {
	killed []*path
	events []Event
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
		cfg.Scheduler = splitter.EarliestCompletion{}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Session{
		cfg: cfg, sched: cfg.Scheduler, join: handshake.JoinSecret(&cfg.Exporter), grace: cfg.Grace,
		nextPath: FirstPath, nextLane: laneDefault + 1,
		gone: make(map[identity.ID]*PathCounters), parting: make(map[uint32]struct{}),
		done: make(chan struct{}), proven: make(chan struct{}),
	}
	if !cfg.Dialler {
		s.nextLane++
	}
	s.keys = rekey.New(cfg.Dialler, &cfg.Exporter, cfg.Rekey, time.Now())
	s.control = newLane(s, laneControl, plainPolicy, 0)
	s.addLane(s.control)
	s.data = newLane(s, laneDefault, plainPolicy, splitter.Interactive)
	s.data.policy = plainPolicy.Stricter(cfg.Policy)
	s.addLane(s.data)
	if cfg.Cells {
		s.useCells()
	}
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

// Open opens a stream to the peer, on the lane of the policy and class, whose
// defaults are filled. It does not wait for the peer. The error may be
// ErrTooManyLanes.
func (s *Session) Open(policy splitter.Policy, class splitter.Class) (*Stream, error) {
	s.lock()
	if s.err != nil {
		defer s.mu.Unlock()
		return nil, s.err
	}
	l, err := s.laneFor(policy, class)
	s.unlock(false)
	if err != nil {
		return nil, err
	}
	st, err := l.mux.Open()
	if err != nil {
		return nil, err
	}
	return &Stream{Stream: st, lane: l}, nil
}

// NumStreams is the number of streams open, in both directions.
func (s *Session) NumStreams() (n int) {
	for _, l := range *s.allLanes.Load() {
		if l.mux != nil {
			n += l.mux.NumStreams()
		}
	}
	return n
}

// AllotPath returns a path id that was never used. Only the end that did not
// dial the session allots.
func (s *Session) AllotPath() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nextPath++
	return s.nextPath
}

// CarryCircuits says that the session's streams are circuits from now on, which
// carry sessions with windows of their own.
func (s *Session) CarryCircuits() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hop = true
	for _, p := range s.paths {
		p.est.loose = true
	}
}

// ErrTooManyPaths reports a path over MaxPaths.
var ErrTooManyPaths = fmt.Errorf("the session has %d paths already", MaxPaths)

// AddPath gives the session a connection over which the handshake has ended in
// r. The session owns conn from here on, and closes it when AddPath fails.
func (s *Session) AddPath(conn net.Conn, r *handshake.Result, info PathInfo) error {
	info.ID = r.PathID
	p := &path{s: s, info: info, carrier: directCarrier, conn: conn, wake: make(chan struct{}, 1), done: make(chan struct{})}
	if out, ok := conn.(buf.Writer); ok {
		p.out, p.headroom = out, out.Headroom()
	}
	var err error
	p.opener, err = frame.NewOpener(r.Suite, &r.Recv, 0)
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
	case !s.joined.add(info.ID):
		err = violation("path id %d was used before", info.ID)
	default:
		err = s.keys.Join(info.ID, &r.Exporter)
	}
	if err != nil {
		s.mu.Unlock()
		conn.Close()
		return err
	}
	p.carrier = s.carrierOf(&info)
	p.est.loose = s.hop
	p.lastRecv = s.now
	s.pathlessSince = time.Time{}
	s.setPaths(append(slices.Clone(s.paths), p))
	s.after.events = append(s.after.events, Event{Path: info, State: Probing})
	s.wg.Go(p.read)  // ends when the path is dead
	s.wg.Go(p.flush) // likewise
	s.arm(s.keys.DueAt())
	if info.ID == FirstPath {
		s.suite.Store(uint32(r.Suite))
		s.greet()
	}
	p.ask()
	s.rank()
	s.schedule()
	s.unlock(false)
	return nil
}

// removePath takes p out of the live ones. s.mu is held.
func (s *Session) removePath(p *path) {
	s.setPaths(slices.DeleteFunc(slices.Clone(s.paths), func(q *path) bool { return q == p }))
	s.keys.Leave(p.info.ID)
	s.bottlenecks.Forget(p.info.ID)
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
			if n == 0 && p.mayBlock() {
				inline = false
			}
			wake[n] = p
			n++
		}
	}
	var roomy [MaxLanes]*lane
	m := 0
	for _, l := range s.lanes {
		if l.roomy() {
			l.starved = false
			roomy[m] = l
			m++
		}
	}
	if s.drained != nil && s.idle() {
		close(s.drained)
		s.drained = nil
	}
	after, err := s.after, s.err
	s.after.killed, s.after.events, s.after.ended = nil, nil, false
	s.mu.Unlock()

	for _, l := range roomy[:m] {
		l.mux.Writable()
	}
	if after.events != nil || after.killed != nil || after.ended {
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
	for _, p := range a.killed {
		p.conn.Close()
	}
	for _, e := range a.events {
		s.cfg.Logger.Debug("path", "peer", s.cfg.Peer.Short(), "path", e.Path.ID, "via", e.Path.Remote, "state", e.State.String(), "cause", e.Err)
		if s.cfg.OnPath != nil {
			s.cfg.OnPath(s, e)
		}
	}
	if a.ended {
		for _, l := range *s.allLanes.Load() {
			if l.mux != nil {
				l.mux.Close(err)
			}
			l.inboxes.close(err)
		}
		close(s.done)
		if s.cfg.OnEnd != nil {
			s.cfg.OnEnd(s, err)
		}
	}
}
