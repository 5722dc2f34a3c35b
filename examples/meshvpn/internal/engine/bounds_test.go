package engine

import (
	"encoding/binary"
	"path/filepath"
	"testing"
	"time"

	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/acl"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/overlay"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/packet"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
)

func rules(t *testing.T, lines ...string) (l acl.List) {
	t.Helper()
	for _, line := range lines {
		var r acl.Rule
		if err := r.UnmarshalText([]byte(line)); err != nil {
			t.Fatal(err)
		}
		l = append(l, r)
	}
	return l
}

// still is an engine that does not run, and to which everybody may send. The peers are named.
func still(t *testing.T, peers ...identity.ID) *Engine {
	t.Helper()
	key := seeded(t, 1)
	book, err := overlay.Open(filepath.Join(t.TempDir(), "addresses"), key.ID(), true)
	if err != nil {
		t.Fatal(err)
	}
	if err := book.Pin(peers...); err != nil {
		t.Fatal(err)
	}
	return New(Config{Node: &mesh.Node{Identity: key}, Device: new(list), Book: book, Policy: Policy{Rules: rules(t, "allow *")}})
}

func stranger(n int) (id identity.ID) {
	binary.BigEndian.PutUint32(id[:], uint32(n)+1e9)
	return id
}

// TestGuests: however many come, they take nothing from who is named, and the newest is let in while others have left.
func TestGuests(t *testing.T) {
	friend := seeded(t, 2).ID()
	e := still(t, friend)
	come := func(id identity.ID, want bool) (leave func()) {
		t.Helper()
		c := new(piecewise)
		p, err := e.admit(id, c)
		if err == nil != want {
			t.Fatalf("%s: %v", id.Short(), err)
		}
		return func() { p.leave(c) }
	}
	for n := range 3 * maxGuests {
		come(stranger(n), true)()
	}
	var leave func()
	for n := range maxGuests {
		leave = come(stranger(n), true)
	}
	come(stranger(maxGuests), false)
	for range maxConns {
		come(friend, true)
	}
	come(friend, false)
	if n := len(e.all()); n != maxGuests+1 {
		t.Errorf("%d peers", n)
	}
	leave()
	come(stranger(maxGuests), true)
	for range guestConns - 1 {
		come(stranger(maxGuests), true)
	}
	come(stranger(maxGuests), false)
	if err := e.cfg.Book.Pin(stranger(maxGuests)); err != nil {
		t.Fatal(err)
	}
	come(stranger(maxGuests), true) // it is named now, and leaves room for another
	come(stranger(maxGuests+1), true)
}

// TestGuestMemory: what guests send half of takes a bounded amount, and nothing from who is named.
func TestGuestMemory(t *testing.T) {
	friend := seeded(t, 2).ID()
	e := still(t, friend)
	half := make([]byte, packet.HeaderSize+9)
	packet.PutHeader(half, packet.Whole, 60000)
	var taken []*receiver
	for n := range 2 * guestMemory / largeBuffer {
		r := &receiver{engine: e, peer: e.peer(stranger(n % maxGuests)), conn: &piecewise{b: half}}
		if _ = r.run(); r.lent > 0 {
			taken = append(taken, r)
		}
	}
	if len(taken) != guestMemory/largeBuffer {
		t.Errorf("%d have a large buffer", len(taken))
	}
	named := &receiver{engine: e, peer: e.peer(friend), conn: &piecewise{b: half}}
	if _ = named.run(); len(named.b) != largeBuffer {
		t.Error("who is named has none")
	}
	for _, r := range taken {
		r.free()
	}
	if n := e.lent.Load(); n != 0 {
		t.Error(n, "bytes are lent for good")
	}
}

// TestFairQueues: peers that take nothing leave room for the others.
func TestFairQueues(t *testing.T) {
	e := still(t)
	fill := func(n int) (queued int) {
		p := e.peer(stranger(n))
		for i := range 8 {
			s := &stream{peer: p, at: slot{n: uint8(i)}, wake: make(chan struct{}, 1)}
			for {
				b := e.pool.get()
				b.to = maxSmall + 1
				if s.push(b) == full {
					break
				}
				queued++
			}
		}
		return queued
	}
	if n := fill(0); n < 2*maxQueue || n > maxBuffers/2+1 {
		t.Errorf("one that takes nothing has %d buffers", n)
	}
	for n := 1; n < 6; n++ {
		fill(n)
	}
	if n := fill(7); n < 4 {
		t.Errorf("%d are left for the next", n)
	}
	if n := e.pool.waiting.Load(); n > maxBuffers {
		t.Errorf("%d of %d buffers wait", n, maxBuffers)
	}
}

// conns is how many a peer has to the host.
func conns(h *host, id identity.ID) int {
	for _, p := range h.Status().Peers {
		if p.ID == id {
			return p.Conns
		}
	}
	return 0
}

// TestSet: a policy that changes ends what may not be any more, and nothing else.
func TestSet(t *testing.T) {
	a, b := two(t, "allow host1 udp")
	a.dev.out <- udp(a.v6, b.v6, 1, 2, "one")
	a.dev.out <- udp(a.v6, b.v6, 1, 3, "two")
	b.gets()
	b.gets()
	b.Set(Policy{Rules: rules(t, "allow host1 udp 2")})
	b.dev.out <- udp(b.v6, a.v6, 3, 1, "our end goes on")
	a.gets()
	a.dev.out <- udp(a.v6, b.v6, 1, 3, "no more")
	b.drops("denied", 1)
	a.dev.out <- udp(a.v6, b.v6, 1, 2, "still")
	if got := data(b.gets()); got != "still" {
		t.Error(got)
	}
	b.dev.out <- udp(b.v6, a.v6, 7, 7, "ours")
	a.drops("denied", 1)

	c := start(t, 3, b.node.Addrs(), []byte{2}, nil, nil)
	b.Set(Policy{Rules: rules(t, "allow host3")})
	c.dev.out <- udp(c.v6, b.v6, 1, 2, "c")
	if got := data(b.gets()); got != "c" {
		t.Error(got)
	}
	b.Set(Policy{})
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for ctx := within(t); conns(b, c.id) > 0; <-again.C { // hung up
		if ctx.Err() != nil {
			t.Fatalf("%+v", b.Status())
		}
	}
	if conns(b, a.id) == 0 {
		t.Error("who is answered does not have to send again")
	}
}
