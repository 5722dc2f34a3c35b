package store

import (
	"bytes"
	"database/sql"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func raw(t *testing.T, path, statement string, args ...any) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if res, err := db.ExecContext(t.Context(), statement, args...); err != nil {
		t.Fatal(err)
	} else if n, err := res.RowsAffected(); err != nil || n == 0 {
		t.Fatalf("%s changes nothing: %v", statement, err)
	}
}

// TestDamage: rows that were changed, exchanged or copied elsewhere are told, and the others are read.
func TestDamage(t *testing.T) {
	const mine = `owner = (SELECT owner FROM listed WHERE kind = 5 LIMIT 1)`
	for name, tt := range map[string]struct {
		edit    string
		damaged int
	}{
		"a byte":     {`UPDATE listed SET sealed = substr(sealed, 1, 30) || x'00' || substr(sealed, 32) WHERE kind = 5 AND number = 2 AND ` + mine, 1},
		"empty":      {`UPDATE listed SET sealed = x'' WHERE kind = 5 AND number = 2 AND ` + mine, 1},
		"no blob":    {`UPDATE listed SET sealed = 'text' WHERE kind = 5 AND number = 2 AND ` + mine, 1},
		"huge":       {`UPDATE listed SET sealed = zeroblob(100000000) WHERE kind = 5 AND number = 2 AND ` + mine, 1},
		"exchanged":  {`UPDATE listed SET number = 4 - number + 10 WHERE kind = 5 AND number != 2 AND ` + mine, 2},
		"of another": {`UPDATE listed SET owner = (SELECT owner FROM listed WHERE kind = 5 ORDER BY owner DESC LIMIT 1), number = 10 WHERE kind = 5 AND number = 2 AND ` + mine, 1},
		"other kind": {`INSERT INTO listed SELECT 5, owner, 10, sealed FROM listed WHERE kind = 6 LIMIT 1`, 0}, // of an owner that has no history
		"contact":    {`UPDATE named SET sealed = randomblob(100) WHERE kind = 1 AND name = (SELECT name FROM named WHERE kind = 1 LIMIT 1)`, 1},
		"a copy":     {`UPDATE named SET sealed = (SELECT sealed FROM named AS o WHERE o.kind = 1 AND o.name != named.name) WHERE kind = 1`, 1},
	} {
		t.Run(name, func(t *testing.T) {
			path := filled(t)
			raw(t, path, tt.edit)
			s := reopen(t, path)
			all := append(history(t, s, ann), history(t, s, bob)...)
			var people []Contact
			update(t, s, func(tx *Tx) (err error) {
				people, err = tx.Contacts()
				return err
			})
			sound := len(people)
			for _, text := range all {
				if text != "damaged" {
					sound++
				}
			}
			if s.Damaged() != tt.damaged || sound != 8-tt.damaged {
				t.Errorf("%d damaged, %d sound: %q", s.Damaged(), sound, all)
			}
		})
	}
}

// TestWhole: what is no store of ours, or is damaged as a whole, is said and left as it is.
func TestWhole(t *testing.T) {
	path := filled(t)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	scribbled := slices.Clone(whole)
	for i := 100; i < len(scribbled); i++ {
		scribbled[i] = byte(i)
	}
	for name, content := range map[string][]byte{"text": bytes.Repeat([]byte("no database "), 1000), "scribbled": scribbled} {
		path := filepath.Join(t.TempDir(), "chat.db")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), path, seed, slog.New(slog.DiscardHandler)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, content) {
			t.Error(name, "was changed", err)
		}
	}
	raw(t, path, `PRAGMA user_version = 2; UPDATE named SET kind = kind`)
	if _, err := Open(t.Context(), path, seed, slog.New(slog.DiscardHandler)); !errors.Is(err, ErrNotOurs) {
		t.Error("a later version:", err)
	}
}

// TestBeginning: a store that was not made to its end is made anew; one that was emptied, or lost but for its -wal, is not.
func TestBeginning(t *testing.T) {
	path := filepath.Join(t.TempDir(), "chat.db")
	for _, left := range []string{".new", ".new-wal"} {
		if err := os.WriteFile(path+left, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := reopen(t, path)
	update(t, s, func(tx *Tx) error { return tx.Log(ann, &Message{Text: "kept"}) })
	wal, err := os.ReadFile(path + "-wal")
	if err != nil || len(wal) == 0 {
		t.Fatal(len(wal), err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for name, damage := range map[string]func() error{
		"emptied": func() error { return os.Truncate(path, 0) }, "lost": func() error { return os.Remove(path) },
	} {
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.WriteFile(path+"-wal", wal, 0o600), damage()); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), path, seed, slog.New(slog.DiscardHandler)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		if now, err := os.ReadFile(path + "-wal"); err != nil || !bytes.Equal(now, wal) {
			t.Errorf("%s: what is in the -wal is gone: %v", name, err)
		}
	}
}
