package mux

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/nettest"

	"github.com/splitmesh/splitmesh/internal/buf"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A lane is an Output: a bounded queue of records, which somebody takes.
type lane struct {
	m      *Mux
	limit  int // payload records that it holds
	stingy bool
	kick   chan struct{} // has a value when there may be something to take

	mu      sync.Mutex
	queue   []*buf.Buf
	spare   []*buf.Buf
	data    int // payload records in queue
	starved bool
	refusal error
}

func newLane() *lane { return &lane{limit: 8, kick: make(chan struct{}, 1)} }

func (l *lane) Wake() {
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

// laneRoom is what the lane wants before a frame.
const laneRoom = 3

func (l *lane) Headroom() int { return laneRoom }

func (l *lane) TryWrite(b *buf.Buf, _, _ bool) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refusal != nil {
		return false, l.refusal
	}
	if l.data >= l.limit {
		l.starved = true
		return false, nil
	}
	if l.stingy { // breaks the rule, to show that a SYN still comes first
		l.control(HeaderSize)
	} else {
		for l.control(4 << 10) {
		}
	}
	b.B = b.B[laneRoom:]
	l.queue = append(l.queue, b)
	l.data++
	l.Wake()
	return true, nil
}

// control queues a record of control frames and reports whether it was full.
func (l *lane) control(max int) bool {
	b := buf.Get(4 << 10)
	b.B = l.m.AppendControl(b.B[:0], max)
	if len(b.B) == 0 {
		b.Release()
		return false
	}
	l.queue = append(l.queue, b)
	return len(b.B)+HeaderSize > max
}

// take empties the queue. What it returned before is used again.
func (l *lane) take() []*buf.Buf {
	l.mu.Lock()
	for l.control(4 << 10) {
	}
	recs := l.queue
	l.queue, l.spare, l.data = l.spare[:0], recs, 0
	starved := l.starved
	l.starved = false
	l.mu.Unlock()
	if starved {
		l.m.Writable()
	}
	return recs
}

// pump moves records to sink until done is closed, or sink fails.
func (l *lane) pump(done <-chan struct{}, sink func(*buf.Buf) error) {
	for {
		select {
		case <-l.kick:
		case <-done:
			return
		}
		for _, b := range l.take() {
			err := sink(b)
			b.Release()
			if err != nil {
				l.m.Close(err)
				return
			}
		}
	}
}

// An end is a Mux with its lane and the streams that it accepted.
type end struct {
	*Mux
	lane     *lane
	accepted chan *Stream
}

func newEnd(cfg Config) *end {
	e := &end{lane: newLane(), accepted: make(chan *Stream, 1<<14)}
	cfg.Output = e.lane
	if cfg.Accept == nil {
		cfg.Accept = func(s *Stream) { e.accepted <- s }
	}
	e.Mux = New(cfg)
	e.lane.m = e.Mux
	return e
}

// newPair joins a client and a server by pumps that run until the test ends.
// cut, if not nil, cuts records before they are fed to a Mux.
func newPair(t testing.TB, client, server Config, cut func(*buf.Buf, func([]byte, *buf.Buf) error) error) (a, b *end) {
	client.Client = true
	a, b = newEnd(client), newEnd(server)
	if cut == nil {
		cut = func(r *buf.Buf, input func([]byte, *buf.Buf) error) error { return input(r.B, r) }
	}
	var wg sync.WaitGroup
	done := make(chan struct{})
	for _, d := range [][2]*end{{a, b}, {b, a}} {
		input := d[1].Input
		wg.Go(func() {
			d[0].lane.pump(done, func(r *buf.Buf) error {
				err := cut(r, input)
				if err != nil && !errors.Is(err, net.ErrClosed) {
					t.Errorf("Input: %v", err)
				}
				return err
			})
		})
	}
	t.Cleanup(func() {
		a.Close(nil)
		b.Close(nil)
		close(done)
		wg.Wait()
	})
	return a, b
}

// cutter returns a cut for newPair that makes pieces of random length.
func cutter() func(*buf.Buf, func([]byte, *buf.Buf) error) error {
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(1, 2))
	return func(rec *buf.Buf, input func([]byte, *buf.Buf) error) error {
		for p := rec.B; len(p) > 0; {
			mu.Lock()
			n := min(len(p), 1+r.IntN(1<<r.IntN(17)))
			mu.Unlock()
			if err := input(p[:n], rec); err != nil {
				return err
			}
			p = p[n:]
		}
		return nil
	}
}

// open returns both ends of a new stream from a to b.
func open(t testing.TB, a, b *end) (*Stream, *Stream) {
	t.Helper()
	s, err := a.Open()
	if err != nil {
		t.Fatal(err)
	}
	return s, <-b.accepted
}

func pattern(n int) []byte {
	p := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(p)
	return p
}

// readBufs appends what s delivers to w, and scribbles over it.
func readBufs(s *Stream, w *bytes.Buffer) error {
	for {
		p, owner, err := s.ReadBuf()
		if err != nil {
			return err
		}
		w.Write(p)
		clear(p)
		owner.Release()
	}
}

func TestNetConn(t *testing.T) {
	for _, tt := range []struct {
		name string
		cut  func(*buf.Buf, func([]byte, *buf.Buf) error) error
	}{{"records", nil}, {"pieces", cutter()}} {
		t.Run(tt.name, func(t *testing.T) {
			nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
				a, b := newPair(t, Config{}, Config{}, tt.cut)
				c1, c2 := open(t, a, b)
				return c1, c2, func() { c1.Close(); c2.Close() }, nil
			})
		})
	}
}

func TestTransfer(t *testing.T) {
	a, b := newPair(t, Config{}, Config{}, cutter())
	a.lane.stingy = true
	want := pattern(3<<20 + 77)
	var wg sync.WaitGroup
	for i := range 4 { // both directions of each stream at once, opened by either end
		x, y := a, b
		if i%2 == 1 {
			x, y = b, a
		}
		s1, s2 := open(t, x, y)
		for _, d := range [][2]*Stream{{s1, s2}, {s2, s1}} {
			wg.Go(func() {
				if n, err := d[0].Write(want); n != len(want) || err != nil {
					t.Errorf("Write: %d, %v", n, err)
				}
				if err := d[0].CloseWrite(); err != nil {
					t.Errorf("CloseWrite: %v", err)
				}
			})
			wg.Go(func() {
				var got bytes.Buffer
				if i < 2 {
					_, err := got.ReadFrom(struct{ io.Reader }{d[1]})
					if err != nil {
						t.Errorf("Read: %v", err)
					}
				} else if err := readBufs(d[1], &got); err != io.EOF {
					t.Errorf("ReadBuf: %v", err)
				}
				if !bytes.Equal(got.Bytes(), want) {
					t.Errorf("stream %d: received %d bytes, which differ from the %d sent", d[1].ID(), got.Len(), len(want))
				}
			})
		}
	}
	wg.Wait()
	if n, m := a.NumStreams(), b.NumStreams(); n != 0 || m != 0 {
		t.Errorf("%d and %d streams live after both ends finished", n, m)
	}
}

// Every byte that Write accepted before or while Close was called arrives.
func TestCloseWhileWriting(t *testing.T) {
	a, b := newPair(t, Config{}, Config{}, nil)
	for range 50 {
		s, peer := open(t, a, b)
		var sent int64
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				n, err := s.Write(make([]byte, 100<<10))
				sent += int64(n)
				if err != nil {
					if !errors.Is(err, net.ErrClosed) {
						t.Errorf("Write: %v", err)
					}
					return
				}
			}
		})
		_, _ = io.ReadFull(peer, make([]byte, 300<<10))
		s.Close()
		got, err := io.Copy(io.Discard, peer)
		wg.Wait()
		if got += 300 << 10; got != sent || err != nil {
			t.Fatalf("%d bytes of %d accepted arrived (%v)", got, sent, err)
		}
		peer.Close()
	}
}

// A reader that does not read holds up neither other streams nor Input.
func TestSlowReader(t *testing.T) {
	a, b := newPair(t, Config{}, Config{}, nil)
	stuck, stuckPeer := open(t, a, b)
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = stuck.Write(make([]byte, 2*InitialWindow)) })
	s, peer := open(t, a, b)
	wg.Go(func() { _, _ = io.Copy(peer, peer); peer.Close() })
	want := pattern(2 << 20)
	wg.Go(func() { _, _ = s.Write(want); _ = s.CloseWrite() })
	got, err := io.ReadAll(s)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
	if n := stuckPeer.Stats().Buffered; n > InitialWindow {
		t.Errorf("%d bytes wait, more than the window", n)
	}
	stuckPeer.Close() // wakes the writer, in vain
	wg.Wait()
	stuck.Close()
	s.Close()
}

// Many writers on a lane that is nearly always full each get their turn, also
// when some of them give up while they wait.
func TestTurns(t *testing.T) {
	a, b := newPair(t, Config{}, Config{}, nil)
	a.lane.limit = 1
	const n, size = 64, 300 << 10
	var wg sync.WaitGroup
	for i := range n {
		s, peer := open(t, a, b)
		wg.Go(func() {
			sent := 0
			for sent < size {
				if i%3 == 0 {
					_ = s.SetWriteDeadline(time.Now().Add(50 * time.Microsecond))
				}
				k, err := s.Write(make([]byte, size-sent))
				if sent += k; err != nil && !errors.Is(err, errDeadline) {
					t.Errorf("Write: %v", err)
					return
				}
			}
			s.Close()
		})
		wg.Go(func() {
			if got, err := io.Copy(io.Discard, peer); got != size || err != nil {
				t.Errorf("received %d, %v", got, err)
			}
			peer.Close()
		})
	}
	wg.Wait()
}
