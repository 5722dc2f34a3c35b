package chat

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/splitmesh/splitmesh/examples/meshchat/internal/protocol"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/store"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/text"
)

// coming is where a file is until it is whole, and the beginning of the names of what belongs to it. Others may use the
// directory too: their names begin otherwise.
func (e *Engine) coming(service string) string {
	return filepath.Join(e.Dir, e.comings()+strings.TrimPrefix(service, protocol.FileService))
}

func (e *Engine) comings() string { return ".coming-" + e.ID.Short() + "-" }

// sweep removes what is left of files that nobody waits for. What has failed may be accepted again.
func (e *Engine) sweep(ctx context.Context) error {
	left, err := os.ReadDir(e.Dir)
	left = slices.DeleteFunc(left, func(f fs.DirEntry) bool { return !strings.HasPrefix(f.Name(), e.comings()) })
	if len(left) == 0 {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return err
	}
	all, err := e.Files(ctx)
	if err != nil {
		return err
	}
	for _, f := range left {
		path, awaited := filepath.Join(e.Dir, f.Name()), false
		for i := range all {
			x := &all[i]
			awaited = awaited || !x.Out && (x.State == store.Running || x.State == store.Failed) &&
				strings.HasPrefix(path, e.coming(fileService(x.Peer, e.ID, x.ID)))
		}
		if !awaited {
			err = errors.Join(err, os.Remove(path))
		}
	}
	return err
}

// roomFor says why there is no room for that many bytes.
func (e *Engine) roomFor(size int64) error {
	dir := e.Dir
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) { // it is made for the first file
		dir = filepath.Dir(dir)
	}
	free, err := available(dir)
	if err == nil && free < uint64(size) {
		err = fmt.Errorf("the disk of %s has %s left, and the file %s: %w", e.Dir, humanize.IBytes(free), humanize.IBytes(uint64(size)), errFull)
	}
	return err
}

// place gives a file that has come a name in the directory that no other has.
func place(coming, dir, name string) (string, error) {
	ext := filepath.Ext(name)
	for n := 1; ; n++ {
		path := filepath.Join(dir, name)
		if n > 1 {
			path = filepath.Join(dir, fmt.Sprintf("%s (%d)%s", strings.TrimSuffix(name, ext), n, ext))
		}
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // the name is ours now
		if errors.Is(err, fs.ErrExist) && n < 1000 {
			continue
		}
		if err != nil {
			return "", err
		}
		return path, errors.Join(f.Close(), os.Rename(coming, path))
	}
}

// safeName is a file's name without what a directory or a terminal would make of it, and with room for a number.
func safeName(name string) string { return text.FileName(name, protocol.MaxFileName-20) }
