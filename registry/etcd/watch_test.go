package etcd_test

import (
	"context"
	"iter"
	"os"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/registry/etcd"
	"github.com/splitmesh/splitmesh/registry/memory"
	"github.com/splitmesh/splitmesh/registry/registrytest"
)

// A reader reads a watch, and stands still in between: the watch then waits for it.
type reader struct {
	next   func() (*registry.Record, error, bool)
	stop   func()
	newest map[identity.ID]*registry.Record
}

func read(t *testing.T, d *etcd.Directory) *reader {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	next, stop := iter.Pull2(d.Watch(ctx))
	t.Cleanup(cancel)
	t.Cleanup(stop)
	return &reader{next, stop, map[identity.ID]*registry.Record{}}
}

// one returns what comes next, which is not older than what came before.
func (r *reader) one(t *testing.T) (*registry.Record, error) {
	t.Helper()
	got, err, ok := r.next()
	if !ok {
		t.Fatal("the watch ended")
	}
	if err == nil {
		if before := r.newest[got.ID]; before != nil && before.Newer(got) {
			t.Fatalf("%+v came after %+v", got, before)
		}
		r.newest[got.ID] = got
	}
	return got, err
}

// reads reads until want has come.
func (r *reader) reads(t *testing.T, want *registry.Record) {
	t.Helper()
	for {
		got, err := r.one(t)
		if err != nil {
			t.Fatalf("Watch: %v", err)
		}
		if got.Equal(want) {
			return
		}
	}
}

// publishes publishes a record of a new peer, and reads it.
func (r *reader) publishes(t *testing.T, d *etcd.Directory) {
	t.Helper()
	record := registrytest.Signed(t, registrytest.Key(t), time.Now())
	publish(t, d, record)
	r.reads(t, record)
}

// misses puts records of new peers into etcd, and reads none.
func (r *reader) misses(t *testing.T, client *clientv3.Client, transactions, each int) {
	t.Helper()
	for range transactions {
		var ops []clientv3.Op
		for range each {
			r := registrytest.Signed(t, registrytest.Key(t), time.Now())
			ops = append(ops, clientv3.OpPut(etcd.DefaultPrefix+"records/"+hexOf(r.ID), string(r.Marshal())))
		}
		if _, err := client.Txn(t.Context()).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWatch(t *testing.T) {
	members := start(t, 1)
	d, other := etcd.New(connect(t, members...), etcd.Options{Timeout: patience}), etcd.New(connect(t, members...), etcd.Options{Timeout: patience})
	ann, bob, now := registrytest.Key(t), registrytest.Key(t), time.Now()
	before := registrytest.Signed(t, ann, now)
	publish(t, other, before)

	holds(t, d, before) // it is connected now
	running := goleak.IgnoreCurrent()
	r := read(t, d)
	r.reads(t, before)
	for _, change := range []*registry.Record{
		registrytest.Signed(t, bob, now),
		registrytest.Signed(t, ann, now.Add(time.Second)),
		called(t, bob, "bob"),
		registrytest.Revocation(t, ann, now),
	} {
		publish(t, other, change)
		// Nothing comes twice, nor what was not asked for.
		if got, err := r.one(t); err != nil || !got.Equal(change) {
			t.Fatalf("Watch: %+v, %v; want %+v", got, err, change)
		}
	}

	r.stop()
	if err := goleak.Find(running); err != nil {
		t.Errorf("after the reader stopped: %v", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range d.Watch(ctx) {
		cancel() // and so it ends
	}
}

// The cache knows what Lookup has returned, also what the watch, whose reader stands still, has yet to tell.
func TestCacheDoesNotGoBack(t *testing.T) {
	members := start(t, 1)
	d, other := etcd.New(connect(t, members...), etcd.Options{Timeout: patience, Cache: memory.New()}), etcd.New(connect(t, members...), etcd.Options{Timeout: patience})
	ann, bob, now := registrytest.Key(t), registrytest.Key(t), time.Now()
	first, last := registrytest.Signed(t, bob, now), registrytest.Signed(t, ann, now.Add(time.Second))
	publish(t, other, first)
	r := read(t, d)
	r.reads(t, first)
	for _, change := range []*registry.Record{
		registrytest.Signed(t, bob, now.Add(time.Second)),
		registrytest.Signed(t, ann, now),
	} {
		publish(t, other, change)
	}
	r.one(t) // bob's: it follows now
	publish(t, other, last)
	holds(t, d, last)
	r.one(t) // ann's, which is not the last
	holds(t, d, last)
}

// What a watch must continue from is compacted while its reader stands still.
func TestWatchCompacted(t *testing.T) {
	client := connect(t, start(t, 1)...)
	d := etcd.New(client, etcd.Options{Timeout: patience})
	ann := registrytest.Key(t)
	first := registrytest.Signed(t, ann, time.Now())
	publish(t, d, first)
	r := read(t, d)
	r.reads(t, first)

	for i := range 3 {
		last := registrytest.Signed(t, ann, time.Now().Add(time.Duration(i+1)*time.Second))
		publish(t, d, last)
		if i == 2 {
			resp, err := client.Get(t.Context(), "any")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := client.Compact(t.Context(), resp.Header.Revision); err != nil {
				t.Fatal(err)
			}
			r.reads(t, last)
		}
	}
}

// More changes than a watch keeps for a reader that stands still, many of them in one transaction.
func TestWatchSlowReader(t *testing.T) {
	const transactions, each = 4, 100
	client := connect(t, start(t, 1)...)
	d := etcd.New(client, etcd.Options{Timeout: patience})
	r := read(t, d)
	r.publishes(t, d)
	r.publishes(t, d) // it follows now
	r.misses(t, client, transactions, each)
	last := registrytest.Signed(t, registrytest.Key(t), time.Now())
	publish(t, d, last)
	for len(r.newest) < 2+transactions*each+1 {
		if got, err := r.one(t); err != nil {
			t.Fatalf("Watch: %+v, %v", got, err)
		}
	}
}

// The cluster is restored from a backup, here an empty one, and counts anew: the watch notices, whether or not it has
// something else to do first.
func TestWatchRestoredCluster(t *testing.T) {
	for name, behind := range map[string]bool{"waiting": false, "behind": true} {
		t.Run(name, func(t *testing.T) {
			members := start(t, 1, "--experimental-watch-progress-notify-interval", "200ms")
			client := connect(t, members...)
			d := etcd.New(connect(t, members...), etcd.Options{Timeout: patience})
			r := read(t, d)
			for range 5 {
				r.publishes(t, etcd.New(client, etcd.Options{Timeout: patience}))
			}
			if behind {
				r.misses(t, client, 4, 100)
			}
			members[0].kill()
			if err := os.RemoveAll(members[0].data); err != nil {
				t.Fatal(err)
			}
			members[0].start(t)
			members[0].await(t)
			after := registrytest.Signed(t, registrytest.Key(t), time.Now())
			publish(t, etcd.New(client, etcd.Options{Timeout: patience}), after)
			for {
				got, err := r.one(t)
				if err != nil {
					t.Logf("Watch: %v", err) // that it lost its leader
				} else if got.Equal(after) {
					break
				}
			}
		})
	}
}

// The server is killed and started again, and the watch goes on. While it is away, a cache answers for what was seen.
func TestWatchRestart(t *testing.T) {
	members := start(t, 1)
	d := etcd.New(connect(t, members...), etcd.Options{Timeout: patience, Cache: memory.New()})
	other := etcd.New(connect(t, members...), etcd.Options{Timeout: patience})
	first, second := registrytest.Signed(t, registrytest.Key(t), time.Now()), registrytest.Signed(t, registrytest.Key(t), time.Now())
	publish(t, other, first)
	r := read(t, d)
	r.reads(t, first)
	publish(t, other, second)
	r.reads(t, second)

	members[0].kill()
	holds(t, d, first)
	holds(t, d, second)
	hasty, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := d.Standing(hasty, first.ID); err == nil {
		t.Error("Standing answers though nobody can be asked")
	}
	members[0].start(t)
	members[0].await(t)

	third := registrytest.Signed(t, registrytest.Key(t), time.Now())
	publish(t, other, third)
	for {
		got, err := r.one(t)
		if err != nil {
			t.Logf("Watch: %v", err) // that it lost its leader
			continue
		}
		if got.Equal(third) {
			break
		}
	}
	holds(t, d, third)
	r.stop()

	// Nobody keeps the cache fresh any more, so it isn't asked.
	members[0].kill()
	hasty, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if r, err := d.Lookup(hasty, first.ID); err == nil {
		t.Errorf("Lookup returns %+v though etcd is away and no watch runs", r)
	}
}
