package session

import (
	"context"
	"flag"
	"math/rand/v2"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splitmesh/splitmesh/internal/mux"
	"github.com/splitmesh/splitmesh/splitter"
)

var hostileOps = flag.Int("hostileops", 30_000, "how many frames a hostile peer sends")

// hostileHeap is what one session may make the heap grow by: its bounds, all at
// once, twice over for buffers that are longer than what they hold.
const hostileHeap = 2 * (8*laneCredit + 2*laneIncomplete + maxControl + maxInboxBytes)

// TestHostileSender: a peer that holds the keys sends what costs the most, and
// never makes the session keep more than its bounds. When the session has had
// enough and ends, another takes its place.
func TestHostileSender(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 12))
	var most struct{ outOfOrder, unacknowledged, inbox int }
	var heap, before uint64
	for op, sessions := 0, 0; op < *hostileOps; sessions++ {
		runtime.GC()
		before = heapInUse()
		h := newHostile(t, rng)
		for ; op < *hostileOps && h.s.Err() == nil; op++ {
			if err := h.attack(); err != nil {
				if !isProtocol(err) {
					t.Fatal(err)
				}
				h.s.failNow(err)
			}
			if op%16 == 0 {
				outOfOrder, unacknowledged, inbox := h.check()
				most.outOfOrder = max(most.outOfOrder, outOfOrder)
				most.unacknowledged = max(most.unacknowledged, unacknowledged)
				most.inbox = max(most.inbox, inbox)
			}
			if op%4096 == 4095 {
				runtime.GC()
				if now := heapInUse(); now > before {
					heap = max(heap, now-before)
				}
			}
			if t.Failed() {
				return
			}
		}
		if outOfOrder, unacknowledged, _ := h.check(); h.s.Err() != nil && (unacknowledged != 0 || outOfOrder > MaxLanes*laneCredit) {
			t.Fatalf("a session that has ended keeps %d bytes", unacknowledged)
		}
		h.s.Abort(CodeNormal)
	}
	if heap > hostileHeap {
		t.Errorf("the heap grew by %d bytes, want at most %d", heap, hostileHeap)
	}
	if most.outOfOrder < laneCredit/2 || most.inbox < maxInboxBytes/2 {
		t.Errorf("%+v: it did not come near a bound: the test shows nothing", most)
	}
	show("HOSTILE_OUT_OF_ORDER", most.outOfOrder, maxWaiting, "bytes at most, incomplete blocks included, in %d hostile frames", *hostileOps)
	show("HOSTILE_UNACKNOWLEDGED", most.unacknowledged, MaxLanes*(maxHeld+maxControl), "bytes at most; %d in an inbox; the heap grew by %d", most.inbox, heap)
}

func heapInUse() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// A hostile is the peer of a session that it plays foul with.
type hostile struct {
	t       *testing.T
	s       *Session
	p       *path
	rng     *rand.Rand
	packet  uint64
	control uint64 // bytes of control messages sent in order
	number  uint32
	grams   *Stream
	lanes   []byte // those that it began
	style   int
	next    uint64 // of a lane that it fills
}

func newHostile(t *testing.T, rng *rand.Rand) *hostile {
	s, p := victim(t, false)
	h := &hostile{t: t, s: s, p: p, rng: rng, style: rng.IntN(4)}
	st, err := s.Open(plainPolicy, splitter.Interactive)
	if err != nil {
		t.Fatal(err)
	}
	h.grams = st
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	st.ReceiveDatagram(ctx) // it wants some, and never reads them
	st.SetWriteDeadline(time.Now())
	return h
}

func (h *hostile) feed(plain []byte) error {
	h.packet++
	return feed(h.s, h.p, h.packet, plain)
}

func (h *hostile) say(message []byte) error {
	at := h.control
	h.control += uint64(len(message))
	return h.feed(data(laneControl, at, message...))
}

// attack sends one frame. Most sessions end by what it does in the end; each does
// more of one thing than of the others, so that every bound is come near.
func (h *hostile) attack() error {
	r := h.rng
	switch k := r.IntN(100); {
	case k < 60:
		switch h.style {
		case 0: // big pieces with gaps of one byte
			n := min(1+r.IntN(maxSegment), int(h.s.data.reasm.Limit()-h.next)-2)
			if n <= 0 {
				h.style = 3
				return nil
			}
			h.next += uint64(n) + 1
			return h.feed(data(laneDefault, h.next-uint64(n), make([]byte, n)...))
		case 1: // single bytes, far apart
			return h.feed(data(laneDefault, 1+2*uint64(r.IntN(8000)), 0))
		case 2: // shards of blocks that will never be whole
			return h.shard()
		}
		return h.gram()
	case k < 64:
		return h.feed(data(laneControl, h.control+1+uint64(r.IntN(laneCredit-1<<16)), byte(r.Uint32())))
	case k < 70:
		return h.gram()
	case k < 76:
		return h.shard()
	case k < 79:
		return h.lane()
	case k < 82:
		return h.shard()
	case k < 85:
		return h.say(appendAbandon(nil, uint32(2+r.IntN(1000))))
	case k < 90:
		return h.feed(appendAck(nil, &ack{Lanes: []laneAck{{laneDefault, 0, uint64(r.Uint32())}}}))
	case k < 94:
		return h.feed(append([]byte{typePing}, make([]byte, 8)...))
	case k < 98:
		return h.feed(append([]byte{typePad}, make([]byte, r.IntN(2000))...))
	}
	return h.feed(data(laneDefault, laneCredit-1-uint64(r.IntN(1000)), 0))
}

// gram sends a datagram that nobody reads.
func (h *hostile) gram() error {
	p := make([]byte, h.rng.IntN(MaxDatagram))
	b := make([]byte, gramHeader+len(p))
	h.number++
	putDatagram(b, laneDefault, h.grams.ID(), h.number, p)
	return h.feed(b)
}

// lane begins a lane, of which there may be so many.
func (h *hostile) lane() error {
	if len(h.lanes) >= 6 && h.rng.IntN(500) > 0 {
		return nil
	}
	id := byte(2 + 2*len(h.lanes))
	h.lanes = append(h.lanes, id)
	policy := []splitter.Policy{coded["erasure 3 of 4"], coded["secrecy 3 of 5"]}[len(h.lanes)%2]
	policy.MinPaths += len(h.lanes) % 3
	return h.say(appendPolicy(nil, id, splitter.Bulk, policy))
}

// shard sends one of a block of which fewer than K ever come.
func (h *hostile) shard() error {
	if len(h.lanes) == 0 {
		return h.lane()
	}
	l := h.s.laneByID(h.lanes[h.rng.IntN(min(len(h.lanes), 2))])
	if l == nil {
		return nil
	}
	l.useScheme()
	const size = 20_000
	sh := splitter.Shard{
		Offset: uint64(1+h.rng.IntN(400)) * size, Size: size, Generation: uint8(h.rng.IntN(256)),
		Index: uint8(h.rng.IntN(2)), K: uint8(l.scheme.K()), N: uint8(l.scheme.N()),
	}
	b := make([]byte, shardHeader+l.scheme.ShardSize(size))
	putShardHeader(b, l.id, sh)
	return h.feed(b)
}

// check fails when the session keeps more than its bounds.
func (h *hostile) check() (outOfOrder, unacknowledged, inbox int) {
	h.t.Helper()
	st := h.s.Stats()
	if len(st.Lanes) > MaxLanes || st.Streams > mux.DefaultMaxIncoming+1 {
		h.t.Fatalf("%d lanes, %d streams", len(st.Lanes), st.Streams)
	}
	for _, l := range st.Lanes {
		order, held := laneCredit, maxHeld+maxControl
		if l.Policy.Purpose.Coded() {
			order += laneIncomplete
		}
		if l.ID == laneControl {
			held = maxControl + maxMessage
		}
		if l.OutOfOrder > order || l.Unacknowledged > held {
			h.t.Fatalf("lane %d keeps %d bytes out of order, %d unacknowledged", l.ID, l.OutOfOrder, l.Unacknowledged)
		}
	}
	h.s.mu.Lock()
	parting := len(h.s.parting)
	h.s.mu.Unlock()
	if in := h.s.data.inboxes.all[h.grams.ID()]; in != nil {
		in.mu.Lock()
		n := len(in.waiting)
		inbox = in.bytes
		in.mu.Unlock()
		if inbox > maxInboxBytes || n > maxInbox {
			h.t.Fatalf("%d datagrams of %d bytes wait", n, inbox)
		}
	}
	if parting > maxParting {
		h.t.Fatalf("%d parting", parting)
	}
	return st.OutOfOrder(), st.Unacknowledged(), inbox
}

// TestSessionsInGrace: a thousand sessions without a path keep what a stream's
// window lets a writer write, and nothing once the grace period is over.
func TestSessionsInGrace(t *testing.T) {
	const n, written = 1000, mux.InitialWindow + 4<<10
	synctest.Test(t, func(t *testing.T) {
		runtime.GC()
		before := heapInUse()
		sessions := make([]*Session, n)
		most := 0
		for i := range sessions {
			p := newPair(t, withGrace)
			s := p.a
			r, _ := p.results(FirstPath)
			if err := s.AddPath(newSinkConn(), r, PathInfo{}); err != nil {
				t.Fatal(err)
			}
			st, err := s.Open(plainPolicy, splitter.Interactive)
			if err != nil {
				t.Fatal(err)
			}
			go st.Write(make([]byte, 1<<20)) // waits, until the session is over
			sessions[i] = s
		}
		synctest.Wait()
		for _, s := range sessions {
			s.lose(FirstPath)
		}
		for range 6 {
			time.Sleep(9 * time.Second) // virtual
			sum := 0
			for _, s := range sessions {
				since, held := s.Pathless()
				if since.IsZero() || held > written {
					t.Fatalf("pathless since %v, with %d bytes: %v", since, held, s.Err())
				}
				sum += held
				most = max(most, held)
			}
			if sum < n*mux.InitialWindow/2 {
				t.Fatalf("%d bytes are kept: the test shows nothing", sum)
			}
		}
		runtime.GC()
		if grown := int64(heapInUse()) - int64(before); grown > n*(2*written+1<<20) {
			t.Errorf("the heap grew by %d bytes", grown)
		}
		time.Sleep(10 * time.Second) // virtual
		show("GRACE_HELD", most, written, "bytes at most of each of %d sessions in their grace period", n)
		for _, s := range sessions {
			if _, held := s.Pathless(); held != 0 || s.Err() == nil {
				t.Fatalf("%d bytes are kept after the end: %v", held, s.Err())
			}
		}
	})
}

// TestLanesTogether: a peer that fills the credit of many lanes out of order is cut
// off at the session's bound, long before the sum of what each lane allows.
func TestLanesTogether(t *testing.T) {
	s, p := victim(t, false)
	packet, said := uint64(0), uint64(0)
	say := func(plain []byte) error {
		packet++
		return feed(s, p, packet-1, plain)
	}
	for id := byte(2); id <= 14; id += 2 {
		m := appendPolicy(nil, id, splitter.Interactive, plainPolicy)
		if err := say(data(laneControl, said, m...)); err != nil {
			t.Fatal(err)
		}
		said += uint64(len(m))
	}
	piece := make([]byte, 32<<10)
	for id := byte(2); id <= 14; id += 2 {
		for at := uint64(1); at+uint64(len(piece)) < laneCredit; at += uint64(len(piece)) {
			err := say(data(id, at, piece...))
			st := s.Stats()
			if n := st.OutOfOrder(); n > maxWaiting+len(piece) {
				t.Fatalf("%d bytes are kept", n)
			}
			if err != nil {
				if !isProtocol(err) || id < 8 {
					t.Fatalf("on lane %d: %v", id, err)
				}
				return
			}
		}
	}
	t.Fatal("it keeps all")
}

// TestLimit: while many sessions keep too much together, one that would keep more than
// its share ends, one that keeps little goes on, and what has ended counts no more.
func TestLimit(t *testing.T) {
	limit := NewLimit(1 << 20)
	begin := func() (*Session, *path) {
		p := newPair(t, func(_, b *Config) { b.Limit = limit })
		_, r := p.results(FirstPath)
		if err := p.b.AddPath(newSinkConn(), r, PathInfo{}); err != nil {
			t.Fatal(err)
		}
		return p.b, p.b.pathByID(FirstPath)
	}
	keep := func(s *Session, p *path, bytes int) error {
		const piece = 32 << 10
		for i := range bytes / piece {
			if err := feed(s, p, uint64(i), data(laneDefault, 1+uint64(i)*piece, make([]byte, piece)...)); err != nil {
				s.failNow(err)
				return err
			}
		}
		return nil
	}
	first, p1 := begin()
	if err := keep(first, p1, 900<<10); err != nil {
		t.Fatal(err)
	}
	second, p2 := begin()
	if err := keep(second, p2, 2<<20); !isProtocol(err) {
		t.Fatal("all that it likes: ", err)
	}
	third, p3 := begin()
	if err := keep(third, p3, 200<<10); err != nil {
		t.Fatal(err)
	}
	second.Wait()
	first.Abort(CodeNormal)
	first.Wait()
	if got := limit.Kept(); got > 200<<10 || got < 190<<10 {
		t.Errorf("%d bytes are counted", got)
	}
}
