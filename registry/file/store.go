package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/internal/atomicfile"
	"github.com/splitmesh/splitmesh/registry"
)

// The names of the files: the peer's ID and one of two endings. A revocation that is kept for good has an ending of its
// own, so that nothing that is written later takes its place, and its loss is noticed.
const (
	recordExt     = ".record"
	revocationExt = ".revocation"
	lockName      = ".lock"
)

func (d *Directory) file(id identity.ID, kept bool) string {
	ext := recordExt
	if kept {
		ext = revocationExt
	}
	return filepath.Join(d.Path, id.String()+ext)
}

// parseName returns whose record is in a file of that name, and whether it is a revocation that is kept for good.
func parseName(name string) (id identity.ID, kept, ok bool) {
	text, kept := strings.CutSuffix(name, revocationExt)
	if !kept {
		if text, ok = strings.CutSuffix(name, recordExt); !ok {
			return id, false, false
		}
	}
	id, err := identity.ParseID(text)
	return id, kept, err == nil && id.String() == text
}

// load reads all files, and clears away what a crash left behind. The path is locked.
func (d *Directory) load(ctx context.Context) (map[identity.ID]*entry, error) {
	files, err := os.ReadDir(d.Path)
	if err != nil {
		return nil, err
	}
	log := d.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	entries, now := make(map[identity.ID]*entry), d.now()
	for _, f := range files { // in the order of their names: of one peer, the revocation last
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		path := filepath.Join(d.Path, f.Name())
		if name, ok := atomicfile.Target(f.Name()); ok {
			if _, _, ok := parseName(name); ok {
				_ = os.Remove(path) // it was never acknowledged; if it stays, it is in nobody's way
			}
			continue
		}
		id, kept, ok := parseName(f.Name())
		if !ok {
			continue
		}
		r, err := readRecord(path, id, kept)
		floor := int64(0)
		if err != nil {
			err = fmt.Errorf("the file %q is damaged: %w; restore it from a backup, or have its peer publish again", path, err)
			floor = latest(path, now)
			log.Warn("a record is damaged", "peer", id.Short(), "made", "by "+stamp(floor), "err", err)
		}
		if kept && err == nil && entries[id] != nil {
			_ = os.Remove(d.file(id, false)) // tried again the next time
		}
		entries[id] = &entry{record: r, err: err, kept: kept, floor: floor}
	}
	return entries, nil
}

// latest returns how late the record in a file may have been made, going by when the file was written: no record is taken
// that is from more than MaxSkew after that. A time that is still to come says nothing.
func latest(path string, now time.Time) int64 {
	written := now
	if info, err := os.Lstat(path); err == nil && info.ModTime().Before(now) {
		written = info.ModTime()
	}
	return written.Add(registry.MaxSkew).UnixMilli()
}

// readRecord reads the record of id, which must be a revocation when it is kept for good.
func readRecord(path string, id identity.ID, kept bool) (*registry.Record, error) {
	if _, err := regular(os.Lstat(path)); err != nil { // before Open, which would wait at a pipe
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, registry.MaxSize+1))
	if err != nil {
		return nil, err
	}
	r, err := registry.Parse(b)
	switch {
	case err != nil:
		return nil, err
	case r.ID != id:
		return nil, fmt.Errorf("%w: the record in it is of %s", registry.ErrMalformed, r.ID)
	case kept && !r.Revoked:
		return nil, fmt.Errorf("%w: the record in it is no revocation", registry.ErrMalformed)
	}
	return r, nil
}

var errNotRegular = errors.New("it is no regular file")

func regular(info fs.FileInfo, err error) (fs.FileInfo, error) {
	if err == nil && !info.Mode().IsRegular() {
		err = errNotRegular
	}
	return info, err
}
