package dht

import (
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/internal/kad"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/registry/registrytest"
)

// A crowd publishes each record from a node of its peer's, and looks up at another.
type crowd struct {
	*fnode
	t  *testing.T
	mu sync.Mutex
	by map[identity.ID]*fnode
}

func (c *crowd) Publish(ctx context.Context, r *registry.Record) error {
	c.mu.Lock()
	n := c.by[r.ID]
	if n == nil {
		n = c.f.as(c.t, r.ID, Config{Client: true, Bootstrap: []identity.ID{c.ID()}})
		c.by[r.ID] = n
	}
	c.mu.Unlock()
	return n.Publish(ctx, r)
}

func TestDirectory(t *testing.T) {
	registrytest.TestDirectory(t, func(t *testing.T, now func() time.Time) registry.Directory {
		return &crowd{fnode: newFabric(now).cluster(t, 4)[2], t: t, by: make(map[identity.ID]*fnode)}
	})
}

func TestDirectoryOfOne(t *testing.T) {
	registrytest.TestDirectory(t, func(t *testing.T, now func() time.Time) registry.Directory {
		return struct{ registry.Directory }{newFabric(now).node(t, Config{})} // by a capability only its own peer brings a record
	})
}

// A record is found from everywhere, also when half of those who keep it are gone, and by those who only ask.
func TestFind(t *testing.T) {
	f := newFabric(time.Now)
	nodes := f.cluster(t, 30)
	of := registrytest.Key(t)
	r := registrytest.Signed(t, of, time.Now())
	if err := nodes[3].Publish(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	kept := 0
	for _, n := range nodes {
		kept += n.Stats().Records
	}
	if kept < kad.K {
		t.Errorf("%d records are kept", kept)
	}
	client := f.node(t, Config{Client: true, Bootstrap: []identity.ID{nodes[7].ID()}})
	for _, n := range nodes[:15] {
		n.set(true)
	}
	for _, n := range append(nodes[20:25], client) {
		if n == client {
			nodes[7].set(false)
		}
		res, err := n.Find(t.Context(), of.ID())
		if err != nil || len(res.Records) != 1 || !res.Records[0].Equal(r) {
			t.Fatalf("%+v, %v", res, err)
		}
		if res.Asked < 1 || res.Answered+res.Failed > res.Asked || res.Hops > 5 || res.Latency <= 0 {
			t.Errorf("%+v", res)
		}
	}
	if s := client.Stats(); s.Records != 0 || s.Served != 0 || s.Queries == 0 || s.Contacts == 0 || s.Lookups == 0 {
		t.Errorf("who only asks: %+v", s)
	}
}

func TestProviders(t *testing.T) {
	f := newFabric(time.Now)
	nodes := f.cluster(t, 5)
	want := make(map[identity.ID]bool)
	for i, n := range nodes[:3] {
		r := n.record(t)
		r = r.Clone()
		r.Sequence += int64(i) + 1
		r.Capabilities = append(r.Capabilities, registry.CapRelay)
		if err := r.Sign(n.key); err != nil {
			t.Fatal(err)
		}
		if err := n.Publish(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		want[n.ID()] = true
	}
	res, err := nodes[4].FindProviders(t.Context(), registry.CapRelay)
	if err != nil || len(res.Records) != 3 {
		t.Fatalf("%+v, %v", res, err)
	}
	for _, r := range res.Records {
		if !want[r.ID] || !r.Has(registry.CapRelay) {
			t.Errorf("%v", r)
		}
	}
	if res, err := nodes[4].FindProviders(t.Context(), "nothing"); err != nil || len(res.Records) != 0 {
		t.Errorf("%+v, %v", res, err)
	}
}

// A node that was restarted finds its way back by those it knew, with no bootstrap node.
func TestSaved(t *testing.T) {
	f := newFabric(time.Now)
	nodes := f.cluster(t, 4)
	file := filepath.Join(t.TempDir(), "nodes")
	first := f.node(t, Config{Saved: file, Bootstrap: []identity.ID{nodes[0].ID()}})
	if first.Stats().Contacts == 0 {
		t.Fatal("no contacts")
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	of := registrytest.Key(t)
	if err := nodes[1].Publish(t.Context(), registrytest.Signed(t, of, time.Now())); err != nil {
		t.Fatal(err)
	}
	for name, contents := range map[string][]byte{"as it was": b, "damaged at its end": append(b[:len(b):len(b)], 0xff, 1, 2)} {
		if err := os.WriteFile(file, contents, 0o600); err != nil {
			t.Fatal(err)
		}
		second := f.node(t, Config{Saved: file, Client: true})
		second.bootstrap()
		if second.Stats().Contacts == 0 {
			t.Fatalf("%s: nobody is known", name)
		}
		if _, err := second.Lookup(t.Context(), of.ID()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		second.Close()
	}
	for name, contents := range map[string][]byte{"empty": nil, "no CBOR": []byte("nodes"), "other records": {0x43, 1, 2, 3}} {
		if err := os.WriteFile(file, contents, 0o600); err != nil {
			t.Fatal(err)
		}
		n := f.node(t, Config{Saved: file, Client: true})
		if got := n.load(); len(got) != 0 {
			t.Errorf("%s: %d nodes", name, len(got))
		}
		n.Close()
		if now, err := os.ReadFile(file); err != nil || string(now) != string(contents) {
			t.Errorf("%s: the file was written over with nothing better", name)
		}
	}
	if err := f.node(t, Config{Saved: filepath.Join(file, "no", "directory"), Bootstrap: []identity.ID{nodes[0].ID()}}).Close(); err == nil {
		t.Error("what can't be saved is not told")
	}
}

func TestClosed(t *testing.T) {
	f := newFabric(time.Now)
	nodes := f.cluster(t, 2)
	n := nodes[1]
	for range 2 {
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_, err := n.Lookup(t.Context(), nodes[0].ID())
	_, err2 := n.FindProviders(t.Context(), registry.CapRelay)
	for _, err := range []error{err, err2, n.Publish(t.Context(), n.record(t)), n.Start(n), New(Config{}).closedStart(n)} {
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
	if err := nodes[0].Start(nodes[0]); err == nil {
		t.Error("started twice")
	}
}

func (d *DHT) closedStart(n Network) error {
	d.Close()
	return d.Start(n)
}

// Before Start a record waits for it, or for the context; who looks something up is told to call it.
func TestBeforeStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := New(Config{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := d.Lookup(ctx, registrytest.Key(t).ID()); !errors.Is(err, errNotStarted) {
			t.Errorf("Lookup: %v", err)
		}
		if err := d.Publish(ctx, registrytest.Signed(t, registrytest.Key(t), time.Now())); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Publish: %v", err)
		}
		d.Close()
	})
}

func TestAlone(t *testing.T) {
	f := newFabric(time.Now)
	gone := registrytest.Key(t).ID()
	n := f.node(t, Config{Client: true, Bootstrap: []identity.ID{gone}})
	if _, err := n.Lookup(t.Context(), registrytest.Key(t).ID()); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("Lookup: %v", err)
	}
	if err := n.Publish(t.Context(), registrytest.Signed(t, registrytest.Key(t), time.Now())); !errors.Is(err, errAlone) || !strings.Contains(err.Error(), "Bootstrap") {
		t.Errorf("Publish: %v", err)
	}
}

// upkeep asks those who were silent for long, drops those who do not answer, and publishes again what nobody brought.
func TestUpkeep(t *testing.T) { synctest.Test(t, testUpkeep) }

func testUpkeep(t *testing.T) {
	clock := registrytest.NewClock()
	f := newFabric(clock.Now)
	nodes := f.cluster(t, 4)
	of := registrytest.Key(t)
	r := registrytest.Signed(t, of, clock.Now())
	if err := nodes[1].Publish(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	late := f.node(t, Config{Bootstrap: []identity.ID{nodes[0].ID()}})
	synctest.Wait() // until it has been asked back
	if late.Stats().Records > 5 {
		t.Fatalf("%+v", late.Stats())
	}
	nodes[3].set(true)
	clock.Advance(republishAfter)
	for range 3 {
		for _, n := range append(nodes[:3:3], late) {
			n.upkeep()
		}
	}
	late.mu.Lock()
	got := late.store.Get(kad.PeerKey(of.ID()), clock.Now())
	late.mu.Unlock()
	if !got.Equal(r) {
		t.Error("a newcomer was not brought the record")
	}
	for _, c := range nodes[0].contacts() {
		if c.ID == nodes[3].ID() {
			t.Error("who does not answer is still known")
		}
	}
	clock.Advance(registry.MaxLife)
	nodes[0].upkeep()
	if s := nodes[0].Stats(); s.Records != 0 {
		t.Errorf("%d records have expired and are kept", s.Records)
	}
}

func (n *fnode) contacts() []*kad.Contact {
	n.DHT.mu.Lock()
	defer n.DHT.mu.Unlock()
	return n.table.Contacts()
}

var (
	splits  = flag.Int("splits", 1, "how often TestSplitAndHealed cuts the network in two")
	cluster = flag.Int("cluster", 16, "of how many nodes; an even number")
)

// The network is cut in two for a minute, and healed, again and again. What is published meanwhile, and before, is found by
// all within ten seconds of each heal.
func TestSplitAndHealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric(time.Now)
		nodes := f.cluster(t, *cluster)
		for i, n := range nodes {
			n.side = i % 2
		}
		time.Sleep(time.Minute)
		rng := rand.New(rand.NewPCG(1, 2))
		var keys []*identity.Key
		var slowest time.Duration
		for round := range *splits {
			f.set(true)
			// Half of them are new, the others are renewed; each side publishes.
			for range 4 {
				keys = append(keys, registrytest.Key(t))
			}
			want := make(map[identity.ID]*registry.Record)
			for i, k := range keys[max(0, len(keys)-8):] {
				r := registrytest.Signed(t, k, time.Now())
				if err := nodes[2*rng.IntN(*cluster/2)+i%2].Publish(t.Context(), r); err != nil {
					t.Fatal(err)
				}
				want[k.ID()] = r
			}
			for range 50 { // and all look for all, and drop those who do not answer
				_, _ = nodes[rng.IntN(*cluster)].Lookup(t.Context(), keys[rng.IntN(len(keys))].ID())
				time.Sleep(time.Second)
			}
			time.Sleep(10 * time.Second)
			f.set(false)
			healed := time.Now()
			for id, r := range want {
				for _, n := range []*fnode{nodes[2*rng.IntN(*cluster/2)], nodes[2*rng.IntN(*cluster/2)+1]} {
					for {
						if got, err := n.Lookup(t.Context(), id); err == nil && got.Equal(r) {
							break
						}
						if time.Since(healed) > 10*time.Second {
							t.Fatalf("round %d: %v is not found from side %d", round, id, n.side)
						}
						time.Sleep(time.Second)
					}
				}
			}
			slowest = max(slowest, time.Since(healed))
		}
		t.Logf("SPLIT_HEALED = %v (bar ≤ 10 s): the slowest of %d heals, until eight records were found from both sides", slowest, *splits)
	})
}

func (f *fabric) set(split bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.split = split
}

// After an hour in two parts neither knows anybody of the other any more, and yet they find together, by those who were
// lost.
func TestLongSplit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric(time.Now)
		nodes := f.cluster(t, 20)
		for i, n := range nodes {
			n.side = i % 2
		}
		time.Sleep(time.Minute)
		f.set(true)
		time.Sleep(2 * time.Hour)
		for _, n := range nodes {
			for _, c := range n.contacts() {
				if f.nodes[c.ID].side != n.side {
					t.Fatal("somebody of the other side is still known")
				}
			}
		}
		var records []*registry.Record
		for _, n := range nodes[:2] {
			r := registrytest.Signed(t, registrytest.Key(t), time.Now())
			if err := n.Publish(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			records = append(records, r)
		}
		f.set(false)
		for _, n := range nodes {
			for _, r := range records {
				if got, err := n.Lookup(t.Context(), r.ID); err != nil || !got.Equal(r) {
					t.Errorf("on side %d: %v", n.side, err)
				}
			}
		}
	})
}
