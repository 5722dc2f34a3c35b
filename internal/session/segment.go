package session

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/splitmesh/splitmesh/internal/buf"
)

// A segment is a stretch of a lane as one data frame carries it. b.B holds the
// frame's plaintext: dataHeader, then the bytes. The lane owns one reference to b
// until the segment is acknowledged; a path that has it queued owns another.
type segment struct {
	lane    *lane
	offset  uint64
	b       *buf.Buf
	on      *path     // the one that was given it last, and …
	givenAt time.Time // … when
	flights int       // the paths that have it queued or in flight
	given   bool      // to a path, once
	waiting bool      // it is in lane.again
	acked   bool
	resent  bool
	trimmed bool // the lane has forgotten it

	// In a coded lane a segment is a block, or one of its shards.
	block *block
	shard bool
	out   bool // a shard that counts in block.out
}

// segments are those that were retired.
var segments = sync.Pool{New: func() any { return new(segment) }}

func newSegment(l *lane, b *buf.Buf) *segment {
	g := segments.Get().(*segment)
	g.lane, g.b = l, b
	return g
}

// retire gives g back when nothing refers to it any more: the lane, a path, or the
// queue of those to be sent again. Whoever lets go of it calls retire last. Blocks and
// shards refer to each other, and are left to the garbage collector.
func (g *segment) retire() {
	if g.trimmed && g.flights == 0 && !g.waiting && g.block == nil && !g.shard {
		*g = segment{}
		segments.Put(g)
	}
}

func (g *segment) size() int   { return len(g.b.B) - dataHeader }
func (g *segment) end() uint64 { return g.offset + uint64(g.size()) }

// cost is what the segment counts against a path's window: headers and seal
// included, so that small segments are bounded in number too.
func (g *segment) cost() int { return len(g.b.B) + 64 }

// push appends b, whose bytes follow dataHeader, to the lane and takes over its
// reference. In a coded lane k is its block, if that was cut already. s.mu is held.
func (l *lane) push(b *buf.Buf, k *block) {
	if l.s.cells.Load() && len(b.B) > dataHeader+maxCellSegment {
		l.pushCells(b)
		return
	}
	l.pushWhole(b, k)
}

func (l *lane) pushWhole(b *buf.Buf, k *block) {
	n := len(b.B) - dataHeader
	l.held += n
	l.unsent += n
	if last := l.segments.len() - 1; last >= l.sent && l.segments.items()[last].join(b) {
		l.next += uint64(n)
		b.Release()
		return
	}
	g := newSegment(l, b)
	if l.asked.Purpose.Coded() {
		if k == nil {
			var err error
			if k, err = l.cut(b); err != nil {
				l.s.fail(err)
				b.Release()
				return
			}
		}
		g = k.segment
		l.charged(k)
	}
	g.offset = l.next
	putDataHeader(b.B, l.id, l.next)
	if k != nil {
		k.place()
	}
	l.segments.push(g)
	l.next += uint64(n)
}

// join appends b's bytes to a segment that no path has seen, if they fit: many
// small writes that wait for a window become one frame.
func (g *segment) join(b *buf.Buf) bool {
	if g.given || g.block != nil {
		return false
	}
	n := len(b.B) - dataHeader
	have := len(g.b.B)
	if have+n > cap(g.b.B) || have-dataHeader+n > g.lane.maxSegment() {
		return false
	}
	g.b.B = append(g.b.B, b.B[dataHeader:]...)
	return true
}

// maxSegment is the most bytes of a segment.
func (l *lane) maxSegment() int {
	if l.s.cells.Load() {
		return maxCellSegment
	}
	return maxSegment
}

// head is the segment to send next, nil when there is none that credit allows.
// s.mu is held.
func (l *lane) head() *segment {
	for len(l.again) > 0 {
		if g := l.again[0]; !g.acked {
			return g
		}
		l.again[0].waiting = false
		l.again[0].retire()
		l.again = l.again[1:]
	}
	all := l.segments.items()
	for l.sent < len(all) && all[l.sent].given {
		l.sent++
	}
	if l.sent < len(all) && all[l.sent].end() <= l.credit {
		return all[l.sent]
	}
	return nil
}

// ahead is the first segment that no path was given with at least n such bytes
// before it; nil when there is none that credit allows. s.mu is held.
func (l *lane) ahead(n int) *segment {
	for _, g := range l.segments.items()[l.sent:] {
		switch {
		case g.given:
		case g.end() > l.credit:
			return nil
		case n <= 0:
			return g
		default:
			n -= g.size()
		}
	}
	return nil
}

// took removes g from what is to be sent. s.mu is held.
func (l *lane) took(g *segment) {
	if g.waiting {
		g.waiting, g.resent = false, true
		i, _ := l.findAgain(g)
		l.again = slices.Delete(l.again, i, i+1)
		l.stats.ResentBytes += uint64(g.size())
		return
	}
	g.given = true
	l.unsent -= g.size()
	if g.block != nil {
		l.begun += g.block.charged
	}
}

// lost takes note that p, which had g, has it no more, and puts it back among the
// segments to send if no other has it, or only one that was slow to deliver it when
// p was given it too. s.mu is held.
func (l *lane) lost(g *segment, p *path) {
	g.flights--
	if g.shard {
		l.shardLost(g)
		return
	}
	if g.flights == 0 || g.on == p {
		l.sendAgain(g)
	}
	g.retire()
}

// late lets g, which p has, be sent over another too, p being late, unless a path
// that is not was given it after p. s.mu is held.
func (l *lane) late(g *segment, p *path) {
	if l.unlinkable() {
		return // a copy would tell another relay of this one
	}
	if g.shard {
		l.shardLost(g)
		return
	}
	if g.on == p || g.on.state >= Late {
		l.sendAgain(g)
	}
}

func (l *lane) sendAgain(g *segment) {
	if g.acked || g.waiting {
		return
	}
	g.waiting = true
	i, _ := l.findAgain(g)
	l.again = slices.Insert(l.again, i, g)
}

func (l *lane) findAgain(g *segment) (int, bool) {
	return slices.BinarySearchFunc(l.again, g, func(a, b *segment) int { return cmp.Compare(a.offset, b.offset) })
}

// arrived takes note that the peer has g. s.mu is held.
func (g *segment) arrived() {
	if g.shard {
		g.shardArrived()
		return
	}
	l := g.lane
	switch {
	case g.trimmed: // the peer had told so already
		g.retire()
	case !g.acked:
		g.acked = true
		l.early++
	}
	l.trim()
}

// delivered takes the peer's word that it has every byte below offset, and its
// credit. s.mu is held.
func (l *lane) delivered(a laneAck) error {
	if a.Offset > l.next {
		return violation("lane %#02x acknowledged to %d, written to %d", l.id, a.Offset, l.next)
	}
	for _, g := range l.segments.items() {
		if !g.given || g.end() > a.Offset {
			break
		}
		if !g.acked {
			g.acked = true
			l.early++
		}
	}
	l.credit = max(l.credit, a.Credit)
	l.trim()
	return nil
}

// trim forgets the acknowledged segments at the head. s.mu is held.
func (l *lane) trim() {
	n := 0
	for _, g := range l.segments.items() {
		if !g.acked {
			break
		}
		n++
		l.early--
		l.held -= g.size()
		if g.block != nil {
			l.charge -= g.block.charged
			l.begun -= g.block.charged
			g.block.release()
		}
		g.b.Release()
		g.trimmed = true
		g.retire()
	}
	l.segments.drop(n)
	l.sent = max(l.sent-n, 0)
}

// acknowledged reports whether the peer has every byte below offset. s.mu is held.
func (l *lane) acknowledged(offset uint64) bool {
	return l.segments.len() == 0 || l.segments.items()[0].offset >= offset
}
