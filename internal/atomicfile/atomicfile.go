// Package atomicfile writes small files that are there whole or not at all, after a loss of power too:
//
//	if err := atomicfile.Write("/var/lib/app/state", b); err != nil {
//		return err
//	}
//
// What it promises: when a function returns nil, what it did is on the disk, as far as the system can put it there; at
// any moment before, a file has its old contents or the new ones. When the last step fails, which is to sync the
// directory, the new file is in its place already and may not outlive a crash. A program that is killed may leave a
// temporary file behind: see [Target].
package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// What is asked of the disk. Only tests change it.
var (
	rename = os.Rename
	link   = os.Link
	sync   = (*os.File).Sync
)

// Write puts a file with the contents b and mode 0600 at path. It replaces a file that is there, and a link rather than
// what that leads to.
func Write(path string, b []byte) error { return put(path, b, rename) }

// Create is [Write] for a path at which there must be nothing, not even a link: if there is, also if it came meanwhile, the
// error wraps [fs.ErrExist].
func Create(path string, b []byte) error { return put(path, b, claim) }

func put(path string, b []byte, place func(temp, path string) error) error {
	dir := filepath.Dir(path)
	temp, err := writeTemp(dir, filepath.Base(path), b)
	if err != nil {
		return err
	}
	if err := place(temp, path); err != nil {
		_ = os.Remove(temp) // the first error is the one to report
		return err
	}
	return syncDir(dir)
}

const infix = ".new-"

// Target returns the name of the file that was to be written when a killed program left a file of that name behind. It
// may be removed if nobody is writing.
func Target(temp string) (name string, ok bool) {
	hidden, random, ok := strings.Cut(temp, infix)
	name, dot := strings.CutPrefix(hidden, ".")
	return name, ok && dot && name != "" && random != ""
}

// writeTemp writes a file to the disk, beside where it is to be so that it can be renamed, and returns its path.
func writeTemp(dir, base string, b []byte) (path string, err error) {
	f, err := os.CreateTemp(dir, "."+base+infix+"*") // with mode 0600
	if err != nil {
		return "", err
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(b); err != nil {
		return "", err
	}
	return f.Name(), sync(f)
}

// claim moves temp to path, where there must be nothing.
//
// A link is the one step that fails when the name is taken. File systems without links get two: an empty file that
// takes the name, and a rename over that. A crash between them leaves an empty file.
func claim(temp, path string) error {
	switch err := link(temp, path); {
	case err == nil:
		_ = os.Remove(temp) // if it stays, the file is in its place nevertheless
		return nil
	case errors.Is(err, fs.ErrExist):
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = f.Close()
	if err == nil {
		err = rename(temp, path)
	}
	if err != nil {
		_ = os.Remove(path) // an empty file, which is ours
	}
	return err
}

// MkdirAll makes the directory dir, and those above it that are missing, for their owner only.
func MkdirAll(dir string) error {
	var grown []string // the directories that get a name
	for d := filepath.Clean(dir); ; d = filepath.Dir(d) {
		if _, err := os.Stat(d); !errors.Is(err, fs.ErrNotExist) || d == filepath.Dir(d) {
			break
		}
		grown = append(grown, filepath.Dir(d))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, d := range grown {
		if err := syncDir(d); err != nil {
			return err
		}
	}
	return nil
}

// syncDir makes a new name in dir last, where a directory can be synced.
func syncDir(dir string) error {
	switch runtime.GOOS {
	case "windows", "plan9", "js", "wasip1":
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = sync(d)
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) { // a file system that does not do this
		err = nil
	}
	return errors.Join(err, d.Close())
}
