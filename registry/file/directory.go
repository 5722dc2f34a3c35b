package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/internal/atomicfile"
	"github.com/splitmesh/splitmesh/registry"
)

// DefaultMaxRecords is how many records a [Directory] holds unless it is told otherwise. It reads and verifies all of them
// at its first use, which takes some 3 s then.
const DefaultMaxRecords = 16384

// ErrInUse is the answer of a directory whose path another has. It comes wrapped in a [*registry.RecordError].
var ErrInUse = errors.New("another process, or another Directory of this one, keeps records there: give each a path of its own")

// A Directory implements [registry.Namer] and [registry.Lister] with one file for each record, named by its peer's ID. Only
// Path is required. It must not be copied, and its exported fields are read-only after the first method call. Close it to
// let go of the path, which on Unix is locked against other processes; elsewhere give it to one process only.
//
// It reads all files at its first use, and holds the records in memory from then on: what others write there later is
// not seen. It touches no files but those that it has written, or that are named like them.
//
// As in registry/memory a place is given up for a newcomer once its record, and any older one of the same peer, must have
// expired: a record's Sequence is then [registry.MaxLife] ago. The oldest goes first. A revocation that took the place of
// a record is never given up; one of a peer unknown here has an ordinary place. When no place can be given up, newcomers
// get [registry.ErrFull].
type Directory struct {
	// Path is the directory of the files. When it is missing it is made, for its owner only.
	Path string
	// MaxRecords bounds the records held, revocations included. 0 means DefaultMaxRecords.
	MaxRecords int
	// Now is the clock. nil means time.Now.
	Now func() time.Time
	// Logger gets which files are damaged. Nil: nothing.
	Logger *slog.Logger

	// writing is taken before mu, by whoever writes to files or to what mu guards, so that it alone suffices to read that.
	writing sync.Mutex
	lock    io.Closer

	mu     sync.RWMutex // guards all below
	closed bool
	// entries holds a place for every known peer. Nil until the files have been read.
	entries map[identity.ID]*entry
	// names holds who was given each name that is in a record.
	names map[string]identity.ID
	// order holds the IDs of the entries, ascending.
	order []identity.ID
}

// An entry is a peer's place. It is replaced, never changed.
type entry struct {
	record *registry.Record // nil when its file is damaged
	err    error            // how
	// floor is how late the record may have been made that a damaged file held, in Unix milliseconds.
	floor int64
	// kept marks a revocation that is kept for good. Its file's name says so too, so that it stays when it is damaged.
	kept bool
}

// sequence is what the entry is as old as; a damaged one may be as old as that.
func (e *entry) sequence() int64 {
	if e.record == nil {
		return e.floor
	}
	return e.record.Sequence
}

func (e *entry) name() string {
	if e.record == nil {
		return ""
	}
	return e.record.Name
}

var errClosed = fmt.Errorf("file directory: %w", net.ErrClosed)

func (d *Directory) now() time.Time {
	if d.Now == nil {
		return time.Now()
	}
	return d.Now()
}

// Publish implements [registry.Directory]. It returns when the record is on the disk. When it can't be written, Lookup
// answers as before.
func (d *Directory) Publish(ctx context.Context, r *registry.Record) error {
	if err := d.publish(ctx, r); err != nil {
		return &registry.RecordError{Op: "publish", ID: r.ID, Err: err}
	}
	return nil
}

func (d *Directory) publish(ctx context.Context, r *registry.Record) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	now := d.now()
	if err := r.Check(now); err != nil {
		return err
	}
	next := &entry{record: r.Clone()}

	d.writing.Lock()
	defer d.writing.Unlock()
	if err := d.open(ctx); err != nil {
		return err
	}
	if holder, ok := d.holder(r.Name, now); ok && holder != r.ID {
		return fmt.Errorf("%w: %q is %s's", registry.ErrNameTaken, r.Name, holder)
	}
	old := d.entries[r.ID]
	if old == nil {
		if err := d.makeRoom(now); err != nil {
			return err
		}
		return d.put(r.ID, nil, next)
	}
	switch {
	case old.record == nil && old.kept && !r.Revoked, old.record != nil && old.record.Revoked && !r.Revoked:
		return fmt.Errorf("%w: the key was revoked for good; make a new one", registry.ErrRollback)
	case old.record == nil && !r.Revoked && r.Sequence <= old.floor:
		return fmt.Errorf("%w, or was: what is kept of the peer is damaged, and may have been made as late as %s; publish one that is made after that", registry.ErrRollback, stamp(old.floor))
	case old.record != nil && r.Equal(old.record):
		return nil
	case old.record != nil && !r.Newer(old.record):
		return fmt.Errorf("%w, made at %s", registry.ErrRollback, stamp(old.record.Sequence))
	}
	next.kept = old.kept || r.Revoked && (old.record == nil || !old.record.Revoked)
	return d.put(r.ID, old, next)
}

func stamp(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }

// put writes what takes the place of old, which is nil for a newcomer. d.writing is held.
func (d *Directory) put(id identity.ID, old, next *entry) error {
	if err := atomicfile.Write(d.file(id, next.kept), next.record.Marshal()); err != nil {
		return err
	}
	if old != nil && next.kept && !old.kept {
		_ = os.Remove(d.file(id, false)) // load does it if this fails
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.entries[id] = next
	if old != nil {
		d.unname(id, old)
	} else {
		i, _ := slices.BinarySearchFunc(d.order, id, identity.ID.Compare)
		d.order = slices.Insert(d.order, i, id)
	}
	if name := next.name(); name != "" {
		d.names[name] = id
	}
	return nil
}

// makeRoom gives up places until there is one for a newcomer. It takes O(n) when all are taken. d.writing is held.
func (d *Directory) makeRoom(now time.Time) error {
	most := d.MaxRecords
	if most <= 0 {
		most = DefaultMaxRecords
	}
	for len(d.entries) >= most {
		var oldest identity.ID
		var gone *entry
		for id, e := range d.entries {
			if !e.kept && (gone == nil || e.sequence() < gone.sequence()) {
				oldest, gone = id, e
			}
		}
		if gone == nil || gone.sequence() > now.Add(-registry.MaxLife).UnixMilli() {
			return fmt.Errorf("%w (it holds %d records)", registry.ErrFull, len(d.entries))
		}
		if err := os.Remove(d.file(oldest, false)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		d.mu.Lock()
		delete(d.entries, oldest)
		i, _ := slices.BinarySearchFunc(d.order, oldest, identity.ID.Compare)
		d.order = slices.Delete(d.order, i, i+1)
		d.unname(oldest, gone)
		d.mu.Unlock()
	}
	return nil
}

// unname notes that id has no longer the name that it has in e. d.mu is held.
func (d *Directory) unname(id identity.ID, e *entry) {
	if name := e.name(); name != "" && d.names[name] == id {
		delete(d.names, name)
	}
}

// holder returns whose name is, if anybody's. d.mu or d.writing is held.
func (d *Directory) holder(name string, now time.Time) (id identity.ID, ok bool) {
	if id, ok = d.names[name]; ok {
		ok = d.entries[id].sequence() > now.Add(-registry.MaxLife).UnixMilli()
	}
	return id, ok
}

// Lookup implements [registry.Directory]. For a peer whose record has expired the error wraps [registry.ErrExpired] as
// well as [registry.ErrNotFound].
func (d *Directory) Lookup(ctx context.Context, id identity.ID) (*registry.Record, error) {
	r, err := d.lookup(ctx, id)
	if err != nil {
		return nil, &registry.RecordError{Op: "lookup", ID: id, Err: err}
	}
	return r.Clone(), nil
}

func (d *Directory) lookup(ctx context.Context, id identity.ID) (*registry.Record, error) {
	if err := d.read(ctx); err != nil {
		return nil, err
	}
	defer d.mu.RUnlock()
	e := d.entries[id]
	switch {
	case e == nil:
		return nil, registry.ErrNotFound
	case e.record == nil:
		return nil, e.err
	}
	if err := e.record.Check(d.now()); err != nil {
		return nil, fmt.Errorf("%w: %w", registry.ErrNotFound, err)
	}
	return e.record, nil
}

// Resolve implements [registry.Namer].
func (d *Directory) Resolve(ctx context.Context, name string) (identity.ID, error) {
	fail := func(err error) (identity.ID, error) {
		return identity.ID{}, &registry.RecordError{Op: "lookup", Field: "name", Err: err}
	}
	if err := d.read(ctx); err != nil {
		return fail(err)
	}
	defer d.mu.RUnlock()
	id, ok := d.holder(name, d.now())
	if !ok {
		return fail(fmt.Errorf("%w: nobody is called %.40q here", registry.ErrNotFound, name))
	}
	return id, nil
}

// read takes d.mu for reading, once the files have been read, unless it returns an error.
func (d *Directory) read(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d.mu.RLock()
	for d.entries == nil {
		d.mu.RUnlock()
		d.writing.Lock()
		err := d.open(ctx)
		d.writing.Unlock()
		if err != nil {
			return err
		}
		d.mu.RLock()
	}
	return nil
}

// open reads the files unless that was done. d.writing is held.
func (d *Directory) open(ctx context.Context) error {
	switch {
	case d.closed:
		return errClosed
	case d.entries != nil:
		return nil
	}
	if err := atomicfile.MkdirAll(d.Path); err != nil {
		return err
	}
	lock, err := lockFile(filepath.Join(d.Path, lockName))
	if err != nil {
		return err
	}
	entries, err := d.load(ctx)
	if err != nil {
		_ = lock.Close() // the first error is the one to report
		return err
	}
	names := make(map[string]identity.ID)
	for id, e := range entries {
		// A name was given to a second peer only when the first one's record was MaxLife old, so that the second one's,
		// which had not expired then, is later.
		name := e.name()
		if holder, ok := names[name]; name != "" && (!ok || e.sequence() > entries[holder].sequence()) {
			names[name] = id
		}
	}
	d.lock = lock
	d.mu.Lock()
	defer d.mu.Unlock()
	d.entries, d.names = entries, names
	d.order = slices.SortedFunc(maps.Keys(entries), identity.ID.Compare)
	return nil
}

// Close lets go of the path. It is idempotent, waits for what is being written, and is safe at any moment.
func (d *Directory) Close() error {
	d.writing.Lock()
	defer d.writing.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	d.entries, d.names, d.order = nil, nil, nil
	lock := d.lock
	d.lock = nil
	if lock == nil {
		return nil
	}
	return lock.Close()
}
