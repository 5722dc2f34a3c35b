package session

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/splitmesh/splitmesh/frame"
	"github.com/splitmesh/splitmesh/internal/buf"
	"github.com/splitmesh/splitmesh/splitter"
	"github.com/splitmesh/splitmesh/splitter/padding"
)

// Cells (docs/adr/0012-unlinkability.md): in a session of cells every frame that is
// sealed has one size, whatever it carries, and some carry nothing.
const (
	// cellSize is the plaintext of a cell: its type, then inner frames, each
	// behind its length 16, then zeros.
	cellSize  = 512
	innerHead = 2
	cellWire  = frame.HeaderSize + cellSize + frame.TagSize
	// maxCells is how many cells with segments go in one batch: some more fit.
	maxCells = 100
	// maxCellSegment is the most bytes of a lane that fit into a cell.
	maxCellSegment = cellSize - 1 - innerHead - dataHeader

	// Acknowledgements that find no cell to go along with wait longer.
	cellAckDelay = 25 * time.Millisecond
	cellAckBytes = 32 << 10

	// cellDeadAfter takes the place of Config.DeadAfter: a batch waits for its
	// path, and is not to wait for long when that is gone.
	cellDeadAfter = 3 * time.Second
)

// ErrNoCells reports an Unlinkability policy in a session that has no cells.
var ErrNoCells = errors.New("unlinkability needs a session of cells, which has no other conns")

// useCells makes the session one of cells from now on: at the end that dialled it
// from the start, at the other with the first cell that comes. s.mu is held.
func (s *Session) useCells() {
	if s.cells.Swap(true) {
		return
	}
	s.cfg.DeadAfter = min(s.cfg.DeadAfter, cellDeadAfter)
	s.padding, _ = padding.New(padding.Config{Machines: padding.Unlinkability(), CellBytes: cellWire}) // the machines are sound
	for _, p := range s.paths {
		p.dropDatagrams() // there is no cell for them
	}
}

// Cells reports whether every frame of the session is a cell.
func (s *Session) Cells() bool { return s.cells.Load() }

// ackDelay is how long an acknowledgement waits for company.
func (s *Session) ackDelay() time.Duration {
	if s.cells.Load() {
		return cellAckDelay
	}
	return ackDelay
}

// ackBytes is how many bytes are not left unacknowledged for that long.
func (s *Session) ackBytes() int {
	if s.cells.Load() {
		return cellAckBytes
	}
	return ackBytes
}

// A packer fills a path's batch with cells. wmu and s.mu are held.
type packer struct {
	p    *path
	b    *buf.Buf // the cell at hand, if any
	size int      // of what is sealed so far
}

// put adds an inner frame to the cell at hand, or to the next.
func (k *packer) put(inner []byte) {
	if k.b == nil || !k.room(len(inner)) {
		k.begin()
	}
	k.b.B = binary.BigEndian.AppendUint16(k.b.B, uint16(len(inner)))
	k.b.B = append(k.b.B, inner...)
}

// begin begins a cell.
func (k *packer) begin() {
	k.end(true)
	k.b = buf.Get(cellSize)
	k.b.B = append(k.b.B[:0], typeCell)
}

// whole adds a frame as it is, in place of the cell at hand, which is empty: one
// from before the session had cells.
func (k *packer) whole(b *buf.Buf) {
	k.b.Release()
	k.b = nil
	k.p.batch.plain = append(k.p.batch.plain, b.B)
	k.p.batch.held = append(k.p.batch.held, b)
	k.p.packet++
	k.p.stats.SentFrames++
	k.size += frame.HeaderSize + len(b.B) + frame.TagSize
}

// room reports whether n bytes more fit into the cell at hand.
func (k *packer) room(n int) bool { return len(k.b.B)+innerHead+n <= cellSize }

// pad adds a cell that carries nothing.
func (k *packer) pad() {
	k.begin()
	k.end(false)
}

// end closes the cell at hand.
func (k *packer) end(normal bool) {
	if k.b == nil {
		return
	}
	p := k.p
	n := len(k.b.B)
	k.b.B = k.b.B[:cellSize]
	clear(k.b.B[n:])
	p.batch.plain = append(p.batch.plain, k.b.B)
	p.batch.held = append(p.batch.held, k.b)
	p.packet++
	p.stats.SentFrames++
	k.size += cellWire
	k.b = nil
	if normal {
		p.s.padEvent(padding.Event{Kind: padding.NormalSent, Path: p.info.ID, Bytes: cellWire})
	}
}

// collectCells is collect for sessions of cells.
func (p *path) collectCells() int {
	k := packer{p: p}
	small := p.batch.small[:0]
	if p.owed > 0 && (p.owed >= cellAckBytes || !p.s.now.Before(p.ackAt)) {
		k.put(p.takeAcks(small))
	}
	if p.pongDue {
		k.put(append(append(small, typePong), p.pong[:]...))
		p.pongDue = false
	}
	if p.pingDue {
		k.put(append(append(small, typePing), make([]byte, 8)...))
		p.pingDue = false
	}
	for p.queue.len() > 0 && k.size < maxCells*cellWire {
		g := p.nextQueued()
		if g == nil {
			continue
		}
		if k.b == nil || !k.room(len(g.b.B)) {
			k.begin()
		}
		p.fly(g)
		if !k.room(len(g.b.B)) {
			k.whole(g.b)
			continue
		}
		k.put(g.b.B)
		g.b.Release()
		if p.owed > 0 && k.room(maxLoneAck) {
			k.put(p.takeAcks(small)) // there is room for it anyway
		}
	}
	k.end(true)
	for _, machine := range p.padsDue {
		k.pad()
		p.s.padEvent(padding.Event{Kind: padding.PaddingSent, Path: p.info.ID, Machine: machine})
	}
	p.padsDue = p.padsDue[:0]
	return k.size
}

// maxLoneAck is the size of an acknowledgement of one path and two lanes.
const maxLoneAck = 3 + pathAckSize + 2*laneAckSize

// padEvent tells the padding machines what happened, and keeps their timers.
// s.mu is held.
func (s *Session) padEvent(e padding.Event) {
	s.padPaths = s.padPaths[:0]
	for _, p := range s.paths {
		if p.state < Late {
			s.padPaths = append(s.padPaths, p.info.ID)
		}
	}
	s.padActions = s.padding.Handle(s.now, e, s.padPaths, s.padActions[:0])
	for _, a := range s.padActions {
		if a.Kind == padding.Cancel {
			s.padTimers[a.Machine] = padTimer{}
			continue
		}
		s.padTimers[a.Machine] = padTimer{a.At, a.Path}
		s.arm(a.At)
	}
}

// A padTimer is when and where a machine pads next; the zero time means not.
type padTimer struct {
	at   time.Time
	path uint32
}

// padTick sends the padding that is due. s.mu is held.
func (s *Session) padTick() {
	for m := range s.padTimers {
		t := &s.padTimers[m]
		switch {
		case t.at.IsZero():
		case s.now.Before(t.at):
			s.arm(t.at)
		default:
			if p := s.pathByID(t.path); p != nil {
				p.padsDue = append(p.padsDue, m)
				p.woken = true
			}
			*t = padTimer{}
		}
	}
}

// handleCell takes the inner frames of a cell.
func (s *Session) handleCell(p *path, packet uint64, plain []byte, b *buf.Buf, news *news) error {
	if len(plain) != cellSize {
		return violation("cell of %d bytes, want %d", len(plain), cellSize)
	}
	if !s.cells.Load() {
		if s.cfg.Dialler {
			return violation("a cell in a session that was begun without")
		}
		s.lock()
		s.useCells()
		s.unlock(false)
	}
	kind := padding.PaddingReceived
	rest := plain[1:]
	for len(rest) >= innerHead {
		n := int(binary.BigEndian.Uint16(rest))
		if n == 0 {
			break
		}
		if n > len(rest)-innerHead || rest[innerHead] == typeCell {
			return violation("cell with an inner frame of %d bytes, type %d", n, rest[min(innerHead, len(rest)-1)])
		}
		if err := s.handle(p, packet, rest[innerHead:innerHead+n], b, news); err != nil {
			return err
		}
		kind, rest = padding.NormalReceived, rest[innerHead+n:]
	}
	for i, c := range rest {
		if c != 0 {
			return violation("byte %d behind a cell's last frame is not zero", i)
		}
	}
	s.lock()
	defer s.unlock(false)
	if s.err != nil || p.state >= Dead {
		return nil
	}
	p.heard()
	s.padEvent(padding.Event{Kind: kind, Path: p.info.ID, Bytes: cellWire})
	return nil
}

// unlinkable reports whether the lane's cells keep to the path that they were given.
func (l *lane) unlinkable() bool { return l.asked.Purpose == splitter.Unlinkability }

// pushCells pushes b in pieces that fit into cells, and releases it. s.mu is held.
func (l *lane) pushCells(b *buf.Buf) {
	rest := b.B[dataHeader:]
	for len(rest) > 0 {
		n := min(len(rest), maxCellSegment)
		c := buf.Get(dataHeader + n)
		copy(c.B[dataHeader:], rest[:n])
		l.pushWhole(c, nil)
		rest = rest[n:]
	}
	b.Release()
}
