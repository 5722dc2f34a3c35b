package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	_ "modernc.org/sqlite" // the driver
	codes "modernc.org/sqlite/lib"
)

const (
	// applicationID stands in the file's header and says that it is ours: "SMrd".
	applicationID = 'S'<<24 | 'M'<<16 | 'r'<<8 | 'd'

	// busyTimeout is how long SQLite waits for another process's lock, deaf to contexts.
	busyTimeout = 100 * time.Millisecond

	maxReaders = 4        // each has a cache of up to 2 MB
	maxLength  = 64 << 10 // bytes of a value, beyond which it is not even loaded: many times registry.MaxSize
)

// lockTimeout is how long use waits for another process's lock. Only a test changes it.
var lockTimeout = 10 * time.Second

// Pragmas that every connection begins with. The last two are for files that somebody has edited: nothing in the schema
// is trusted, and pages are checked before they are used.
var always = url.Values{"_pragma": {
	fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()), "foreign_keys(1)", "trusted_schema(0)", "cell_size_check(1)",
}}

// What the writer's connection adds. With synchronous at NORMAL, which is common with a write-ahead log, the log goes to
// the disk only when it is moved into the file, and the last transactions before a loss of power are lost. That is fine
// for a cache. Here it would bring an older record back to life, and let in a peer whose revocation was accepted. FULL
// syncs the log in each transaction; fullfsync makes macOS do it.
var writing = url.Values{"mode": {"rw"}, "_txlock": {"immediate"}, "_pragma": {"synchronous(FULL)", "fullfsync(1)"}}

// migrations make a schema from the one before it, in the order of their names. The number of those that were applied is
// the file's user_version. One that was released is never changed.
//
//go:embed migrations/*.sql
var migrations embed.FS

// Open opens the directory in the file at path, and creates the file if there is none. It returns [ErrNotOurs] and
// [ErrNewer] for files that it does not know. The context is for opening alone.
//
// A file of an older version is brought to the newest schema: first end the processes of that version that share it.
func Open(ctx context.Context, path string, o Options) (*Directory, error) {
	d, err := open(ctx, path, o)
	if err != nil {
		return nil, fmt.Errorf("registry: opening %s: %w", path, err)
	}
	return d, nil
}

func open(ctx context.Context, path string, o Options) (*Directory, error) {
	if o.MaxRecords <= 0 {
		o.MaxRecords = DefaultMaxRecords
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := create(path); err != nil {
		return nil, err
	}
	if err := recognize(ctx, path); err != nil {
		return nil, err
	}
	d := &Directory{max: o.MaxRecords, now: o.Now}
	d.life, d.end = context.WithCancel(context.Background())
	d.close = sync.OnceValue(d.closeFile)
	if d.writer, err = connect(path, 1, always, writing); err != nil {
		return nil, err
	}
	if d.readers, err = connect(path, maxReaders, always, url.Values{"mode": {"ro"}}); err != nil {
		return nil, errors.Join(err, d.writer.Close())
	}
	if err := prepare(ctx, d.writer, migrations); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// creating is held while a new file is open outside SQLite. Closing a file drops all locks that the process has on it,
// SQLite's too; this way SQLite has none yet.
var creating sync.Mutex

// create makes an empty file, for its owner alone, unless there is one. SQLite gives the files beside it the same mode.
func create(path string) error {
	creating.Lock()
	defer creating.Unlock()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// recognize fails unless the file is ours or empty. It takes no locks and writes nothing, neither to the file nor beside
// it, whatever the file is: immutable sees to that. The file may grow meanwhile, which without writable_schema would be an
// error. Only the header of the main file is looked at, and there the application_id stands since before the first use
// of a write-ahead log.
func recognize(ctx context.Context, path string) error {
	switch info, err := os.Stat(path); {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%w: not a file", ErrNotOurs)
	case info.Size() == 0:
		return nil
	}
	db, err := connect(path, 1, url.Values{"mode": {"ro"}, "immutable": {"1"}, "_pragma": {"writable_schema(1)"}})
	if err != nil {
		return err
	}
	defer db.Close()
	var id int64
	err = use(ctx, db, func(ctx context.Context, c *sql.Conn) error {
		return c.QueryRowContext(ctx, `PRAGMA application_id`).Scan(&id)
	})
	switch {
	case is(err, codes.SQLITE_NOTADB):
		return fmt.Errorf("%w: not an SQLite database", ErrNotOurs)
	case err != nil:
		return err
	case id != applicationID:
		return ErrNotOurs
	}
	return nil
}

// connect returns a pool of at most n connections, which are opened when they are needed and kept.
func connect(path string, n int, options ...url.Values) (*sql.DB, error) {
	query := url.Values{}
	for _, o := range options {
		for key, values := range o {
			query[key] = append(query[key], values...)
		}
	}
	slashed := filepath.ToSlash(path)
	if !strings.HasPrefix(slashed, "/") { // a drive letter
		slashed = "/" + slashed
	}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: slashed, RawQuery: query.Encode()}).String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(n)
	db.SetMaxIdleConns(n)
	return db, nil
}

// prepare brings the file to the newest schema.
func prepare(ctx context.Context, db *sql.DB, migrations fs.FS) error {
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return err
	}
	if err := write(ctx, db, func(ctx context.Context, tx *sql.Tx) error { return mark(ctx, tx, len(names)) }); err != nil {
		return err
	}
	var mode string
	err = use(ctx, db, func(ctx context.Context, c *sql.Conn) error {
		return c.QueryRowContext(ctx, `PRAGMA journal_mode = WAL`).Scan(&mode)
	})
	if err != nil {
		return err
	}
	if mode != "wal" {
		return errors.New("there can be no write-ahead log on this file system: choose a path on a local disk")
	}
	for done := false; !done; {
		if err := write(ctx, db, func(ctx context.Context, tx *sql.Tx) (err error) {
			done, err = migrate(ctx, tx, migrations, names)
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// mark makes an empty file ours, before it has a write-ahead log: see recognize. Two processes may be here at once.
func mark(ctx context.Context, tx *sql.Tx, newest int) error {
	var id, objects int64
	if err := tx.QueryRowContext(ctx, `PRAGMA application_id`).Scan(&id); err != nil {
		return err
	}
	if id == applicationID {
		_, err := version(ctx, tx, newest)
		return err
	}
	if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_schema`).Scan(&objects); err != nil {
		return err
	}
	if id != 0 || objects != 0 {
		return ErrNotOurs
	}
	return exec(ctx, tx, fmt.Sprintf(`PRAGMA application_id = %d`, applicationID))
}

// migrate applies the first migration that is missing, and reports whether there was none.
func migrate(ctx context.Context, tx *sql.Tx, migrations fs.FS, names []string) (done bool, err error) {
	v, err := version(ctx, tx, len(names))
	if err != nil || v == len(names) {
		return true, err
	}
	statements, err := fs.ReadFile(migrations, names[v])
	if err != nil {
		return false, err
	}
	if err := exec(ctx, tx, string(statements)); err != nil {
		return false, fmt.Errorf("%s: %w", names[v], err)
	}
	return false, exec(ctx, tx, fmt.Sprintf(`PRAGMA user_version = %d`, v+1))
}

// version returns the file's user_version, and fails when that is beyond the newest.
func version(ctx context.Context, tx *sql.Tx, newest int) (v int, err error) {
	if err := tx.QueryRowContext(ctx, `PRAGMA user_version`).Scan(&v); err != nil {
		return 0, err
	}
	if v < 0 || v > newest {
		return 0, fmt.Errorf("%w: its schema is version %d, and %d is the newest known here", ErrNewer, v, newest)
	}
	return v, nil
}
