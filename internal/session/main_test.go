package session

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"sync"
	"testing"

	"github.com/splitmesh/splitmesh/frame"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/internal/handshake"
	"github.com/splitmesh/splitmesh/splitter"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A pair is two sessions that talk to each other.
type pair struct {
	a, b     *Session // a dialled
	accepted chan *Stream
	ends     [2]chan error
	next     uint32
	taps     *taps // records what a writes, if not nil

	mu    sync.Mutex
	conns map[uint32][2]net.Conn
	fates [2][]Event
}

// show prints a figure as make experiments shows it: at most bar is good.
func show(name string, value, bar int, note string, args ...any) {
	verdict := "ok"
	if value > bar {
		verdict = "FAILED"
	}
	fmt.Fprintf(os.Stdout, "%s = %d (bar ≤ %d) %s: %s\n", name, value, bar, verdict, fmt.Sprintf(note, args...))
}

// tester is what pair needs of a testing.T, B or F.
type tester interface {
	Helper()
	Fatal(...any)
	Cleanup(func())
}

func newPair(t tester, edit func(a, b *Config)) *pair {
	t.Helper()
	var ids [2]identity.ID
	for i := range ids {
		seed := sum("identity", uint32(i))
		k, err := identity.NewKeyFromSeed(seed[:])
		if err != nil {
			t.Fatal(err)
		}
		ids[i] = k.ID()
	}
	p := &pair{accepted: make(chan *Stream, 1000), conns: make(map[uint32][2]net.Conn)}
	policy := splitter.Policy{Purpose: splitter.Throughput, MinPaths: 1, MaxShare: 1}
	cfg := [2]Config{
		{Local: ids[0], Peer: ids[1], Dialler: true, Policy: policy},
		{Local: ids[1], Peer: ids[0], Policy: policy},
	}
	for i := range cfg {
		p.ends[i] = make(chan error, 1)
		cfg[i].Exporter = sum("exporter", 0)
		cfg[i].OnEnd = func(_ *Session, err error) { p.ends[i] <- err }
		cfg[i].OnStream = func(s *Stream) { p.accepted <- s }
		cfg[i].OnPath = func(_ *Session, e Event) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.fates[i] = append(p.fates[i], e)
		}
	}
	if edit != nil {
		edit(&cfg[0], &cfg[1])
	}
	p.a, p.b = New(cfg[0]), New(cfg[1])
	t.Cleanup(func() {
		p.a.Abort(CodeNormal)
		p.b.Abort(CodeNormal)
		p.a.Close()
		p.b.Close()
	})
	return p
}

func sum(what string, n uint32) [32]byte {
	return sha256.Sum256(binary.BigEndian.AppendUint32([]byte(what), n))
}

// results are what the handshake of a path would have given both ends.
func (p *pair) results(id uint32) (ra, rb *handshake.Result) {
	to, from := sum("to", id), sum("from", id)
	ra = &handshake.Result{Peer: p.b.Local(), PathID: id, Suite: frame.AES256GCM, Send: to, Recv: from}
	rb = &handshake.Result{Peer: p.a.Local(), PathID: id, Suite: frame.AES256GCM, Send: from, Recv: to}
	return ra, rb
}

// Local is the identity at this end.
func (s *Session) Local() identity.ID { return s.cfg.Local }

// relayNumber makes up a relay.
func relayNumber(n int) identity.ID {
	if n == 0 {
		return identity.ID{}
	}
	return identity.ID(sum("relay", uint32(n)))
}

// join adds a path over the two ends of a conn, by way of a relay unless it is 0.
func (p *pair) join(t tester, relay int, ca, cb net.Conn) uint32 {
	t.Helper()
	p.mu.Lock()
	p.next++
	id := p.next
	p.conns[id] = [2]net.Conn{ca, cb}
	p.mu.Unlock()
	ra, rb := p.results(id)
	if err := p.b.AddPath(cb, rb, PathInfo{Relay: relayNumber(relay)}); err != nil {
		t.Fatal("listener's end: ", err)
	}
	if err := p.a.AddPath(ca, ra, PathInfo{Relay: relayNumber(relay), Dialled: true}); err != nil {
		t.Fatal("dialler's end: ", err, "; listener's: ", p.b.Err())
	}
	return id
}

// joinTCP adds a path over a real socket.
func (p *pair) joinTCP(t tester, relay int) uint32 {
	t.Helper()
	ca, cb := tcpPipe(t)
	return p.join(t, relay, p.taps.tap(ca, relay, p.next+1), cb)
}

func tcpPipe(t tester) (net.Conn, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ca, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	cb, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return ca, cb
}

// cut breaks a path as a reset does.
func (p *pair) cut(id uint32) {
	p.mu.Lock()
	conns := p.conns[id]
	delete(p.conns, id)
	p.mu.Unlock()
	for _, c := range conns {
		if tap, ok := c.(*tapConn); ok {
			c = tap.Conn
		}
		if tc, ok := c.(*net.TCPConn); ok {
			tc.SetLinger(0)
		}
		c.Close()
	}
}

// stream opens a stream from a and returns both of its ends.
func (p *pair) stream(t tester) (*Stream, *Stream) {
	t.Helper()
	here, err := p.a.Open(plainPolicy, splitter.Interactive)
	if err != nil {
		t.Fatal(err)
	}
	return here, <-p.accepted
}
