package mux

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splitmesh/splitmesh/internal/buf"
)

// A gate is an Output that is full until it is opened, and notes what it is promised.
type gate struct {
	mu     sync.Mutex
	open   bool
	before map[uint32]func() // called in a stream's try
	err    map[uint32]error  // of it
	sent   []uint32
	owed   bool // more was promised and has not come
	wakes  int
}

func (g *gate) Headroom() int { return 0 }

func (g *gate) TryWrite(b *buf.Buf, _, more bool) (bool, error) {
	g.mu.Lock()
	open, id := g.open, parseHeader(b.B).stream
	g.mu.Unlock()
	if !open {
		return false, nil
	}
	if f := g.before[id]; f != nil {
		f()
	}
	if err := g.err[id]; err != nil {
		return false, err
	}
	b.Release()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sent = append(g.sent, id)
	g.owed = more
	return true, nil
}

func (g *gate) Wake() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.wakes++
	g.owed = false
}

// While others wait for their turn, the output is promised more; when it is they who
// do not keep the promise, it is told.
func TestCompanyOfOthers(t *testing.T) {
	refused := errors.New("refused")
	for name, tt := range map[string]struct {
		prepare func(g *gate, s []*Stream)
		sent    []uint32
		wakes   bool
	}{
		"all write": {sent: []uint32{1, 3, 5}},
		"the last gives up as the one before writes": {sent: []uint32{1, 3}, wakes: true, prepare: func(g *gate, s []*Stream) {
			g.before[3] = func() {
				_ = s[2].SetWriteDeadline(time.Now().Add(-1))
				<-time.After(time.Nanosecond) // all others wait by then
			}
		}},
		"the one in the middle gives up": {sent: []uint32{1, 5}, prepare: func(g *gate, s []*Stream) {
			g.before[1] = func() {
				s[1].Reset()
				<-time.After(time.Nanosecond) // all others wait by then
			}
		}},
		"the last is refused": {sent: []uint32{1, 3}, wakes: true, prepare: func(g *gate, _ []*Stream) { g.err[5] = refused }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := &gate{open: true, before: make(map[uint32]func()), err: make(map[uint32]error)}
				m := New(Config{Client: true, Output: g})
				var s []*Stream
				for range 3 {
					st, _ := m.Open()
					s = append(s, st)
					st.Write([]byte("its SYN goes too"))
				}
				g.open, g.sent = false, nil
				for _, st := range s {
					go st.Write([]byte("x"))
					synctest.Wait()
				}
				if tt.prepare != nil {
					tt.prepare(g, s)
				}
				g.mu.Lock()
				g.open, g.wakes = true, 0
				g.mu.Unlock()
				m.Writable()
				time.Sleep(time.Second)
				g.mu.Lock()
				defer g.mu.Unlock()
				if !slices.Equal(g.sent, tt.sent) || g.owed || tt.wakes && g.wakes == 0 {
					t.Errorf("sent %v, %d wakes, owed more %v; want %v", g.sent, g.wakes, g.owed, tt.sent)
				}
			})
		})
	}
}

// A stream that was woken to keep the promise, and then finds that it can't, says so.
func TestCompanyLeaves(t *testing.T) {
	g := new(gate)
	m := New(Config{Client: true, Output: g})
	s, _ := m.Open()
	g.wakes = 0
	m.mu.Lock()
	s.turn, s.owes = turnWoken, true
	m.mu.Unlock()
	m.leave(s)
	m.leave(s)
	if g.wakes != 1 {
		t.Errorf("%d wakes; want 1", g.wakes)
	}
}
