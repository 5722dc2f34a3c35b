package etcd_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/registry/etcd"
	"github.com/splitmesh/splitmesh/registry/memory"
	"github.com/splitmesh/splitmesh/registry/registrytest"
)

func TestDirectory(t *testing.T) {
	client := connect(t, start(t, 1)...)
	registrytest.TestDirectory(t, func(t *testing.T, now func() time.Time) registry.Directory {
		return etcd.New(client, etcd.Options{Timeout: patience, Prefix: t.Name(), Now: now})
	})
}

// With a cache, and a watch that fills it, nothing else is seen by those who share the Directory.
func TestDirectoryWithCache(t *testing.T) {
	client := connect(t, start(t, 1)...)
	registrytest.TestDirectory(t, func(t *testing.T, now func() time.Time) registry.Directory {
		d := etcd.New(client, etcd.Options{Timeout: patience, Prefix: t.Name(), Now: now, Cache: &memory.Directory{Now: now}})
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() { // ends with the test
			for _, err := range d.Watch(ctx) {
				if err != nil && !errors.Is(err, registry.ErrFuture) {
					t.Errorf("Watch: %v", err)
				}
			}
		})
		t.Cleanup(wg.Wait)
		t.Cleanup(cancel)
		return d
	})
}

func TestAuthority(t *testing.T) {
	client := connect(t, start(t, 1)...)
	registrytest.TestAuthority(t, func(t *testing.T, now func() time.Time) registrytest.AuthorityUnderTest {
		d := etcd.New(client, etcd.Options{Timeout: patience, Prefix: t.Name(), Now: now})
		return registrytest.AuthorityUnderTest{
			Authority: d,
			Admit: func(t *testing.T, k *identity.Key, until time.Time) {
				r := registrytest.Draft(t, now())
				r.Expires = until.UnixMilli()
				if err := d.Publish(t.Context(), signed(t, k, r)); err != nil && !errors.Is(err, registry.ErrRollback) {
					t.Fatal(err)
				}
			},
			Revoke: func(t *testing.T, k *identity.Key) {
				if err := d.Publish(t.Context(), registrytest.Revocation(t, k, now())); err != nil {
					t.Fatal(err)
				}
			},
		}
	})
}

func signed(t *testing.T, k *identity.Key, r *registry.Record) *registry.Record {
	t.Helper()
	if err := r.Sign(k); err != nil {
		t.Fatal(err)
	}
	return r
}

// called returns a record of k's with the name, made now.
func called(t *testing.T, k *identity.Key, name string) *registry.Record {
	t.Helper()
	r := registrytest.Draft(t, time.Now())
	r.Name = name
	return signed(t, k, r)
}

func publish(t *testing.T, d registry.Directory, r *registry.Record) {
	t.Helper()
	if err := d.Publish(t.Context(), r); err != nil {
		t.Fatalf("Publish: %v", err)
	}
}

func holds(t *testing.T, d registry.Directory, want *registry.Record) {
	t.Helper()
	if got, err := d.Lookup(t.Context(), want.ID); err != nil || !got.Equal(want) {
		t.Fatalf("Lookup: %+v, %v; want %+v", got, err, want)
	}
}

// hexOf is how the keys of a peer's record end.
func hexOf(id identity.ID) string { return hex.EncodeToString(id[:]) }

func put(t *testing.T, client *clientv3.Client, key, value string) {
	t.Helper()
	if _, err := client.Put(t.Context(), key, value); err != nil {
		t.Fatal(err)
	}
}

// kept returns what stands under the key, and on which lease.
func kept(t *testing.T, client *clientv3.Client, key string) (value string, lease clientv3.LeaseID) {
	t.Helper()
	resp, err := client.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if len(resp.Kvs) == 0 {
		return "", clientv3.NoLease
	}
	return string(resp.Kvs[0].Value), clientv3.LeaseID(resp.Kvs[0].Lease)
}

// Somebody writes to etcd what this package would not.
func TestForged(t *testing.T) {
	client := connect(t, start(t, 1)...)
	ann, mallory := registrytest.Key(t), registrytest.Key(t)
	now := time.Now()
	for name, tc := range map[string]struct {
		value []byte
		want  error
	}{
		"garbage":   {[]byte("garbage"), registry.ErrMalformed},
		"nothing":   {nil, registry.ErrMalformed},
		"large":     {make([]byte, registry.MaxSize+1), registry.ErrTooLarge},
		"another's": {registrytest.Signed(t, mallory, now).Marshal(), registry.ErrBadSignature},
		"revoked":   {registrytest.Revocation(t, mallory, now).Marshal(), registry.ErrBadSignature},
		"signature": {flipped(registrytest.Signed(t, ann, now).Marshal()), registry.ErrBadSignature},
	} {
		t.Run(name, func(t *testing.T) {
			d := etcd.New(client, etcd.Options{Timeout: patience, Prefix: t.Name(), Cache: memory.New()})
			put(t, client, t.Name()+"/records/"+hexOf(ann.ID()), string(tc.value))
			if r, err := d.Lookup(t.Context(), ann.ID()); r != nil || !errors.Is(err, registry.ErrNotFound) || !errors.Is(err, tc.want) {
				t.Errorf("Lookup: %+v, %v; want %v", r, err, tc.want)
			}
			// A revocation may have stood there: nobody can tell.
			if s, err := d.Standing(t.Context(), ann.ID()); s != registry.Unknown || !errors.Is(err, tc.want) {
				t.Errorf("Standing: %v, %v; want %v", s, err, tc.want)
			}
			if page, next, err := d.List(t.Context(), identity.ID{}, 1, ""); len(page) != 0 || !next.IsZero() || err != nil {
				t.Errorf("List: %v, %v, %v", page, next, err)
			}
			watch := read(t, d)
			if r, err := watch.one(t); r != nil || !errors.Is(err, tc.want) {
				t.Errorf("Watch: %+v, %v; want %v", r, err, tc.want)
			}
			// Its peer can take back its place.
			mine := registrytest.Signed(t, ann, now)
			publish(t, d, mine)
			watch.reads(t, mine)
			holds(t, d, mine)
			if page, _, err := d.List(t.Context(), identity.ID{}, 1, ""); len(page) != 1 || err != nil || !page[0].Equal(mine) {
				t.Errorf("List: %v, %v", page, err)
			}
		})
	}
	t.Run("name", func(t *testing.T) {
		d := etcd.New(client, etcd.Options{Timeout: patience, Prefix: t.Name()})
		publish(t, d, called(t, ann, "ann"))
		publish(t, d, called(t, mallory, "mallory"))
		for _, value := range []string{mallory.ID().String(), registrytest.Key(t).ID().String(), "garbage"} {
			put(t, client, t.Name()+"/names/ann", value)
			if id, err := d.Resolve(t.Context(), "ann"); !id.IsZero() || !errors.Is(err, registry.ErrNotFound) {
				t.Errorf("Resolve: %v, %v", id, err)
			}
		}
		// What is nobody's name can be taken again.
		publish(t, d, called(t, ann, "ann"))
		if id, err := d.Resolve(t.Context(), "ann"); id != ann.ID() || err != nil {
			t.Errorf("Resolve: %v, %v", id, err)
		}
	})
}

// A page goes on behind what somebody wrote beside the records, however much that is.
func TestListAmongGarbage(t *testing.T) {
	client := connect(t, start(t, 1)...)
	d := etcd.New(client, etcd.Options{Timeout: patience})
	mine := registrytest.Signed(t, registrytest.Key(t), time.Now())
	publish(t, d, mine)
	for i := range 300 {
		put(t, client, fmt.Sprintf("%srecords/00g%d", etcd.DefaultPrefix, i), "garbage") // before nearly all IDs
	}
	put(t, client, etcd.DefaultPrefix+"records/~", "garbage") // and behind
	page, next, err := d.List(t.Context(), identity.ID{}, 1, registry.CapRelay)
	if err != nil || len(page) != 1 || !page[0].Equal(mine) || next != mine.ID {
		t.Fatalf("List: %v, %v, %v", page, next, err)
	}
	if page, next, err := d.List(t.Context(), next, 1, registry.CapRelay); len(page) != 0 || !next.IsZero() || err != nil {
		t.Errorf("List after the last: %v, %v, %v", page, next, err)
	}
}

func flipped(b []byte) []byte {
	b[len(b)-1] ^= 1
	return b
}

func TestLeases(t *testing.T) {
	client := connect(t, start(t, 1)...)
	d := etcd.New(client, etcd.Options{Timeout: patience})
	ann, bob := registrytest.Key(t), registrytest.Key(t)
	keyOf := func(k *identity.Key) string { return etcd.DefaultPrefix + "records/" + hexOf(k.ID()) }
	first, second := called(t, ann, "ann"), registrytest.Signed(t, bob, time.Now())
	publish(t, d, first)
	publish(t, d, second)

	_, lease := kept(t, client, keyOf(ann))
	ttl, err := client.TimeToLive(t.Context(), lease, clientv3.WithAttachedKeys())
	if err != nil {
		t.Fatal(err)
	}
	left, longest := time.Duration(ttl.TTL)*time.Second, registry.MaxLife+registry.MaxSkew+time.Hour
	if left < registry.MaxLife || left > longest {
		t.Errorf("a new record's lease lasts %v, want %v to %v", left, registry.MaxLife, longest)
	}
	if len(ttl.Keys) != 3 {
		t.Errorf("%d keys ride on the lease, want two records and a name: %q", len(ttl.Keys), ttl.Keys)
	}

	// What was made long ago goes sooner.
	old := registrytest.Draft(t, time.Now().Add(-20*time.Hour))
	carol := registrytest.Key(t)
	publish(t, d, signed(t, carol, old))
	_, sooner := kept(t, client, keyOf(carol))
	if ttl, err := client.TimeToLive(t.Context(), sooner); err != nil || time.Duration(ttl.TTL)*time.Second > longest-19*time.Hour {
		t.Errorf("an old record's lease lasts %d s, %v", ttl.TTL, err)
	}

	// A revocation gets off: when the lease ends, it stays. Its peer's name is free before.
	revocation := registrytest.Revocation(t, ann, time.Now())
	publish(t, d, revocation)
	publish(t, d, called(t, carol, "ann"))
	if _, lease := kept(t, client, keyOf(ann)); lease != clientv3.NoLease {
		t.Error("a revocation rides on a lease")
	}
	if _, err := client.Revoke(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	holds(t, d, revocation)
	if _, err := d.Lookup(t.Context(), bob.ID()); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("Lookup of what rode on the lease: %v", err)
	}

	// The lease is gone, and the directory gets another.
	publish(t, d, second)
	holds(t, d, second)
}

// Whoever lost a name, by being away for too long, gives up nothing that is now another's.
func TestLostName(t *testing.T) {
	clock := registrytest.NewClock()
	client := connect(t, start(t, 1)...)
	d := etcd.New(client, etcd.Options{Timeout: patience, Now: clock.Now})
	ann, bob := registrytest.Key(t), registrytest.Key(t)
	call := func(k *identity.Key, name string) {
		t.Helper()
		r := registrytest.Draft(t, clock.Now())
		r.Name = name
		publish(t, d, signed(t, k, r))
	}
	call(ann, "ann")
	clock.Advance(registry.MaxLife)
	call(bob, "ann")
	call(ann, "anna")
	for name, want := range map[string]*identity.Key{"ann": bob, "anna": ann} {
		if id, err := d.Resolve(t.Context(), name); id != want.ID() || err != nil {
			t.Errorf("%q is %v, %v; want %v", name, id, err, want.ID())
		}
	}

	// And what is given up takes no place: a peer that tries names leaves none behind.
	clock.Advance(time.Second)
	call(ann, "")
	if value, _ := kept(t, client, etcd.DefaultPrefix+"names/anna"); value != "" {
		t.Errorf("a name that was given up is kept as %q's", value)
	}
}

func TestFull(t *testing.T) {
	client := connect(t, start(t, 1)...)
	d := etcd.New(client, etcd.Options{Timeout: patience, MaxRecords: 2})
	ann, bob := registrytest.Key(t), registrytest.Key(t)
	publish(t, d, called(t, ann, "ann"))
	publish(t, d, registrytest.Revocation(t, bob, time.Now()))
	err := d.Publish(t.Context(), registrytest.Signed(t, registrytest.Key(t), time.Now()))
	if re := (*registry.RecordError)(nil); !errors.Is(err, registry.ErrFull) || !errors.As(err, &re) {
		t.Errorf("Publish: %v, want ErrFull", err)
	}
	renewed := called(t, ann, "anna")
	publish(t, d, renewed)
	holds(t, d, renewed)
}

// Nobody fills the directory for good by revoking peers that nobody knew, and no revocation of one that was known goes.
func TestRevocationsOfUnknownPeers(t *testing.T) {
	clock := registrytest.NewClock()
	client := connect(t, start(t, 1)...)
	d := etcd.New(client, etcd.Options{Timeout: patience, MaxRecords: 3, Now: clock.Now})
	ann, bob, carol, newcomer := registrytest.Key(t), registrytest.Key(t), registrytest.Key(t), registrytest.Key(t)
	if carol.ID().String() < bob.ID().String() {
		bob, carol = carol, bob // the order of the keys is not that in which they come
	}
	revoke := func(k *identity.Key) *registry.Record {
		t.Helper()
		r := registrytest.Revocation(t, k, clock.Now())
		publish(t, d, r)
		return r
	}
	full := func() {
		t.Helper()
		if err := d.Publish(t.Context(), registrytest.Signed(t, newcomer, clock.Now())); !errors.Is(err, registry.ErrFull) {
			t.Fatalf("Publish: %v, want ErrFull", err)
		}
	}
	lacks := func(k *identity.Key) {
		t.Helper()
		if r, err := d.Lookup(t.Context(), k.ID()); !errors.Is(err, registry.ErrNotFound) {
			t.Fatalf("Lookup: %+v, %v", r, err)
		}
	}
	publish(t, d, registrytest.Signed(t, ann, clock.Now()))
	known := revoke(ann)
	revoke(bob)
	clock.Advance(time.Second)
	revoke(carol)
	clock.Advance(time.Second)
	renewed := revoke(bob) // and so carol's is the older

	clock.Advance(registry.MaxLife - time.Second - time.Millisecond)
	full()
	clock.Advance(time.Millisecond)
	publish(t, d, registrytest.Signed(t, newcomer, clock.Now()))
	lacks(carol)
	holds(t, d, renewed)
	clock.Advance(365 * 24 * time.Hour)
	holds(t, d, renewed) // as long as nobody needs its place
	publish(t, d, registrytest.Signed(t, carol, clock.Now()))
	lacks(bob)
	holds(t, d, known)
	newcomer = bob
	full()

	// What somebody wrote over is a record's place.
	if noted, err := client.Get(t.Context(), etcd.DefaultPrefix+"unknown/", clientv3.WithPrefix()); err != nil || noted.Count != 0 {
		t.Errorf("%d are noted, %v", noted.Count, err)
	}
	other := etcd.New(client, etcd.Options{Timeout: patience, MaxRecords: 1, Prefix: "other", Now: clock.Now})
	publish(t, other, registrytest.Revocation(t, ann, clock.Now()))
	put(t, client, "other/records/"+hexOf(ann.ID()), "garbage")
	clock.Advance(time.Second)
	known = registrytest.Revocation(t, ann, clock.Now())
	publish(t, other, known)
	clock.Advance(365 * 24 * time.Hour)
	if err := other.Publish(t.Context(), registrytest.Signed(t, bob, clock.Now())); !errors.Is(err, registry.ErrFull) {
		t.Errorf("Publish: %v, want ErrFull", err)
	}
	holds(t, other, known)
}

// A machine that slept, and whose monotonic clock stood still, takes no lease to last longer than it does.
func TestLeaseAfterSleep(t *testing.T) {
	clock := registrytest.NewClock()
	client := connect(t, start(t, 1)...)
	d := etcd.New(client, etcd.Options{Timeout: patience, Now: clock.Now})
	var leases []clientv3.LeaseID
	for _, slept := range []time.Duration{0, time.Minute, 30 * time.Hour, -time.Hour} {
		clock.Advance(slept)
		k := registrytest.Key(t)
		publish(t, d, registrytest.Signed(t, k, clock.Now()))
		_, lease := kept(t, client, etcd.DefaultPrefix+"records/"+hexOf(k.ID()))
		leases = append(leases, lease)
	}
	if leases[1] != leases[0] || leases[2] == leases[0] || leases[3] != leases[2] {
		t.Errorf("the records ride on %x", leases)
	}
}

// What etcd refuses comes with what to do.
func TestErrors(t *testing.T) {
	members := start(t, 1)
	root := connect(t, members...)
	key := registrytest.Key(t)
	r := registrytest.Signed(t, key, time.Now())

	fails := func(t *testing.T, d *etcd.Directory, want error, says string) {
		t.Helper()
		check := func(what string, err error) {
			t.Helper()
			var re *registry.RecordError
			if !errors.As(err, &re) || !strings.Contains(err.Error(), says) || want != nil && !errors.Is(err, want) {
				t.Errorf("%s: %v; want a *registry.RecordError with %q", what, err, says)
			}
		}
		check("Publish", d.Publish(t.Context(), r))
		_, err := d.Lookup(t.Context(), r.ID)
		check("Lookup", err)
		_, err = d.Standing(t.Context(), r.ID)
		check("Standing", err)
		_, err = d.Resolve(t.Context(), "ann")
		check("Resolve", err)
		for _, err := range d.Watch(t.Context()) {
			check("Watch", err)
			break
		}
	}

	t.Run("away", func(t *testing.T) {
		nowhere := &member{endpoint: freeURLs(t, 1)[0]}
		d := etcd.New(connect(t, nowhere), etcd.Options{Timeout: 200 * time.Millisecond})
		fails(t, d, nil, nowhere.endpoint+" does not answer: check the endpoints")
	})
	t.Run("closed", func(t *testing.T) {
		client := connect(t, members...)
		client.Close()
		fails(t, etcd.New(client, etcd.Options{Timeout: patience}), net.ErrClosed, "client was closed")
	})
	t.Run("denied", func(t *testing.T) {
		admin := []func() error{
			func() error { _, err := root.RoleAdd(t.Context(), "elsewhere"); return err },
			func() error {
				_, err := root.RoleGrantPermission(t.Context(), "elsewhere", "/a", "/b", clientv3.PermissionType(clientv3.PermReadWrite))
				return err
			},
			func() error { _, err := root.UserAdd(t.Context(), "ann", "ann"); return err },
			func() error { _, err := root.UserGrantRole(t.Context(), "ann", "elsewhere"); return err },
			func() error { _, err := root.UserAdd(t.Context(), "root", "root"); return err },
			func() error { _, err := root.UserGrantRole(t.Context(), "root", "root"); return err },
			func() error { _, err := root.AuthEnable(t.Context()); return err },
		}
		for _, step := range admin {
			if err := step(); err != nil {
				t.Fatal(err)
			}
		}
		fails(t, etcd.New(connectAs(t, "ann", members...), etcd.Options{Timeout: patience}), nil, `grant-permission ROLE --prefix=true readwrite "/splitmesh/"`)
		fails(t, etcd.New(root, etcd.Options{Timeout: patience}), nil, "check Username, Password")
		allowed := etcd.New(connectAs(t, "ann", members...), etcd.Options{Timeout: patience, Prefix: "/a"})
		publish(t, allowed, r)
		holds(t, allowed, r)
	})
}
