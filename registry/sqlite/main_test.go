package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/registry/registrytest"
	"github.com/splitmesh/splitmesh/registry/sqlite"
)

// TestMain plays another process's role when a test has started this binary for it.
func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		if err := roles[role](os.Getenv(pathVariable)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

func newPath(t testing.TB) string { return filepath.Join(t.TempDir(), "records.db") }

// open opens the directory at path until the test ends.
func open(t testing.TB, path string, o sqlite.Options) *sqlite.Directory {
	t.Helper()
	d, err := sqlite.Open(context.Background(), path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return d
}

// raw opens the file as anybody could, past the package.
func raw(t testing.TB, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { db.Close() })
	return db
}

func execute(t testing.TB, db *sql.DB, query string, args ...any) {
	t.Helper()
	if _, err := db.Exec(query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// edit changes a file that nobody has open.
func edit(t testing.TB, path, query string, args ...any) {
	t.Helper()
	db := raw(t, path)
	execute(t, db, query, args...)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func query[T any](t testing.TB, db *sql.DB, query string, args ...any) (v T) {
	t.Helper()
	if err := db.QueryRow(query, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return v
}

func keys(t testing.TB, n int) []*identity.Key {
	out := make([]*identity.Key, n)
	for i := range out {
		out[i] = registrytest.Key(t)
	}
	return out
}

// A small directory, a clock, and the means of trying both.
type small struct {
	*sqlite.Directory
	path  string
	clock *registrytest.Clock
}

func newSmall(t *testing.T, places int) small {
	path, clock := newPath(t), registrytest.NewClock()
	return small{open(t, path, sqlite.Options{MaxRecords: places, Now: clock.Now}), path, clock}
}

func (s small) publish(t *testing.T, r *registry.Record, want error) {
	t.Helper()
	if err := s.Publish(t.Context(), r); !errors.Is(err, want) {
		t.Fatalf("Publish: %v, want %v", err, want)
	}
}

func (s small) signed(t *testing.T, k *identity.Key) *registry.Record {
	return registrytest.Signed(t, k, s.clock.Now())
}

func (s small) is(t *testing.T, k *identity.Key, want registry.Standing) {
	t.Helper()
	if got, err := s.Standing(t.Context(), k.ID()); got != want || err != nil {
		t.Fatalf("Standing: %v, %v; want %v", got, err, want)
	}
}

// named returns a record of k's that is made at the time at, with the name.
func named(t testing.TB, k *identity.Key, at time.Time, name string) *registry.Record {
	t.Helper()
	r := registrytest.Draft(t, at)
	r.Name = name
	if err := r.Sign(k); err != nil {
		t.Fatal(err)
	}
	return r
}
