package mux

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splitmesh/splitmesh/internal/buf"
)

// memory returns what a stream's buffers take, and fails when that is more than
// what it holds allows.
func memory(t *testing.T, s *Stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	held, taken, partly := 0, 0, 0
	for c := s.recv.head; c != nil; c = c.next {
		held += len(c.data)
		taken += cap(c.b.B)
		if c == s.recv.head || c == s.recv.tail {
			partly += cap(c.b.B)
		}
	}
	w := s.window
	if held != w.held || w.held < 0 || w.coming < 0 || w.credit < 0 || !s.closed && w.held+w.coming+w.credit > w.size {
		t.Fatalf("stream %d holds %d bytes, window %+v", s.id, held, w)
	}
	if taken > 4*held+partly {
		t.Fatalf("stream %d takes %d bytes to hold %d", s.id, taken, held)
	}
}

// FuzzInput feeds hostile bytes in pieces that the input itself chooses, while
// the application reads, writes and closes now and then.
func FuzzInput(f *testing.F) {
	seed := func(cut uint8, frames ...any) { f.Add(encode(frames...), []byte{cut, 1, 0x83, 40, 0xc5}) }
	syn := window(1, flagSYN, 0)
	seed(255, syn, data(1, 0, 5), "hello", data(1, flagFIN, 0), window(3, flagSYN|flagFIN, 9), data(5, flagSYN, 1), "x")
	seed(1, data(1, flagSYN, 3), "abc", window(1, flagRST, 0), data(1, 0, 2), "de", header{kind: typePing, flags: flagSYN, length: 9})
	seed(13, syn, data(1, 0, 700), 700, data(1, 0, 600), 600, header{kind: typeGoAway}, data(1, 0, 600), 600)
	seed(7, window(2, flagACK, 77), data(2, 0, 300), 300, data(2, flagFIN, 1), "x", window(9, flagSYN, 0), window(5, flagSYN, 1<<31))
	seed(200, header{kind: typeGoAway, length: 1})
	seed(200, data(1, flagSYN, 1<<20), "x")
	f.Fuzz(func(t *testing.T, in, how []byte) {
		var streams []*Stream
		e := newEnd(Config{MaxIncoming: 8, Budget: NewBudget(1 << 20), Accept: func(s *Stream) { streams = append(streams, s) }})
		s, _ := e.Open()
		streams = append(streams, s)
		for i := 0; len(in) > 0; i++ {
			n, act := len(in), 0
			if len(how) > 0 {
				n, act = min(n, 1+int(how[i%len(how)]&0x7f)*int(1+how[0]&0x0f)), int(how[i%len(how)]>>6)
			}
			rec := buf.Get(min(n, 60<<10))
			n = copy(rec.B, in)
			err := e.Input(rec.B[:n], rec)
			rec.Release()
			in = in[n:]
			if err != nil {
				perr, gerr := new(ProtocolError), new(GoAwayError)
				if !errors.As(err, &perr) && !errors.As(err, &gerr) {
					t.Fatalf("Input: %v", err)
				}
				e.Close(err)
				break
			}
			for _, s := range streams {
				memory(t, s)
			}
			if n := e.NumStreams(); n > 8+1 {
				t.Fatalf("%d streams live", n)
			}
			s := streams[i%len(streams)]
			_ = s.SetDeadline(time.Now().Add(time.Hour))
			switch act {
			case 0:
				if s.Stats().Buffered > 0 {
					_, _ = s.Read(make([]byte, 1+i))
				}
			case 1:
				s.Close()
			case 2:
				_ = s.CloseWrite()
			case 3:
				s.Reset()
			}
			for _, b := range e.lane.take() {
				b.Release()
			}
		}
		for _, s := range streams {
			memory(t, s)
			s.Close()
			if s.recv != (recvQueue{}) {
				t.Fatal("a closed stream holds memory")
			}
		}
		if n := e.cfg.Budget.Used(); n != 0 {
			t.Fatalf("%d bytes of the budget are not returned", n)
		}
	})
}

// A modelEnd is what the model knows of one end of a stream.
type modelEnd struct {
	*Stream
	peer     *modelEnd
	salt     int  // makes what this end sends unlike what others do
	sent     int  // bytes that Write accepted
	received int  // bytes that Read returned
	finished bool // CloseWrite or Close was called
	closed   bool // Close was called
	reset    bool // Reset was called
	ended    bool // Read returned io.EOF
}

// at is the byte at offset i of what e sends.
func (e *modelEnd) at(i int) byte { return byte(i*31 + i>>8 + e.salt) }

// torn reports whether writing may fail: the peer reset the stream, or would on
// data, being closed.
func (e *modelEnd) torn() bool { return e.peer.reset || e.peer.closed }

func (e *modelEnd) write(t *testing.T, n int) {
	p := make([]byte, n)
	for i := range p {
		p[i] = e.at(e.sent + i)
	}
	_ = e.SetWriteDeadline(time.Now().Add(time.Millisecond))
	k, err := e.Write(p)
	e.sent += k
	switch {
	case k < 0 || k > n || err == nil && k < n:
		t.Fatalf("Write of %d: %d, %v", n, k, err)
	case err == nil || err == os.ErrDeadlineExceeded:
		if e.finished || e.reset {
			t.Fatalf("Write after the end: %d, %v", k, err)
		}
	case err == net.ErrClosed && (e.finished || e.reset), err == ErrReset && e.torn():
	default:
		t.Fatalf("Write: %d, %v", k, err)
	}
}

func (e *modelEnd) read(t *testing.T, n int) (more bool) {
	p := make([]byte, n)
	_ = e.SetReadDeadline(time.Now().Add(time.Millisecond))
	k, err := e.Read(p)
	for i, b := range p[:k] {
		if b != e.peer.at(e.received+i) {
			t.Fatalf("stream %d: byte %d is wrong", e.ID(), e.received+i)
		}
	}
	e.received += k
	switch {
	case e.received > e.peer.sent:
		t.Fatalf("stream %d: read %d bytes of %d sent", e.ID(), e.received, e.peer.sent)
	case err == nil && k > 0:
		return true
	case err == io.EOF && e.peer.finished && e.received == e.peer.sent:
		e.ended = true
	case err == os.ErrDeadlineExceeded && !e.ended:
	case err == net.ErrClosed && (e.closed || e.reset):
	case err == ErrReset && !e.ended && e.peer.reset:
	default:
		t.Fatalf("stream %d: read %d, %v, having read %d of %d; %+v", e.ID(), k, err, e.received, e.peer.sent, e)
	}
	return false
}

// FuzzOps runs sequences of operations on two joined Muxes against a model that
// knows what was written and how each end was ended.
func FuzzOps(f *testing.F) {
	f.Add([]byte{0, 0, 1, 40, 8, 0, 2, 60, 9, 0, 8, 0, 4, 0, 8, 0, 9, 0})
	f.Add([]byte{0, 0, 1, 255, 1, 255, 1, 255, 8, 0, 8, 0, 5, 0, 9, 0, 8, 0})
	f.Add([]byte{0, 0, 16, 0, 1, 200, 17, 200, 8, 0, 9, 0, 6, 0, 22, 0, 8, 0, 9, 0, 3, 9, 19, 9})
	f.Add([]byte{0, 0, 1, 9, 7, 0, 0, 0, 8, 0, 4, 0, 21, 0, 9, 0, 8, 0, 17, 100, 9, 0, 8, 0})
	f.Fuzz(func(t *testing.T, ops []byte) {
		if len(ops) > 400 {
			ops = ops[:400]
		}
		synctest.Test(t, func(t *testing.T) { runOps(t, ops) })
	})
}

// TestOps is FuzzOps with long random sequences.
func TestOps(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		ops := make([]byte, 400)
		for i := range ops {
			ops[i] = byte(r.Uint32())
		}
		synctest.Test(t, func(t *testing.T) { runOps(t, ops) })
		if t.Failed() {
			t.Fatalf("operations %x", ops)
		}
	}
}

func runOps(t *testing.T, ops []byte) {
	budgets := [2]*Budget{NewBudget(3 << 18), NewBudget(3 << 18)}
	ends := [2]*end{newEnd(Config{Client: true, Budget: budgets[0]}), newEnd(Config{Budget: budgets[1]})}
	ends[0].lane.limit, ends[1].lane.limit = 5, 3
	ends[1].lane.stingy = true
	var streams []*modelEnd
	waiting := map[uint32]*modelEnd{} // opened and not yet accepted
	cut := 0
	move := func(from int) {
		to := ends[1-from]
		for _, b := range ends[from].lane.take() {
			for p := b.B; len(p) > 0; {
				cut = cut*5 + 3
				n := min(len(p), 1+cut&(1<<(cut>>4&15)-1))
				if err := to.Input(p[:n], b); err != nil {
					t.Fatalf("Input: %v", err)
				}
				p = p[n:]
			}
			b.Release()
		}
		for len(to.accepted) > 0 {
			s := &modelEnd{Stream: <-to.accepted}
			s.peer = waiting[s.ID()]
			s.salt = s.peer.salt + 1
			s.peer.peer = s
			streams = append(streams, s)
		}
	}
	for len(ops) >= 2 {
		op, arg := ops[0], int(ops[1])
		ops = ops[2:]
		if op&15 == 0 {
			s, err := ends[op>>4&1].Open()
			if err != nil {
				t.Fatal(err)
			}
			e := &modelEnd{Stream: s, peer: &modelEnd{}, salt: 2 * len(streams)}
			e.peer.peer = e
			waiting[s.ID()] = e
			streams = append(streams, e)
		}
		if op&15 >= 8 {
			move(int(op & 1))
			continue
		}
		if len(streams) == 0 {
			continue
		}
		switch e := streams[int(op>>4)%len(streams)]; op & 15 {
		case 1, 2:
			e.write(t, arg*arg*int(op&3))
		case 3, 4:
			e.read(t, 1+arg*arg*8)
		case 5:
			if err := e.Close(); err != nil {
				t.Fatalf("Close: %v", err)
			}
			e.closed, e.finished = true, true
		case 6:
			if err := e.CloseWrite(); err == nil {
				e.finished = true
			} else if !e.closed && !e.reset && !e.torn() {
				t.Fatalf("CloseWrite: %v", err)
			}
		case 7:
			e.Reset()
			e.reset = true
		}
		for _, e := range streams {
			memory(t, e.Stream)
		}
	}
	move(0) // what was opened is accepted
	move(1)
	finishOps(t, streams, func() { move(0); move(1) })
	for i, e := range ends {
		if n, used := e.NumStreams(), budgets[i].Used(); n != 0 || used != 0 {
			t.Fatalf("end %d: %d streams live, %d bytes of budget are not returned", i, n, used)
		}
	}
}

// finishOps reads everything, requires that all of it came where nothing was
// torn, and closes.
func finishOps(t *testing.T, streams []*modelEnd, move func()) {
	for quiet := 0; quiet < 3; quiet++ {
		move()
		for _, e := range streams {
			for e.read(t, 1<<16) {
				quiet = 0
			}
		}
	}
	for _, e := range streams {
		lost := e.received != e.peer.sent || e.ended != e.peer.finished
		if lost && !e.closed && !e.reset && !e.peer.reset {
			t.Fatalf("stream %d: read %d of %d bytes, end %v", e.ID(), e.received, e.peer.sent, e.ended)
		}
	}
	for _, e := range streams {
		e.Close()
	}
	for range 4 {
		move()
	}
}
