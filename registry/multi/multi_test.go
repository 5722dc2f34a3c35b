package multi_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/registry/memory"
	"github.com/splitmesh/splitmesh/registry/multi"
	"github.com/splitmesh/splitmesh/registry/registrytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// over returns a directory over n in memory, all of the one clock.
func over(t *testing.T, n int, now func() time.Time) *multi.Directory {
	d := &multi.Directory{Now: now}
	for range n {
		d.Directories = append(d.Directories, &memory.Directory{Now: now})
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func TestDirectory(t *testing.T) {
	for _, n := range []int{1, 3} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			registrytest.TestDirectory(t, func(t *testing.T, now func() time.Time) registry.Directory { return over(t, n, now) })
		})
	}
}

// A far directory is one in memory that answers late, or badly. Its fields are not changed during a call.
type far struct {
	memory.Directory
	delay time.Duration
	err   error                                          // in place of every answer
	lie   func(id identity.ID) (*registry.Record, error) // in place of what Lookup returns
	deaf  bool                                           // does not look at ctx

	mu                 sync.Mutex
	calls, under, most int
}

// wait is how far the directory is.
func (d *far) wait(ctx context.Context) error {
	d.mu.Lock()
	d.calls++
	d.under++
	d.most = max(d.most, d.under)
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		d.under--
		d.mu.Unlock()
	}()
	if d.deaf {
		ctx = context.Background()
	}
	timer := time.NewTimer(d.delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return d.err
	case <-ctx.Done():
		return fmt.Errorf("on the way: %w", ctx.Err())
	}
}

func (d *far) Publish(ctx context.Context, r *registry.Record) error {
	if err := d.wait(ctx); err != nil {
		return err
	}
	return d.Directory.Publish(ctx, r)
}

func (d *far) Lookup(ctx context.Context, id identity.ID) (*registry.Record, error) {
	if err := d.wait(ctx); err != nil {
		return nil, err
	}
	if d.lie != nil {
		return d.lie(id)
	}
	return d.Directory.Lookup(ctx, id)
}

func (d *far) Resolve(ctx context.Context, name string) (identity.ID, error) {
	if err := d.wait(ctx); err != nil {
		return identity.ID{}, err
	}
	return d.Directory.Resolve(ctx, name)
}

func (d *far) asked() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.calls
}

// holds puts records where nobody waits for them.
func (d *far) holds(t *testing.T, records ...*registry.Record) *far {
	t.Helper()
	for _, r := range records {
		if err := d.Directory.Publish(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// A trial is a directory over far ones, on the clock of a bubble.
type trial struct {
	*multi.Directory
	key *identity.Key
}

// try runs a test in a bubble. Directories are added before the first call.
func try(t *testing.T, test func(t *testing.T, d *trial)) {
	synctest.Test(t, func(t *testing.T) {
		d := &trial{new(multi.Directory), registrytest.Key(t)}
		defer d.Close()
		test(t, d)
	})
}

func (d *trial) over(fars ...*far) {
	for _, f := range fars {
		d.Directories = append(d.Directories, f)
	}
}

func (d *trial) gives(t *testing.T, want *registry.Record) {
	t.Helper()
	got, err := d.Lookup(t.Context(), want.ID)
	if err != nil || !got.Equal(want) {
		t.Fatalf("Lookup: %+v, %v; want %+v", got, err, want)
	}
}

func (d *trial) fails(t *testing.T, id identity.ID, want error) error {
	t.Helper()
	got, err := d.Lookup(t.Context(), id)
	if got != nil || !errors.Is(err, want) {
		t.Fatalf("Lookup: %+v, %v; want %v", got, err, want)
	}
	return err
}

// pass lets time go by.
func pass(d time.Duration) {
	time.Sleep(d) // virtual
}

// stood checks how far the bubble's clock, on which only waiting costs time, has moved since.
func stood(t *testing.T, since time.Time, want time.Duration) {
	t.Helper()
	if got := time.Since(since); got != want {
		t.Errorf("it took %v, want %v", got, want)
	}
}

func asked(t *testing.T, f *far, want int) {
	t.Helper()
	if got := f.asked(); got != want {
		t.Fatalf("asked %d times, want %d", got, want)
	}
}

// pair returns two records of a peer; the older lives longer.
func pair(t *testing.T, k *identity.Key) (older, newer *registry.Record) {
	older = registrytest.Signed(t, k, time.Now().Add(-time.Minute))
	newer = registrytest.Draft(t, time.Now())
	newer.Expires = time.Now().Add(time.Hour).UnixMilli()
	if err := newer.Sign(k); err != nil {
		t.Fatal(err)
	}
	return older, newer
}

func TestPublish(t *testing.T) {
	try(t, func(t *testing.T, d *trial) {
		refusal := errors.New("not today")
		good, bad, shown := new(far), &far{err: refusal}, new(far)
		d.over(bad, good)
		d.Directories = append(d.Directories, multi.ReadOnly(shown))
		record := registrytest.Signed(t, d.key, time.Now())
		partly := func(r *registry.Record, want error, from string) {
			t.Helper()
			err := d.Publish(t.Context(), r)
			if !errors.Is(err, multi.ErrPartly) || !errors.Is(err, want) || errors.Is(err, multi.ErrReadOnly) || !strings.Contains(err.Error(), from) {
				t.Fatalf("Publish: %v; want %v of %s", err, want, from)
			}
		}
		partly(record, refusal, "directory 1")
		if got, err := good.Directory.Lookup(t.Context(), record.ID); err != nil || !got.Equal(record) {
			t.Errorf("the good directory has %+v, %v", got, err)
		}
		asked(t, shown, 0)
		d.gives(t, record)
		// Again, as it says.
		bad.err = nil
		if err := d.Publish(t.Context(), record); err != nil {
			t.Fatal(err)
		}
		// The next one is taken by none.
		bad.err = refusal
		good.err = errors.New("nor today")
		next := registrytest.Signed(t, d.key, time.Now().Add(time.Second))
		err := d.Publish(t.Context(), next)
		if !errors.Is(err, refusal) || !errors.Is(err, good.err) || errors.Is(err, multi.ErrReadOnly) || errors.Is(err, multi.ErrPartly) {
			t.Errorf("Publish: %v", err)
		}
		d.gives(t, record) // and so is not known
		// One knows that the key was revoked.
		bad.err, good.err = nil, nil
		bad.holds(t, registrytest.Revocation(t, d.key, time.Now()))
		partly(next, registry.ErrRollback, "directory 1")
	})
	// One does not answer before ctx ends.
	try(t, func(t *testing.T, d *trial) {
		d.over(new(far), &far{delay: time.Hour})
		record := registrytest.Revocation(t, d.key, time.Now())
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if err := d.Publish(ctx, record); !errors.Is(err, multi.ErrPartly) || !errors.Is(err, context.Canceled) {
			t.Errorf("Publish: %v", err)
		}
		d.gives(t, record)
	})
	try(t, func(t *testing.T, d *trial) {
		d.Directories = []registry.Directory{multi.ReadOnly(new(far))}
		if err := d.Publish(t.Context(), registrytest.Signed(t, d.key, time.Now())); !errors.Is(err, multi.ErrReadOnly) {
			t.Errorf("Publish: %v", err)
		}
	})
}

func TestResolve(t *testing.T) {
	named := func(t *testing.T, k *identity.Key) *registry.Record {
		r := registrytest.Draft(t, time.Now())
		r.Name = "ann"
		if err := r.Sign(k); err != nil {
			t.Fatal(err)
		}
		return r
	}
	try(t, func(t *testing.T, d *trial) {
		other, third := registrytest.Key(t), registrytest.Key(t)
		first, down, last := new(far), &far{err: errors.New("no route")}, (&far{}).holds(t, named(t, third))
		d.over(first, down)
		d.Directories = append(d.Directories, struct{ registry.Directory }{new(far)}, multi.ReadOnly(last))
		is := func(want *identity.Key) {
			t.Helper()
			if id, err := d.Resolve(t.Context(), "ann"); err != nil || id != want.ID() {
				t.Fatalf("Resolve: %v, %v; want %v", id, err, want.ID())
			}
		}
		fails := func(why error) {
			t.Helper()
			if id, err := d.Resolve(t.Context(), "ann"); !errors.Is(err, why) {
				t.Fatalf("Resolve: %v, %v; want %v", id, err, why)
			}
		}
		fails(down.err) // the first does not know, and the second, which may, does not say
		down.err = nil
		is(third)
		down.holds(t, named(t, other))
		is(other)
		down.err = errors.New("no route")
		first.holds(t, named(t, d.key))
		is(d.key)
		if _, err := d.Resolve(t.Context(), "bob"); !errors.Is(err, down.err) || errors.Is(err, registry.ErrNotFound) {
			t.Errorf("Resolve of a name that one did not say: %v", err)
		}
		calls := first.asked()
		if _, err := d.Resolve(t.Context(), "Ann."); !errors.Is(err, registry.ErrNotFound) {
			t.Errorf("Resolve of what is no name: %v", err)
		}
		asked(t, first, calls)
		down.err = nil
		if _, err := d.Resolve(t.Context(), "bob"); !errors.Is(err, registry.ErrNotFound) {
			t.Errorf("Resolve: %v", err)
		}
		// The first has not heard that its ann was revoked.
		down.Directory = memory.Directory{}
		down.holds(t, registrytest.Revocation(t, d.key, time.Now()))
		if r, err := d.Lookup(t.Context(), d.key.ID()); err != nil || !r.Revoked {
			t.Fatalf("Lookup: %+v, %v", r, err)
		}
		fails(registry.ErrNotFound)
	})
}

func TestReadOnly(t *testing.T) {
	d := multi.ReadOnly(struct{ registry.Directory }{memory.New()})
	k := registrytest.Key(t)
	done, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tc := range []struct {
		ctx           context.Context
		publish, name error
	}{{t.Context(), multi.ErrReadOnly, registry.ErrNotFound}, {done, context.Canceled, context.Canceled}} {
		var re *registry.RecordError
		if err := d.Publish(tc.ctx, registrytest.Signed(t, k, time.Now())); !errors.Is(err, tc.publish) || !errors.As(err, &re) || re.ID != k.ID() {
			t.Errorf("Publish: %v", err)
		}
		if _, err := d.Resolve(tc.ctx, "ann"); !errors.Is(err, tc.name) {
			t.Errorf("Resolve: %v", err)
		}
	}
	if r, err := d.Lookup(t.Context(), k.ID()); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("Lookup: %+v, %v", r, err)
	}
}

func TestClose(t *testing.T) {
	try(t, func(t *testing.T, d *trial) {
		record := registrytest.Signed(t, d.key, time.Now())
		slow := (&far{delay: time.Hour}).holds(t, registrytest.Signed(t, registrytest.Key(t), time.Now()))
		d.Timeout = time.Hour
		d.over((&far{}).holds(t, record), slow)
		d.gives(t, record)
		var wg sync.WaitGroup
		wg.Go(func() { d.fails(t, registrytest.Key(t).ID(), net.ErrClosed) })
		wg.Go(func() { // the other has taken it
			err := d.Publish(t.Context(), registrytest.Signed(t, d.key, time.Now().Add(time.Second)))
			if !errors.Is(err, multi.ErrPartly) || !errors.Is(err, net.ErrClosed) {
				t.Errorf("Publish: %v", err)
			}
		})
		wg.Go(func() {
			if _, err := d.Resolve(t.Context(), "ann"); !errors.Is(err, net.ErrClosed) {
				t.Errorf("Resolve: %v", err)
			}
		})
		synctest.Wait()
		start := time.Now()
		for range 2 {
			wg.Go(func() { // ends with Close
				d.Close()
				if slow.under != 0 {
					t.Error("Close returns while a directory is asked")
				}
			})
		}
		wg.Wait()
		stood(t, start, 0)
		d.fails(t, record.ID, net.ErrClosed)
		if err := d.Publish(t.Context(), record); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Publish: %v", err)
		}
		if _, err := d.Resolve(t.Context(), "ann"); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Resolve: %v", err)
		}
	})
	if err := new(multi.Directory).Close(); err != nil {
		t.Error(err)
	}
}

func Example() {
	near, far := memory.New(), memory.New()
	directory := &multi.Directory{Directories: []registry.Directory{near, multi.ReadOnly(far)}}
	defer directory.Close()

	key, err := identity.GenerateKey()
	if err != nil {
		fmt.Println(err)
		return
	}
	now := time.Now()
	r := &registry.Record{Sequence: now.UnixMilli(), Expires: now.Add(time.Hour).UnixMilli(), Operator: "example"}
	if err := r.Sign(key); err != nil {
		fmt.Println(err)
		return
	}
	if err := far.Publish(context.Background(), r); err != nil {
		fmt.Println(err)
		return
	}
	found, err := directory.Lookup(context.Background(), key.ID())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(found.Operator)
	// Output: example
}
