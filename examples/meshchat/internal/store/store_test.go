package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/splitmesh/splitmesh/examples/meshchat/internal/protocol"
	"github.com/splitmesh/splitmesh/identity"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(pathVariable); path != "" {
		fmt.Fprintln(os.Stderr, talkForEver(path))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

func id(n int) identity.ID {
	seed := sha256.Sum256([]byte{byte(n), byte(n >> 8)})
	k, err := identity.NewKeyFromSeed(seed[:])
	if err != nil {
		panic(err)
	}
	return k.ID()
}

var seed = bytes.Repeat([]byte{7}, 32)

func reopen(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(t.Context(), path, seed, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func update(t *testing.T, s *Store, f func(tx *Tx) error) {
	t.Helper()
	if err := s.Update(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

func history(t *testing.T, s *Store, c protocol.Chat) (out []string) {
	t.Helper()
	update(t, s, func(tx *Tx) error {
		all, err := tx.History(c, 100000)
		for _, m := range all {
			if m.Damaged {
				m.Text = "damaged"
			}
			out = append(out, m.Text)
		}
		return err
	})
	return out
}

var ann, bob = protocol.Chat{Peer: id(1)}, protocol.Chat{Peer: id(2)}

// filled is a store of two contacts with whom a little was said.
func filled(t *testing.T) (path string) {
	path = filepath.Join(t.TempDir(), "chat.db")
	s := reopen(t, path)
	update(t, s, func(tx *Tx) error {
		for i, c := range []protocol.Chat{ann, bob} {
			for n := range 3 {
				if err := tx.Log(c, &Message{From: c.Peer, ID: uint64(n + 1), Text: fmt.Sprintf("secret %d of %d", n, i)}); err != nil {
					return err
				}
			}
			if err := errors.Join(tx.PutContact(&Contact{ID: c.Peer, Name: fmt.Sprint("contact-", i), Standing: Friend}),
				tx.PutMark(c.Peer, c, Mark{In: 3}), tx.Enqueue(c.Peer, &Item{Message: protocol.Message{ID: 9, Text: "secret that waits"}})); err != nil {
				return err
			}
		}
		return nil
	})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestNothingInClear: neither texts nor names nor IDs are in the files.
func TestNothingInClear(t *testing.T) {
	path := filled(t)
	files, err := filepath.Glob(path + "*")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		a := id(1)
		for _, clear := range [][]byte{[]byte("secret"), []byte("contact-"), a[:]} {
			if bytes.Contains(b, clear) {
				t.Errorf("%s holds %q", f, clear)
			}
		}
		if info, err := os.Stat(f); err != nil || info.Mode().Perm() != 0o600 {
			t.Error(f, info.Mode(), err)
		}
	}
	if _, err := Open(t.Context(), path, bytes.Repeat([]byte{8}, 32), slog.New(slog.DiscardHandler)); !errors.Is(err, ErrWrongKey) {
		t.Error("another key:", err)
	}
}

// TestBounds: histories lose their oldest, queues and contacts are full.
func TestBounds(t *testing.T) {
	s := reopen(t, filepath.Join(t.TempDir(), "chat.db"))
	text := func() *Item { return &Item{Message: protocol.Message{Text: "x"}} }
	update(t, s, func(tx *Tx) error {
		for i := range MaxHistory + 7 {
			if err := tx.Log(ann, &Message{ID: 1, Text: fmt.Sprint(i)}); err != nil {
				return err
			}
		}
		for range MaxQueue {
			if err := tx.Enqueue(ann.Peer, text()); err != nil {
				return err
			}
		}
		for i := range MaxContacts {
			if err := tx.PutContact(&Contact{ID: id(i)}); err != nil {
				return err
			}
		}
		return nil
	})
	if h := history(t, s, ann); len(h) != MaxHistory || h[0] != "7" {
		t.Errorf("%d messages from %s on", len(h), h[0])
	}
	update(t, s, func(tx *Tx) error { // long ones go sooner
		for i := range 2 * MaxHistorySize / protocol.MaxText {
			if err := tx.Log(bob, &Message{ID: uint64(i), Text: strings.Repeat("x", protocol.MaxText)}); err != nil {
				return err
			}
		}
		n, err := tx.Logged(bob)
		if most := MaxHistorySize/protocol.MaxText + weighEvery; n > most || n < most-2*weighEvery {
			t.Errorf("%d long messages", n)
		}
		return err
	})
	for what, f := range map[string]func(*Tx) error{
		"queue":    func(tx *Tx) error { return tx.Enqueue(ann.Peer, text()) },
		"contacts": func(tx *Tx) error { return tx.PutContact(&Contact{ID: id(MaxContacts)}) },
	} {
		if err := s.Update(t.Context(), f); !errors.Is(err, ErrFull) {
			t.Errorf("%s: %v", what, err)
		}
	}
	update(t, s, func(tx *Tx) error {
		return errors.Join(tx.PutContact(&Contact{ID: id(1), Name: "again"}), tx.Enqueue(ann.Peer, &Item{Message: protocol.Message{Leave: true}}))
	})
}

// TestInvitations are good once, until they expire, and the oldest make room.
func TestInvitations(t *testing.T) {
	s := reopen(t, filepath.Join(t.TempDir(), "chat.db"))
	now := time.Unix(1e9, 0)
	secret := func(n int) []byte { return bytes.Repeat([]byte{byte(n)}, 16) }
	use := func(n int, at time.Time) (ok bool) {
		t.Helper()
		update(t, s, func(tx *Tx) (err error) {
			ok, err = tx.UseInvitation(secret(n), at)
			return err
		})
		return ok
	}
	update(t, s, func(tx *Tx) error {
		for n := range MaxInvitations + 1 {
			if err := tx.PutInvitation(secret(n), now.Add(time.Duration(n)*time.Minute)); err != nil {
				return err
			}
		}
		return nil
	})
	for _, tt := range []struct {
		n    int
		at   time.Time
		want bool
	}{{0, now.Add(-time.Hour), false}, {200, now, false}, {5, now, true}, {5, now, false}, {6, now.Add(time.Hour), false}, {6, now, false}} {
		if got := use(tt.n, tt.at); got != tt.want {
			t.Errorf("%+v: %v", tt, got)
		}
	}
	update(t, s, func(tx *Tx) error {
		_, err := tx.DropInvitations()
		return err
	})
	if use(7, now) {
		t.Error("one is good that was cancelled")
	}
}

// TestIDs only grow, though the clock be set back and the program start anew.
func TestIDs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "chat.db")
	var last uint64
	for _, at := range []int64{1000, 1000, 5, 2000, 3} {
		s := reopen(t, path)
		update(t, s, func(tx *Tx) error {
			n, err := tx.NextID(time.UnixMicro(at))
			if n <= last {
				t.Errorf("%d after %d", n, last)
			}
			last = n
			return err
		})
		s.Close()
	}
	if last != 2001 {
		t.Error(last)
	}
}

// TestUndone: what fails in the middle has not happened.
func TestUndone(t *testing.T) {
	s := reopen(t, filepath.Join(t.TempDir(), "chat.db"))
	want := errors.New("enough")
	err := s.Update(t.Context(), func(tx *Tx) error {
		if err := tx.Log(ann, &Message{Text: "never"}); err != nil {
			return err
		}
		return want
	})
	if !errors.Is(err, want) || len(history(t, s, ann)) != 0 {
		t.Error(err, history(t, s, ann))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Update(ctx, func(*Tx) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// FuzzRow: whatever stands in a row, reading it does no harm.
func FuzzRow(f *testing.F) {
	s := &Store{log: slog.New(slog.DiscardHandler), damaged: make(map[string]bool)}
	opened, err := Open(f.Context(), filepath.Join(f.TempDir(), "chat.db"), seed, s.log)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { opened.Close() })
	s.aead = opened.aead
	sound, err := s.seal(&Message{Text: "x", To: []identity.ID{id(1)}}, kindMessage, []byte("o"), 1)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sound, []byte{})
	plain, err := protocol.Marshal(&Transfer{Peer: id(1), Name: "n"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{}, plain)
	f.Fuzz(func(t *testing.T, sealed, plain []byte) {
		var m Message
		if s.open(sealed, &m, kindMessage, []byte("o"), 1) && m.Text != "x" { // each worker has sealed its own
			t.Fatal("a forgery")
		}
		for _, v := range []any{new(Contact), new(Room), new(Mark), new(Message), new(Item), new(Transfer), new(invitation)} {
			_ = protocol.Unmarshal(plain, v) // an error or not, but no panic
		}
	})
}
