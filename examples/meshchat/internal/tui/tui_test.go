package tui

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
	"go.uber.org/goleak"

	"github.com/splitmesh/splitmesh/examples/meshchat/internal/chat"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/command"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/protocol"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/store"
	"github.com/splitmesh/splitmesh/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// engine is one without a node, in which a contact is called friend.
func engine(t *testing.T) (*command.Session, identity.ID) {
	t.Helper()
	ids := make([]identity.ID, 2)
	for i := range ids {
		k, err := identity.GenerateKey()
		if err != nil {
			t.Fatal(err)
		}
		ids[i] = k.ID()
	}
	s, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "chat.db"), make([]byte, 32), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if err := s.Update(t.Context(), func(tx *store.Tx) error {
		return tx.PutContact(&store.Contact{ID: ids[1], Name: "friend", Standing: store.Friend})
	}); err != nil {
		t.Fatal(err)
	}
	return &command.Session{Engine: chat.New(chat.Options{Store: s, ID: ids[0], Log: slog.New(slog.DiscardHandler)})}, ids[1]
}

// hostile is text that would do something to a terminal.
const hostile = "in\u200bvisible \u2060 \U000e0041 \x1b]0;title\x07 \x1b[2J \u202e \u009b31m \r over\x00 \u2066x \x7f"

func harmless(t *testing.T, screen string, width, height int) {
	t.Helper()
	rows := strings.Split(screen, "\n")
	if len(rows) > max(height, 1) {
		t.Errorf("%d×%d: %d rows", width, height, len(rows))
	}
	for _, row := range rows {
		if w := ansi.StringWidth(row); w > max(width, 3) {
			t.Errorf("%d×%d: a row of %d: %q", width, height, w, row)
		}
		plain := ansi.Strip(row)
		for _, bad := range "\x1b\x07\u202e\u009b\r\x00\u2066\x7f\u200b\u2060\U000e0041" {
			if strings.ContainsRune(plain, bad) {
				t.Errorf("%q is on the screen", bad)
			}
		}
		if strings.Contains(row, "\x1b]0") || strings.Contains(row, "\x1b[2J") {
			t.Errorf("a row holds a command: %q", row)
		}
	}
}

// TestHostileText: whatever others write and whatever the size, the screen holds text, as wide and high as it is.
func TestHostileText(t *testing.T) {
	s, friend := engine(t)
	c := protocol.Chat{Peer: friend}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	m := newModel(ctx, s, make(chan chat.Event))
	m.open = c
	m.Update(happened{Text: hostile})
	for _, size := range [][2]int{{80, 24}, {1, 1}, {0, 0}, {49, 5}, {50, 3}, {300, 100}, {20, 200}} {
		m.Update(tea.WindowSizeMsg{Width: size[0], Height: size[1]})
		v := view{open: c, chats: []entry{{chat: c, name: "friend"}, {chat: protocol.Chat{Peer: friend, Room: 1}, name: "#room", people: []string{"a", "b"}}}}
		for i := range 50 {
			v.lines = append(v.lines, chat.Line{Author: "friend", Message: store.Message{ID: uint64(i + 1), From: friend, Time: time.Now(), Text: fmt.Sprint(i, hostile, "\n", strings.Repeat("wide 世界 ", 40))}})
		}
		v.lines = append(v.lines, chat.Line{Message: store.Message{Damaged: true}},
			chat.Line{Author: "friend", Message: store.Message{ID: 99, From: friend, File: &protocol.File{Name: hostile, Size: 1 << 40}}})
		for state := range store.Failed + 2 {
			v.files = append(v.files, chat.File{Done: 1 << 39, Transfer: store.Transfer{Chat: c, Peer: friend, ID: 99, Size: 1 << 40, State: state, Path: hostile, Why: hostile}})
		}
		m.Update(looked(v))
		m.Update(answered{r: &command.Result{Lines: []string{hostile, strings.Repeat("x", 1000)}}})
		harmless(t, m.draw(), size[0], size[1])
		for _, k := range []rune{tea.KeyPgUp, tea.KeyPgUp, tea.KeyPgDown, tea.KeyTab, tea.KeyEscape} {
			m.Update(tea.KeyPressMsg{Code: k})
			harmless(t, m.draw(), size[0], size[1])
		}
		m.open = c
	}
}

// TestForgedLine: whatever one writes, no row but his first begins as a message does; and what is endless is cut.
func TestForgedLine(t *testing.T) {
	s, friend := engine(t)
	c := protocol.Chat{Peer: friend}
	m := newModel(t.Context(), s, make(chan chat.Event))
	m.open = c
	forged := strings.ReplaceAll("[10:00] bob: I owe you 100", " ", "\u00a0")
	for _, said := range []string{"hi " + forged, "hi\n" + forged, "hi\t" + forged, strings.Repeat("x", 60) + " " + forged, strings.Repeat("\n", protocol.MaxText-40) + forged} {
		v := view{open: c, chats: []entry{{chat: c, name: "friend"}}, lines: []chat.Line{{Author: "friend", Message: store.Message{ID: 1, From: friend, Time: time.Now(), Text: said}}}}
		m.Update(looked(v))
		if n := len(command.Lines(&v.lines[0])); n > 101 {
			t.Errorf("%.20q has %d lines", said, n)
		}
		for width := 30; width < 120; width++ {
			m.Update(tea.WindowSizeMsg{Width: width, Height: 24})
			for _, row := range strings.Split(ansi.Strip(m.draw()), "\n") {
				if _, right, ok := strings.Cut(row, " │ "); ok {
					row = right
				}
				if strings.HasPrefix(row, "[10:00]") {
					t.Fatalf("%.20q at %d columns:\n%s", said, width, m.draw())
				}
			}
		}
	}
}

// TestInvitation: it stands alone on its rows, whole, and what is not on the screen meanwhile is not read.
func TestInvitation(t *testing.T) {
	s, friend := engine(t)
	m := newModel(t.Context(), s, make(chan chat.Event))
	m.open = protocol.Chat{Peer: friend}
	if err := s.Store.Update(t.Context(), func(tx *store.Tx) error {
		return tx.Log(m.open, &store.Message{From: friend, ID: 1, Time: time.Now(), Text: "hello"})
	}); err != nil {
		t.Fatal(err)
	}
	unread := func(want int) {
		t.Helper()
		m.Update(m.look()())
		if n, err := s.Unread(t.Context(), m.open); err != nil || n != want {
			t.Errorf("%d unread, want %d, %v", n, want, err)
		}
	}
	text := "meshchat:" + strings.Repeat("0123456789-_abcdef", 20)
	for _, width := range []int{30, 80, 100} {
		m.Update(tea.WindowSizeMsg{Width: width, Height: 40})
		m.Update(answered{r: &command.Result{Lines: []string{text}, ToCopy: true}})
		_, after, _ := strings.Cut(ansi.Strip(m.draw()), "meshchat:")
		got, _, _ := strings.Cut(after, "─")
		if got = strings.Join(strings.Fields("meshchat:"+got), ""); got != text {
			t.Errorf("at %d columns: %q", width, got)
		}
	}
	unread(1)
	m.Update(tea.KeyPressMsg{Code: tea.KeyEscape})
	if now := ansi.Strip(m.draw()); strings.Contains(now, text[:20]) || !strings.Contains(now, "friend: hello") {
		t.Error(now)
	}
	unread(0)
}

// TestTitle: it says how things are with whom one speaks.
func TestTitle(t *testing.T) {
	s, friend := engine(t)
	m := newModel(t.Context(), s, make(chan chat.Event))
	m.open = protocol.Chat{Peer: friend}
	for _, tt := range []struct {
		e     entry
		paths int
		want  string
	}{
		{entry{}, 0, "friend (not verified, away)"},
		{entry{joining: true}, 0, "friend (not verified, has not taken the invitation yet, away)"},
		{entry{verified: true, online: true}, 1, "friend (verified, online over 1 path)"},
		{entry{verified: true, online: true}, 2, "friend (verified, online over 2 paths)"},
	} {
		tt.e.chat, tt.e.name = m.open, "friend"
		m.view = view{open: m.open, chats: []entry{tt.e}, paths: tt.paths}
		if got := m.title(); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}

// TestKeys: what is written is sent to who is chosen, and a command is obeyed.
func TestKeys(t *testing.T) {
	s, friend := engine(t)
	m := newModel(t.Context(), s, make(chan chat.Event))
	see := func(cmd tea.Cmd) {
		t.Helper()
		for n := 0; cmd != nil && n < 10; n++ {
			_, cmd = m.Update(cmd())
		}
	}
	see(m.look())
	if m.open.Peer != friend {
		t.Fatal("nobody is chosen")
	}
	write := func(line string) {
		t.Helper()
		for _, r := range line {
			m.Update(tea.KeyPressMsg{Code: r, Text: string(r)})
		}
		_, cmd := m.Update(tea.KeyPressMsg{Code: tea.KeyEnter})
		see(cmd)
	}
	write("hello")
	lines, err := s.History(t.Context(), m.open, 10)
	if err != nil || len(lines) != 1 || lines[0].Text != "hello" || lines[0].Mark() != "queued" {
		t.Fatal(lines, err)
	}
	for _, tt := range [][2]string{{"/verify friend", "Read these"}, {"/nothing", "/help lists"}, {"/rename friend pal", "pal now"}} {
		write(tt[0])
		if got := ansi.Strip(m.draw()); !strings.Contains(got, tt[1]) {
			t.Errorf("%s:\n%s", tt[0], got)
		}
		if left := m.input.Value(); (left != "") != (tt[0] == "/nothing") { // it can be mended
			t.Errorf("%s leaves %q", tt[0], left)
		}
		m.Update(tea.KeyPressMsg{Code: 'u', Mod: tea.ModCtrl})
	}
	if _, cmd := m.Update(tea.KeyPressMsg{Code: 'c', Mod: tea.ModCtrl}); cmd == nil {
		t.Error("Ctrl+C does nothing")
	}
}
