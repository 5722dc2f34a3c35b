package blob

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// Commit checks the whole, as it is on disk, and gives the file its name. When
// something on disk is not what it should be, the parts concerned are missing
// again, and the error wraps ErrIncomplete.
func (f *File) Commit(ctx context.Context) error {
	if f.done {
		return nil
	}
	if f.part == nil {
		return fmt.Errorf("blob: %s: %w", f.path, os.ErrClosed)
	}
	if f.a.missing == 0 {
		if err := f.check(ctx); err != nil {
			return err
		}
	}
	size, err := f.a.Size()
	if errors.Is(err, ErrManifest) { // all parts are right, and yet they are no blob
		return errors.Join(err, f.closeBoth(), os.Remove(f.path+partSuffix), os.Remove(f.path+haveSuffix))
	}
	if err != nil {
		return err
	}
	if err := f.part.Truncate(size); err != nil {
		return err
	}
	if err := errors.Join(f.part.Sync(), f.closeBoth()); err != nil {
		return err
	}
	if err := os.Rename(f.path+partSuffix, f.path); err != nil {
		return err
	}
	f.done = true
	return os.Remove(f.path + haveSuffix)
}

// check hashes what is on disk. A chunk that is no longer what it was is dropped;
// when all are, but don't lead to the root, those are that only the .have file
// vouched for.
func (f *File) check(ctx context.Context) error {
	a := f.a
	m := &a.manifest
	a.tail = tail{}
	b := make([]byte, min(int64(m.ChunkSize), m.Size))
	for i := range m.Chunks() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		off, n := m.span(i)
		f.o.progress(Checking, off+int64(n), m.Size)
		if !f.holds(b[:n], off, a.leaves[i]) {
			a.drop(i)
			continue
		}
		a.look(i, b[:n])
	}
	if a.missing == 0 && newTree(a.leaves).root() != m.Root {
		for i := range m.Chunks() {
			if !f.proved.has(i) {
				a.drop(i)
			}
		}
	}
	if a.missing > 0 {
		return errors.Join(fmt.Errorf("%w: %d of %d were damaged on disk", ErrIncomplete, a.missing, m.Chunks()), f.rewrite())
	}
	return nil
}

// Close closes the File. Without a Commit before it, what has come is kept for the
// next File of this path and blob. Close is idempotent.
func (f *File) Close() error {
	if f.path == "" {
		return nil
	}
	err := f.closeBoth()
	writing.Delete(f.path)
	f.path = ""
	return err
}

func (f *File) closeBoth() error {
	var errs []error
	for _, p := range []**os.File{&f.part, &f.have} {
		if *p != nil {
			errs = append(errs, (*p).Close())
			*p = nil
		}
	}
	return errors.Join(errs...)
}
