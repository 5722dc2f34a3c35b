package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"
)

var errDisk = errors.New("the disk does not")

// A disk notes what it is asked for, and fails at one step.
type disk struct {
	steps  []string
	failAt int // index in steps; -1: never
	err    error
}

// newDisk takes the place of the real one until the test ends.
func newDisk(t *testing.T) *disk {
	d := &disk{failAt: -1, err: errDisk}
	r, l, s := rename, link, sync
	t.Cleanup(func() { rename, link, sync = r, l, s })
	step := func(name string, do func() error) error {
		d.steps = append(d.steps, name)
		if len(d.steps)-1 == d.failAt {
			return d.err
		}
		return do()
	}
	rename = func(from, to string) error { return step("rename", func() error { return r(from, to) }) }
	link = func(from, to string) error { return step("link", func() error { return l(from, to) }) }
	sync = func(f *os.File) error {
		name := "sync " + filepath.Base(f.Name())
		if _, ok := Target(filepath.Base(f.Name())); ok {
			name = "sync temp"
		}
		return step(name, func() error { return s(f) })
	}
	return d
}

func (d *disk) asked(t *testing.T, want ...string) {
	t.Helper()
	if runtime.GOOS == "windows" { // where no directory is synced
		want = slices.DeleteFunc(want, func(s string) bool { return s != "sync temp" && s[:4] == "sync" })
	}
	if !slices.Equal(d.steps, want) {
		t.Errorf("the disk was asked for %q, want %q", d.steps, want)
	}
	d.steps = nil
}

func newDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "dir")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// holds checks that there is a file of the name and contents in dir, and nothing else; no name: nothing at all.
func holds(t *testing.T, dir, name, contents string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if name == "" {
		if len(names) != 0 {
			t.Errorf("there are %q", names)
		}
		return
	}
	if !slices.Equal(names, []string{name}) {
		t.Errorf("there are %q, want %q only", names, name)
	}
	path := filepath.Join(dir, name)
	if b, err := os.ReadFile(path); err != nil || string(b) != contents {
		t.Errorf("it holds %q, %v; want %q", b, err, contents)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode() != 0o600 && runtime.GOOS != "windows" {
		t.Errorf("its mode is %v, %v", info.Mode(), err)
	}
}

func TestWrite(t *testing.T) {
	dir, disk := newDir(t), newDisk(t)
	path := filepath.Join(dir, "file")
	for _, contents := range []string{"first", "second", ""} {
		if err := Write(path, []byte(contents)); err != nil {
			t.Fatal(err)
		}
		disk.asked(t, "sync temp", "rename", "sync dir")
		holds(t, dir, "file", contents)
	}
}

func TestCreate(t *testing.T) {
	dir, disk := newDir(t), newDisk(t)
	path := filepath.Join(dir, "file")
	if err := Create(path, []byte("first")); err != nil {
		t.Fatal(err)
	}
	disk.asked(t, "sync temp", "link", "sync dir")
	if err := Create(path, []byte("second")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Create over a file: %v", err)
	}
	holds(t, dir, "file", "first")
}

// A file system without links.
func TestCreateWithoutLinks(t *testing.T) {
	dir, disk := newDir(t), newDisk(t)
	path := filepath.Join(dir, "file")
	disk.failAt = 1
	if err := Create(path, []byte("first")); err != nil {
		t.Fatal(err)
	}
	disk.asked(t, "sync temp", "link", "rename", "sync dir")
	if err := Create(path, []byte("second")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Create over a file: %v", err)
	}
	holds(t, dir, "file", "first")

	// When the second step fails, nothing is left that looks like a damaged file.
	dir = newDir(t)
	rename = func(_, _ string) error { return errDisk }
	disk.steps = nil
	if err := Create(filepath.Join(dir, "file"), nil); !errors.Is(err, errDisk) {
		t.Errorf("Create: %v", err)
	}
	holds(t, dir, "", "")
}

// Somebody clears temporary files away, and is faster.
func TestCreateTempIsGone(t *testing.T) {
	dir := newDir(t)
	newDisk(t)
	link = func(from, to string) error { return os.Rename(from, to) }
	if err := Create(filepath.Join(dir, "file"), []byte("first")); err != nil {
		t.Errorf("Create: %v", err)
	}
	holds(t, dir, "file", "first")
}

func TestFollowsNoLink(t *testing.T) {
	dir := newDir(t)
	target, path := filepath.Join(t.TempDir(), "target"), filepath.Join(dir, "file")
	if err := os.Symlink(target, path); err != nil {
		t.Skip(err)
	}
	if err := Create(path, nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Create at a dangling link: %v", err)
	}
	if err := Write(path, []byte("here")); err != nil {
		t.Error(err)
	}
	holds(t, dir, "file", "here")
	if _, err := os.Lstat(target); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the target: %v", err)
	}
}

// Whatever step fails, the old file or the new one is there, and nothing else.
func TestFailures(t *testing.T) {
	for _, tc := range []struct {
		failAt int
		want   string
	}{{0, "old"}, {1, "old"}, {2, "new"}} {
		dir := newDir(t)
		path := filepath.Join(dir, "file")
		if err := Write(path, []byte("old")); err != nil {
			t.Fatal(err)
		}
		disk := newDisk(t)
		disk.failAt = tc.failAt
		if err := Write(path, []byte("new")); len(disk.steps) > tc.failAt && !errors.Is(err, errDisk) {
			t.Errorf("step %d failed: %v", tc.failAt, err)
		}
		holds(t, dir, "file", tc.want)
	}
	if err := Write(filepath.Join(newDir(t), "no", "file"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Write into a directory that is not there: %v", err)
	}
}

// Not every file system syncs directories.
func TestUnsupportedSync(t *testing.T) {
	for _, err := range []error{syscall.EINVAL, errors.ErrUnsupported} {
		disk := newDisk(t)
		disk.failAt, disk.err = 2, err
		if err := Write(filepath.Join(newDir(t), "file"), nil); err != nil {
			t.Error(err)
		}
	}
}

// A directory that was made outlives a crash only when those above it know of it.
func TestMkdirAll(t *testing.T) {
	dir, disk := newDir(t), newDisk(t)
	path := filepath.Join(dir, "a", "b", "c")
	for _, want := range [][]string{{"sync b", "sync a", "sync dir"}, nil} {
		if err := MkdirAll(path); err != nil {
			t.Fatal(err)
		}
		disk.asked(t, want...)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != fs.ModeDir|0o700 && runtime.GOOS != "windows" {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	t.Chdir(dir)
	if err := MkdirAll("x"); err != nil {
		t.Error(err)
	}
	disk.asked(t, "sync .")

	if runtime.GOOS != "windows" {
		disk.failAt = 0
		if err := MkdirAll("y"); !errors.Is(err, errDisk) {
			t.Errorf("MkdirAll: %v", err)
		}
	}
	if err := Write("file", nil); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"", "file", "file/a"} {
		if err := MkdirAll(path); err == nil {
			t.Errorf("%q was made", path)
		}
	}
}

func TestTarget(t *testing.T) {
	for temp, want := range map[string]string{
		".key.new-123": "key", ".a.record.new-1": "a.record",
		"key.new-123": "", "..new-123": "", ".key": "", ".key.new-": "", ".new-123": "", "": "",
	} {
		if name, ok := Target(temp); ok != (want != "") || ok && name != want {
			t.Errorf("%q is of %q, %v; want %q", temp, name, ok, want)
		}
	}
}
