package keystore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

// writeFile puts a file with the contents b and mode 0600 at path, whole or not at all.
func writeFile(path string, b []byte, overwrite bool) (err error) {
	// Asked first, so that most mistakes end before anything is written. place is what makes sure.
	switch info, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
		overwrite = false
	case err != nil:
		return err
	case !overwrite:
		return ErrExists
	case !info.Mode().IsRegular():
		return fmt.Errorf("%w: it is no regular file (%v)", ErrExists, info.Mode().Type())
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	temp, err := writeTemp(dir, filepath.Base(path), b)
	if err != nil {
		return err
	}
	if overwrite {
		err = os.Rename(temp, path) // replaces the name: it never writes through a link
	} else {
		err = place(temp, path, os.Link)
	}
	if err != nil {
		_ = os.Remove(temp) // the first error is the one to report
		return err
	}
	return syncDir(dir)
}

// writeTemp writes a file to the disk, beside where it is to be so that it can be renamed, and returns its path.
func writeTemp(dir, base string, b []byte) (path string, err error) {
	f, err := os.CreateTemp(dir, "."+base+".tmp-*") // with mode 0600
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
	return f.Name(), f.Sync()
}

// place moves temp to path, where there must be nothing.
//
// A link is the one step that fails when the name is taken. File systems without links get two: an empty file that
// takes the name, and a rename over that. A crash between them leaves an empty file, which Load calls damaged.
func place(temp, path string, link func(from, to string) error) error {
	switch err := link(temp, path); {
	case err == nil:
		return os.Remove(temp)
	case errors.Is(err, fs.ErrExist):
		return ErrExists
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return ErrExists
	}
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(temp, path)
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
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) { // a file system that does not do this
		err = nil
	}
	return errors.Join(err, d.Close())
}
