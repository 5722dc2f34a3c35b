package session

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splitmesh/splitmesh/internal/buf"
	"github.com/splitmesh/splitmesh/splitter"
	"github.com/splitmesh/splitmesh/transport/link"
	"golang.org/x/net/nettest"
)

func TestNettest(t *testing.T) {
	for name, paths := range map[string][]int{"direct": {0}, "three relays": {1, 2, 3}} {
		t.Run(name, func(t *testing.T) {
			nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
				p := newPair(t, nil)
				for _, relay := range paths {
					p.joinTCP(t, relay)
				}
				c1, c2 = p.stream(t)
				return c1, c2, func() {
					p.a.Abort(CodeNormal)
					p.b.Abort(CodeNormal)
				}, nil
			})
		})
	}
}

// noise is n reproducible bytes.
func noise(seed uint64, n int) []byte {
	p := make([]byte, n)
	c := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	c.Read(p)
	return p
}

// transfer sends want from one conn and returns what arrives at the other.
func transfer(t *testing.T, from, to net.Conn, want []byte) [32]byte {
	t.Helper()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		if n, err := from.Write(want); err != nil {
			t.Errorf("write of %d bytes: %d, %v", len(want), n, err)
		}
		if err := from.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Error(err)
		}
	})
	h := sha256.New()
	if n, err := io.Copy(h, to); err != nil || n != int64(len(want)) {
		t.Errorf("received %d bytes, %v, want %d", n, err, len(want))
	}
	return [32]byte(h.Sum(nil))
}

func TestEqualPathsShareTheLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, nil)
		for relay := 1; relay <= 3; relay++ {
			shape := link.Shape{Rate: 12_500_000, Delay: 10 * time.Millisecond}
			ca, cb := link.New(link.Config{Up: shape, Down: shape}).Pipe(nil, nil).Conns()
			p.join(t, relay, ca, cb)
		}
		here, there := p.stream(t)
		want := noise(1, 32<<20)
		if got := transfer(t, here, there, want); got != sha256.Sum256(want) {
			t.Fatal("the bytes differ")
		}
		st := p.a.Stats()
		for _, path := range st.Paths {
			share := float64(path.SentBytes) / float64(len(want))
			t.Logf("path %d: %.3f", path.ID, share)
			if share < 0.31 || share > 0.36 {
				t.Errorf("path %d carried %.3f of the whole", path.ID, share)
			}
			if path.ResentBytes != 0 {
				t.Errorf("path %d re-sent %d bytes", path.ID, path.ResentBytes)
			}
		}
		p.a.Close()
		p.b.Close()
	})
}

// TestTrickleIsSpread: bytes that come one by one, each acknowledged before the
// next, take turns over the paths too.
func TestTrickleIsSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, nil)
		for relay := 1; relay <= 3; relay++ {
			ca, cb := net.Pipe()
			p.join(t, relay, ca, cb)
		}
		here, there := p.stream(t)
		for range 30 {
			if _, err := here.Write(make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(there, make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * ackDelay) // virtual
		}
		for _, path := range p.a.Stats().Paths {
			if path.SentBytes < 9_000 || path.SentBytes > 12_000 {
				t.Errorf("path %d carried %d of 30,000 bytes", path.ID, path.SentBytes)
			}
		}
		p.a.Close()
		p.b.Close()
	})
}

// TestNoByteLostWhenPathsDie cuts a random path again and again in mid-transfer
// and adds another in its place.
func TestNoByteLostWhenPathsDie(t *testing.T) {
	for seed := range uint64(8) {
		p := newPair(t, nil)
		rng := rand.New(rand.NewPCG(seed, 0))
		var ids []uint32
		for relay := 1; relay <= 3; relay++ {
			ids = append(ids, p.joinTCP(t, relay))
		}
		here, there := p.stream(t)
		want := noise(seed, 12<<20)
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
			if err != nil {
				if err != io.EOF {
					t.Fatalf("seed %d: after %d bytes: %v", seed, len(got), err)
				}
				break
			}
			if len(got) > kills*len(want)/8 && kills < 7 {
				kills++
				i := rng.IntN(len(ids))
				p.cut(ids[i])
				ids[i] = p.joinTCP(t, 3+kills)
			}
		}
		wg.Wait()
		if !bytes.Equal(got, want) {
			t.Fatalf("seed %d: the bytes differ", seed)
		}
		p.mu.Lock()
		died := 0
		for _, e := range p.fates[0] {
			if e.Err != nil {
				died++
			}
		}
		p.mu.Unlock()
		if died == 0 {
			t.Fatalf("seed %d: no path died: the test shows nothing", seed)
		}
	}
}

func TestLastPathEndsTheSession(t *testing.T) {
	p := newPair(t, nil)
	id := p.joinTCP(t, 0)
	here, there := p.stream(t)
	p.cut(id)
	lost, ok := errors.AsType[*PathsLostError](<-p.ends[0])
	if !ok || lost.Peer != p.b.Local() || lost.Last == nil {
		t.Fatal(lost)
	}
	if errors.Is(lost, io.EOF) || errors.Is(lost, net.ErrClosed) {
		t.Fatalf("%v passes for an end in order", lost)
	}
	<-p.ends[1]
	for _, c := range []net.Conn{here, there} {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("Read on a dead session succeeds")
		}
	}
	if _, err := p.a.Open(plainPolicy, splitter.Interactive); !errors.Is(err, lost) {
		t.Error(err)
	}
}

// TestCutIsNoEnd: who closes the only path, on whichever side, does not make what
// has arrived look complete.
func TestCutIsNoEnd(t *testing.T) {
	p := newPair(t, nil)
	ca, cb := net.Pipe()
	p.join(t, 0, ca, cb)
	here, there := p.stream(t)
	cb.Close() // io.EOF at a, net.ErrClosed at b
	for i, c := range []net.Conn{here, there} {
		err := <-p.ends[i]
		_, readErr := c.Read(make([]byte, 1))
		for _, err := range []error{err, readErr} {
			if err == nil || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
				t.Errorf("end %d: %v", i, err)
			}
		}
	}
}

func TestCloseDeliversWhatWasWritten(t *testing.T) {
	p := newPair(t, nil)
	p.joinTCP(t, 1)
	p.joinTCP(t, 2)
	here, there := p.stream(t)
	want := noise(3, 200<<10) // fits the stream's first window: Write does not wait
	if _, err := here.Write(want); err != nil {
		t.Fatal(err)
	}
	here.Close()
	if err := p.a.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(there)
	if !bytes.Equal(got, want) || err != nil {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	closed, ok := errors.AsType[*ClosedError](<-p.ends[1])
	if !ok || !closed.Remote || closed.Code != CodeNormal {
		t.Fatal(closed)
	}
	if errors.Is(p.b.Err(), net.ErrClosed) || !errors.Is(p.b.Err(), ErrPeerGone) || !errors.Is(p.a.Err(), net.ErrClosed) {
		t.Fatal(p.a.Err(), p.b.Err())
	}
	p.a.Close() // idempotent
	<-p.a.Done()
	ca, cb := tcpPipe(t)
	defer cb.Close()
	result, _ := p.results(9)
	if err := p.a.AddPath(ca, result, PathInfo{}); err == nil {
		t.Error("a closed session takes a path")
	}
}

func TestPolicyHoldsData(t *testing.T) {
	policy := splitter.Policy{Purpose: splitter.Throughput, MinPaths: 2, MaxShare: 0.6}
	p := newPair(t, func(a, _ *Config) { a.Policy = policy })
	p.joinTCP(t, 1)
	here, err := p.a.Open(plainPolicy, splitter.Interactive)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := here.Write([]byte("not over one relay alone")); err != nil {
		t.Fatal(err)
	}
	p.joinTCP(t, 1)                                            // the same relay again is no second
	if _, err := p.a.Open(policy, splitter.Bulk); err != nil { // the control lane works all the same
		t.Fatal(err)
	}
	if st := p.a.Stats(); st.Unacknowledged() == 0 {
		t.Fatal("data went out over one relay")
	}
	select {
	case <-p.accepted:
		t.Fatal("data arrived over one relay")
	default:
	}
	p.joinTCP(t, 2)
	there := <-p.accepted
	buf := make([]byte, 100)
	if n, err := there.Read(buf); string(buf[:n]) != "not over one relay alone" || err != nil {
		t.Fatal(string(buf[:n]), err)
	}
	// The dialler's policy binds the other end too.
	p.b.mu.Lock()
	got := p.b.data.policy
	p.b.mu.Unlock()
	if got.MinPaths != 2 || got.MaxShare != 0.6 {
		t.Fatalf("the peer's policy is %+v", got)
	}
}

// TestTokensDoNotRunOut: both ends derive the same tokens, those that led to no path
// come back, and each that is spent makes room for another.
func TestTokensDoNotRunOut(t *testing.T) {
	issued := make(map[Token]bool)
	p := newPair(t, func(_, b *Config) {
		b.OnToken = func(k Token) { issued[k] = true }
	})
	p.joinTCP(t, 1)
	if len(issued) != tokensAhead {
		t.Fatalf("%d tokens are out", len(issued))
	}
	for range 5 * tokensAhead {
		j, err := p.a.TakeToken(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		p.a.ReturnToken(j)
		p.a.ReturnToken(j)
		again, err := p.a.TakeToken(t.Context())
		if err != nil || again != j {
			t.Fatal(again, err)
		}
		if !issued[j.Token] || j.Secret != p.b.JoinSecret() {
			t.Fatal("a token that was not issued, or twice")
		}
		delete(issued, j.Token)
		p.b.TokenSpent()
	}
	p.a.Abort(CodeNormal)
	if _, err := p.a.TakeToken(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

// TestPolicyGoesFirst: no data leaves before the peer has acknowledged the policy.
func TestPolicyGoesFirst(t *testing.T) {
	policy := splitter.Policy{Purpose: splitter.Throughput, MinPaths: 2, MaxShare: 0.6}
	p := newPair(t, func(a, _ *Config) { a.Policy = policy })
	for id := uint32(1); id <= 2; id++ {
		r, _ := p.results(id)
		if err := p.a.AddPath(newSinkConn(), r, PathInfo{Relay: relayNumber(int(id))}); err != nil {
			t.Fatal(err)
		}
	}
	st, err := p.a.Open(plainPolicy, splitter.Interactive)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Write(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	sent := func() (n uint64) {
		for _, c := range p.a.Stats().Carried {
			n += c.SentBytes
		}
		return n
	}
	said := uint64(len(appendPolicy(nil, laneDefault, splitter.Interactive, policy)))
	if sent() != said {
		t.Fatalf("%d bytes were sent before the policy arrived, want %d", sent(), said)
	}
	if err := feed(p.a, p.a.pathByID(1), 0, appendAck(nil, &ack{Lanes: []laneAck{{laneControl, said, laneCredit}}})); err != nil {
		t.Fatal(err)
	}
	if sent() < said+1000 {
		t.Fatalf("%d bytes sent once it had", sent())
	}
}

func TestFailFast(t *testing.T) {
	policy := splitter.Policy{Purpose: splitter.Throughput, MinPaths: 2, MaxShare: 0.6, FailFast: true}
	p := newPair(t, nil)
	p.joinTCP(t, 1)
	here, err := p.a.Open(policy, splitter.Interactive)
	if err != nil {
		t.Fatal(err)
	}
	few, ok := errors.AsType[*splitter.TooFewPathsError](errOf(here.Write([]byte("x"))))
	if !ok || few.Have != 1 || few.Want != 2 {
		t.Fatal(few)
	}
}

func errOf(_ int, err error) error { return err }

// TestMaxShareHolds sends over one fast and one slow path and counts each relay's
// part, re-sent bytes included, by what the paths sent.
func TestMaxShareHolds(t *testing.T) {
	policy := splitter.Policy{Purpose: splitter.Throughput, MinPaths: 2, MaxShare: 0.6}
	p := newPair(t, func(a, _ *Config) { a.Policy = policy })
	for relay := 1; relay <= 2; relay++ {
		p.joinTCP(t, relay)
	}
	here, there := p.stream(t)
	want := noise(4, 16<<20)
	if got := transfer(t, here, there, want); got != sha256.Sum256(want) {
		t.Fatal("the bytes differ")
	}
	for _, path := range p.a.Stats().Paths {
		if share := float64(path.SentBytes) / float64(len(want)); share > 0.605 {
			t.Errorf("relay of path %d carried %.3f", path.ID, share)
		}
	}
}

// TestLanesOfBothEndsAtOnce: however many lanes both ends begin at the same time,
// the session lives, and neither can use up the other's.
func TestLanesOfBothEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, nil)
		ends := []*Session{p.a, p.b}
		for _, s := range ends {
			opened := 0
			for share := range 10 { // before either has heard of the other
				policy := plainPolicy
				policy.MinPaths, policy.MaxShare = 2, 0.6+float64(share)/100
				if _, err := s.Open(policy, splitter.Bulk); err == nil {
					opened++
				} else if !errors.Is(err, ErrTooManyLanes) {
					t.Fatal(err)
				}
			}
			if opened != MaxLanes/2-1 {
				t.Errorf("one end may begin %d lanes, want %d", opened, MaxLanes/2-1)
			}
		}
		for relay := 1; relay <= 2; relay++ {
			ca, cb := net.Pipe()
			p.join(t, relay, ca, cb)
		}
		synctest.Wait()
		for _, s := range ends {
			if n := len(s.Stats().Lanes); s.Err() != nil || n != MaxLanes {
				t.Errorf("%d lanes: %v", n, s.Err())
			}
		}
		p.a.Close()
		p.b.Close()
	})
}

// TestShareOfBytesFromFurtherBack: a long segment that goes ahead of a short one is
// weighed by its own length.
func TestShareOfBytesFromFurtherBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		policy := splitter.Policy{Purpose: splitter.Throughput, MinPaths: 2, MaxShare: 0.6}
		p := newPair(t, func(a, _ *Config) { a.Policy, a.Scheduler = policy, aheadOf{} })
		for relay := 1; relay <= 2; relay++ {
			ca, cb := net.Pipe()
			p.join(t, relay, ca, cb)
		}
		here, there := p.open(t, policy, splitter.Bulk)
		go io.Copy(io.Discard, there)
		synctest.Wait()
		s, l := p.a, here.lane
		s.lock()
		carrier := s.paths[0].carrier
		l.shares.Sent(s.paths[1].carrier, splitter.ShareSpan)
		l.shares.Sent(carrier, splitter.ShareSpan*6/10-100)
		for _, n := range []int{20, maxSegment - 10} { // too long to be joined
			l.pushWhole(buf.Get(dataHeader+n), nil)
		}
		s.scheduleOne(l)
		if got := l.shares.Held(carrier); got > splitter.ShareSpan*6/10 {
			t.Errorf("%d bytes of %d by one relay", got, splitter.ShareSpan)
		}
		s.mu.Unlock()
		s.Abort(CodeNormal) // those were no frames of a mux
		p.b.Abort(CodeNormal)
	})
}

// aheadOf gives the first path what is 20 bytes back.
type aheadOf struct{}

func (aheadOf) Next(_ time.Time, j splitter.Job, paths []splitter.Path) (path, ahead int) {
	if !paths[0].Open(j.Size) {
		return -1, 0
	}
	if j.Backlog < 1000 {
		return 0, 0
	}
	return 0, 20
}
