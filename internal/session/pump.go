package session

import (
	"errors"
	"slices"
	"time"

	"github.com/splitmesh/splitmesh/frame"
	"github.com/splitmesh/splitmesh/internal/buf"
	"github.com/splitmesh/splitmesh/internal/mux"
	"github.com/splitmesh/splitmesh/splitter"
)

// fullBatch is the most bytes that one write of a path carries: three full records,
// so that a bulk transfer wakes its receiver a third as often. A circuit's are one
// frame of the session that carries it each, which a relay sends on as it is.
const fullBatch = buf.Max

// company is how many bytes of a lane wait at most for those that the same Write is
// about to bring: two full records, so that a third makes a full batch.
const company = 2 * (mux.HeaderSize + mux.ChunkSize + maxNested*recordOverhead)

// A record of a session that is carried by another is so much longer there.
const (
	maxNested      = 3
	recordOverhead = frame.HeaderSize + dataHeader + mux.HeaderSize + frame.TagSize
)

// maxBatch is fullBatch, or less, for the path p.
func (p *path) maxBatch() int {
	if p.info.Direct() {
		return fullBatch
	}
	return p.headroom + mux.MaxFrame
}

// maxInline is what surely fits into a socket's buffers, in bytes.
const maxInline = 128 << 10

// mayBlock reports whether a write on the path may be long: it has much in flight,
// of which nothing was acknowledged of late. No writer is to be held up by a path
// that has fallen silent. s.mu is held.
func (p *path) mayBlock() bool {
	return p.inFlight() > maxInline && p.s.now.Sub(p.ackSince) > 2*p.s.ackDelay()
}

// inlineRounds is how many writes a writer does for others before it leaves the
// rest to the flusher: on a circuit three of them are one of the session beneath.
const inlineRounds = 4

// A batch is what one write will carry: plaintexts, in order. It belongs to the
// holder of path.wmu.
type batch struct {
	plain [][]byte
	held  []*buf.Buf // references to release after sealing
	small [maxSmall]byte
}

// maxSmall bounds a batch's acknowledgement, ping and pong together.
const maxSmall = 3 + maxAckRows*(pathAckSize+laneAckSize) + 2*pingSize

// flush is the path's flusher: it writes whatever is queued when nobody else
// does. It ends when the path is dead.
func (p *path) flush() {
	for {
		select {
		case <-p.done:
			return
		case <-p.wake:
		}
		if !p.takeTurn() {
			continue
		}
		for p.write() {
		}
		p.endTurn()
	}
}

// takeTurn takes wmu for the flusher, which does not wait for a writer that may be
// long in its system call: whoever has wmu wakes the flusher when done.
func (p *path) takeTurn() bool {
	if p.wmu.TryLock() {
		return true
	}
	p.missed.Store(true)
	return p.wmu.TryLock() // who released it just now may not have seen missed
}

// endTurn releases wmu, and wakes the flusher if that wanted it meanwhile.
func (p *path) endTurn() {
	p.wmu.Unlock()
	if p.missed.Load() && p.missed.Swap(false) {
		p.signal()
	}
}

// pumpInline writes in the caller's goroutine if nobody else is writing, and
// leaves what remains to the flusher.
func (p *path) pumpInline() {
	if !p.wmu.TryLock() {
		p.signal()
		return
	}
	for range inlineRounds {
		if !p.write() {
			p.endTurn()
			return
		}
	}
	p.wmu.Unlock()
	p.signal()
}

// write seals and writes one batch. It reports whether there is more. wmu is held.
func (p *path) write() bool {
	s := p.s
	s.lock()
	s.schedule()
	size := 0
	if p.state < Dead {
		if err := p.switchKey(); err != nil {
			p.kill(err, lost)
			s.schedule()
		} else if size = p.collect(); size > 0 {
			s.keys.Sealed(p.info.ID, len(p.batch.plain), size)
			s.nextKeys()
		}
	}
	more := p.queue.len() > 0 || len(p.datagrams) > 0
	s.unlock(false)
	if size == 0 {
		if p.promised {
			p.promised = false
			p.out.Flush()
		}
		return false
	}
	err := p.seal(size, more)
	if err != nil {
		p.s.pathDied(p, err)
	}
	return err == nil && more // what comes from now on comes with a signal
}

// seal writes the batch, of size bytes when sealed. more says that there will be
// another. wmu is held.
func (p *path) seal(size int, more bool) (err error) {
	wire := buf.Get(p.headroom + size)
	out := wire.B[:p.headroom]
	for _, plain := range p.batch.plain {
		if out, err = p.sealer.Seal(out, plain); err != nil {
			break
		}
	}
	for i, b := range p.batch.held {
		b.Release()
		p.batch.held[i] = nil
	}
	clear(p.batch.plain)
	p.batch.plain, p.batch.held = p.batch.plain[:0], p.batch.held[:0]
	if err == nil && p.out != nil {
		wire.B = out
		p.promised = more
		return p.out.WriteBuf(wire, more)
	}
	if err == nil {
		_, err = p.conn.Write(out)
	}
	wire.Release()
	return err
}

// collect fills the batch and numbers its frames; it returns their sealed size.
// s.mu and wmu are held.
func (p *path) collect() int {
	defer p.collected()
	if p.s.cells.Load() {
		return p.collectCells()
	}
	size := 0
	add := func(plain []byte) {
		p.batch.plain = append(p.batch.plain, plain)
		p.packet++
		p.stats.SentFrames++
		size += frame.HeaderSize + len(plain) + frame.TagSize
	}
	small := p.batch.small[:0]
	if p.owed > 0 && (p.owed >= ackBytes || !p.s.now.Before(p.ackAt)) {
		small = p.takeAcks(small)
		add(small)
	}
	if p.pongDue {
		at := len(small)
		small = append(append(small, typePong), p.pong[:]...)
		add(small[at:])
		p.pongDue = false
	}
	if p.pingDue {
		at := len(small)
		small = append(append(small, typePing), make([]byte, 8)...)
		add(small[at:])
		p.pingDue = false
	}
	most := p.maxBatch()
	fits := func(b *buf.Buf) bool {
		return size == 0 || p.headroom+size+frame.HeaderSize+len(b.B)+frame.TagSize <= most
	}
	for len(p.datagrams) > 0 && fits(p.datagrams[0]) {
		b := p.datagrams[0]
		p.datagrams[0] = nil
		p.datagrams = p.datagrams[1:]
		p.inTheAir(nil, datagramCost(b), splitter.Interactive)
		p.batch.held = append(p.batch.held, b)
		add(b.B)
	}
	for p.queue.len() > 0 && (p.queue.items()[0].acked || fits(p.queue.items()[0].b)) {
		if g := p.nextQueued(); g != nil {
			p.fly(g)
			p.batch.held = append(p.batch.held, g.b)
			add(g.b.B)
		}
	}
	return size
}

// takeAcks appends the acknowledgement that the path owes.
func (p *path) takeAcks(b []byte) []byte {
	p.owed = 0
	return p.s.appendAcks(b, p)
}

// nextQueued takes the first segment of the queue, nil when the peer has got it over
// another path meanwhile.
func (p *path) nextQueued() *segment {
	g := p.queue.items()[0]
	p.queue.drop(1)
	if !g.acked {
		return g
	}
	p.landed(g.cost(), g.lane.class)
	g.b.Release()
	g.flights--
	g.retire()
	return nil
}

// fly notes that g goes in the next frame.
func (p *path) fly(g *segment) { p.inTheAir(g, g.cost(), g.lane.class) }

// inTheAir notes what the next frame carries: g, or a datagram.
func (p *path) inTheAir(g *segment, cost int, c splitter.Class) {
	p.flight.push(record{
		packet: p.packet, segment: g, cost: cost, class: c, at: p.s.now,
		delivered: p.est.delivered, limited: p.inFlight() < p.est.window()/2,
	})
}

// collected tidies up after a batch was collected.
func (p *path) collected() {
	if p.queue.len() == 0 && len(p.datagrams) == 0 {
		p.datagrams, p.woken = nil, false
	}
	if p.inFlight() == 0 {
		p.ackSince = time.Time{}
	}
}

// read is the path's reader. It takes frames until the path is dead, and never
// waits for anything but the next byte from the network.
func (p *path) read() {
	var n news
	in := newSource(p.conn, n.announce)
	defer in.close()
	for {
		err := p.readFrame(in, &n)
		if err == nil {
			continue
		}
		n.announce() // the path's end may take long
		switch {
		case isProtocol(err):
			p.s.failNow(err)
		default:
			p.blame(err)
			p.s.pathDied(p, err)
		}
		return
	}
}

// news are the lanes on which a reader has delivered something of which nobody was
// told. It belongs to the reader.
type news []*lane

// add notes that something was delivered on l.
func (n *news) add(l *lane) {
	if !slices.Contains(*n, l) {
		*n = append(*n, l)
	}
}

// announce wakes those who wait for it, as the reader is about to wait itself.
func (n *news) announce() {
	for i, l := range *n {
		l.announce()
		(*n)[i] = nil
	}
	*n = (*n)[:0]
}

// blame counts a frame that was damaged or forged on its way: whoever carries the
// path is to be trusted less.
func (p *path) blame(err error) {
	if _, damaged := errors.AsType[*frame.Error](err); damaged {
		p.s.mu.Lock()
		p.stats.Blamed++
		p.s.mu.Unlock()
	}
}

func isProtocol(err error) bool {
	_, ok := errors.AsType[*ProtocolError](err)
	return ok
}

// readFrame reads, opens and handles one frame. A failed seal is the path's
// fault, what an intact frame says is the peer's.
func (p *path) readFrame(in *source, n *news) error {
	wire, owner, err := in.next(p.size)
	if err != nil {
		return err
	}
	defer owner.Release()
	plain, packet, err := p.open(wire)
	if err != nil {
		return err
	}
	return p.s.handle(p, packet, plain, owner, n)
}
