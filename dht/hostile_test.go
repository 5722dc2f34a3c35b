package dht

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/internal/kad"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/registry/registrytest"
)

// server makes a record of a node that answers queries, at addr.
func server(t testing.TB, k *identity.Key, at time.Time, addr string, change ...func(*registry.Record)) *registry.Record {
	t.Helper()
	a, err := multiaddr.NewMultiaddr(addr)
	if err != nil {
		t.Fatal(err)
	}
	r := &registry.Record{
		Sequence: at.UnixMilli(), Expires: at.Add(time.Hour).UnixMilli(),
		Addrs: []multiaddr.Multiaddr{a}, Capabilities: []string{registry.CapDHTServer},
	}
	for _, c := range change {
		c(r)
	}
	if err := r.Sign(k); err != nil {
		t.Fatal(err)
	}
	return r
}

func (n *fnode) call(ctx context.Context, to *fnode, r *registry.Record) (*answer, error) {
	return n.DHT.call(ctx, to.ID(), r, &query{Op: opPing})
}

// Who is too busy is asked again, and stays known; what it does not take another does.
func TestBusy(t *testing.T) {
	f := newFabric(time.Now)
	var busy atomic.Bool
	var self []byte
	of := liar(t, f, func(*query) any {
		if busy.Load() {
			return &answer{Verdict: vBusy}
		}
		return &answer{Self: self}
	})
	r := of.record(t)
	self = r.Marshal()
	n := f.node(t, Config{Client: true})
	if _, err := n.call(t.Context(), of, r); err != nil || len(n.contacts()) != 1 {
		t.Fatalf("%d contacts, %v", len(n.contacts()), err)
	}
	before := n.Stats()
	busy.Store(true)
	for range 5 {
		if a, err := n.call(t.Context(), of, r); err != nil || a.Verdict != vBusy {
			t.Fatalf("%+v, %v", a, err)
		}
	}
	n.DHT.mu.Lock()
	lost := len(n.lost)
	n.DHT.mu.Unlock()
	if s := n.Stats(); s.Contacts != 1 || lost != 0 || s.Failed != before.Failed || s.Busy != before.Busy+5 {
		t.Errorf("%+v, %d lost", s, lost)
	}
}

// A node tells who asks too often so, after a while; and blocks who goes on.
func TestServedBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric(time.Now)
		to := f.node(t, Config{Rate: 2})
		from := registrytest.Key(t).ID()
		ping, err := encode(&query{Op: opPing})
		if err != nil {
			t.Fatal(err)
		}
		call := func() (a answer, err error) {
			here, there := net.Pipe()
			defer here.Close()
			to.accept <- pipeConn{there, from.String()}
			if _, err := here.Write(ping); err != nil {
				return a, err
			}
			return a, read(here, &a)
		}
		start := time.Now()
		var got [2]int
		for range 20 { // one after the other: who waits brings time by
			a, err := call()
			if err != nil {
				t.Fatal(err)
			}
			got[min(1, a.Verdict)]++
		}
		if took := time.Since(start); got != [2]int{10, 10} || took != time.Second || to.Stats().Refused != 10 {
			t.Errorf("answered, busy: %v after %v, %+v", got, took, to.Stats())
		}
		// All at once: two may wait, for half a second and for one.
		var flood sync.WaitGroup
		var failed atomic.Int32
		for range 100 {
			flood.Go(func() {
				if _, err := call(); err != nil {
					failed.Add(1)
				}
			})
		}
		flood.Wait()
		if failed.Load() != 98 || !slices.Equal(to.blocks, []identity.ID{from}) {
			t.Errorf("%d were not answered, blocked: %v", failed.Load(), to.blocks)
		}
	})
}

// A record goes to another node for each that is too busy.
func TestPublishPastTheBusy(t *testing.T) { synctest.Test(t, testPublishPastTheBusy) }

func testPublishPastTheBusy(t *testing.T) {
	f := newFabric(time.Now)
	nodes := f.cluster(t, kad.K+5)
	of := registrytest.Key(t)
	r := registrytest.Signed(t, of, time.Now())
	n := f.node(t, Config{Client: true, Bootstrap: []identity.ID{nodes[0].ID()}})
	synctest.Wait() // until it has found its neighbours
	for _, to := range nodes {
		if _, err := n.call(t.Context(), to, to.record(t)); err != nil {
			t.Fatal(err)
		}
	}
	slices.SortFunc(nodes, func(a, b *fnode) int {
		return kad.PeerKey(of.ID()).Compare(kad.PeerKey(a.ID()), kad.PeerKey(b.ID()))
	})
	for _, b := range nodes[:5] {
		b.limits.mu.Lock()
		b.limits.rate = 0
		b.limits.peers[n.ID()] = &allowance{tokens: 1, refusals: 1, at: time.Now()} // the lookup's, and one
		b.limits.mu.Unlock()
	}
	if err := n.Publish(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	kept := 0
	for _, b := range nodes {
		b.DHT.mu.Lock()
		if b.store.Get(kad.PeerKey(of.ID()), time.Now()) != nil {
			kept++
		}
		b.DHT.mu.Unlock()
	}
	if n.Stats().Busy != 5 || kept != kad.K {
		t.Errorf("%d keep it, and %d were busy", kept, n.Stats().Busy)
	}
}

// A query that is ended by who made it says nothing about who was asked: lookups end while others are still being asked.
func TestEndedQueriesDoNotCount(t *testing.T) {
	f := newFabric(time.Now)
	n, to := f.node(t, Config{Client: true}), f.node(t, Config{})
	r := to.record(t)
	if _, err := n.call(t.Context(), to, r); err != nil {
		t.Fatal(err)
	}
	to.mu.Lock()
	to.hangs = true
	to.mu.Unlock()
	for range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := n.call(ctx, to, r); err == nil {
			t.Fatal("no error")
		}
	}
	if s := n.Stats(); s.Contacts != 1 || s.Failed != 0 {
		t.Errorf("%+v", s)
	}
}

// Who names nodes that do not answer stalls one way; the record is stored all the same, and soon.
func TestStalledWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric(time.Now)
		of := registrytest.Key(t)
		var self []byte
		var names [][]byte
		for i := range kad.K {
			k := registrytest.Key(t)
			f.nodes[k.ID()] = &fnode{f: f, key: k, hangs: true}
			names = append(names, server(t, k, time.Now(), fmt.Sprintf("/ip4/11.1.%d.1/tcp/1", i)).Marshal())
		}
		evil := liar(t, f, func(q *query) any { return &answer{Self: self, Closer: names} })
		self = evil.record(t).Marshal()
		nodes := f.cluster(t, 8)
		n := f.node(t, Config{Client: true, Bootstrap: []identity.ID{evil.ID(), nodes[0].ID(), nodes[1].ID(), nodes[2].ID(), nodes[3].ID()}})
		time.Sleep(time.Minute)
		start := time.Now()
		if err := n.Publish(t.Context(), registrytest.Signed(t, of, time.Now())); err != nil {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		if took := time.Since(start); took > 3*(queryTimeout+reachTimeout) { // a lookup for the peer, and for each of two capabilities
			t.Errorf("it took %v", took)
		}
		if nodes[5].Stats().Records == 0 {
			t.Error("the honest do not have it")
		}
		// Where there is no other way, what can be said when the time is over is said.
		n = f.node(t, Config{Client: true, Bootstrap: []identity.ID{evil.ID()}})
		if _, err := n.Lookup(t.Context(), of.ID()); !errors.Is(err, registry.ErrNotFound) {
			t.Errorf("by the liar alone: %v", err)
		}
	})
}

// Who was only named, and does not answer, is not remembered as lost.
func TestNamedAreNotLost(t *testing.T) {
	f := newFabric(time.Now)
	var self []byte
	var names [][]byte
	for range kad.K {
		names = append(names, server(t, registrytest.Key(t), time.Now(), "/ip4/11.1.1.1/tcp/1").Marshal())
	}
	evil := liar(t, f, func(q *query) any { return &answer{Self: self, Closer: names} })
	self = evil.record(t).Marshal()
	n := f.node(t, Config{Client: true, Bootstrap: []identity.ID{evil.ID()}})
	_, _ = n.Find(t.Context(), registrytest.Key(t).ID())
	n.DHT.mu.Lock()
	if len(n.lost) != 0 {
		t.Errorf("%d are lost", len(n.lost))
	}
	// Of those who are, any gives way.
	for range maxLost + 1 {
		r := server(t, registrytest.Key(t), time.Now(), "/ip4/11.1.1.1/tcp/1")
		if n.lose(n.contact(r)); n.lost[r.ID] == nil || len(n.lost) > maxLost {
			t.Errorf("%d are lost, or not the last", len(n.lost))
		}
	}
	n.DHT.mu.Unlock()
}

// A place is where a conn says that its peer was met.
type place netip.Addr

func (p place) PeerHost() (netip.Addr, bool) { return netip.Addr(p), false }

// Many nodes of one network that say to be of many do not come into the table.
func TestNetworksAreNoClaims(t *testing.T) {
	n := newFabric(time.Now).node(t, Config{Client: true})
	where := place(netip.MustParseAddr("11.1.1.1"))
	for i := range 100 {
		k := registrytest.Key(t)
		n.note(k.ID(), server(t, k, time.Now(), fmt.Sprintf("/ip4/11.1.%d.1/tcp/1", i)), where, &answer{}, nil)
	}
	if c := n.contacts(); len(c) != 1 || c[0].Group.String() != "11.1.1.0/24" {
		t.Errorf("%d are in the table", len(c))
	}
}

// A contact leaves the table when its record expires or is revoked, and when it says not to answer any more.
func TestContactsEnd(t *testing.T) {
	clock := registrytest.NewClock()
	f := newFabric(clock.Now)
	n := f.node(t, Config{Client: true})
	know := func(k *identity.Key, life time.Duration) *registry.Record {
		r := server(t, k, clock.Now(), "/ip4/11.1.1.1/tcp/1", func(r *registry.Record) { r.Expires = clock.Now().Add(life).UnixMilli() })
		n.note(k.ID(), r, nil, &answer{}, nil)
		return r
	}
	has := func(k *identity.Key) bool {
		return slices.ContainsFunc(n.contacts(), func(c *kad.Contact) bool { return c.ID == k.ID() })
	}
	k := registrytest.Key(t)
	know(k, time.Minute)
	clock.Advance(time.Minute)
	if n.upkeep(); has(k) {
		t.Error("its record has expired")
	}
	r := know(k, time.Hour)
	plain := server(t, k, clock.Now().Add(time.Second), "/ip4/11.1.1.1/tcp/1", func(r *registry.Record) { r.Capabilities = nil })
	if n.note(k.ID(), r, nil, &answer{Self: plain.Marshal()}, nil); has(k) {
		t.Error("it says not to answer queries")
	}
	k = registrytest.Key(t)
	know(k, time.Hour)
	if _, _, err := n.parse(registrytest.Revocation(t, k, clock.Now()).Marshal()); err != nil || has(k) {
		t.Errorf("it is revoked: %v", err)
	}
	k = registrytest.Key(t)
	r = know(k, time.Minute)
	clock.Advance(time.Minute)
	for range 2 {
		n.note(k.ID(), r, nil, nil, errDown)
	}
	if has(k) {
		t.Error("its record has expired, and it does not answer")
	}
}

// A record that is older than one that has expired is not found.
func TestLookupResurrectsNothing(t *testing.T) {
	clock := registrytest.NewClock()
	f := newFabric(clock.Now)
	victim := registrytest.Key(t)
	old := server(t, victim, clock.Now(), "/ip4/11.1.1.1/tcp/1", func(r *registry.Record) { r.Expires = clock.Now().Add(40 * time.Hour).UnixMilli() })
	var self []byte
	evil := liar(t, f, func(*query) any { return &answer{Self: self, Records: [][]byte{old.Marshal()}} })
	self = evil.record(t).Marshal()
	n := f.node(t, Config{Bootstrap: []identity.ID{evil.ID()}})
	last := server(t, victim, clock.Now().Add(time.Second), "/ip4/11.1.1.2/tcp/1", func(r *registry.Record) { r.Expires = clock.Now().Add(time.Minute).UnixMilli() })
	if err := n.Publish(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	clock.Advance(time.Hour)
	if r, err := n.Lookup(t.Context(), victim.ID()); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("%v, %v", r, err)
	}
}

// Who is reached over the Internet names nobody at a private address; who is at one does.
func TestPrivateAddresses(t *testing.T) {
	for _, tt := range []struct {
		teller, own, named string
		private, dialled   bool
	}{
		{"/ip4/11.0.0.1/tcp/1", "", "/ip4/11.0.0.2/tcp/1", false, true},
		{"/ip4/11.0.0.1/tcp/1", "", "/ip4/127.0.0.1/tcp/1", false, false},
		{"/ip4/11.0.0.1/tcp/1", "", "/ip4/169.254.169.254/tcp/80", false, false},
		{"/ip4/11.0.0.1/tcp/1", "", "/ip4/192.168.1.1/tcp/1", false, false},
		{"/ip4/11.0.0.1/tcp/1", "", "/ip4/192.168.1.1/tcp/1", true, true},
		{"/ip4/11.0.0.1/tcp/1", "/ip4/192.168.1.2/tcp/1", "/ip4/192.168.1.1/tcp/1", false, false}, // it moves to where we are
		{"/ip4/192.168.1.2/tcp/1", "", "/ip4/192.168.1.1/tcp/1", false, true},
	} {
		f := newFabric(time.Now)
		named := registrytest.Key(t)
		closer := [][]byte{server(t, named, time.Now(), tt.named).Marshal()}
		var self []byte
		teller := liar(t, f, func(*query) any { return &answer{Self: self, Closer: closer} })
		r := server(t, teller.key, time.Now(), tt.teller)
		if self = r.Marshal(); tt.own != "" {
			self = server(t, teller.key, time.Now().Add(time.Second), tt.own).Marshal()
		}
		n := f.node(t, Config{Client: true, Private: tt.private})
		if _, err := n.call(t.Context(), teller, r); err != nil || n.Stats().Contacts != 1 {
			t.Fatal(n.Stats(), err)
		}
		_, _ = n.Find(t.Context(), registrytest.Key(t).ID()) // who is looked up is not asked where it is
		if n.dials(teller.ID()) < 2 || n.dials(named.ID()) > 0 != tt.dialled {
			t.Errorf("%+v: dialled %d times", tt, n.dials(named.ID()))
		}
	}
	// Nor does a stranger who asks make a node dial what is private, unless the node is in a private network itself.
	for own, want := range map[string]int{"": 0, "/ip4/11.0.0.1/tcp/1": 0, "/ip4/10.0.0.1/tcp/1": 1} {
		synctest.Test(t, func(t *testing.T) {
			n := newFabric(time.Now).node(t, Config{})
			n.DHT.mu.Lock()
			if n.self = nil; own != "" {
				n.self = server(t, n.key, time.Now(), own)
			}
			n.DHT.mu.Unlock()
			k := registrytest.Key(t)
			n.handle(&query{Op: opPing, Self: server(t, k, time.Now(), "/ip4/192.168.1.1/tcp/1").Marshal()}, k.ID())
			synctest.Wait()
			if n.dials(k.ID()) != want {
				t.Errorf("at %q: %d dials", own, n.dials(k.ID()))
			}
		})
	}
}

// The file of known nodes has each once, and is a file.
func TestHostileFile(t *testing.T) {
	f := newFabric(time.Now)
	b, err := encMode.Marshal(server(t, registrytest.Key(t), time.Now(), "/ip4/11.1.1.1/tcp/1").Marshal())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "nodes")
	if err := os.WriteFile(file, slices.Concat(b, b, b), 0o600); err != nil {
		t.Fatal(err)
	}
	if known := f.node(t, Config{Client: true, Saved: file}).load(); len(known) != 1 {
		t.Errorf("%d nodes of one", len(known))
	}
}

// A hasty network knows one node, which may become another, and can ask without waiting for consent.
type hasty struct {
	Network
	knows *atomic.Pointer[identity.ID]
}

var errHasty = errors.New("asked in haste")

func (h hasty) FastDial(context.Context, string) (net.Conn, error) { return nil, errHasty }
func (h hasty) Known() []identity.ID                               { return []identity.ID{*h.knows.Load()} }

// What a network can do beyond what it must is used.
func TestNetworkThatCanMore(t *testing.T) {
	f := newFabric(time.Now)
	to := f.node(t, Config{})
	n := New(Config{Client: true})
	defer n.Close()
	if _, err := n.Lookup(t.Context(), to.ID()); !errors.Is(err, errNotStarted) {
		t.Errorf("before Start: %v", err)
	}
	var knows atomic.Pointer[identity.ID]
	first := to.ID()
	knows.Store(&first)
	if err := n.Start(hasty{f.node(t, Config{Client: true}), &knows}); err != nil {
		t.Fatal(err)
	}
	if _, err := n.call(t.Context(), to.ID(), nil, &query{Op: opPing}); !errors.Is(err, errHasty) {
		t.Errorf("%v", err)
	}
	for range 2 {
		if got := n.first(); !slices.Equal(got, []identity.ID{*knows.Load()}) {
			t.Errorf("it begins with %v", got)
		}
		later := registrytest.Key(t).ID()
		knows.Store(&later)
	}
}
