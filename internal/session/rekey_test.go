package session

import (
	"crypto/sha256"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splitmesh/splitmesh/internal/rekey"
)

// TestRekeyWhileSending: commits go on while both ends send over paths that come
// and go; nothing is lost, and both ends seal with later keys at the end.
func TestRekeyWhileSending(t *testing.T) {
	p := newPair(t, func(a, b *Config) {
		a.Rekey = rekey.Limits{Bytes: 1 << 20}
		b.Rekey = rekey.Limits{Bytes: 300 << 10}
	})
	var ids []uint32
	for relay := 1; relay <= 3; relay++ {
		ids = append(ids, p.joinTCP(t, relay))
	}
	for round := range 6 {
		here, there := p.stream(t)
		want := noise(uint64(round), 6<<20)
		from, to := net.Conn(here), net.Conn(there)
		if round%2 == 1 {
			from, to = to, from
		}
		if got := transfer(t, from, to, want); got != sha256.Sum256(want) {
			t.Fatal("the bytes differ")
		}
		p.cut(ids[round%3])
		ids[round%3] = p.joinTCP(t, 4+round)
	}
	for _, s := range []*Session{p.a, p.b} {
		s.mu.Lock()
		commits := s.keys.Commits()
		s.mu.Unlock()
		if commits < 5 {
			t.Errorf("%d commits", commits)
		}
		if s.Err() != nil {
			t.Fatal(s.Err())
		}
	}
}

// TestRekeyByAge: an idle session changes its keys every day.
func TestRekeyByAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, nil)
		ca, cb := net.Pipe()
		p.join(t, 1, ca, cb)
		time.Sleep(73 * time.Hour) // virtual
		for _, s := range []*Session{p.a, p.b} {
			st := s.Stats()
			if len(st.Paths) != 1 || st.Paths[0].Epoch != 3 {
				t.Errorf("%+v", st.Paths)
			}
		}
		p.a.Close()
		p.b.Close()
	})
}
