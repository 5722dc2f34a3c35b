package session

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splitmesh/splitmesh/internal/buf"
	"github.com/splitmesh/splitmesh/splitter"
	"golang.org/x/net/nettest"
)

// coded are the policies whose lanes carry shards.
var coded = map[string]splitter.Policy{
	"replicated":     {Purpose: splitter.Resilience, K: 1, N: 2, MinPaths: 1, MaxShare: 1},
	"erasure 2 of 3": {Purpose: splitter.Resilience, K: 2, N: 3, MinPaths: 2, MaxShare: 1},
	"erasure 3 of 4": {Purpose: splitter.Resilience, K: 3, N: 4, MinPaths: 3, MaxShare: 1},
	"secrecy 2 of 3": {Purpose: splitter.Secrecy, K: 2, N: 3, MinPaths: 2, MaxShare: 1},
	"secrecy 3 of 5": {Purpose: splitter.Secrecy, K: 3, N: 5, MinPaths: 3, MaxShare: 1},
}

// open opens a stream by a policy and returns both of its ends, of which the other
// appears with the first byte.
func (p *pair) open(t tester, policy splitter.Policy, class splitter.Class) (*Stream, *Stream) {
	t.Helper()
	here, err := p.a.Open(policy, class)
	if err != nil {
		t.Fatal(err)
	}
	return here, <-p.accepted
}

func TestCodedNettest(t *testing.T) {
	for name, policy := range coded {
		t.Run(name, func(t *testing.T) {
			nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
				p := newPair(t, nil)
				for relay := range policy.N {
					p.joinTCP(t, 1+relay)
				}
				c1, c2 = p.open(t, policy, splitter.Interactive)
				return c1, c2, func() {
					p.a.Abort(CodeNormal)
					p.b.Abort(CodeNormal)
				}, nil
			})
		})
	}
}

// TestCodedPathsDie: whatever dies when, no byte is lost, and with secrecy no relay
// holds two shares of one sharing.
func TestCodedPathsDie(t *testing.T) {
	for name, policy := range coded {
		for seed := range uint64(4) {
			t.Run(fmt.Sprintf("%s/%d", name, seed), func(t *testing.T) {
				p := newPair(t, nil)
				p.taps = new(taps)
				rng := rand.New(rand.NewPCG(seed, 3))
				var ids []uint32
				relays := rng.Perm(policy.N + 4) // the first ones of these have a path
				for _, r := range relays[:policy.N+1] {
					ids = append(ids, p.joinTCP(t, 1+r))
				}
				here, there := p.open(t, policy, splitter.Interactive)
				want := noise(seed, 4<<20)
				var wg sync.WaitGroup
				wg.Go(func() {
					here.Write(want)
					here.CloseWrite()
				})
				got := make([]byte, 0, len(want))
				piece := make([]byte, 64<<10)
				for kills := 1; ; {
					n, err := there.Read(piece)
					got = append(got, piece[:n]...)
					if err == io.EOF {
						break
					}
					if err != nil {
						t.Fatalf("after %d bytes: %v", len(got), err)
					}
					if len(got) > kills*len(want)/10 && kills < 9 {
						kills++
						i := rng.IntN(len(ids))
						p.cut(ids[i])
						j := len(ids) + rng.IntN(len(relays)-len(ids))
						relays[i], relays[j] = relays[j], relays[i]
						ids[i] = p.joinTCP(t, 1+relays[i]) // maybe one that had shares
					}
				}
				wg.Wait()
				if sha256.Sum256(got) != sha256.Sum256(want) {
					t.Fatalf("%d bytes arrived, %d were sent, equal: %v", len(got), len(want), bytes.Equal(got, want))
				}
				if policy.Purpose == splitter.Secrecy {
					checkRule(t, p.taps.shards(t), policy)
				}
			})
		}
	}
}

// TestSecrecyOfOneCapture: a relay that captured everything, and was given the
// session's data keys, finds no plaintext; two of them together find all of it.
func TestSecrecyOfOneCapture(t *testing.T) {
	policy := coded["secrecy 2 of 3"]
	p := newPair(t, nil)
	p.taps = new(taps)
	for relay := range 3 {
		p.joinTCP(t, 1+relay)
	}
	here, there := p.open(t, policy, splitter.Interactive)
	want := bytes.Repeat([]byte("what nobody else is to read. "), 40_000)
	if got := transfer(t, here, there, want); got != sha256.Sum256(want) {
		t.Fatal("the bytes differ")
	}
	canary := []byte("nobody else")
	shards := p.taps.shards(t)
	checkRule(t, shards, policy)
	for relay := 1; relay <= 3; relay++ {
		for _, plain := range p.taps.plaintexts(t, relay) {
			if bytes.Contains(plain, canary) {
				t.Fatalf("relay %d can read it in a frame of type %d", relay, plain[0])
			}
		}
		if got := joinCaptures(t, policy, shards[relay]); len(got) != 0 {
			t.Fatalf("relay %d alone can join %d blocks", relay, len(got))
		}
	}
	most := 0
	for _, two := range [][2]int{{1, 2}, {1, 3}, {2, 3}} { // a block needs no third shard once two arrived
		got := joinCaptures(t, policy, slices.Concat(shards[two[0]], shards[two[1]]))
		if bytes.Contains(got, canary) {
			most = max(most, len(got))
		}
	}
	show("SECRECY_ONE_CAPTURE", 0, 0, "bytes that a relay's capture joins, with the session's keys; two captures join %d", most)
	if most < len(want)/3 {
		t.Fatalf("two relays together find %d of %d bytes: the test shows nothing", most, len(want))
	}
}

// joinCaptures joins every block of which there are enough shards.
func joinCaptures(t *testing.T, policy splitter.Policy, shards []capturedShard) (out []byte) {
	t.Helper()
	scheme, err := splitter.SchemeOf(policy, splitter.ChaCha20Poly1305)
	if err != nil {
		t.Fatal(err)
	}
	blocks := splitter.NewBlocks(scheme, 1<<30)
	for _, s := range shards {
		b, err := blocks.Insert(s.Shard, s.payload, nil)
		if err != nil {
			t.Fatal(err)
		}
		if b != nil {
			out = append(out, b.B...)
			b.Release()
		}
	}
	return out
}

// TestSecrecyRuleAtEveryPoint kills each path after each number of its writes, of
// three, and of two of which the same relay comes back: no relay ever gets two
// shares of one sharing, and nothing is lost.
func TestSecrecyRuleAtEveryPoint(t *testing.T) {
	anew := 0
	for writes := 1; writes <= 24; writes++ {
		for victim := 1; victim <= 3; victim++ {
			secrecyKill(t, 3, victim, writes)
		}
		for victim := 1; victim <= 2; victim++ {
			anew += secrecyKill(t, 2, victim, writes)
		}
	}
	show("SECRECY_TWO_SHARES", 0, 0, "relays with two shares of one sharing, in %d kills; %d shares of blocks shared anew", 24*5, anew)
	if anew == 0 {
		t.Error("no block was shared anew: the test shows nothing of that")
	}
}

// secrecyKill sends over some relays of which one dies after so many writes, and
// comes back if there are only two. It returns how many shards of blocks that were
// shared anew the relays have seen.
func secrecyKill(t *testing.T, relays, victim, writes int) (anew int) {
	policy := coded["secrecy 2 of 3"]
	want := noise(8, 300<<10)
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, func(a, b *Config) { a.Grace, b.Grace = time.Minute, time.Minute }) // the first may die before the second is there
		p.taps = new(taps)
		add := func(relay int) *tapConn {
			ca, cb := net.Pipe()
			tap := p.taps.tap(ca, relay, p.next+1)
			p.join(t, relay, tap, cb)
			return tap.(*tapConn)
		}
		var back sync.WaitGroup
		sent := make(chan struct{})
		var doomed *tapConn
		for relay := 1; relay <= relays; relay++ {
			if tap := add(relay); relay == victim {
				doomed = tap
				tap.cutAfter(writes)
			}
		}
		if relays < 3 {
			back.Go(func() { // ends when the path is cut, or all is sent
				select {
				case <-doomed.gone:
					add(victim)
				case <-sent:
				}
			})
		}
		here, there := p.open(t, policy, splitter.Interactive)
		if got := transfer(t, here, there, want); got != sha256.Sum256(want) {
			t.Fatal("the bytes differ")
		}
		close(sent)
		back.Wait()
		shards := p.taps.shards(t)
		checkRule(t, shards, policy)
		for _, got := range shards {
			for _, s := range got {
				if s.Generation > 0 {
					anew++
				}
			}
		}
		p.a.Close()
		p.b.Close()
	})
	return anew
}

// TestPathlessCountsIncompleteBlocks: what a session without paths keeps of blocks
// that are not whole counts against the node's bounds.
func TestPathlessCountsIncompleteBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, withGrace)
		_, r := p.results(FirstPath)
		if err := p.b.AddPath(newSinkConn(), r, PathInfo{}); err != nil {
			t.Fatal(err)
		}
		path := p.b.pathByID(FirstPath)
		if err := feed(p.b, path, 0, control(appendPolicy(nil, 2, splitter.Bulk, resilient))); err != nil {
			t.Fatal(err)
		}
		const size = 20_000
		l := p.b.laneByID(2)
		l.useScheme()
		shard := make([]byte, shardHeader+l.scheme.ShardSize(size))
		putShardHeader(shard, 2, splitter.Shard{Offset: size, Size: size, K: 2, N: 3})
		if err := feed(p.b, path, 1, shard); err != nil {
			t.Fatal(err)
		}
		path.conn.Close()
		synctest.Wait()
		if since, held := p.b.Pathless(); since.IsZero() || held < len(shard)-shardHeader {
			t.Errorf("without paths since %v, %d bytes held; a shard has %d", since, held, len(shard))
		}
		p.a.Close()
		p.b.Close()
	})
}

// TestLaneIsNotStuckWhenPathsDieOverAndOver: carriers that take shares, acknowledge
// none and die, a hundred times, leave room for the first block to be shared anew.
func TestLaneIsNotStuckWhenPathsDieOverAndOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, withGrace)
		var packets uint64
		said := uint64(0)
		say := func(m []byte) {
			if err := feed(p.a, p.a.paths[0], packets, data(laneControl, said, m...)); err != nil {
				t.Fatal(err)
			}
			packets++
			said += uint64(len(m))
		}
		id := uint32(0)
		join := func() {
			packets = 0
			for relay := 1; relay <= 3; relay++ {
				id++
				r, _ := p.results(id)
				if err := p.a.AddPath(newSinkConn(), r, PathInfo{Relay: relayNumber(relay)}); err != nil {
					t.Fatal(err)
				}
			}
			p.a.mu.Lock()
			a := ack{Lanes: []laneAck{{laneControl, p.a.control.next, laneCredit}}}
			p.a.mu.Unlock()
			if err := feed(p.a, p.a.paths[0], packets, appendAck(nil, &a)); err != nil {
				t.Fatal(err)
			}
			packets++
		}
		join()
		st, err := p.a.Open(coded["secrecy 3 of 5"], splitter.Interactive)
		if err != nil {
			t.Fatal(err)
		}
		go st.Write(noise(5, 1<<20)) // ends with the session
		l := st.lane
		for flap := range 100 {
			synctest.Wait()
			gone := slices.Clone(p.a.paths)
			for _, q := range gone {
				q.conn.Close()
			}
			synctest.Wait()
			join()
			for _, q := range gone {
				say(appendAbandon(nil, q.info.ID))
			}
			synctest.Wait()
			for flap == 0 && l.segments.items()[0].size() < 30_000 { // what opens the stream: the first is to be a long one
				a := ack{Lanes: []laneAck{{l.id, l.segments.items()[0].end(), laneCredit}}}
				if err := feed(p.a, p.a.paths[0], packets, appendAck(nil, &a)); err != nil {
					t.Fatal(err)
				}
				packets++
				synctest.Wait()
			}
			p.a.mu.Lock()
			if flap == 0 { // as if they had been given as much as they may
				for _, g := range l.segments.items() {
					if g.given && g != l.segments.items()[0] {
						rest := laneIncomplete - splitter.MaxGenerations*splitter.MostHeld(l.scheme, maxSegment) - l.begun
						l.charge += rest
						l.begun += rest
						g.block.charged += rest
						break
					}
				}
			}
			first, begun := l.segments.items()[0].block, l.begun
			out, generation := first.out, int(first.generation)
			p.a.mu.Unlock()
			if out < 3 || generation != flap || begun > laneIncomplete {
				t.Fatalf("after %d times the first block is of generation %d and has %d shards under way, with %d charged", flap+1, generation, out, begun)
			}
		}
		p.a.Abort(CodeNormal)
		p.b.Abort(CodeNormal)
	})
}

// TestOperatorLearntLater: a relay whose operator was not known when it had a share
// counts as one with that operator's others from when it is, and gets no second one;
// a relay that changes its operator makes none of two.
func TestOperatorLearntLater(t *testing.T) {
	p := newPair(t, nil)
	add := func(id uint32, relay int, operator string) {
		r, _ := p.results(id)
		if err := p.a.AddPath(newSinkConn(), r, PathInfo{Relay: relayNumber(relay), Operator: operator}); err != nil {
			t.Fatal(err)
		}
	}
	add(1, 1, "")
	add(2, 2, "x")
	s := p.a
	s.mu.Lock()
	first, x := s.pathByID(1).carrier, s.pathByID(2).carrier
	k := &block{had: []int{first}}
	s.data.segments.push(&segment{lane: s.data, b: buf.Get(dataHeader), block: k})
	s.data.shares.Sent(first, 5)
	s.data.shares.Sent(x, 7)
	s.mu.Unlock()
	add(3, 1, "x")
	s.mu.Lock()
	if first == x || s.pathByID(1).carrier != x || s.pathByID(3).carrier != x || k.had[0] != x || s.data.shares.Held(x) != 12 || s.data.shares.Held(first) != 0 {
		t.Errorf("carriers %d and %d became %d and %d; the block's %v, %d bytes", first, x, s.pathByID(1).carrier, s.pathByID(3).carrier, k.had, s.data.shares.Held(x))
	}
	s.mu.Unlock()
	add(4, 3, "y")
	add(5, 3, "x")
	s.mu.Lock()
	defer s.mu.Unlock()
	if y := s.pathByID(5).carrier; y == x || y != s.pathByID(4).carrier {
		t.Errorf("the relay that named y and then x is carrier %d, x is %d", y, x)
	}
}
