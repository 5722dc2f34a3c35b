package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	codes "modernc.org/sqlite/lib"

	"github.com/splitmesh/splitmesh/registry/registrytest"
)

// What this package promises rests on these, and a typing error in a pragma is no error.
func TestConnections(t *testing.T) {
	d, err := Open(t.Context(), filepath.Join(t.TempDir(), "records.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, tc := range []struct {
		db     *sql.DB
		pragma string
		want   string
	}{
		{d.writer, "synchronous", "2"}, // FULL
		{d.writer, "fullfsync", "1"},
		{d.writer, "journal_mode", "wal"},
		{d.writer, "foreign_keys", "1"},
		{d.writer, "busy_timeout", "100"},
		{d.writer, "trusted_schema", "0"},
		{d.writer, "cell_size_check", "1"},
		{d.readers, "journal_mode", "wal"},
		{d.readers, "foreign_keys", "1"},
		{d.readers, "busy_timeout", "100"},
		{d.readers, "trusted_schema", "0"},
		{d.readers, "cell_size_check", "1"},
	} {
		var got string
		if err := tc.db.QueryRow(`PRAGMA ` + tc.pragma).Scan(&got); err != nil || got != tc.want {
			t.Errorf("%s is %q, %v; want %q", tc.pragma, got, err, tc.want)
		}
	}
	if n, m := d.writer.Stats().MaxOpenConnections, d.readers.Stats().MaxOpenConnections; n != 1 || m != maxReaders {
		t.Errorf("%d writers and %d readers", n, m)
	}
	if _, err := d.readers.Exec(`DELETE FROM records`); err == nil || !strings.Contains(err.Error(), "readonly") {
		t.Errorf("a reader writes: %v", err)
	}
}

// A migration is applied once, in its order, whole or not at all.
func TestMigrations(t *testing.T) {
	path := filepath.Join(t.TempDir(), "records.db")
	if err := create(path); err != nil {
		t.Fatal(err)
	}
	db, err := connect(path, 1, always, writing)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	files := fstest.MapFS{
		"migrations/0001-one.sql": {Data: []byte(`CREATE TABLE log (step); INSERT INTO log VALUES (1);`)},
		"migrations/0002-two.sql": {Data: []byte(`INSERT INTO log VALUES (2);`)},
		"migrations/other.txt":    {Data: []byte(`nonsense`)},
	}
	state := func() (log string, version int) {
		t.Helper()
		if err := db.QueryRow(`SELECT group_concat(step) FROM (SELECT step FROM log ORDER BY rowid)`).Scan(&log); err != nil {
			t.Fatal(err)
		}
		if err := db.QueryRow(`PRAGMA user_version`).Scan(&version); err != nil {
			t.Fatal(err)
		}
		return log, version
	}
	is := func(wantLog string, wantVersion int) {
		t.Helper()
		if log, version := state(); log != wantLog || version != wantVersion {
			t.Fatalf("steps %s, version %d; want %s and %d", log, version, wantLog, wantVersion)
		}
	}
	for range 2 {
		if err := prepare(t.Context(), db, files); err != nil {
			t.Fatal(err)
		}
		is("1,2", 2)
	}
	files["migrations/0003-three.sql"] = &fstest.MapFile{Data: []byte(`INSERT INTO log VALUES (3);`)}
	files["migrations/0004-four.sql"] = &fstest.MapFile{Data: []byte(`INSERT INTO log VALUES (4); INSERT INTO nowhere VALUES (4);`)}
	if err := prepare(t.Context(), db, files); err == nil || !strings.Contains(err.Error(), "0004-four.sql") {
		t.Fatalf("a migration that fails: %v", err)
	}
	is("1,2,3", 3)
	files["migrations/0004-four.sql"] = &fstest.MapFile{Data: []byte(`INSERT INTO log VALUES (4);`)}
	if err := prepare(t.Context(), db, files); err != nil {
		t.Fatal(err)
	}
	is("1,2,3,4", 4)
}

// Somebody else's database that came to be since recognize looked is no more ours than any other.
func TestMarkRefusesWhatIsThere(t *testing.T) {
	for _, made := range []string{`CREATE TABLE theirs (x)`, `PRAGMA application_id = 7`} {
		path := filepath.Join(t.TempDir(), "records.db")
		if err := create(path); err != nil {
			t.Fatal(err)
		}
		db, err := connect(path, 1, always, writing)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if _, err := db.Exec(made); err != nil {
			t.Fatal(err)
		}
		if err := prepare(t.Context(), db, migrations); !errors.Is(err, ErrNotOurs) {
			t.Errorf("%s: %v, want ErrNotOurs", made, err)
		}
	}
}

// Each query finds its rows by an index: none reads all of a table, or sorts.
func TestQueryPlans(t *testing.T) {
	d, err := Open(t.Context(), filepath.Join(t.TempDir(), "records.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, tc := range []struct {
		query string
		args  []any
	}{
		{byID, []any{make([]byte, 32)}},
		{byName, []any{"ann"}},
		{listed, []any{make([]byte, 32), []byte("relay"), maxLook}},
		{remains, []any{make([]byte, 32)}},
		{claimed, []any{"ann", make([]byte, 32), 1}},
		{lost, []any{"ann", make([]byte, 32)}},
		{giveUp, []any{1, 1}},
	} {
		rows, err := d.readers.QueryContext(context.Background(), `EXPLAIN QUERY PLAN `+tc.query, tc.args...)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(detail, "SCAN") || strings.Contains(detail, "TEMP B-TREE") {
				t.Errorf("%s: %s", tc.query, detail)
			}
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		rows.Close()
	}
}

// Nobody waits for another process for ever, not even without a deadline.
func TestLockedForLong(t *testing.T) {
	defer func(before time.Duration) { lockTimeout = before }(lockTimeout)
	lockTimeout = time.Millisecond
	path := filepath.Join(t.TempDir(), "records.db")
	d, err := Open(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	other, err := connect(path, 1, always, writing)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	tx, err := other.Begin()
	if err != nil {
		t.Fatal(err)
	}
	r := registrytest.Signed(t, registrytest.Key(t), time.Now())
	if err := d.Publish(t.Context(), r); !is(err, codes.SQLITE_BUSY) {
		t.Errorf("Publish: %v, want that the file is locked", err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := d.Publish(t.Context(), r); err != nil {
		t.Error(err)
	}
}
