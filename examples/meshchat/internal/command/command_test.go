package command

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"
	"go.uber.org/goleak"

	"github.com/splitmesh/splitmesh/examples/meshchat/internal/chat"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/store"
	"github.com/splitmesh/splitmesh/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func key(t *testing.T) *identity.Key {
	t.Helper()
	k, err := identity.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// session is that of somebody without a node, who has contacts.
func session(t *testing.T, contacts ...string) *Session {
	t.Helper()
	k := key(t)
	log := slog.New(slog.DiscardHandler)
	s, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "chat.db"), k.Seed(), log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	for _, name := range contacts {
		c := &store.Contact{ID: key(t).ID(), Name: name, Standing: store.Friend}
		if err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.PutContact(c) }); err != nil {
			t.Fatal(err)
		}
	}
	e := chat.New(chat.Options{Store: s, ID: k.ID(), Dir: filepath.Join(t.TempDir(), "files"), Log: log})
	return &Session{Engine: e, Addrs: func() []multiaddr.Multiaddr { return nil }}
}

// TestCommands: what a person says, and what he is answered.
func TestCommands(t *testing.T) {
	s := session(t, "ann", "bob")
	mistyped := strings.Repeat("a", 56)
	for _, tt := range []struct{ line, want, fails string }{
		{line: "/msg ann  hello  there"},
		{line: "/history ann", want: "me: hello  there  (queued)"},
		{line: "/msg ann", fails: "wrong usage: /msg WHO TEXT"},
		{line: "/msg", fails: "wrong usage"},
		{line: "/nothing\x1b[2J", fails: "there is no /nothing·[2J"},
		{line: "/history ann 0", fails: "no number of lines"},
		{line: "/get x", fails: "no number of a file"},
		{line: "/get 7", fails: "there is no file 7"},
		{line: "/file ann /none/such", fails: "no such file"},
		{line: "/room new garden ann carl", fails: "no contact"},
		{line: "/contacts", want: "ann"},
		{line: "/room leave garden", fails: "no contact, request or room"}, // none was made
		{line: "/room new garden ann bob", want: "#garden is made"},
		{line: "/room new garden", fails: "there is a room #garden already"},
		{line: "/room add garden ann", fails: "ann is in #garden already"},
		{line: "/msg garden hello", fails: "it is a room, which is written #garden"},
		{line: "/msg " + key(t).ID().String() + " hello", fails: "nobody here has this ID"},
		{line: "/msg " + key(t).ID().PeerID() + " hello", fails: "nobody here has this ID"},
		{line: "/msg " + mistyped + " hello", fails: "a mistyped ID"},
		{line: "/accept 12D3KooW" + strings.Repeat("0", 44), fails: "a mistyped ID"},
		{line: "/msg #" + mistyped + " hello", fails: "no contact"},
		{line: "/room remove #garden ann", want: "#garden: ann is out"},
		{line: "/room remove garden ann", fails: "ann is not in #garden"},
		{line: "/room remove garden nobody", fails: "no contact"},
		{line: "/room leave garden now", fails: "wrong usage"},
		{line: "/forget bob", want: "bob is forgotten"},
		{line: "/msg #garden hello?", fails: "nobody else is in #garden"},
		{line: "/forget #garden", fails: "leave it first"},
		{line: "/room leave #garden", want: "you have left #garden"},
		{line: "/room add garden ann", fails: "#garden is closed"},
		{line: "/forget #garden", want: "#garden is forgotten"},
		{line: "/rename ann me", fails: "you are called me"},
		{line: "/rename ann Ann", fails: "no petname"},
		{line: "/verify ann", want: "Read these to each other"},
		{line: "/verify ann no", fails: "wrong usage"},
		{line: "/verify ann yes", want: "ann is verified"},
		{line: "/contacts", want: "verified"},
		{line: "/join meshchat:x", fails: "not an invitation"},
		{line: "/invite", want: "meshchat:"},
		{line: "/invite all", fails: "wrong usage"},
		{line: "/invite cancel", want: "1 invitation that nobody has used is"},
		{line: "/invite cancel", want: "0 invitations"},
		{line: "/help", want: "/room new NAME WHO.. | add NAME WHO | remove NAME WHO | leave NAME"},
	} {
		r, err := Do(t.Context(), s, tt.line)
		switch {
		case tt.fails != "":
			if err == nil || !strings.Contains(err.Error(), tt.fails) {
				t.Errorf("%s: %v, want %q", tt.line, err, tt.fails)
			}
		case err != nil:
			t.Errorf("%s: %v", tt.line, err)
		case !strings.Contains(strings.Join(r.Lines, "\n"), tt.want):
			t.Errorf("%s: %q, want %q", tt.line, r.Lines, tt.want)
		}
	}
	other := session(t)
	r, err := Do(t.Context(), other, "/invite")
	if err != nil || !r.ToCopy {
		t.Fatal(r, err)
	}
	text := r.Lines[0]
	for _, folded := range []string{text, text[:20] + "  " + text[20:40] + " │ " + text[40:], text[:20] + "\r\n" + text[20:]} {
		for _, name := range []string{"", "anna"} {
			if r, err := Do(t.Context(), s, "/join "+folded+" "+name); err != nil || !strings.Contains(r.Lines[0], "is a contact") || !strings.HasPrefix(r.Lines[0], name) {
				t.Errorf("%q: %v, %v", folded+" "+name, r, err)
			}
		}
		if _, err := Do(t.Context(), s, "/join "+folded+" Anna M"); err == nil || !strings.Contains(err.Error(), `"Anna M" is no petname`) {
			t.Errorf("%q: %v", folded, err)
		}
	}
	if _, err := Run(t.Context(), s, "msg", "ann"); !errors.Is(err, ErrUsage) {
		t.Error(err)
	}
}

// TestHistoryReads: what history has shown is read, and no more.
func TestHistoryReads(t *testing.T) {
	s := session(t, "ann")
	c, err := s.Resolve(t.Context(), "ann")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Store.Update(t.Context(), func(tx *store.Tx) (err error) {
		for i := range 3 {
			m := &store.Message{From: c.Peer, ID: uint64(i + 1), Time: time.Now(), Text: fmt.Sprint(i)}
			err = errors.Join(err, tx.Log(c, m))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		line   string
		unread int
	}{{"/history ann 2", 3}, {"/history ann 3", 0}} {
		if _, err := Do(t.Context(), s, tt.line); err != nil {
			t.Fatal(err)
		}
		if n, err := s.Unread(t.Context(), c); err != nil || n != tt.unread {
			t.Errorf("%s leaves %d unread, %v", tt.line, n, err)
		}
	}
}

// TestWhen: of another day one sees which.
func TestWhen(t *testing.T) {
	now := time.Date(2026, 11, 26, 0, 5, 0, 0, time.UTC)
	for at, want := range map[time.Time]string{
		now: "00:05", now.Add(-10 * time.Minute): "2026-11-25 23:55", now.AddDate(-1, 0, 0): "2025-11-26 00:05",
	} {
		if got := when(at, now); got != want {
			t.Error(got, want)
		}
	}
}
