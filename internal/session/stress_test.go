package session

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splitmesh/splitmesh/splitter"
)

// TestSilentPathDies: a path that delivers nothing is asked, and given up.
func TestSilentPathDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, nil)
		ca, cb := net.Pipe()
		p.join(t, 1, ca, cb)
		hole := newSinkConn()
		ra, _ := p.results(2)
		if err := p.a.AddPath(hole, ra, PathInfo{Relay: relayNumber(2)}); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		<-hole.closed
		if took := time.Since(begin); took != defaultDeadAfter { // virtual time: exact
			t.Errorf("given up after %v", took)
		}
		synctest.Wait()
		p.mu.Lock()
		last := p.fates[0][len(p.fates[0])-1]
		p.mu.Unlock()
		if last.Err != ErrPathDead || last.Path.ID != 2 {
			t.Errorf("%+v", last)
		}
		if p.a.Err() != nil || len(p.a.Stats().Paths) != 1 {
			t.Error("the good path, which answers pings, is gone too: ", p.a.Err(), p.b.Err(), p.fates)
		}
		p.a.Close()
		p.b.Close()
	})
}

// TestIdlePathIsNotLate: the wait for an answer begins with the question, however
// long the session was idle before.
func TestIdlePathIsNotLate(t *testing.T) {
	for range 20 { // the flusher may come first, and read the clock
		synctest.Test(t, func(t *testing.T) {
			s, p := victim(t, true)
			time.Sleep(defaultDeadAfter / 2) // virtual
			st, err := s.Open(plainPolicy, splitter.Interactive)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := st.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			s.mu.Lock()
			since := time.Since(p.ackSince)
			s.mu.Unlock()
			if since != 0 { // virtual: exact
				t.Errorf("the path is late by %v already", since)
			}
		})
	}
}

// TestBlackHoleInMidTransfer: what a path swallowed is sent again once it is
// given up, and the peer is told to give it up too.
func TestBlackHoleInMidTransfer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, func(_, b *Config) { b.DeadAfter = time.Hour }) // it would not find out by itself
		ca, cb := net.Pipe()
		p.join(t, 1, ca, cb)
		ra, rb := p.results(2)
		hole, silent := newSinkConn(), newSinkConn()
		if err := p.a.AddPath(hole, ra, PathInfo{Relay: relayNumber(2)}); err != nil {
			t.Fatal(err)
		}
		if err := p.b.AddPath(silent, rb, PathInfo{Relay: relayNumber(2)}); err != nil {
			t.Fatal(err)
		}
		here, there := p.stream(t)
		want := noise(5, 3<<20)
		go func() {
			here.Write(want)
			here.CloseWrite()
		}()
		got, err := io.ReadAll(there)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		<-silent.closed
		synctest.Wait()
		p.mu.Lock()
		last := p.fates[1][len(p.fates[1])-1]
		p.mu.Unlock()
		if last.Err != errAbandoned || last.Path.ID != 2 {
			t.Errorf("the peer, which was to be told, has %+v", last)
		}
		var resent uint64
		for _, c := range p.a.Stats().Carried {
			resent += c.ResentBytes
		}
		if resent == 0 {
			t.Error("nothing was sent again: the test shows nothing")
		}
		p.a.Close()
		p.b.Close()
	})
}

// lose gives a path up at once, if the reader has not done so already.
func (s *Session) lose(id uint32) {
	s.mu.Lock()
	p := s.pathByID(id)
	s.mu.Unlock()
	if p != nil {
		s.pathDied(p, net.ErrClosed)
	}
}

// TestRandomPaths plays random schedules; see playPaths.
func TestRandomPaths(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 9))
		steps := make([]byte, 5+rng.IntN(36))
		for i := range steps {
			steps[i] = byte(rng.Uint32())
		}
		playPaths(t, steps)
	}
}

// FuzzPaths plays the schedules that the fuzzer thinks of; see playPaths.
func FuzzPaths(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9})
	f.Add([]byte{3, 3, 3, 0, 2, 2, 0, 3, 0, 2, 1, 2})
	f.Fuzz(playPaths)
}

// playPaths plays a schedule of writes, cuts and joins on two sessions, a step
// for each byte. No byte may be lost or doubled.
func playPaths(t *testing.T, steps []byte) {
	p := newPair(t, nil)
	var ids []uint32
	join := func() {
		if len(ids) < MaxPaths {
			ca, cb := net.Pipe()
			ids = append(ids, p.join(t, int(p.next)+1, ca, cb))
		}
	}
	join()
	here, there := p.stream(t)
	var wg sync.WaitGroup
	got := make([][]byte, 2)
	for i, c := range []net.Conn{there, here} {
		wg.Go(func() { got[i], _ = io.ReadAll(c) })
	}
	want := make([][]byte, 2)
	for i, step := range steps[:min(len(steps), 40)] {
		switch step % 4 {
		case 0, 1:
			chunk := noise(uint64(i), 1+int(step)*97)
			side := int(step % 2)
			want[side] = append(want[side], chunk...)
			if _, err := []net.Conn{here, there}[side].Write(chunk); err != nil {
				t.Fatal(err)
			}
		case 2:
			// The last path stays.
			if len(ids) > 1 {
				k := int(step/4) % len(ids)
				p.cut(ids[k])
				for _, s := range []*Session{p.a, p.b} {
					s.lose(ids[k])
				}
				ids = append(ids[:k], ids[k+1:]...)
			}
		case 3:
			join()
		}
	}
	here.CloseWrite()
	there.CloseWrite()
	wg.Wait()
	for i := range want {
		if !bytes.Equal(got[i], want[i]) {
			t.Fatalf("direction %d: %d bytes arrived, %d were sent", i, len(got[i]), len(want[i]))
		}
	}
}
