package file_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/registry/registrytest"
)

func TestDamagedFiles(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, path string, b []byte){
		"empty":   func(t *testing.T, path string, _ []byte) { write(t, path, nil) },
		"cut":     func(t *testing.T, path string, b []byte) { write(t, path, b[:len(b)-1]) },
		"longer":  func(t *testing.T, path string, b []byte) { write(t, path, append(b, make([]byte, 1<<20)...)) },
		"changed": func(t *testing.T, path string, b []byte) { b[len(b)/2] ^= 1; write(t, path, b) },
		"another peer's": func(t *testing.T, path string, _ []byte) {
			write(t, path, registrytest.Signed(t, registrytest.Key(t), time.Now()).Marshal())
		},
		"no regular file": func(t *testing.T, path string, b []byte) {
			remove(t, path)
			write(t, path+".x", b)
			link(t, path+".x", path)
		},
	} {
		t.Run(name, func(t *testing.T) {
			d, k := newSmall(t, 0), keys(t, 3)
			d.publish(t, d.signed(t, k[0]), nil)
			d.publish(t, d.signed(t, k[1]), nil)
			d.publish(t, registrytest.Revocation(t, k[1], d.clock.Now()), nil)
			good := d.signed(t, k[2])
			d.publish(t, good, nil)
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			for _, f := range []string{k[0].ID().String() + ".record", k[1].ID().String() + ".revocation"} {
				path := filepath.Join(d.Path, f)
				b, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				damage(t, path, b)
			}
			d.reopen(t)
			d.holds(t, good)
			d.lists(t, good)
			for _, k := range k[:2] {
				r, err := d.Lookup(t.Context(), k.ID())
				if r != nil || err == nil || errors.Is(err, registry.ErrNotFound) || !strings.Contains(err.Error(), k.ID().String()+".re") {
					t.Fatalf("Lookup: %+v, %v", r, err)
				}
			}
			if n := strings.Count(d.log.String(), "level=WARN"); n != 2 {
				t.Errorf("the log is %s", d.log)
			}
			// A record that is newer in any case mends it, but not where a revocation was.
			before := d.signed(t, k[0])
			d.clock.Advance(registry.MaxSkew)
			d.publish(t, before, registry.ErrRollback)
			d.publish(t, d.signed(t, k[0]), registry.ErrRollback)
			d.clock.Advance(time.Millisecond)
			mended := d.signed(t, k[0])
			d.publish(t, mended, nil)
			d.publish(t, d.signed(t, k[1]), registry.ErrRollback)
			revocation := registrytest.Revocation(t, k[1], d.clock.Now())
			d.publish(t, revocation, nil)
			d.reopen(t)
			d.holds(t, mended)
			d.holds(t, revocation)
			d.lists(t, good, mended, revocation)
			if n := strings.Count(d.log.String(), "level=WARN"); n != 2 {
				t.Errorf("the log is %s", d.log)
			}
		})
	}
}

// What a damaged file held is as old as when the file was written, at most.
func TestDamagedFileIsAsOldAsItIs(t *testing.T) {
	d, k := newSmall(t, 0), registrytest.Key(t)
	older := d.signed(t, k)
	d.clock.Advance(time.Hour)
	d.publish(t, d.signed(t, k), nil)
	path := filepath.Join(d.Path, k.ID().String()+".record")
	write(t, path, []byte("damage"))
	written := d.clock.Now()
	if err := os.Chtimes(path, written, written); err != nil {
		t.Fatal(err)
	}
	d.clock.Advance(time.Hour)
	d.reopen(t)
	d.publish(t, older, registry.ErrRollback)
	d.publish(t, registrytest.Signed(t, k, written.Add(registry.MaxSkew)), registry.ErrRollback)
	after := registrytest.Signed(t, k, written.Add(registry.MaxSkew+time.Millisecond))
	d.publish(t, after, nil)
	d.holds(t, after)
}

// A damaged file has the place that it had, and whoever is revoked in place of one is so for good.
func TestDamagedFilesHaveAPlace(t *testing.T) {
	d, k := newSmall(t, 2), keys(t, 3)
	d.publish(t, d.signed(t, k[0]), nil)
	d.publish(t, d.signed(t, k[1]), nil)
	for _, k := range k[:2] {
		write(t, filepath.Join(d.Path, k.ID().String()+".record"), []byte("damage"))
	}
	d.reopen(t)
	revocation := registrytest.Revocation(t, k[1], d.clock.Now())
	d.publish(t, revocation, nil)
	d.clock.Advance(registry.MaxLife + registry.MaxSkew - time.Millisecond)
	d.publish(t, d.signed(t, k[2]), registry.ErrFull)
	d.clock.Advance(time.Millisecond)
	d.publish(t, d.signed(t, k[2]), nil)
	d.lacks(t, k[0], registry.ErrNotFound)
	d.clock.Advance(365 * 24 * time.Hour)
	d.publish(t, d.signed(t, k[0]), nil)
	d.holds(t, revocation)
}

// Nothing but a revocation is one, whatever its file is called; but the name stays a warning.
func TestDamagedRevocation(t *testing.T) {
	d, k := newSmall(t, 0), registrytest.Key(t)
	record := d.signed(t, k)
	d.publish(t, record, nil)
	write(t, filepath.Join(d.Path, k.ID().String()+".revocation"), record.Marshal())
	d.reopen(t)
	if r, err := d.Lookup(t.Context(), k.ID()); r != nil || err == nil || errors.Is(err, registry.ErrNotFound) {
		t.Errorf("Lookup: %+v, %v", r, err)
	}
	if files := d.files(t); len(files) != 2 {
		t.Errorf("the record was cleared away for it: %v", files)
	}
	d.clock.Advance(time.Second)
	d.publish(t, d.signed(t, k), registry.ErrRollback)
}

// What a crash leaves behind, and what others put there.
func TestStrangeFiles(t *testing.T) {
	d, k := newSmall(t, 0), keys(t, 2)
	record, revocation := d.signed(t, k[0]), registrytest.Revocation(t, k[0], d.clock.Now())
	d.publish(t, record, nil)
	d.publish(t, revocation, nil)
	other := d.signed(t, k[1])
	d.publish(t, other, nil)
	d.Close()
	id := k[0].ID().String()
	write(t, filepath.Join(d.Path, id+".record"), record.Marshal()) // it ended before this was removed
	write(t, filepath.Join(d.Path, "."+id+".record.new-123"), nil)  // or renamed
	strangers := []string{"README", id, k[1].ID().PeerID() + ".record", strings.ToUpper(id) + ".record", "x.record", "x.revocation", ".record", ".new-123", ".key.new-123"}
	for _, name := range strangers {
		write(t, filepath.Join(d.Path, name), []byte("leave me alone"))
	}
	d.reopen(t)
	d.holds(t, revocation)
	d.holds(t, other)
	if files := d.files(t); len(files) != len(strangers)+2 || d.log.Len() != 0 {
		t.Errorf("the files are %q, the log is %q", files, d.log)
	}
}

func TestModes(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes say nothing there")
	}
	d, k := newSmall(t, 0), registrytest.Key(t)
	d.publish(t, d.signed(t, k), nil)
	for path, want := range map[string]fs.FileMode{
		filepath.Dir(d.Path): fs.ModeDir | 0o700,
		d.Path:               fs.ModeDir | 0o700,
		filepath.Join(d.Path, k.ID().String()+".record"): 0o600,
		filepath.Join(d.Path, ".lock"):                   0o600,
	} {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v; want %v", path, info.Mode(), err, want)
		}
	}
}

func TestCannotWrite(t *testing.T) {
	d, k := newSmall(t, 0), keys(t, 2)
	before := d.signed(t, k[0])
	d.publish(t, before, nil)
	for _, k := range k { // no file can take the place of a directory that is not empty
		path := filepath.Join(d.Path, k.ID().String()+".record")
		os.Remove(path)
		if err := os.MkdirAll(filepath.Join(path, "x"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	d.clock.Advance(time.Second)
	for _, k := range k {
		var re *registry.RecordError
		if err := d.Publish(t.Context(), d.signed(t, k)); !errors.As(err, &re) || re.ID != k.ID() {
			t.Errorf("Publish: %v", err)
		}
	}
	d.holds(t, before)
	d.lacks(t, k[1], registry.ErrNotFound)
	if files := d.files(t); len(files) != 2 {
		t.Errorf("the files are %v", files)
	}
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, to, path string) {
	t.Helper()
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
}
