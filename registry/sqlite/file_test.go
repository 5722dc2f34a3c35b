package sqlite_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/registry/registrytest"
	"github.com/splitmesh/splitmesh/registry/sqlite"
)

// What was published is there when the file is opened again, by any spelling of its path.
func TestReopen(t *testing.T) {
	dir, k := t.TempDir(), registrytest.Key(t)
	now := time.Now()
	r := named(t, k, now, "ann")
	t.Chdir(dir)
	const name = "a ?mode=ro&x#%2e.db"
	first := open(t, name, sqlite.Options{})
	if err := first.Publish(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Lookup(t.Context(), k.ID()); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != name {
		t.Fatalf("after Close there is %v, %v; want %s alone", entries, err, name)
	}
	second := open(t, filepath.Join(dir, name), sqlite.Options{})
	if got, err := second.Lookup(t.Context(), k.ID()); err != nil || !got.Equal(r) {
		t.Errorf("Lookup: %v, %v", got, err)
	}
	if id, err := second.Resolve(t.Context(), "ann"); err != nil || id != k.ID() {
		t.Errorf("Resolve: %v, %v", id, err)
	}
	if err := second.Publish(t.Context(), registrytest.Signed(t, k, now.Add(-time.Second))); !errors.Is(err, registry.ErrRollback) {
		t.Errorf("Publish of an older record: %v", err)
	}
}

// An empty file becomes a directory; so does one that was left half made, since each step is a transaction.
func TestEmptyFile(t *testing.T) {
	for name, prepare := range map[string]func(*testing.T, string){
		"none": func(*testing.T, string) {},
		"empty": func(t *testing.T, path string) {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"marked": func(t *testing.T, path string) {
			edit(t, path, `PRAGMA application_id = 0x534D7264`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := newPath(t)
			prepare(t, path)
			d := small{open(t, path, sqlite.Options{}), path, registrytest.NewClock()}
			d.publish(t, registrytest.Signed(t, registrytest.Key(t), time.Now()), nil)
			db := raw(t, path)
			if id, version := query[int](t, db, `PRAGMA application_id`), query[int](t, db, `PRAGMA user_version`); id != 0x534D7264 || version != 1 {
				t.Errorf("application_id %#x, user_version %d", id, version)
			}
		})
	}
}

// TestRefused wants files that are not ours refused and left as they were, with nothing beside them.
func TestRefused(t *testing.T) {
	ours := func(t *testing.T, path string) { open(t, path, sqlite.Options{}).Close() }
	for name, tc := range map[string]struct {
		prepare func(t *testing.T, path string)
		want    error
	}{
		"text":      {func(t *testing.T, path string) { writeFile(t, path, bytes.Repeat([]byte("records\n"), 1000)) }, sqlite.ErrNotOurs},
		"one byte":  {func(t *testing.T, path string) { writeFile(t, path, []byte("S")) }, sqlite.ErrNotOurs},
		"zeros":     {func(t *testing.T, path string) { writeFile(t, path, make([]byte, 8192)) }, sqlite.ErrNotOurs},
		"directory": {func(t *testing.T, path string) { os.Mkdir(path, 0o700) }, sqlite.ErrNotOurs},
		"another program's": {func(t *testing.T, path string) {
			edit(t, path, `CREATE TABLE records (id); PRAGMA user_version = 1`)
		}, sqlite.ErrNotOurs},
		"another program's, with a log": {func(t *testing.T, path string) {
			edit(t, path, `PRAGMA journal_mode = WAL; CREATE TABLE records (id); PRAGMA application_id = 7`)
		}, sqlite.ErrNotOurs},
		"a newer schema": {func(t *testing.T, path string) {
			ours(t, path)
			edit(t, path, `CREATE TABLE more (x); PRAGMA user_version = 2`)
		}, sqlite.ErrNewer},
		"a newer schema, another journal": {func(t *testing.T, path string) {
			ours(t, path)
			edit(t, path, `PRAGMA journal_mode = DELETE; PRAGMA user_version = 9`)
		}, sqlite.ErrNewer},
		"a schema from nowhere": {func(t *testing.T, path string) {
			ours(t, path)
			edit(t, path, `PRAGMA user_version = -1`)
		}, sqlite.ErrNewer},
		"no such directory": {func(t *testing.T, path string) { os.Remove(filepath.Dir(path)) }, fs.ErrNotExist},
	} {
		t.Run(name, func(t *testing.T) {
			path := newPath(t)
			tc.prepare(t, path)
			before := contents(t, filepath.Dir(path))
			if d, err := sqlite.Open(t.Context(), path, sqlite.Options{}); d != nil || !errors.Is(err, tc.want) {
				t.Fatalf("Open: %v, %v; want %v", d, err, tc.want)
			}
			after := contents(t, filepath.Dir(path))
			for name := range after {
				if before[name] != after[name] {
					t.Errorf("Open changed %s", name)
				}
			}
			if len(before) != len(after) {
				t.Errorf("there were %d files and now %d", len(before), len(after))
			}
		})
	}
}

func writeFile(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// contents returns what is in each file of a directory.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil && !e.IsDir() {
			t.Fatal(err)
		}
		found[e.Name()] = string(b)
	}
	return found
}

func TestPermissions(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no modes")
	}
	path := newPath(t)
	d := open(t, path, sqlite.Options{})
	if err := d.Publish(t.Context(), registrytest.Signed(t, registrytest.Key(t), time.Now())); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if info, err := os.Stat(path + suffix); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v; want mode 0600", path+suffix, info, err)
		}
	}
}

func TestClosed(t *testing.T) {
	d, k := newSmall(t, 2), registrytest.Key(t)
	r := d.signed(t, k)
	d.publish(t, r, nil)
	for range 2 {
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
	d.publish(t, r, net.ErrClosed)
	_, lookup := d.Lookup(t.Context(), k.ID())
	_, standing := d.Standing(t.Context(), k.ID())
	_, resolve := d.Resolve(t.Context(), "ann")
	for name, err := range map[string]error{"Lookup": lookup, "Standing": standing, "Resolve": resolve} {
		var re *registry.RecordError
		if !errors.Is(err, net.ErrClosed) || !errors.As(err, &re) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Close comes while others publish and look up: they succeed or are told that it is closed, and what succeeded is there.
func TestCloseAtAnyMoment(t *testing.T) {
	path, clock, k := newPath(t), registrytest.NewClock(), keys(t, 4)
	for round := range 10 {
		d := open(t, path, sqlite.Options{Now: clock.Now})
		published := make([]*registry.Record, len(k))
		var started, done sync.WaitGroup
		for i, key := range k {
			started.Add(1)
			done.Go(func() { // ends when d is closed
				for n := 0; ; n++ {
					r := registrytest.Signed(t, key, clock.Now().Add(time.Duration(round*1000+n)*time.Millisecond))
					err := d.Publish(t.Context(), r)
					if err == nil {
						published[i] = r
						_, err = d.Lookup(t.Context(), r.ID)
					}
					if n == 0 {
						started.Done()
					}
					if err != nil {
						if !errors.Is(err, net.ErrClosed) {
							t.Error(err)
						}
						return
					}
				}
			})
		}
		started.Wait()
		for range 2 {
			done.Go(func() { // ends with Close
				if err := d.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			})
		}
		done.Wait()
		d = open(t, path, sqlite.Options{Now: clock.Now})
		for _, r := range published {
			if got, err := d.Lookup(t.Context(), r.ID); err != nil || got.Sequence < r.Sequence {
				t.Errorf("Lookup: %v, %v; want %v or a newer one", got, err, r)
			}
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// lock takes the file's write lock, as another process would, until the function that it returns is called.
func lock(t *testing.T, path string) (unlock func()) {
	t.Helper()
	db := raw(t, path)
	execute(t, db, `BEGIN IMMEDIATE`)
	return func() { execute(t, db, `ROLLBACK`) }
}

// While another process keeps the lock, a publisher waits until its context ends or the directory is closed, and readers
// do not wait at all.
func TestLocked(t *testing.T) {
	path, k := newPath(t), keys(t, 2)
	d := open(t, path, sqlite.Options{})
	first, second := registrytest.Signed(t, k[0], time.Now()), registrytest.Signed(t, k[1], time.Now())
	if err := d.Publish(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	unlock := lock(t, path)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := d.Publish(ctx, second); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Publish: %v, want that the deadline is over", err)
	}
	if got, err := d.Lookup(t.Context(), first.ID); err != nil || !got.Equal(first) {
		t.Errorf("Lookup: %v, %v", got, err)
	}
	unlock()
	if err := d.Publish(t.Context(), second); err != nil {
		t.Errorf("Publish, once there is no lock: %v", err)
	}

	inside := make(chan struct{})
	d = open(t, path, sqlite.Options{Now: func() time.Time {
		inside <- struct{}{}
		return time.Now()
	}})
	defer lock(t, path)()
	var wg sync.WaitGroup
	for range 3 { // one waits for the lock, and the others for their turn
		wg.Go(func() { // ends with Close
			r := registrytest.Signed(t, k[1], time.Now().Add(time.Minute))
			if err := d.Publish(t.Context(), r); !errors.Is(err, net.ErrClosed) || errors.Is(err, context.Canceled) {
				t.Errorf("Publish: %v, want that it is closed", err)
			}
		})
	}
	for range 3 {
		<-inside
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
}

// A context that ends while Publish is at work stops it.
func TestContextEndsInPublish(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	d := open(t, newPath(t), sqlite.Options{Now: func() time.Time {
		cancel()
		return time.Now()
	}})
	r := registrytest.Signed(t, registrytest.Key(t), time.Now())
	if err := d.Publish(ctx, r); !errors.Is(err, context.Canceled) {
		t.Errorf("Publish: %v", err)
	}
	if got, err := d.Lookup(t.Context(), r.ID); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("Lookup: %v, %v", got, err)
	}
}

func TestOpenContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	path := newPath(t)
	open(t, path, sqlite.Options{})
	defer lock(t, path)()
	timeout, done := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer done()
	if _, err := sqlite.Open(timeout, path, sqlite.Options{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Open of a locked file: %v", err)
	}
	cancel()
	if _, err := sqlite.Open(ctx, newPath(t), sqlite.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Open: %v", err)
	}
}

// The log beside the file does not grow with what is published, though somebody always reads.
func TestLogIsBounded(t *testing.T) {
	path, k := newPath(t), registrytest.Key(t)
	d := open(t, path, sqlite.Options{})
	now := time.Now()
	if err := d.Publish(t.Context(), registrytest.Signed(t, k, now)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { // ends with ctx
		for ctx.Err() == nil {
			if _, err := d.Lookup(ctx, k.ID()); err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
		}
	})
	most := int64(0)
	for i := range 400 {
		if err := d.Publish(t.Context(), named(t, registrytest.Key(t), now, fmt.Sprint("peer-", i))); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		most = max(most, info.Size())
	}
	cancel()
	wg.Wait()
	t.Logf("the log had up to %d KiB", most>>10)
	if most > 6<<20 {
		t.Errorf("the log grew to %d KiB", most>>10)
	}
}

var _ interface {
	registry.Namer
	registry.Authority
} = (*sqlite.Directory)(nil)
