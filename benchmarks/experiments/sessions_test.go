package experiments

import (
	"io"
	"net"
	"testing"

	"github.com/splitmesh/splitmesh/frame"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/internal/handshake"
	"github.com/splitmesh/splitmesh/internal/session"
	"github.com/splitmesh/splitmesh/splitter"
)

// sessions are the two ends of a session without a mesh around it, for what a
// mesh hides or has no say in.
type sessions struct {
	near, far *session.Session
	policy    splitter.Policy
	streams   chan *session.Stream // opened by the near end
}

// newSessions makes a session with a path over each of the conns, whose first
// end is the dialler's: a direct path, or if there are several each by a relay
// of its own. cfg is the dialler's; the other end sends by the same policy.
func newSessions(t testing.TB, cfg session.Config, conns ...[2]net.Conn) *sessions {
	t.Helper()
	s := &sessions{policy: cfg.Policy, streams: make(chan *session.Stream, 1)}
	cfg.Local, cfg.Peer, cfg.Dialler = key(t, diallers).ID(), key(t, listens).ID(), true
	s.near = session.New(cfg)
	s.far = session.New(session.Config{Local: cfg.Peer, Peer: cfg.Local, Policy: cfg.Policy, OnStream: func(st *session.Stream) { s.streams <- st }})
	t.Cleanup(s.close)
	for i, c := range conns {
		there, back := [32]byte{1, byte(i)}, [32]byte{2, byte(i)}
		var relay identity.ID
		if len(conns) > 1 {
			relay = identity.ID{byte(i + 1)}
		}
		id := uint32(session.FirstPath + i)
		toNear := &handshake.Result{Peer: cfg.Local, PathID: id, Suite: frame.AES256GCM, Send: back, Recv: there}
		toFar := &handshake.Result{Peer: cfg.Peer, PathID: id, Suite: frame.AES256GCM, Send: there, Recv: back}
		if err := s.far.AddPath(c[1], toNear, session.PathInfo{Relay: relay}); err != nil {
			t.Fatal(err)
		}
		if err := s.near.AddPath(c[0], toFar, session.PathInfo{Relay: relay, Dialled: true}); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s *sessions) close() {
	s.near.Close()
	s.far.Close()
	s.near.Wait()
	s.far.Wait()
}

// open opens a stream of the class and returns both ends.
func (s *sessions) open(t testing.TB, class splitter.Class) (near, far *session.Stream) {
	t.Helper()
	const hello = "hello"
	near, err := s.near.Open(s.policy, class)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(near, hello); err != nil {
		t.Fatal(err)
	}
	far = <-s.streams
	if _, err := io.ReadFull(far, make([]byte, len(hello))); err != nil {
		t.Fatal(err)
	}
	return near, far
}
