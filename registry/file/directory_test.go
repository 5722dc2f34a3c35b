package file_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/registry/file"
	"github.com/splitmesh/splitmesh/registry/registrytest"
)

func newDirectory(t *testing.T, now func() time.Time) *file.Directory {
	d := &file.Directory{Path: filepath.Join(t.TempDir(), "a", "records"), Now: now}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func TestDirectory(t *testing.T) {
	registrytest.TestDirectory(t, func(t *testing.T, now func() time.Time) registry.Directory { return newDirectory(t, now) })
}

// A small directory, a clock, and the means of trying both.
type small struct {
	*file.Directory
	clock *registrytest.Clock
	log   *bytes.Buffer
}

func newSmall(t *testing.T, places int) *small {
	s := &small{clock: registrytest.NewClock(), log: new(bytes.Buffer)}
	s.Directory = newDirectory(t, s.clock.Now)
	s.MaxRecords = places
	s.Logger = slog.New(slog.NewTextHandler(s.log, nil))
	return s
}

// reopen puts another directory over the same files in the place of this one.
func (s *small) reopen(t *testing.T) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	d := &file.Directory{Path: s.Path, MaxRecords: s.MaxRecords, Now: s.Now, Logger: s.Logger}
	t.Cleanup(func() { d.Close() })
	s.Directory = d
}

func (s *small) publish(t *testing.T, r *registry.Record, want error) {
	t.Helper()
	if err := s.Publish(t.Context(), r); !errors.Is(err, want) {
		t.Fatalf("Publish: %v, want %v", err, want)
	}
}

func (s *small) signed(t *testing.T, k *identity.Key) *registry.Record {
	return registrytest.Signed(t, k, s.clock.Now())
}

func (s *small) named(t *testing.T, k *identity.Key, name string) *registry.Record {
	t.Helper()
	r := registrytest.Draft(t, s.clock.Now())
	r.Name = name
	if err := r.Sign(k); err != nil {
		t.Fatal(err)
	}
	return r
}

func (s *small) holds(t *testing.T, want *registry.Record) {
	t.Helper()
	if got, err := s.Lookup(t.Context(), want.ID); err != nil || !got.Equal(want) {
		t.Fatalf("Lookup: %+v, %v; want %+v", got, err, want)
	}
}

// lists checks that List returns all that is wanted, and nothing else.
func (s *small) lists(t *testing.T, want ...*registry.Record) {
	t.Helper()
	slices.SortFunc(want, func(a, b *registry.Record) int { return a.ID.Compare(b.ID) })
	if got, next, err := s.List(t.Context(), identity.ID{}, 100, ""); err != nil || !next.IsZero() || !slices.EqualFunc(got, want, (*registry.Record).Equal) {
		t.Fatalf("List: %v, %v, %v; want %v", got, next, err, want)
	}
}

// lacks checks that Lookup returns want, and registry.ErrExpired only with that.
func (s *small) lacks(t *testing.T, k *identity.Key, want error) {
	t.Helper()
	got, err := s.Lookup(t.Context(), k.ID())
	if got != nil || !errors.Is(err, want) || errors.Is(err, registry.ErrExpired) != (want == registry.ErrExpired) {
		t.Fatalf("Lookup: %+v, %v; want %v", got, err, want)
	}
}

func (s *small) files(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(s.Path)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.Name() != ".lock" {
			names = append(names, e.Name())
		}
	}
	return names
}

func keys(t *testing.T, n int) []*identity.Key {
	out := make([]*identity.Key, n)
	for i := range out {
		out[i] = registrytest.Key(t)
	}
	return out
}

func TestReopen(t *testing.T) {
	d, k := newSmall(t, 0), keys(t, 3)
	older, newer := d.signed(t, k[0]), registrytest.Draft(t, d.clock.Now().Add(time.Second))
	newer.Expires = d.clock.Now().Add(time.Hour).UnixMilli()
	if err := newer.Sign(k[0]); err != nil {
		t.Fatal(err)
	}
	revocation := registrytest.Revocation(t, k[1], d.clock.Now().Add(-time.Hour))
	d.publish(t, older, nil)
	d.publish(t, newer, nil)
	d.publish(t, d.signed(t, k[1]), nil)
	d.publish(t, revocation, nil)
	onlyRevocation(t, d, k[1])
	d.reopen(t)
	d.holds(t, newer)
	d.holds(t, revocation)
	d.lacks(t, k[2], registry.ErrNotFound)
	d.publish(t, older, registry.ErrRollback)
	d.publish(t, newer, nil)
	d.publish(t, d.signed(t, k[1]), registry.ErrRollback)
	// The newer one ends first, and is still there to keep the older one from coming to life again.
	d.clock.Advance(2 * time.Hour)
	d.reopen(t)
	d.lacks(t, k[0], registry.ErrExpired)
	d.publish(t, older, registry.ErrRollback)
	d.clock.Advance(365 * 24 * time.Hour)
	d.reopen(t)
	d.holds(t, revocation)
	onlyRevocation(t, d, k[1])
}

func onlyRevocation(t *testing.T, d *small, k *identity.Key) {
	t.Helper()
	files := d.files(t)
	if id := k.ID().String(); !slices.Contains(files, id+".revocation") || slices.Contains(files, id+".record") {
		t.Errorf("the files are %v", files)
	}
}

func TestReopenKeepsNames(t *testing.T) {
	d, k := newSmall(t, 0), keys(t, 4)
	d.publish(t, d.named(t, k[0], "ann"), nil)
	d.publish(t, d.named(t, k[1], "bob"), nil)
	d.reopen(t)
	d.publish(t, d.named(t, k[2], "ann"), registry.ErrNameTaken)
	d.clock.Advance(registry.MaxLife)
	d.publish(t, d.named(t, k[2], "ann"), nil)
	is := func(name string, want *identity.Key) {
		t.Helper()
		if id, err := d.Resolve(t.Context(), name); want == nil && !errors.Is(err, registry.ErrNotFound) || want != nil && id != want.ID() {
			t.Fatalf("%q is %v, %v; want %v", name, id, err, want)
		}
	}
	// Both files say ann now, and the order in which they are read is that of the IDs.
	for range 4 {
		d.reopen(t)
		is("ann", k[2])
		is("bob", nil)
		d.clock.Advance(registry.MaxLife)
		k[0], k[2] = k[2], k[0]
		d.publish(t, d.named(t, k[2], "ann"), nil)
	}
	// Who had it before takes it from nobody by having another.
	d.publish(t, d.named(t, k[0], "bob"), nil)
	is("ann", k[2])
	d.publish(t, registrytest.Revocation(t, k[2], d.clock.Now()), nil)
	is("ann", nil)
	d.reopen(t)
	is("ann", nil)
	is("bob", k[0])
}

func TestFullKeepsWhoeverIsThere(t *testing.T) {
	d, k := newSmall(t, 2), keys(t, 4)
	d.publish(t, d.named(t, k[0], "ann"), nil)
	d.clock.Advance(time.Hour)
	first, second := d.named(t, k[0], "ann"), d.signed(t, k[1])
	d.publish(t, second, nil)
	d.publish(t, d.signed(t, k[2]), registry.ErrFull)
	d.reopen(t)
	d.publish(t, d.signed(t, k[2]), registry.ErrFull)
	d.clock.Advance(time.Minute)
	d.publish(t, first, nil) // whoever is there may renew

	// Expired is not enough: an older record of the same peer might still be valid.
	d.clock.Advance(25 * time.Hour)
	d.lacks(t, k[0], registry.ErrExpired)
	d.publish(t, d.signed(t, k[2]), registry.ErrFull)

	// Once that is over, the oldest goes.
	renewed := registrytest.Signed(t, k[1], d.clock.Now())
	d.publish(t, renewed, nil)
	d.clock.Advance(registry.MaxLife - 25*time.Hour - time.Minute - time.Millisecond)
	d.publish(t, d.signed(t, k[2]), registry.ErrFull)
	d.clock.Advance(time.Millisecond)
	third := d.signed(t, k[2])
	d.publish(t, third, nil)
	d.lacks(t, k[0], registry.ErrNotFound)
	if id, err := d.Resolve(t.Context(), "ann"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("the name of who had to go is %v's, %v", id, err)
	}
	d.holds(t, renewed)
	d.lists(t, renewed, third)
	d.publish(t, d.signed(t, k[3]), registry.ErrFull)
	d.reopen(t)
	d.holds(t, third)
	d.lists(t, renewed, third)
	d.lacks(t, k[0], registry.ErrNotFound)
	if files := d.files(t); len(files) != 2 {
		t.Errorf("the files are %v", files)
	}

	// A bound that was lowered is kept to as soon as places can be given up.
	d.MaxRecords = 1
	d.reopen(t)
	d.holds(t, third)
	d.clock.Advance(registry.MaxLife)
	d.publish(t, d.signed(t, k[3]), nil)
	if files := d.files(t); len(files) != 1 {
		t.Errorf("the files are %v", files)
	}
}

func TestRevocationsKeepTheirPlace(t *testing.T) {
	d, k := newSmall(t, 2), keys(t, 4)
	d.publish(t, d.signed(t, k[0]), nil)
	d.publish(t, registrytest.Revocation(t, k[1], d.clock.Now()), nil) // of one unknown: an ordinary place
	d.publish(t, registrytest.Revocation(t, k[0], d.clock.Now()), nil) // of one known: for good
	d.clock.Advance(time.Millisecond)
	d.publish(t, registrytest.Revocation(t, k[1], d.clock.Now()), nil)
	revoked := registrytest.Revocation(t, k[0], d.clock.Now())
	d.publish(t, revoked, nil)
	d.publish(t, d.signed(t, k[2]), registry.ErrFull)
	d.clock.Advance(365 * 24 * time.Hour)
	d.reopen(t)
	d.publish(t, d.signed(t, k[2]), nil)
	d.holds(t, revoked)
	d.lacks(t, k[1], registry.ErrNotFound)
	d.publish(t, registrytest.Revocation(t, k[2], d.clock.Now()), nil)
	d.clock.Advance(365 * 24 * time.Hour)
	d.reopen(t)
	d.publish(t, d.signed(t, k[3]), registry.ErrFull) // nothing is left that can be given up
	d.holds(t, revoked)
}

// A search for what few have looks at so many records at a time, and goes on behind them.
func TestListOfFew(t *testing.T) {
	const most = 1024
	d := newSmall(t, 0)
	if err := os.MkdirAll(d.Path, 0o700); err != nil {
		t.Fatal(err)
	}
	var last *registry.Record
	for i, k := range sorted(keys(t, most+1)) {
		if last = d.signed(t, k); i == most {
			last.Capabilities = []string{registry.CapExit}
			if err := last.Sign(k); err != nil {
				t.Fatal(err)
			}
		}
		write(t, filepath.Join(d.Path, k.ID().String()+".record"), last.Marshal())
	}
	page, next, err := d.List(t.Context(), identity.ID{}, 1, registry.CapExit)
	if err != nil || len(page) != 0 || next.IsZero() || next.Compare(last.ID) >= 0 {
		t.Fatalf("List: %v, %v, %v; want none, and a page after another than %v", page, next, err, last.ID)
	}
	page, next, err = d.List(t.Context(), next, 1, registry.CapExit)
	if err != nil || len(page) != 1 || !page[0].Equal(last) || !next.IsZero() {
		t.Fatalf("List: %v, %v, %v; want the one that there is", page, next, err)
	}
}

func sorted(k []*identity.Key) []*identity.Key {
	slices.SortFunc(k, func(a, b *identity.Key) int { return a.ID().Compare(b.ID()) })
	return k
}

func TestCannotOpen(t *testing.T) {
	d, k := newSmall(t, 0), registrytest.Key(t)
	if err := os.MkdirAll(filepath.Dir(d.Path), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, d.Path, nil) // a file, where the directory is to be
	if err := d.Publish(t.Context(), d.signed(t, k)); err == nil {
		t.Error("published into a file")
	}
	if r, err := d.Lookup(t.Context(), k.ID()); err == nil || errors.Is(err, registry.ErrNotFound) {
		t.Errorf("looked up in a file: %+v, %v", r, err)
	}
	remove(t, d.Path) // the next call tries again
	d.publish(t, d.signed(t, k), nil)

	// Who has no time reads no files.
	d.reopen(t)
	ctx := &patience{Context: t.Context(), left: 1}
	if r, err := d.Lookup(ctx, k.ID()); !errors.Is(err, context.Canceled) {
		t.Errorf("Lookup: %+v, %v", r, err)
	}
	d.holds(t, d.signed(t, k))
}

// patience is a context that is done when it was asked so often.
type patience struct {
	context.Context
	left int
}

func (p *patience) Err() error {
	if p.left--; p.left < 0 {
		return context.Canceled
	}
	return nil
}

func TestInUse(t *testing.T) {
	switch runtime.GOOS {
	case "darwin", "dragonfly", "freebsd", "linux", "netbsd", "openbsd":
	default:
		t.Skip("no locks there")
	}
	d, k := newSmall(t, 0), registrytest.Key(t)
	record := d.signed(t, k)
	d.publish(t, record, nil)
	second := &small{Directory: &file.Directory{Path: d.Path, Now: d.Now}, clock: d.clock}
	defer second.Close()
	second.lacks(t, k, file.ErrInUse)
	second.publish(t, record, file.ErrInUse)
	if _, err := second.Resolve(t.Context(), "ann"); !errors.Is(err, file.ErrInUse) {
		t.Errorf("Resolve: %v", err)
	}
	d.holds(t, record)
	d.Close()
	second.holds(t, record)
}

func TestClose(t *testing.T) {
	d, k := newSmall(t, 0), registrytest.Key(t)
	if err := (&file.Directory{}).Close(); err != nil {
		t.Error(err)
	}
	d.publish(t, d.signed(t, k), nil)
	for range 2 {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	d.publish(t, d.signed(t, k), net.ErrClosed)
	d.lacks(t, k, net.ErrClosed)
	if _, err := d.Resolve(t.Context(), "ann"); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Resolve: %v", err)
	}
	if _, _, err := d.List(t.Context(), identity.ID{}, 1, ""); !errors.Is(err, net.ErrClosed) {
		t.Errorf("List: %v", err)
	}
}

func TestClockSetBack(t *testing.T) {
	d, k := newSmall(t, 0), registrytest.Key(t)
	d.publish(t, d.signed(t, k), nil)
	d.clock.Advance(-time.Hour)
	d.lacks(t, k, registry.ErrFuture)
	d.lacks(t, k, registry.ErrNotFound)
}

func ExampleDirectory() {
	dir, err := os.MkdirTemp("", "records")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
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

	first := &file.Directory{Path: dir}
	if err := first.Publish(context.Background(), r); err != nil {
		fmt.Println(err)
		return
	}
	if err := first.Close(); err != nil {
		fmt.Println(err)
		return
	}
	second := &file.Directory{Path: dir} // another process, say
	defer second.Close()
	found, err := second.Lookup(context.Background(), key.ID())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(found.Operator)
	// Output: example
}
