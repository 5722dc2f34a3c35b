// Package link emulates network links: it shapes rate, delay, jitter and buffer,
// and cuts, black-holes and heals under the control of a test or a simulation.
//
// A [Link] carries any number of connections, which share its rate. They are
// made in memory by [Link.Pipe], or are real ones put behind the link by [Wrap]
// or, for a whole transport, by [WrapTransport]:
//
//	l := link.New(link.Config{
//		Up:   link.Shape{Rate: 1 << 20, Delay: 20 * time.Millisecond},
//		Down: link.Shape{Rate: 8 << 20, Delay: 20 * time.Millisecond},
//	})
//	p := l.Pipe(nil, nil)
//	a, b := p.Conns() // Up is from a to b
//	l.BlackHole()     // bytes are held: a sees back-pressure, b sees silence
//	l.Heal()          // and are delivered, each once
//	l.Cut()           // both ends fail with ECONNRESET
//
// What a link promises:
//   - A connection stays a reliable ordered pipe: jitter delays and never
//     reorders, a black hole holds and never loses. Only a cut loses bytes.
//   - Memory is taken only for bytes under way: at most what [Shape.Buffer]
//     says a direction, and on a shaped link some 50 bytes for each Write
//     among them. An idle connection costs less than 2 KiB.
//   - A Pipe has no goroutine, shaped or not, only timers while somebody waits.
//     A wrapped connection has two, which end after Close once the link has
//     delivered what was written, or at once when it is cut.
//   - All time is time.Now and timers, so that in a testing/synctest bubble a
//     shaped link is exact and repeatable; Config.Seed repeats the jitter.
package link

import (
	"math"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"
)

// DefaultBuffer is the buffer, in bytes, of a direction whose Shape names none.
const DefaultBuffer = 256 << 10

// Segments are what a millisecond carries, within these bounds, in bytes: as
// Linux sizes its own (tcp_tso_autosize). They are the grain in which a shaped
// link delivers.
const (
	minSegment = 1448
	maxSegment = 16 << 10
)

// A Shape is how one direction of a link carries bytes. The zero Shape carries
// them at once.
type Shape struct {
	Rate   int64         // bytes per second, shared by the link's connections; 0: unlimited
	Delay  time.Duration // one way
	Jitter time.Duration // more delay, uniform in [0, Jitter), drawn for each segment
	// Buffer is how many bytes a connection takes from its writer, beyond those
	// that Rate keeps in flight for Delay, before the writer waits for the
	// reader. With no Rate, it is a fixed window: Delay then limits a connection
	// to Buffer/Delay. 0: DefaultBuffer.
	Buffer int
}

// A Config is what a Link starts with.
type Config struct {
	Up, Down Shape  // Up: from a Pipe's first end, and from whoever holds a wrapped connection
	Seed     uint64 // of the jitter
}

// A Link carries connections, which share its rate in each direction. Its zero
// value is a link without shaping. Its methods may be called at any time from
// any goroutine. A Link must not be copied.
type Link struct {
	mu    sync.Mutex // guards everything below, and the pipes' state
	base  time.Time  // the link's times count from here
	ways  [2]way     // up, down
	holed bool
	pipes []*Pipe // live, oldest first
}

// A way is one direction of a link, under the link's lock.
type way struct {
	shape   Shape         // with its defaults filled in
	free    time.Duration // when what was sent so far has left
	jitter  *rand.Rand    // made at its first use, from seed and stream
	carried uint64

	seed, stream uint64
}

// New returns a link of the shape that c describes.
func New(c Config) *Link {
	return &Link{ways: [2]way{
		up:   {shape: c.Up.normal(), seed: c.Seed, stream: up},
		down: {shape: c.Down.normal(), seed: c.Seed, stream: down},
	}}
}

const (
	up   = 0
	down = 1
)

// normal returns s without values that mean nothing.
func (s Shape) normal() Shape {
	return Shape{Rate: max(s.Rate, 0), Delay: max(s.Delay, 0), Jitter: max(s.Jitter, 0), Buffer: max(s.Buffer, 0)}
}

// plain reports whether s carries bytes at once.
func (s Shape) plain() bool { return s.Rate == 0 && s.Delay == 0 && s.Jitter == 0 }

// limit is how many bytes a connection may have written and not read.
func (s Shape) limit() int {
	n := s.Buffer
	if n == 0 {
		n = DefaultBuffer
	}
	return n + int(min(float64(s.Rate)*(s.Delay+s.Jitter).Seconds(), math.MaxInt32))
}

// slack is how much of the limit must be free before a waiting writer is woken:
// enough to be worth it, and leaving at least half of the buffer at work.
func (s Shape) slack() int {
	n := s.Buffer
	if n == 0 {
		n = DefaultBuffer
	}
	return max(min(n/2, 32<<10), 1)
}

// segment is the most bytes that are delivered as one.
func (s Shape) segment() int {
	if s.Rate == 0 {
		return maxSegment
	}
	return int(min(max(s.Rate/1000, minSegment), maxSegment))
}

// SetShape changes the link's shape. Bytes that have left the sender keep the
// time at which they will arrive; those waiting for the link's rate, and later
// ones, follow the new shape.
func (l *Link) SetShape(upShape, downShape Shape) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	for i, s := range [2]Shape{upShape.normal(), downShape.normal()} {
		l.reshape(now, i, s)
	}
}

// Cut resets every connection that the link carries now: both ends' reads and
// writes fail at once with ECONNRESET, and bytes under way are lost. A wrapped
// TCP connection sends a real RST. Later connections are not affected.
func (l *Link) Cut() {
	l.mu.Lock()
	pipes := slices.Clone(l.pipes)
	l.mu.Unlock()
	for _, p := range pipes {
		p.Cut()
	}
}

// BlackHole stops the link silently: what has not arrived is held, and writers
// wait once the buffer is full, as with TCP when no acknowledgement comes. What
// has arrived can still be read.
func (l *Link) BlackHole() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	for _, p := range l.pipes {
		p.advance(now)
	}
	l.holed = true
	for _, p := range l.pipes {
		p.hold()
	}
}

// Heal ends a black hole. What was held is sent again from now on, at the
// link's rate and with its delay, and every byte arrives once.
func (l *Link) Heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.holed {
		return
	}
	l.holed = false
	now := l.now()
	l.ways[up].free, l.ways[down].free = now, now
	l.resume(now, slices.DeleteFunc(slices.Clone(l.pipes), func(p *Pipe) bool { return p.holed }))
}

// Carried returns how many bytes have arrived in each direction since the link
// was made.
func (l *Link) Carried() (upBytes, downBytes uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	for _, p := range l.pipes {
		p.advance(now)
	}
	return l.ways[up].carried, l.ways[down].carried
}

// Live returns how many connections the link carries: those neither cut nor
// closed at both ends.
func (l *Link) Live() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.pipes)
}

// Pipe returns a connection over the link. a and b are the addresses of its
// ends; nil stands for an address without a name.
func (l *Link) Pipe(a, b net.Addr) *Pipe { return l.pipe(a, b, nil) }

func (l *Link) pipe(a, b net.Addr, onCut func()) *Pipe {
	p := newPipe(l, a, b, onCut)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pipes = append(l.pipes, p)
	return p
}

// now is the time on the link's clock.
func (l *Link) now() time.Duration {
	if l.base.IsZero() {
		l.base = time.Now()
	}
	return time.Since(l.base)
}
