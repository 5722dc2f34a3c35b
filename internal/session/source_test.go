package session

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splitmesh/splitmesh/frame"
	"github.com/splitmesh/splitmesh/internal/buf"
	"github.com/splitmesh/splitmesh/internal/mux"
)

// pieces is a conn that hands over its bytes in pieces of the given lengths.
type pieces struct {
	net.Conn
	data []byte
	cut  func() int
}

var errPieces = errors.New("no more pieces")

func (c *pieces) ReadBuf() ([]byte, *buf.Buf, error) {
	if len(c.data) == 0 {
		return nil, nil, errPieces
	}
	n := min(len(c.data), c.cut(), 60000)
	b := buf.Get(7 + n) // the data need not begin where the memory does
	p := b.B[7:]
	copy(p, c.data[:n])
	c.data = c.data[n:]
	return p, b, nil
}

func (c *pieces) Read(p []byte) (int, error) {
	if len(c.data) == 0 {
		return 0, errPieces
	}
	n := copy(p, c.data[:min(len(c.data), c.cut())])
	c.data = c.data[n:]
	return n, nil
}

// reads hides ReadBuf.
type reads struct{ net.Conn }

// TestSource: frames come out whole and in order, however what carries them is cut,
// and the end is an error in whatever place.
func TestSource(t *testing.T) {
	secret := [32]byte{1}
	r := rand.New(rand.NewPCG(1, 2))
	for round := range 200 {
		sealer, _ := frame.NewSealer(frame.AES256GCM, &secret, 0)
		opener, _ := frame.NewOpener(frame.AES256GCM, &secret, 0)
		var wire []byte
		var want [][]byte
		for range 30 {
			p := make([]byte, 1+r.IntN(1<<r.IntN(16)))
			p[0], p[len(p)-1] = byte(r.Uint32()), byte(r.Uint32())
			want = append(want, p)
			wire, _ = sealer.Seal(wire, p)
		}
		whole := len(wire)
		if round%4 == 3 {
			whole = r.IntN(len(wire))
		}
		c := &pieces{data: wire[:whole], cut: func() int { return 1 + r.IntN(1<<r.IntN(17)) }}
		var conn net.Conn = c
		if round%2 == 1 {
			conn = reads{c}
		}
		s := newSource(conn, func() {})
		got := 0
		for {
			b, owner, err := s.next(opener.Size)
			if err != nil {
				if !errors.Is(err, errPieces) && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Fatal(err)
				}
				break
			}
			plain, err := opener.Open(b)
			if err != nil || !bytes.Equal(plain, want[got]) {
				t.Fatalf("round %d, frame %d: %v", round, got, err)
			}
			owner.Release()
			got++
		}
		if whole == len(wire) && got != len(want) {
			t.Fatalf("round %d: %d frames of %d", round, got, len(want))
		}
		s.close()
		s.close()
	}
}

// TestSourceInPlace: a frame that came whole is not copied.
func TestSourceInPlace(t *testing.T) {
	secret := [32]byte{1}
	sealer, _ := frame.NewSealer(frame.AES256GCM, &secret, 0)
	opener, _ := frame.NewOpener(frame.AES256GCM, &secret, 0)
	wire, _ := sealer.Seal(nil, make([]byte, 100))
	wire, _ = sealer.Seal(wire, make([]byte, 200))
	s := newSource(&pieces{data: wire, cut: func() int { return len(wire) }}, func() {})
	first, a, err := s.next(opener.Size)
	if err != nil {
		t.Fatal(err)
	}
	opener.Open(first)
	second, b, err := s.next(opener.Size)
	if err != nil || a != b || &second[0] != &first[:cap(first)][len(first)] {
		t.Errorf("two frames of one piece lie in %p and %p: %v", a, b, err)
	}
	a.Release()
	b.Release()
	if s.owner != nil {
		t.Error("the source keeps memory of which nothing is left")
	}
}

// TestAnnounced: who waits to read is told of what a path brought before its reader
// waits for more, and before it ends.
func TestAnnounced(t *testing.T) { synctest.Test(t, testAnnounced) }

func testAnnounced(t *testing.T) {
	p := newPair(t, func(_, b *Config) { b.Grace = time.Minute })
	ra, rb := p.results(FirstPath)
	sealer, err := frame.NewSealer(ra.Suite, &ra.Send, 0)
	if err != nil {
		t.Fatal(err)
	}
	var pieces [3][]byte
	syn := [mux.HeaderSize]byte{3: 1, 7: 1, 11: 1} // data, SYN, stream 1, a byte
	for i := range pieces {
		plain := data(laneDefault, uint64(i*(len(syn)+1)), append(syn[:], "abc"[i])...)
		pieces[i], _ = sealer.Seal(nil, plain)
		syn[3] = 0
	}
	pieces[2] = append(pieces[2], make([]byte, 100)...) // which no frame begins with
	feed := make(chan []byte, 2)
	start := time.Now()
	feed <- pieces[0]
	if err := p.b.AddPath(&fed{newSinkConn(), feed}, rb, PathInfo{}); err != nil {
		t.Fatal(err)
	}
	st := <-p.accepted
	got := make([]byte, 3)
	for i := range pieces {
		read := make(chan error, 1)
		go func() { // ends with the byte, or the session
			_, err := io.ReadFull(st, got[i:i+1])
			read <- err
		}()
		if i > 0 {
			synctest.Wait() // until it waits
			feed <- pieces[i]
		}
		if err := <-read; err != nil || got[i] != "abc"[i] || time.Since(start) > 0 {
			t.Errorf("%q, %v, after %v", got, err, time.Since(start))
		}
	}
}

// fed is a conn that hands over what it is fed.
type fed struct {
	*sinkConn
	feed chan []byte
}

func (c *fed) ReadBuf() ([]byte, *buf.Buf, error) {
	select {
	case p := <-c.feed:
		b := buf.Get(len(p))
		copy(b.B, p)
		return b.B, b, nil
	case <-c.closed:
		return nil, nil, net.ErrClosed
	}
}
