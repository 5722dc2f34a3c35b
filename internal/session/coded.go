package session

import (
	"encoding/binary"
	"slices"

	"github.com/splitmesh/splitmesh/frame"
	"github.com/splitmesh/splitmesh/internal/buf"
	"github.com/splitmesh/splitmesh/splitter"
)

// Bounds of coded lanes.
const (
	// laneIncomplete is the most that the receiver of a coded lane is charged for
	// incomplete blocks (splitter.MostHeld); a sender stays below it.
	laneIncomplete = 16 << 20
	// maxOwing is how many blocks are looked at for shards still to be sent.
	maxOwing = 32

	shardHeader = 1 + 1 + 8 + 1 + 2 + 3
)

// A block is a segment of a coded lane, which travels as shards over different
// carriers; any K of them suffice.
//
// The rule of Secrecy: a carrier is given no two shards of one sharing. A shard that
// was lost goes to a carrier that had none, else the block is shared anew: under a
// fresh key, as another generation, of which nobody has anything yet.
type block struct {
	segment    *segment
	shards     []*segment // of the present generation
	generation uint8
	had        []int // the carriers that were given a shard of it
	out, acked int   // shards under way, and shards that arrived
	owing      bool  // it is in lane.owing
	charged    int   // what the receiver may be charged for all of its sharings
}

// cut makes the block of the bytes that follow dataHeader in b. It needs no lock.
func (l *lane) cut(b *buf.Buf) (*block, error) {
	k := &block{segment: &segment{lane: l, b: b}}
	k.segment.block = k
	return k, k.share(0)
}

// share splits the block, whose offset may not be known yet, into shards.
func (k *block) share(generation uint8) error {
	l := k.segment.lane
	sch := l.scheme
	plain := k.segment.b.B[dataHeader:]
	size := shardHeader + sch.ShardSize(len(plain))
	payloads := make([][]byte, sch.N())
	shards := make([]*segment, sch.N())
	for i := range shards {
		b := buf.Get(size)
		payloads[i] = b.B[shardHeader:]
		shards[i] = &segment{lane: l, b: b, block: k, shard: true}
	}
	if err := sch.Split(payloads, plain); err != nil {
		for _, g := range shards {
			g.b.Release()
		}
		return err
	}
	k.shards, k.generation, k.had, k.out, k.acked = shards, generation, nil, 0, 0
	return nil
}

// place writes the shards' headers, when the block has its offset.
func (k *block) place() {
	sch := k.segment.lane.scheme
	for i, g := range k.shards {
		g.offset = k.segment.offset
		putShardHeader(g.b.B, k.segment.lane.id, splitter.Shard{
			Offset: g.offset, Size: k.segment.size(), Generation: k.generation,
			Index: uint8(i), K: uint8(sch.K()), N: uint8(sch.N()),
		})
	}
}

// release gives the shards back.
func (k *block) release() {
	for _, g := range k.shards {
		g.acked = true // what is still queued need not go
		g.b.Release()
	}
	k.shards = nil
}

// scheduleBlock is scheduleOne for coded lanes: it gives the shards that are owed,
// and begins a block only when enough carriers have room.
func (s *Session) scheduleBlock(l *lane) bool {
	if !s.control.acknowledged(l.policyEnd) || s.enoughPaths(l) != nil {
		return false
	}
	for i := 0; i < min(len(l.owing), maxOwing); i++ {
		k := l.owing[i]
		gave := s.giveShards(k)
		if !k.owing {
			l.owing = slices.Delete(l.owing, i, i+1)
			i--
		}
		if gave {
			return true
		}
	}
	g := l.head()
	if g == nil {
		return false
	}
	if !l.bears(g.block, g.block.charged) {
		return false // what the mux has to say is not held back by accepts
	}
	now, soon := s.roomFor(l, g.block)
	if now < l.scheme.K() {
		return false
	}
	if soon && now < l.scheme.N() && len(l.owing) >= maxLag && l.asked.Purpose == splitter.Resilience {
		s.arm(s.now.Add(lockstep)) // the shard that nobody misses today may be missed tomorrow
		return false
	}
	l.took(g)
	l.owe(g.block)
	return true
}

// owe puts a block among those that have shards to send. s.mu is held.
func (l *lane) owe(k *block) {
	if k.owing || k.segment.acked {
		return
	}
	k.owing = true
	i, _ := slices.BinarySearchFunc(l.owing, k.segment.offset, func(k *block, offset uint64) int {
		if k.segment.offset < offset {
			return -1
		}
		return 1
	})
	l.owing = slices.Insert(l.owing, i, k)
}

// shardView is what the scheduler sees of the paths for a shard of k: with again,
// also those whose carriers had one. s.mu is held.
func (s *Session) shardView(k *block, again bool) []splitter.Path {
	view := s.view(k.segment.lane, k.shards[0])
	for i, p := range s.paths {
		view[i].Barred = view[i].Barred || !again && slices.Contains(k.had, p.carrier)
	}
	return view
}

// The shards of a block are to travel together. So a resilient block waits for a path
// that has no room while maxLag others have shards to send, but no longer than
// lockstep from when that path acknowledged something: half as long again as an
// acknowledgement waits for company.
const (
	maxLag   = 2
	lockstep = ackDelay * 3 / 2
)

// roomFor counts the carriers that could take a shard now, and reports whether
// another is about to. s.mu is held.
func (s *Session) roomFor(l *lane, k *block) (n int, soon bool) {
	view := s.shardView(k, false)
	var counted [MaxPaths]int
	for i, p := range s.paths {
		switch {
		case view[i].Barred || slices.Contains(counted[:n], p.carrier):
		case view[i].Open(k.shards[0].cost()):
			counted[n] = p.carrier
			n++
		default:
			soon = soon || s.now.Sub(p.ackSince) < lockstep+p.est.rttvar
		}
	}
	return n, soon
}

// usable counts the carriers that a new sharing of k may go by now or when they have
// room. s.mu is held.
func (s *Session) usable(k *block) (n int) {
	view := s.shardView(k, true)
	var counted [MaxPaths]int
	for i, p := range s.paths {
		if !view[i].Barred && !slices.Contains(counted[:n], p.carrier) {
			counted[n] = p.carrier
			n++
		}
	}
	return n
}

// giveShards gives as many of the block's shards as find a path. The block stays
// among the owing while more can come of it. s.mu is held.
func (s *Session) giveShards(k *block) (gave bool) {
	if k.segment.acked {
		k.owing = false
		return false
	}
	for again := false; ; {
		g := k.idle()
		if g == nil {
			k.owing = false
			return gave
		}
		view := s.shardView(k, again)
		i, _ := splitter.ShortestQueue{}.Next(s.now, splitter.Job{Size: g.cost(), Backlog: g.cost()}, view)
		switch lacking := k.acked+k.out < k.segment.lane.scheme.K(); {
		case i >= 0:
			k.had = append(k.had, s.paths[i].carrier)
			k.out++
			g.resent, g.given, g.out = g.given, true, true
			s.paths[i].give(g)
			gave = true
		case slices.ContainsFunc(view, func(p splitter.Path) bool { return !p.Barred }):
			return gave // when it has room
		case !lacking:
			k.owing = false // every carrier had one, and enough are under way
			return gave
		case again:
			return gave
		case k.segment.lane.policy.Purpose == splitter.Secrecy:
			if !s.shareAnew(k) {
				return gave
			}
		default:
			again = true // resilience: better twice by one relay than not at all
		}
	}
}

// idle is a shard that is neither under way nor there; nil when there is none.
func (k *block) idle() *segment {
	for _, g := range k.shards {
		if !g.out && !g.acked {
			return g
		}
	}
	return nil
}

// shareAnew shares the block under a fresh key, provided that enough carriers are
// there for it. s.mu is held; it happens only when paths are lost.
func (s *Session) shareAnew(k *block) bool {
	if k.generation == maxGeneration {
		s.fail(violation("a block was lost %d times", maxGeneration))
		return false
	}
	l := k.segment.lane
	if s.usable(k) < l.scheme.K() {
		return false // when others are there, or late ones are back
	}
	charge := 0
	if k.generation+1 < splitter.MaxGenerations { // of more the receiver drops the oldest
		charge = splitter.MostHeld(l.scheme, k.segment.size())
	}
	if !l.bears(k, charge) {
		return false // when other blocks have arrived
	}
	old := k.shards
	if err := k.share(k.generation + 1); err != nil {
		s.fail(err)
		return false
	}
	for _, g := range old {
		g.block, g.acked = nil, true
		g.b.Release()
	}
	k.place()
	k.charged += charge
	l.charge += charge
	l.begun += charge
	return true
}

// charged counts what the receiver may be charged for the first sharing.
func (l *lane) charged(k *block) {
	k.charged = splitter.MostHeld(l.scheme, k.segment.size())
	l.charge += k.charged
}

// bears reports whether the receiver may be charged n more for k. To the lane's first
// block it may always: the others leave room for every sharing of it, so that a lane
// whose paths die again and again is not stuck in the end. s.mu is held.
func (l *lane) bears(k *block, n int) bool {
	limit := laneIncomplete
	if k.segment != l.segments.items()[0] {
		limit -= splitter.MaxGenerations * splitter.MostHeld(l.scheme, maxSegment)
	}
	return l.begun+n <= limit
}

// maxGeneration is the last time that a block can be shared anew.
const maxGeneration = 255

// shardArrived takes note that the peer has a shard. s.mu is held.
func (g *segment) shardArrived() {
	k := g.block
	if k == nil || g.acked {
		return
	}
	g.acked = true
	k.shardGone(g)
	if k.acked++; k.acked >= g.lane.scheme.K() {
		k.segment.arrived()
	}
}

// shardGone takes note that a shard is not under way any more. s.mu is held.
func (k *block) shardGone(g *segment) {
	if g.out {
		g.out = false
		k.out--
	}
}

// shardLost lets a shard that a path had go over another. s.mu is held.
func (l *lane) shardLost(g *segment) {
	if k := g.block; k != nil && !g.acked {
		k.shardGone(g)
		l.owe(k)
	}
}

// useScheme settles how the lane's blocks are coded, when the session has or had a
// path: Secrecy wants a cipher unlike its suite.
func (l *lane) useScheme() {
	l.coding.Do(func() {
		cipher := splitter.ChaCha20Poly1305
		if frame.Suite(l.s.suite.Load()) == frame.ChaCha20Poly1305 {
			cipher = splitter.AES256GCM
		}
		l.scheme, _ = splitter.SchemeOf(l.asked, cipher) // asked has its defaults filled: no error
	})
}

// receiveShard takes the payload of a shard frame.
func (l *lane) receiveShard(sh splitter.Shard, p []byte, owner *buf.Buf) error {
	if !l.asked.Purpose.Coded() {
		return violation("a shard on lane %d, which has none", l.id)
	}
	l.useScheme()
	l.recvMu.Lock()
	defer l.recvMu.Unlock()
	if l.failed != nil {
		return l.failed
	}
	end := sh.Offset + uint64(sh.Size)
	if end <= l.reasm.Next() && end > sh.Offset {
		return nil // surplus
	}
	if end > l.reasm.Limit() {
		l.failed = violation("lane %d: shard of a block up to %d, credit up to %d", l.id, end, l.reasm.Limit())
		return l.failed
	}
	if l.blocks == nil {
		l.blocks = splitter.NewBlocks(l.scheme, laneIncomplete)
	}
	b, err := l.blocks.Insert(sh, p, owner)
	if err != nil {
		l.failed = &ProtocolError{"shards", err}
		return l.failed
	}
	if b != nil {
		err = l.insert(sh.Offset, b.B, b)
		b.Release()
		l.blocks.Advance(l.reasm.Next())
	}
	l.account()
	if err == nil {
		err = l.failed
	}
	return err
}

// putShardHeader writes the inner header of a shard frame into b[:shardHeader].
func putShardHeader(b []byte, lane byte, s splitter.Shard) {
	b[0], b[1] = typeShard, lane
	binary.BigEndian.PutUint64(b[2:], s.Offset)
	b[10] = s.Generation
	binary.BigEndian.PutUint16(b[11:], uint16(s.Size))
	b[13], b[14], b[15] = s.Index, s.K, s.N
}

// parseShard splits the plaintext of a shard frame; what it means is checked by
// splitter.Blocks.
func parseShard(p []byte) (lane byte, s splitter.Shard, payload []byte, err error) {
	if len(p) <= shardHeader {
		return 0, s, nil, violation("shard frame of %d bytes, want more than %d", len(p), shardHeader)
	}
	s = splitter.Shard{
		Offset: binary.BigEndian.Uint64(p[2:]), Generation: p[10], Size: int(binary.BigEndian.Uint16(p[11:])),
		Index: p[13], K: p[14], N: p[15],
	}
	return p[1], s, p[shardHeader:], nil
}
