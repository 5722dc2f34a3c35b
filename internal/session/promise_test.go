package session

import (
	"io"
	"testing"

	"github.com/splitmesh/splitmesh/internal/buf"
	"github.com/splitmesh/splitmesh/internal/mux"
	"github.com/splitmesh/splitmesh/splitter"
)

// TestPromiseRefused: a frame that waits for the next goes alone when the next is
// turned away.
func TestPromiseRefused(t *testing.T) {
	p := newPair(t, nil)
	p.joinTCP(t, 0)
	here, there := p.stream(t)
	here.Write([]byte("x"))
	io.ReadFull(there, make([]byte, 1))
	other, err := p.a.Open(plainPolicy, splitter.Bulk)
	if err != nil {
		t.Fatal(err)
	}

	s, l := p.a, here.lane
	ping := func() *buf.Buf {
		b := buf.Get(dataHeader + mux.HeaderSize)
		clear(b.B)
		b.B[dataHeader+1], b.B[dataHeader+3] = 2, 1
		return b
	}
	s.lock()
	other.lane.charge += maxKept // as if its blocks had no paths to go over
	s.mu.Unlock()
	defer func() {
		s.lock()
		other.lane.charge -= maxKept
		s.unlock(false)
	}()
	s.lock()
	l.push(ping(), nil) // promised more, before that
	s.mu.Unlock()
	b := ping()
	defer b.Release()
	if ok, err := l.TryWrite(b, true, false); ok || err != nil {
		t.Fatal(ok, err)
	}
	s.lock()
	defer s.mu.Unlock()
	if l.unsent > 0 {
		t.Errorf("%d bytes wait for a frame that was turned away", l.unsent)
	}
}
