package mesh

import (
	"errors"
	"net"
	"testing"

	"github.com/multiformats/go-multiaddr"
	"github.com/splitmesh/splitmesh/internal/handshake"
	"github.com/splitmesh/splitmesh/internal/session"
	"github.com/splitmesh/splitmesh/transport"
	"github.com/splitmesh/splitmesh/transport/memory"
)

// pair is a listening node and one that has a session with it.
func pair(t *testing.T, onPath func(PathEvent)) (server, client *Node, s *session.Session) {
	t.Helper()
	wire := memory.NewNetwork(memory.Options{})
	t.Cleanup(func() { wire.Close() })
	server = &Node{ListenAddrs: []multiaddr.Multiaddr{multiaddr.StringCast("/memory/0")}, Transports: []transport.Transport{wire.Transport()}}
	server.OnPath = onPath
	client = &Node{Transports: []transport.Transport{wire.Transport()}}
	for _, n := range []*Node{server, client} {
		if err := n.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.Close() })
	}
	l, err := server.Listen("x")
	if err != nil {
		t.Fatal(err)
	}
	client.Bootstrap = server.Addrs()
	if _, err := client.Dial(t.Context(), l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	s, err = client.session(t.Context(), plainKey(server.id), demand{hopPolicy, 1})
	if err != nil {
		t.Fatal(err)
	}
	return server, client, s
}

// A joiner joins a path to the server, step by step.
type joiner struct {
	*handshake.Dialler
	conn net.Conn
}

func join(t *testing.T, server, client *Node, token *handshake.Join) joiner {
	t.Helper()
	d, err := handshake.NewDialler(client.handshakeConfig(false), server.id, token)
	if err != nil {
		t.Fatal(err)
	}
	here, there := net.Pipe()
	t.Cleanup(func() { here.Close() })
	accept := server.admit(d.Opening(), session.PathInfo{Remote: "a test"})
	if accept == nil {
		t.Fatal("not admitted")
	}
	go accept(there) // ends with the handshake
	return joiner{d, here}
}

// TestTokenIsSpentByACompletedHandshake: not by being shown, so that who hides the
// answer can't spend it; and once only.
func TestTokenIsSpentByACompletedHandshake(t *testing.T) {
	active := make(chan uint32, 10)
	server, client, s := pair(t, func(e PathEvent) {
		if e.State == PathActive {
			active <- e.ID
		}
	})
	token, err := s.TakeToken(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	hidden := join(t, server, client, &token)
	if _, err := handshake.ReadMessage(hidden.conn); err != nil { // and nobody tells the client
		t.Fatal(err)
	}
	hidden.conn.Close()

	first, second := join(t, server, client, &token), join(t, server, client, &token)
	answers := make(map[joiner][]byte)
	for _, j := range []joiner{first, second} { // both are admitted …
		if answers[j], err = handshake.ReadMessage(j.conn); err != nil {
			t.Fatal(err)
		}
	}
	for _, j := range []joiner{first, second} {
		msg3, res, err := j.Finish(answers[j])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := j.conn.Write(msg3); err != nil {
			t.Fatal(err)
		}
		if j == first {
			if err := s.AddPath(j.conn, res, session.PathInfo{Dialled: true}); err != nil {
				t.Fatal(err)
			}
			for <-active != res.PathID { // … and the first to end joins
			}
		} else if _, err := j.conn.Read(make([]byte, 1)); err == nil {
			t.Fatal("two paths with one token")
		}
	}
	if _, err := join(t, server, client, &token).run(t); !errors.Is(err, handshake.ErrUnknownToken) {
		t.Fatal(err)
	}
	if server.admit(first.Opening(), session.PathInfo{}) != nil {
		t.Fatal("a replayed opening is admitted")
	}
}

func (j joiner) run(t *testing.T) (*handshake.Result, error) { return j.Run(t.Context(), j.conn) }

// TestDoubtfulToken: that the peer does not know a token that it may have spent is
// no proof that it has lost the session; that it does not know any other is.
func TestDoubtfulToken(t *testing.T) {
	_, client, s := pair(t, nil)
	client.mu.Lock()
	var l *link
	for _, l = range client.links {
	}
	client.mu.Unlock()
	token, err := s.TakeToken(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l.giveBack(s, token, &doubtError{net.ErrClosed})
	again, err := s.TakeToken(t.Context())
	if err != nil || again.Token != token.Token {
		t.Fatal("a token with which nothing came about is not given back", err)
	}
	l.giveBack(s, token, handshake.ErrUnknownToken)
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	l.giveBack(s, token, net.ErrClosed) // it was not even dialled
	l.giveBack(s, token, handshake.ErrUnknownToken)
	if err := s.Err(); !errors.Is(err, ErrPeerGone) {
		t.Fatal(err)
	}
}
