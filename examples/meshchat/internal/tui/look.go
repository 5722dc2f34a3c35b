package tui

import (
	"context"
	"fmt"
	"strings"

	tea "charm.land/bubbletea/v2"
	"github.com/dustin/go-humanize/english"

	"github.com/splitmesh/splitmesh/examples/meshchat/internal/chat"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/command"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/protocol"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/store"
)

// A view is what a look at the engine gave.
type view struct {
	chats   []entry
	open    protocol.Chat
	lines   []chat.Line
	files   []chat.File
	relays  int
	paths   int // to the peer of the open chat
	problem error
	damaged int
	err     error
}

// An entry is one of the list on the left.
type entry struct {
	chat     protocol.Chat
	name     string
	online   bool
	unread   int
	asks     bool
	verified bool
	joining  bool // he has not taken our invitation yet
	gone     bool
	people   []string // in the room that is open
}

// look asks the engine for all that is shown. What is shown is read, unless the person looks at what was before.
func (m *model) look() tea.Cmd {
	ctx, s, open, read := m.ctx, m.s, m.open, m.up == 0 && !m.copying()
	return func() tea.Msg {
		v := view{open: open, problem: s.Problem(), damaged: s.Store.Damaged()}
		v.err = v.fill(ctx, s, read)
		return looked(v)
	}
}

func (v *view) fill(ctx context.Context, s *command.Session, read bool) (err error) {
	if !v.open.Peer.IsZero() {
		if v.lines, err = s.History(ctx, v.open, shown); err != nil {
			return err
		}
	}
	if read {
		if err := s.MarkRead(ctx, v.open, v.lines); err != nil {
			return err
		}
	}
	if v.files, err = s.Files(ctx); err != nil {
		return err
	}
	people, err := s.Contacts(ctx)
	if err != nil {
		return err
	}
	rooms, err := s.Rooms(ctx)
	if err != nil {
		return err
	}
	online := s.Online()
	for _, c := range people {
		if c.Standing == store.Blocked {
			continue
		}
		e := entry{chat: protocol.Chat{Peer: c.ID}, name: c.Name, online: online[c.ID], asks: c.Standing == store.Request, verified: c.Verified, joining: c.Joining()}
		if e.unread, err = s.Unread(ctx, e.chat); err != nil {
			return err
		}
		v.chats = append(v.chats, e)
	}
	for _, r := range rooms {
		e := entry{chat: r.Chat, name: "#" + r.Name, gone: r.Gone}
		for _, id := range append(r.Members, r.Chat.Peer) {
			e.online = e.online || online[id]
			if r.Chat == v.open { // there may be many rooms of many
				e.people = append(e.people, s.Name(ctx, id))
			}
		}
		if e.unread, err = s.Unread(ctx, e.chat); err != nil {
			return err
		}
		v.chats = append(v.chats, e)
	}
	if n := s.Node(); n != nil {
		stats := n.Stats()
		v.relays = len(stats.Reservations)
		for _, session := range stats.Sessions {
			if session.Peer == v.open.Peer && v.open.Room == 0 {
				v.paths = len(session.Paths)
			}
		}
	}
	return nil
}

// current is the entry of the open chat, or nil.
func (m *model) current() *entry {
	for i := range m.view.chats {
		if m.view.chats[i].chat == m.open {
			return &m.view.chats[i]
		}
	}
	return nil
}

// title says whom one speaks with.
func (m *model) title() string {
	e := m.current()
	switch {
	case e == nil:
		return "nobody yet"
	case e.chat.Room != 0 && e.gone:
		return e.name + " (you are no longer in it)"
	case e.chat.Room != 0:
		return e.name + " (" + strings.Join(e.people, ", ") + ")"
	case e.asks:
		return fmt.Sprintf("%s asks to be a contact: /accept %[1]s or /block %[1]s", e.name)
	}
	words := "not verified"
	if e.verified {
		words = "verified"
	}
	if e.joining {
		words += ", has not taken the invitation yet"
	}
	if !e.online {
		return e.name + " (" + words + ", away)"
	}
	return e.name + " (" + words + ", online over " + english.Plural(m.view.paths, "path", "") + ")"
}
