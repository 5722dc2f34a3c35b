// Package sqlite is a directory of records in a file, an SQLite database: for a server that keeps records for others and
// may be restarted, and for several processes on one machine that share what they know.
//
// The smallest program:
//
//	directory, err := sqlite.Open(ctx, "/var/lib/app/records.db", sqlite.Options{})
//	if err != nil {
//		return err
//	}
//	defer directory.Close()
//	node := &mesh.Node{Directory: directory}
//
// What the package promises:
//
//   - What registry/memory does, in the same words: it holds at most MaxRecords records; a live record is never pushed out
//     by another peer's; no peer can be rolled back to an older record while that could still be valid; and a revocation
//     of a peer that it knew is kept for good.
//   - A record for which Publish has returned nil is there after a crash of the program, of the machine, and of its power.
//   - Who may write to the file can withhold records or bring back old ones, and cannot forge one: each is parsed whenever
//     it is read, and what does not stand in its own place as it was published is [ErrDamaged]. The others are served as
//     before.
//   - Any number of processes may have the file open, and see what any of them has published.
//   - A file that is not one of ours, or that a newer version of this package made, is refused and left as it was.
//
// The file is created for its owner alone. While it is open there are two more beside it, PATH-wal and PATH-shm, which
// belong to it and must be moved or copied with it, or not at all: use sqlite3's .backup. It must lie on a local disk,
// since network file systems do not keep the promises about locks that SQLite builds on.
//
// The driver is modernc.org/sqlite, SQLite in Go: no C compiler is needed.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
)

// DefaultMaxRecords is how many records a [Directory] holds unless it is told otherwise. That takes 100 MB of disk
// for ordinary records, 1 KB each, and at worst 400 MB.
const DefaultMaxRecords = 65536

// What can be wrong beside what package registry names.
var (
	// ErrDamaged says that what was found is not what was published. A peer whose row alone is damaged takes its place
	// back with a record that is newer than the row says, or, where a revocation was kept, with another.
	ErrDamaged = errors.New("the file was damaged or edited: restore it from a backup, or have the peer publish again")
	// ErrNotOurs is Open's answer for a file that holds something else.
	ErrNotOurs = errors.New("it is no directory of records made by this package: choose another path; it was left as it is")
	// ErrNewer is Open's answer for a file of a later version.
	ErrNewer = errors.New("a newer version of this package made it: update the program; it was left as it is")
)

// Options say how [Open] opens a directory. They may differ between the processes that share a file.
type Options struct {
	// MaxRecords bounds the records held, revocations included. 0 means DefaultMaxRecords. When it is less than there
	// are, the next newcomer's record takes the place of as many as are too many, if these can be given up.
	MaxRecords int
	// Now is the clock. nil means time.Now.
	Now func() time.Time
}

// A Directory implements [registry.Namer], [registry.Lister] and [registry.Authority]. [Open] makes one. Its methods are
// safe for concurrent use.
//
// As an Authority it admits whoever has published, so it keeps nobody out; it only tells whom it knows, whose record
// has expired, and who was revoked.
//
// A place is given up for a newcomer once its record, and any older one of the same peer, must have expired: a record's
// Sequence is then [registry.MaxLife] ago. The oldest goes first. A revocation that took the place of a record is never
// given up; one of a peer unknown here has an ordinary place. When no place can be given up, newcomers get [registry.ErrFull].
type Directory struct {
	max int
	now func() time.Time
	// writer has one connection: SQLite lets one write at a time, and who waits here waits in line and hears of its
	// context, which SQLite does not.
	writer *sql.DB
	// readers have several, which cannot write.
	readers *sql.DB

	// life ends when Close begins, and every call with it.
	life context.Context
	end  context.CancelFunc

	mu sync.Mutex // orders enter before Close, or Close before enter
	// calls counts those that have entered and not left.
	calls sync.WaitGroup

	close func() error
}

// Close ends the calls under way, waits for them and closes the file. Closing again returns the same error.
func (d *Directory) Close() error { return d.close() }

func (d *Directory) closeFile() error {
	d.mu.Lock()
	d.end()
	d.mu.Unlock()
	d.calls.Wait()
	// The writer last: whoever is last to leave moves what the -wal file holds into the main one and removes it, and a
	// reader could not.
	return errors.Join(d.readers.Close(), d.writer.Close())
}

// enter counts a call in, unless Close has begun, until leave is called. The context it returns ends with ctx or when
// Close begins.
func (d *Directory) enter(ctx context.Context) (both context.Context, leave func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.life.Err() != nil {
		return nil, nil, net.ErrClosed
	}
	d.calls.Add(1)
	both, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(d.life, cancel)
	return both, func() {
		stop()
		cancel()
		d.calls.Done()
	}, nil
}

// call runs f between enter and leave.
func (d *Directory) call(ctx context.Context, f func(context.Context) error) error {
	both, leave, err := d.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if err = f(both); errors.Is(err, context.Canceled) && ctx.Err() == nil {
		return net.ErrClosed
	}
	return err
}

// Publish implements [registry.Directory]. Once it returns nil, the record is on the disk.
func (d *Directory) Publish(ctx context.Context, r *registry.Record) error {
	err := d.call(ctx, func(ctx context.Context) error {
		now := d.now()
		if err := r.Check(now); err != nil {
			return err
		}
		return write(ctx, d.writer, func(ctx context.Context, tx *sql.Tx) error { return d.put(ctx, tx, r, now) })
	})
	if err != nil {
		return &registry.RecordError{Op: "publish", ID: r.ID, Err: err}
	}
	return nil
}

// find returns the record that the query finds, or nil.
func (d *Directory) find(ctx context.Context, query string, key any) (r *registry.Record, err error) {
	err = d.call(ctx, func(ctx context.Context) error {
		return use(ctx, d.readers, func(ctx context.Context, c *sql.Conn) error {
			e, err := read(ctx, c, query, key)
			r = e.record
			return err
		})
	})
	return r, err
}

// Lookup implements [registry.Directory]. For a peer whose record has expired the error wraps [registry.ErrExpired] as
// well as [registry.ErrNotFound].
func (d *Directory) Lookup(ctx context.Context, id identity.ID) (*registry.Record, error) {
	fail := func(err error) error { return &registry.RecordError{Op: "lookup", ID: id, Err: err} }
	r, err := d.find(ctx, byID, id[:])
	if err != nil {
		return nil, fail(err)
	}
	if r == nil {
		return nil, fail(registry.ErrNotFound)
	}
	if err := r.Check(d.now()); err != nil {
		return nil, fail(fmt.Errorf("%w: %w", registry.ErrNotFound, err))
	}
	return r, nil
}

// Standing implements [registry.Authority].
func (d *Directory) Standing(ctx context.Context, id identity.ID) (registry.Standing, error) {
	r, err := d.find(ctx, byID, id[:])
	if err != nil {
		return registry.Unknown, &registry.RecordError{Op: "lookup", ID: id, Err: err}
	}
	if r == nil {
		return registry.Unknown, nil
	}
	switch err := r.Check(d.now()); {
	case r.Revoked:
		return registry.Revoked, nil
	case err == nil:
		return registry.Active, nil
	case errors.Is(err, registry.ErrExpired):
		return registry.Expired, nil
	default: // the clock was set back, and the record is from the future now
		return registry.Unknown, nil
	}
}

// Resolve implements [registry.Namer].
func (d *Directory) Resolve(ctx context.Context, name string) (identity.ID, error) {
	fail := func(err error) error { return &registry.RecordError{Op: "lookup", Field: "name", Err: err} }
	nobody := fail(fmt.Errorf("%w: nobody is called %.40q here", registry.ErrNotFound, name))
	key := name
	if !registry.ValidName(name) {
		key = "" // nobody's, and shorter
	}
	r, err := d.find(ctx, byName, key)
	if err != nil {
		return identity.ID{}, fail(err)
	}
	if r == nil || r.Sequence <= longAgo(d.now()) {
		return identity.ID{}, nobody
	}
	return r.ID, nil
}
