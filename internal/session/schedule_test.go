package session

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/splitmesh/splitmesh/internal/rekey"
	"github.com/splitmesh/splitmesh/splitter"
)

// scheduleLanes are what the streams of a schedule go by.
var scheduleLanes = []struct {
	policy splitter.Policy
	class  splitter.Class
}{
	{plainPolicy, splitter.Interactive},
	{plainPolicy, splitter.Bulk},
	{splitter.Policy{Purpose: splitter.Throughput, MinPaths: 2, MaxShare: 0.6}, splitter.Bulk},
	{coded["erasure 2 of 3"], splitter.Interactive},
	{coded["replicated"], splitter.Bulk},
	{coded["secrecy 2 of 3"], splitter.Interactive},
}

// A tally is what a number of schedules came to.
type tally struct {
	lost, doubled, stuck                            int
	bytes, paths, died, commits, pathless, restarts int
}

var errRestart = errors.New("the node starts anew")

// playSchedule plays a script: a byte that says how small the limits of keys are,
// then an operation and its argument, again and again. All lanes' streams go on
// sending in both directions meanwhile. At the end the network is mended, and all
// that was written must arrive. A restart puts a new pair in the place of the old.
func playSchedule(t *testing.T, on stage, script []byte, sum *tally) {
	var limits rekey.Limits
	seed := uint64(len(script))
	if len(script) > 0 {
		if script[0]%4 > 0 {
			limits.Bytes = 4 << 10 << (script[0] % 8)
		}
		seed = uint64(script[0]) + 1
		script = script[1:]
	}
	script = script[:min(len(script), 80)]
	for again := true; again && !t.Failed(); {
		y := newAct(t, on, limits, seed, sum)
		again = false
		for len(script) >= 2 && !again && !t.Failed() {
			op, arg := script[0], script[1]
			script = script[2:]
			if again = op%16 == 15 && len(script) >= 2; !again {
				y.step(op%16, arg)
			}
		}
		if again {
			y.restart()
		} else {
			y.finish()
		}
		seed += 1000
	}
}

// An act is the life of one pair in a schedule.
type act struct {
	t     *testing.T
	on    stage
	p     *pair
	sum   *tally
	rng   *rand.Rand
	moved chan struct{} // of size 1: bytes or paths have moved

	live    []breaker // the latest last
	long    bool      // it has had its long pause
	streams []*flowTest
	wg      sync.WaitGroup
	ended   atomic.Bool // errors are the restart's
	quit    chan struct{}
}

// A flowTest is a stream of a schedule, with what either end is to send.
type flowTest struct {
	seed uint64
	size [2]int // by direction; 0 is from who opened it
}

func newAct(t *testing.T, on stage, limits rekey.Limits, seed uint64, sum *tally) *act {
	y := &act{t: t, on: on, sum: sum, rng: rand.New(rand.NewPCG(seed, 6)), moved: make(chan struct{}, 1), quit: make(chan struct{})}
	y.p = newPair(t, func(a, b *Config) {
		for _, c := range []*Config{a, b} {
			c.Grace, c.Rekey, c.DeadAfter = time.Minute, limits, on.deadAfter()
			told := c.OnPath
			c.OnPath = func(s *Session, e Event) {
				told(s, e)
				y.poke()
			}
		}
	})
	if limits.Bytes == 0 {
		y.p.taps = new(taps)
	}
	y.join(1, both)
	for i := range 3 + y.rng.IntN(4) {
		way := scheduleLanes[y.rng.IntN(len(scheduleLanes))]
		f := &flowTest{seed: seed<<8 + uint64(i)}
		for dir := range f.size {
			f.size[dir] = 1 + y.rng.IntN(1<<(4+y.rng.IntN(14)))
		}
		y.streams = append(y.streams, f)
		st, err := []*Session{y.p.a, y.p.b}[i%2].Open(way.policy, way.class)
		if err != nil {
			t.Error(err)
			continue
		}
		y.wg.Go(func() { y.send(st, f, 0, byte(i)) })
		y.wg.Go(func() { y.receive(st, f, 1) })
	}
	y.wg.Go(func() { // ends when all have come, or with the act
		for range y.streams {
			select {
			case st := <-y.p.accepted:
				y.wg.Go(func() { y.answer(st) })
			case <-y.quit:
				return
			}
		}
	})
	return y
}

func (y *act) poke() {
	select {
	case y.moved <- struct{}{}:
	default:
	}
}

// step plays one operation.
func (y *act) step(op, arg byte) {
	if len(y.live) == 0 {
		y.sum.pathless++
	}
	switch pick := int(arg) % max(len(y.live), 1); {
	case op < 5:
		y.on.pause(y, time.Duration(arg)*3*time.Millisecond)
	case op == 5 && !y.long:
		y.long = true
		y.on.pause(y, 11*time.Second)
	case op < 8:
		y.join(int(arg)%7, both)
	case op == 12:
		y.join(int(arg)%7, onlyListener)
	case op == 13:
		y.join(int(arg)%7, lateDialler)
	case len(y.live) == 0:
	case op == 8:
		y.live[pick].Cut()
		y.live = slices.Delete(y.live, pick, pick+1)
	case op == 9:
		y.live[pick].BlackHole()
	case op == 10:
		y.live[pick].Heal()
	case op == 11 && arg%2 == 0:
		for _, l := range y.live {
			l.Cut()
		}
		y.live = nil
	case op == 11:
		for _, l := range y.live {
			l.BlackHole()
		}
	case op == 14:
		for _, l := range y.live {
			l.Heal()
		}
	}
}

// How a path comes about.
const (
	both         = iota
	onlyListener // the dialler's end fails before it is the session's
	lateDialler  // likewise, but the dialler does not know yet
)

// join adds a path over a relay, or a direct one for 0.
func (y *act) join(relay int, how int) {
	if len(y.live) >= 6 {
		y.live[0].Cut()
		y.live = y.live[1:]
	}
	ca, cb, l := y.on.connect(y.t, y.rng.Uint64())
	y.p.next++
	id := y.p.next
	if y.p.taps != nil {
		ca = y.p.taps.tap(ca, relay, id)
	}
	if id%2 == 0 { // some conns copy nothing
		ca, cb = newCorked(ca, uint64(id)), newCorked(cb, uint64(id))
	}
	ra, rb := y.p.results(id)
	ok := y.added(y.p.b.AddPath(cb, rb, PathInfo{Relay: relayNumber(relay)}))
	if how != both {
		l.Cut()
		if how == onlyListener {
			ca.Close()
			return
		}
		y.on.pause(y, time.Second)
	}
	ok = y.added(y.p.a.AddPath(ca, ra, PathInfo{Relay: relayNumber(relay), Dialled: true})) && ok
	if how == both {
		y.live = append(y.live, l)
	}
	if ok {
		y.sum.paths++
	}
}

// added reports whether a path was added; only one too many may be refused.
func (y *act) added(err error) bool {
	if err != nil && !errors.Is(err, ErrTooManyPaths) {
		y.t.Errorf("a path was refused: %v", err)
	}
	return err == nil
}

// content is what byte at of a direction of a stream is.
func content(seed uint64, at int) byte {
	x := seed + uint64(at>>3)*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return byte((x ^ x>>31) >> (8 * (at & 7)))
}

// fill writes content from at on into p.
func fill(p []byte, seed uint64, at int) {
	for i := range p {
		p[i] = content(seed, at+i)
	}
}

// send writes one direction of a stream, in pieces; the first byte of all says
// which stream it is.
func (y *act) send(st *Stream, f *flowTest, dir int, number byte) {
	rng := rand.New(rand.NewPCG(f.seed, uint64(dir)))
	if dir == 0 {
		if _, err := st.Write([]byte{number}); err != nil {
			y.broken("write", err)
			return
		}
	}
	p := make([]byte, 40<<10)
	for at := 0; at < f.size[dir]; {
		n := min(1+rng.IntN(1<<rng.IntN(16)), f.size[dir]-at, len(p))
		fill(p[:n], f.seed<<1+uint64(dir), at)
		if _, err := st.Write(p[:n]); err != nil {
			y.broken("write", err)
			return
		}
		at += n
	}
	if err := st.CloseWrite(); err != nil {
		y.broken("close", err)
	}
}

// answer serves a stream that the other end opened.
func (y *act) answer(st *Stream) {
	var number [1]byte
	if _, err := io.ReadFull(st, number[:]); err != nil {
		y.broken("read", err)
		return
	}
	if int(number[0]) >= len(y.streams) {
		y.t.Errorf("stream %d, which nobody opened", number[0])
		return
	}
	f := y.streams[number[0]]
	y.wg.Go(func() { y.send(st, f, 1, 0) })
	y.receive(st, f, 0)
}

// receive checks one direction of a stream, byte by byte.
func (y *act) receive(st *Stream, f *flowTest, dir int) {
	seed := f.seed<<1 + uint64(dir)
	p, want := make([]byte, 16<<10), make([]byte, 16<<10)
	for at := 0; ; {
		n, err := st.Read(p)
		fill(want[:n], seed, at)
		if !bytes.Equal(p[:n], want[:n]) || at+n > f.size[dir] {
			y.misplaced(p[:n], seed, at, f.size[dir])
			return
		}
		at += n
		y.poke()
		switch {
		case err == io.EOF:
			if at != f.size[dir] {
				y.count(&y.sum.lost)
				y.t.Errorf("%d bytes arrived, %d were sent", at, f.size[dir])
			}
			y.p.mu.Lock()
			y.sum.bytes += at
			y.p.mu.Unlock()
			return
		case err != nil:
			y.broken("read", err)
			return
		}
	}
}

// misplaced tells lost bytes from doubled ones.
func (y *act) misplaced(p []byte, seed uint64, at, size int) {
	all := make([]byte, size)
	fill(all, seed, 0)
	i := 0
	for i < len(p) && at+i < size && p[i] == all[at+i] {
		i++
	}
	switch found := bytes.Index(all, p[i:min(i+16, len(p))]); {
	case found < 0 && at+i < size:
		y.t.Errorf("at %d: bytes that nobody sent", at+i)
	case found > at+i:
		y.count(&y.sum.lost)
		y.t.Errorf("at %d: what was sent at %d", at+i, found)
	default:
		y.count(&y.sum.doubled)
		y.t.Errorf("at %d: what was sent at %d", at+i, found)
	}
}

func (y *act) count(n *int) {
	y.p.mu.Lock()
	defer y.p.mu.Unlock()
	*n++
}

// broken takes the error of a stream, which only a restart may bring.
func (y *act) broken(what string, err error) {
	if !y.ended.Load() || !errors.Is(err, errRestart) {
		y.count(&y.sum.lost)
		y.t.Errorf("%s: %v", what, err)
	}
}

// restart ends both sessions at once.
func (y *act) restart() {
	y.sum.restarts++
	y.end()
	y.await("the end")
	y.over()
}

// end ends both sessions, as when their nodes are killed.
func (y *act) end() {
	if !y.ended.Swap(true) {
		y.p.a.End(errRestart)
		y.p.b.End(errRestart)
		close(y.quit)
	}
}

// finish mends the network and waits for everything to arrive.
func (y *act) finish() {
	for _, l := range y.live {
		l.Heal()
	}
	for relay := 11; relay <= 13; relay++ {
		y.join(relay, both)
		y.on.pause(y, 100*time.Millisecond)
	}
	y.await("what was written")
	if !y.t.Failed() {
		y.settled()
	}
	y.over()
}

// await waits for the streams to end.
func (y *act) await(what string) {
	done := make(chan struct{})
	go func() { // ends with the streams
		y.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(y.on.patience()):
		y.count(&y.sum.stuck)
		for _, s := range []*Session{y.p.a, y.p.b} {
			y.t.Errorf("stuck, waiting for %s: %v: %+v", what, s.Err(), s.Stats())
		}
		y.end()
		<-done
	}
}

// settled checks that nothing is left over when everything has arrived.
func (y *act) settled() {
	for range 100 { // until the last acknowledgements and answers are there
		left := 0
		for _, s := range []*Session{y.p.a, y.p.b} {
			st := s.Stats()
			s.mu.Lock()
			left += len(s.parting)
			s.mu.Unlock()
			left += st.Unacknowledged() + st.OutOfOrder()
		}
		if left == 0 {
			break
		}
		y.on.pause(y, 300*time.Millisecond)
	}
	for i, s := range []*Session{y.p.a, y.p.b} {
		st := s.Stats()
		s.mu.Lock()
		parting := len(s.parting)
		y.sum.commits += int(s.keys.Commits())
		s.mu.Unlock()
		if st.Unacknowledged() != 0 || st.OutOfOrder() != 0 || parting != 0 {
			y.count(&y.sum.stuck)
			y.t.Errorf("end %d keeps %d bytes, %d out of order, %d paths that the other has not abandoned", i, st.Unacknowledged(), st.OutOfOrder(), parting)
		}
	}
}

// over closes the sessions and what is left of the network.
func (y *act) over() {
	y.p.a.Close()
	y.p.b.Close()
	y.end()
	for _, l := range y.live {
		l.Cut()
	}
	y.p.mu.Lock()
	for _, e := range y.p.fates[0] {
		if e.State == Dead {
			y.sum.died++
		}
	}
	y.p.mu.Unlock()
	if y.p.taps != nil {
		y.checkSecrecy()
	}
}

// checkSecrecy fails when a relay has got two shares of one sharing.
func (y *act) checkSecrecy() {
	for relay, shards := range y.p.taps.shards(y.t) {
		has := make(map[[10]byte]uint8)
		for _, s := range shards {
			if l := y.p.a.laneByID(s.lane); l == nil || l.asked.Purpose != splitter.Secrecy {
				continue
			}
			sharing := [10]byte{8: s.Generation, 9: s.lane}
			binary.BigEndian.PutUint64(sharing[:], s.Offset)
			if index, two := has[sharing]; two {
				y.t.Errorf("relay %d has shares %d and %d of the block at %d, generation %d", relay, index, s.Index, s.Offset, s.Generation)
			}
			has[sharing] = s.Index
		}
	}
}

var _ net.Conn = (*Stream)(nil)
