// Package store keeps what meshchat knows, in a file whose contents only the node's key opens: contacts, rooms, history, and
// what waits to be delivered.
//
// What the package promises:
//
//   - What Update has returned for is on the disk, whole or not at all, whatever happens to the process then.
//   - Who has the file without the key learns how many rows there are of each kind, how long they are, and which belong
//     together; not who talks to whom, nor what. Names in the file are keyed hashes.
//   - A row is sealed together with its place (XChaCha20-Poly1305, whose associated data are kind, owner and number), so a
//     row that was changed, or put in the place of another, is damaged. It is then told and counted as not there; the
//     others are read as ever.
//   - Everything is bounded; see the limits.
//
// Rows that are missing, or older ones of the same place, are not noticed: whoever can write the file can do that.
package store

import (
	"context"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/crypto/chacha20poly1305"
	driver "modernc.org/sqlite" // and the driver registers itself
	codes "modernc.org/sqlite/lib"

	"github.com/splitmesh/splitmesh/examples/meshchat/internal/protocol"
)

// Why a store can't be opened.
var (
	ErrWrongKey = errors.New("the store was made with another key: restore that, or move the store away to begin a new one")
	ErrCorrupt  = errors.New("the store's file is damaged as a whole: restore it from a backup, or move it away, with the -wal beside it, to begin a new one")
	ErrNotOurs  = errors.New("not a store of this version of meshchat")
	// ErrFull says that a limit is reached.
	ErrFull = errors.New("there is no room for more")
)

// Limits.
const (
	MaxContacts    = 500      // blocked ones and requests included
	MaxRooms       = 256      // of all creators
	MaxHistory     = 5000     // messages of a chat; the oldest go first
	MaxHistorySize = 16 << 20 // bytes of them, give or take weighEvery messages
	MaxQueue       = 1000     // messages that wait for one peer
	MaxInvitations = 64       // that nobody has used yet; the oldest are forgotten
	MaxTransfers   = 256      // the oldest that have ended go first
	MaxOffered     = 32       // files that one peer offers and nobody has answered
)

const (
	applicationID = 'S'<<24 | 'M'<<16 | 'c'<<8 | 'h'
	schemaVersion = 1
	maxRow        = 64 << 10 // bytes of a sealed row, beyond which it is not even loaded
	maxTold       = 100      // damaged rows, of which each is told once
)

// schema: things that have a name, and things in the order in which they came.
const schema = `
CREATE TABLE named (kind INTEGER NOT NULL, name BLOB NOT NULL, sealed BLOB NOT NULL, PRIMARY KEY (kind, name)) WITHOUT ROWID;
CREATE TABLE listed (kind INTEGER NOT NULL, owner BLOB NOT NULL, number INTEGER NOT NULL, sealed BLOB NOT NULL, PRIMARY KEY (kind, owner, number)) WITHOUT ROWID;
`

// A kind is one of rows. The numbers are in files.
type kind int

const (
	kindMeta kind = iota
	kindContact
	kindRoom
	kindMark
	kindInvitation
	kindMessage  // listed, by chat
	kindQueue    // listed, by peer
	kindTransfer // listed
)

// A Store is open until it is closed. Its methods may be called from many goroutines.
type Store struct {
	db   *sql.DB
	aead cipher.AEAD
	name []byte // key of the hashes
	log  *slog.Logger

	mu      sync.Mutex
	damaged map[string]bool
}

// Open opens the store in the file at path, or makes it. seed is the secret from which its keys are derived.
func Open(ctx context.Context, path string, seed []byte, log *slog.Logger) (*Store, error) {
	s, err := open(ctx, path, seed, log)
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", path, explain(err))
	}
	return s, nil
}

func open(ctx context.Context, path string, seed []byte, log *slog.Logger) (_ *Store, err error) {
	s := &Store{log: log, damaged: make(map[string]bool)}
	key := make([][]byte, 2)
	for i, what := range []string{"seal", "name"} {
		if key[i], err = hkdf.Key(sha256.New, seed, nil, "splitmesh/meshchat/v1/store/"+what, 32); err != nil {
			return nil, err
		}
	}
	s.name = key[1]
	if s.aead, err = chacha20poly1305.NewX(key[0]); err != nil {
		return nil, err
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = s.create(ctx, path)
	case err == nil && info.Size() == 0: // SQLite would begin anew, and remove what is in the -wal
		err = fmt.Errorf("%w: it is empty", ErrCorrupt)
	}
	if err != nil {
		return nil, err
	}
	if err := s.connect(path); err != nil {
		return nil, err
	}
	if err := s.check(ctx); err != nil {
		return nil, errors.Join(err, s.db.Close())
	}
	return s, nil
}

func (s *Store) connect(path string) (err error) {
	// FULL has each transaction on the disk before it is acknowledged. What the file says of itself is not trusted.
	q := url.Values{"mode": {"rw"}, "_txlock": {"immediate"}, "_pragma": {
		"busy_timeout(5000)", "synchronous(FULL)", "fullfsync(1)", "trusted_schema(0)", "cell_size_check(1)",
		"secure_delete(1)", "temp_store(2)",
	}}
	if s.db, err = sql.Open("sqlite", (&url.URL{Scheme: "file", Path: filepath.ToSlash(path), RawQuery: q.Encode()}).String()); err != nil {
		return err
	}
	s.db.SetMaxOpenConns(1) // one at a time: there is one program, and it is quick
	return nil
}

// create makes an empty store. It has its name only when it is whole, so that a file that is not was damaged later.
func (s *Store) create(ctx context.Context, path string) error {
	const wal = "-wal"
	if _, err := os.Lstat(path + wal); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(fmt.Errorf("%w: it is gone, and what belongs to it is left in %s%s", ErrCorrupt, path, wal), err)
	}
	fresh := path + ".new"
	for _, left := range []string{"", wal, "-shm"} { // by a creation that was interrupted
		if err := os.Remove(fresh + left); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	// SQLite makes the files beside it with the same mode.
	f, err := os.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		err = f.Close()
	}
	if err == nil {
		err = s.connect(fresh)
	}
	if err != nil {
		return err
	}
	if err := errors.Join(s.schema(ctx), s.db.Close()); err != nil {
		return err
	}
	return os.Rename(fresh, path)
}

func (s *Store) schema(ctx context.Context) error {
	var mode string
	if err := s.db.QueryRowContext(ctx, `PRAGMA journal_mode = WAL`).Scan(&mode); err != nil {
		return err
	}
	return s.Update(ctx, func(tx *Tx) error {
		if _, err := tx.tx.ExecContext(ctx, fmt.Sprintf(`PRAGMA application_id = %d; PRAGMA user_version = %d;`, applicationID, schemaVersion)+schema); err != nil {
			return err
		}
		return tx.put(kindMeta, tx.s.hash("key"), "key")
	})
}

// check sees that the file is a store, and the key the right one.
func (s *Store) check(ctx context.Context) error {
	var app, version int
	for query, v := range map[string]*int{`PRAGMA application_id`: &app, `PRAGMA user_version`: &version} {
		if err := s.db.QueryRowContext(ctx, query).Scan(v); err != nil {
			return err
		}
	}
	if app != applicationID || version != schemaVersion {
		return ErrNotOurs
	}
	return s.View(ctx, func(tx *Tx) error {
		var word string
		if ok, err := tx.get(kindMeta, tx.s.hash("key"), &word); err != nil || ok {
			return err
		}
		return ErrWrongKey
	})
}

// Close closes the store.
func (s *Store) Close() error { return s.db.Close() }

// Damaged is how many damaged rows were met since the store was opened.
func (s *Store) Damaged() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.damaged)
}

// met notes a damaged row.
func (s *Store) met(place string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.damaged) >= maxTold || s.damaged[place] {
		return
	}
	s.damaged[place] = true
	s.log.Error("a row of the store is damaged and left out", "row", place, "err", err)
}

// A Tx is one transaction. It is for the goroutine that has it, as long as the function that got it runs.
type Tx struct {
	s   *Store
	ctx context.Context
	tx  *sql.Tx
}

// Update runs f in a transaction, which is on the disk when Update returns nil. An error of f undoes it.
func (s *Store) Update(ctx context.Context, f func(*Tx) error) error {
	// What has begun is not cut short by a context that ends.
	inner := context.WithoutCancel(ctx)
	if err := ctx.Err(); err != nil {
		return err
	}
	tx, err := s.db.BeginTx(inner, nil)
	if err != nil {
		return explain(err)
	}
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing
	if err := f(&Tx{s, inner, tx}); err != nil {
		return explain(err)
	}
	return explain(tx.Commit())
}

// View is Update for those who only read.
func (s *Store) View(ctx context.Context, f func(*Tx) error) error { return s.Update(ctx, f) }

// hash is the name under which something stands in the file.
func (s *Store) hash(parts ...any) []byte {
	h := hmac.New(sha256.New, s.name)
	for _, p := range parts {
		var b []byte
		switch p := p.(type) {
		case string:
			b = []byte(p)
		case []byte:
			b = p
		case uint64:
			b = binary.BigEndian.AppendUint64(nil, p)
		}
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(b))))
		h.Write(b)
	}
	return h.Sum(nil)[:16]
}

// place is the associated data of a row: where it stands.
func place(k kind, owner []byte, number int64) []byte {
	b := binary.BigEndian.AppendUint32([]byte("splitmesh/meshchat/v1/row"), uint32(k))
	return append(binary.BigEndian.AppendUint64(b, uint64(number)), owner...)
}

func (s *Store) seal(v any, k kind, owner []byte, number int64) ([]byte, error) {
	plain, err := protocol.Marshal(v)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, s.aead.NonceSize(), s.aead.NonceSize()+len(plain)+s.aead.Overhead())
	rand.Read(nonce) // 24 bytes never meet
	sealed := s.aead.Seal(nonce, nonce, plain, place(k, owner, number))
	if len(sealed) > maxRow {
		return nil, fmt.Errorf("a row of %d bytes", len(sealed))
	}
	return sealed, nil
}

// open reports whether the row is sound.
func (s *Store) open(sealed []byte, v any, k kind, owner []byte, number int64) bool {
	err := errors.New("too short or too long")
	if n := s.aead.NonceSize(); len(sealed) >= n && len(sealed) <= maxRow {
		var plain []byte
		if plain, err = s.aead.Open(nil, sealed[:n], sealed[n:], place(k, owner, number)); err == nil {
			err = protocol.Unmarshal(plain, v)
		}
	}
	if err != nil {
		s.met(fmt.Sprintf("%d/%x/%d", k, owner, number), err)
	}
	return err == nil
}

// explain adds what SQLite's error means.
func explain(err error) error {
	if e, ok := errors.AsType[*driver.Error](err); ok {
		switch code := e.Code(); {
		case code&0xff == codes.SQLITE_CORRUPT, code&0xff == codes.SQLITE_NOTADB:
			return fmt.Errorf("%w: %w", ErrCorrupt, err)
		// The -shm beside the file, which is made when it is opened, finds no room either.
		case code&0xff == codes.SQLITE_FULL, code == codes.SQLITE_IOERR_SHMSIZE:
			return fmt.Errorf("%w: make room on its disk; what it holds is not lost", &fs.PathError{Op: "write", Path: "store", Err: errFull})
		}
	}
	return err
}
