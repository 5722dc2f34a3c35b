package session

import (
	"crypto/sha256"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splitmesh/splitmesh/internal/buf"
	"github.com/splitmesh/splitmesh/splitter"
	"golang.org/x/net/nettest"
)

var unlinkable = splitter.Policy{Purpose: splitter.Unlinkability, MinPaths: 5, MaxShare: 1}

func TestCellsNettest(t *testing.T) {
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		p := newPair(t, func(a, _ *Config) { a.Cells = true })
		for relay := range 5 {
			p.joinTCP(t, 1+relay)
		}
		c1, c2 = p.open(t, unlinkable, splitter.Interactive)
		return c1, c2, func() {
			p.a.Abort(CodeNormal)
			p.b.Abort(CodeNormal)
		}, nil
	})
}

// TestEveryFrameIsACell: a relay sees frames of one size, from the dialler from
// the first on, and padding looks like all others.
func TestEveryFrameIsACell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, func(a, _ *Config) { a.Cells = true })
		p.taps = new(taps)
		for relay := range 6 {
			ca, cb := net.Pipe()
			p.join(t, 1+relay, p.taps.tap(ca, 1+relay, p.next+1), cb)
		}
		here, there := p.open(t, unlinkable, splitter.Interactive)
		for size := range 160 { // small ones, each alone: padding comes by chance
			if _, err := here.Write(make([]byte, 1+size%40*37)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(30 * time.Millisecond) // virtual
		}
		go func() {
			b := make([]byte, 1<<16)
			for {
				if _, err := there.Read(b); err != nil {
					return
				}
			}
		}()
		back := noise(4, 600<<10)
		go func() { there.Write(back) }()
		got := make([]byte, len(back))
		for n := 0; n < len(got); {
			k, err := here.Read(got[n:])
			if err != nil {
				t.Fatal(err)
			}
			n += k
		}
		if sha256.Sum256(got) != sha256.Sum256(back) {
			t.Fatal("the bytes differ")
		}
		padded, used := 0, 0
		for relay := 1; relay <= 6; relay++ {
			cells := p.taps.plaintexts(t, relay)
			if len(cells) > 3 {
				used++
			}
			for _, plain := range cells {
				if plain[0] != typeCell || len(plain) != cellSize {
					t.Fatalf("relay %d sees a frame of type %d with %d bytes", relay, plain[0], len(plain))
				}
				if plain[1] == 0 && plain[2] == 0 {
					padded++
				}
			}
		}
		if padded == 0 || used < 3 {
			t.Errorf("%d cells of padding, %d relays used", padded, used)
		}
		p.a.Close()
		p.b.Close()
	})
}

// TestCellsOutliveTheirPaths: cells of a path that dies go over others.
func TestCellsOutliveTheirPaths(t *testing.T) {
	p := newPair(t, func(a, _ *Config) { a.Cells = true })
	var ids []uint32
	for relay := range 6 {
		ids = append(ids, p.joinTCP(t, 1+relay))
	}
	here, there := p.open(t, unlinkable, splitter.Interactive)
	want := noise(9, 3<<20)
	done := make(chan [32]byte, 1)
	go func() { done <- transfer(t, here, there, want) }()
	for i := range ids {
		p.cut(ids[i])
		ids[i] = p.joinTCP(t, 10+i)
	}
	if got := <-done; got != sha256.Sum256(want) {
		t.Fatal("the bytes differ")
	}
}

func TestUnlinkabilityNeedsCells(t *testing.T) {
	p := newPair(t, nil)
	p.joinTCP(t, 1)
	if _, err := p.a.Open(unlinkable, splitter.Interactive); err != ErrNoCells {
		t.Error(err)
	}
	s, path := victim(t, false)
	if err := feed(s, path, 0, control(appendPolicy(nil, 2, splitter.Interactive, unlinkable))); !isProtocol(err) {
		t.Error(err)
	}
}

func TestHostileCells(t *testing.T) {
	cell := func(inner ...byte) []byte {
		b := make([]byte, cellSize)
		b[0] = typeCell
		copy(b[1:], inner)
		return b
	}
	tail := cell()
	tail[cellSize-1] = 1
	for name, plain := range map[string][]byte{
		"short": {typeCell, 0, 0}, "long": append(cell(), 0), "inner too long": cell(0xff, 0xff, typePad),
		"a cell in a cell": cell(0, 3, typeCell, 0, 0), "bad inner": cell(0, 1, 99), "not zeros": tail,
	} {
		s, p := victim(t, false)
		if err := feed(s, p, 0, plain); !isProtocol(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s, p := victim(t, true)
	if err := feed(s, p, 0, cell()); !isProtocol(err) {
		t.Error("a dialler takes cells that it did not ask for: ", err)
	}
}

// TestNoDatagramsInCells: what is sent on any lane of a session of cells, or was
// queued before its first cell came, costs no path.
func TestNoDatagramsInCells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, func(a, _ *Config) { a.Cells = true })
		for relay := range 5 {
			ca, cb := net.Pipe()
			p.join(t, 1+relay, ca, cb)
		}
		here, there := p.stream(t)
		for _, st := range []*Stream{here, there} {
			if err := st.SendDatagram([]byte("x"), true); !errors.Is(err, ErrDatagramPolicy) {
				t.Error(err)
			}
		}
		time.Sleep(time.Minute) // virtual
		if !p.a.Cells() || !p.b.Cells() || len(p.a.Stats().Paths) != 5 || len(p.b.Stats().Paths) != 5 {
			t.Errorf("%d and %d paths are left", len(p.a.Stats().Paths), len(p.b.Stats().Paths))
		}
		p.a.Close()
		p.b.Close()
	})
}

func TestDatagramsBeforeTheFirstCell(t *testing.T) {
	s, p := victim(t, false)
	s.lock()
	b := buf.Get(100)
	p.launched(datagramCost(b), splitter.Interactive)
	p.datagrams = append(p.datagrams, b)
	s.useCells()
	if n := p.inFlight(); n != 0 || p.datagrams != nil || !p.ackSince.IsZero() {
		t.Errorf("%d bytes in flight, since %v", n, p.ackSince)
	}
	s.mu.Unlock()
}
