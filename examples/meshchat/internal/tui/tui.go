// Package tui is meshchat on a screen: who there is on the left, what was said on the right, and a line to write in.
package tui

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"charm.land/bubbles/v2/textinput"
	tea "charm.land/bubbletea/v2"

	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/chat"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/command"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/protocol"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/store"
)

const (
	shown       = 500 // messages of a chat
	refreshRate = 100 * time.Millisecond
	maxNotices  = 200 // lines of answers to commands
)

// Run shows the chat until ctx ends or the person leaves.
func Run(ctx context.Context, s *command.Session, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events, unsubscribe := s.Subscribe()
	defer unsubscribe()
	m := newModel(ctx, s, events)
	_, err := tea.NewProgram(m, tea.WithContext(ctx), tea.WithInput(in), tea.WithOutput(out), tea.WithoutSignalHandler()).Run()
	if ctx.Err() != nil || errors.Is(err, tea.ErrInterrupted) {
		return nil // asked to end
	}
	return err
}

// A model is what is on the screen. Whatever may wait for the disk is done by commands of Bubble Tea, beside it.
type model struct {
	ctx    context.Context //nolint:containedctx // Bubble Tea calls without one
	s      *command.Session
	events <-chan chat.Event

	input         textinput.Model
	width, height int
	up            int // lines that the conversation is scrolled up by

	view    view // what is true, as of the last look
	open    protocol.Chat
	notices []string // answers to commands, below the conversation, until Esc
	news    string   // the last thing that happened elsewhere
	looking bool     // a look is under way
	again   bool     // and something changed meanwhile
}

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
	gone     bool
	people   []string // in a room
}

// What the model is told.
type (
	happened chat.Event
	looked   view
	tick     struct{}
	answered struct {
		r   *command.Result
		err error
	}
)

func newModel(ctx context.Context, s *command.Session, events <-chan chat.Event) *model {
	input := textinput.New()
	input.Prompt = "> "
	input.CharLimit = protocol.MaxText / 4
	input.SetVirtualCursor(false)
	input.Focus()
	return &model{ctx: ctx, s: s, events: events, input: input, width: 80, height: 24, looking: true}
}

// Init implements tea.Model.
func (m *model) Init() tea.Cmd { return tea.Batch(m.wait, m.look(m.open), every()) }

// every has the screen be right about who is online.
func every() tea.Cmd { return tea.Tick(time.Second, func(time.Time) tea.Msg { return tick{} }) }

// wait waits for an event.
func (m *model) wait() tea.Msg {
	select {
	case v := <-m.events:
		return happened(v)
	case <-m.ctx.Done():
		return nil
	}
}

// refresh looks again, but one look at a time.
func (m *model) refresh() tea.Cmd {
	if m.looking {
		m.again = true
		return nil
	}
	m.looking = true
	return m.look(m.open)
}

// Update implements tea.Model.
func (m *model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
		m.input.SetWidth(max(m.width-3, 1))
		return m, nil
	case happened:
		if msg.Text != "" {
			m.news = program.Printable(msg.Text)
		}
		return m, tea.Batch(m.wait, m.refresh())
	case tick:
		return m, tea.Batch(every(), m.refresh())
	case looked:
		return m, m.saw(view(msg))
	case answered:
		return m, m.answer(msg)
	case tea.KeyPressMsg:
		if cmd, ok := m.key(msg.String()); ok {
			return m, cmd
		}
	}
	var cmd tea.Cmd
	m.input, cmd = m.input.Update(msg)
	return m, cmd
}

// saw takes in what a look gave.
func (m *model) saw(v view) tea.Cmd {
	m.looking = false
	m.view = v
	if v.open != m.open {
		m.again = true
	}
	if m.open.Peer.IsZero() && len(v.chats) > 0 {
		m.open, m.again = v.chats[0].chat, true
	}
	if !m.again {
		return nil
	}
	m.again, m.looking = false, true
	open := m.open
	return func() tea.Msg { // not more often than a person sees
		select {
		case <-time.After(refreshRate):
		case <-m.ctx.Done():
		}
		return m.look(open)()
	}
}

// key reports whether it was one of the screen's.
func (m *model) key(k string) (tea.Cmd, bool) {
	switch k {
	case "ctrl+c", "ctrl+q":
		return tea.Quit, true
	case "tab", "ctrl+n":
		return m.move(1), true
	case "shift+tab", "ctrl+p":
		return m.move(-1), true
	case "pgup":
		m.up += max(m.height/2, 1)
	case "pgdown":
		m.up = max(m.up-max(m.height/2, 1), 0)
	case "f1":
		return m.do("/help"), true
	case "esc":
		m.notices, m.news, m.up = nil, "", 0
	case "enter":
		line := strings.TrimSpace(m.input.Value())
		m.input.Reset()
		m.up = 0
		switch {
		case line == "":
			m.notices = nil
			return nil, true
		case line == "/quit":
			return tea.Quit, true
		}
		return m.do(line), true
	default:
		return nil, false
	}
	return nil, true
}

// move opens the chat that many below.
func (m *model) move(by int) tea.Cmd {
	n := len(m.view.chats)
	if n == 0 {
		return nil
	}
	at := 0
	for i, c := range m.view.chats {
		if c.chat == m.open {
			at = i
		}
	}
	m.open, m.up, m.notices = m.view.chats[(at+by+n)%n].chat, 0, nil
	return m.refresh()
}

// do obeys a line: a command, or something to say.
func (m *model) do(line string) tea.Cmd {
	open, ctx, s := m.open, m.ctx, m.s
	return func() tea.Msg {
		if strings.HasPrefix(line, "/") {
			r, err := command.Do(ctx, s, line)
			return answered{r, err}
		}
		if open.Peer.IsZero() {
			return answered{nil, errors.New("nobody is chosen: /invite and /join make contacts, Tab chooses one")}
		}
		return answered{new(command.Result), s.Send(ctx, open, line)}
	}
}

func (m *model) answer(a answered) tea.Cmd {
	m.notices = nil
	if a.err != nil {
		m.notices = []string{"! " + program.Printable(a.err.Error())}
	} else {
		for _, l := range a.r.Lines[:min(len(a.r.Lines), maxNotices)] {
			m.notices = append(m.notices, program.Printable(l))
		}
	}
	return m.refresh()
}

// look asks the engine for all that is shown. What is shown is read.
func (m *model) look(open protocol.Chat) tea.Cmd {
	ctx, s := m.ctx, m.s
	return func() tea.Msg {
		v := view{open: open, problem: s.Problem(), damaged: s.Store.Damaged()}
		v.err = v.fill(ctx, s)
		return looked(v)
	}
}

func (v *view) fill(ctx context.Context, s *command.Session) (err error) {
	if !v.open.Peer.IsZero() {
		if v.lines, err = s.History(ctx, v.open, shown); err != nil {
			return err
		}
		if err := s.MarkRead(ctx, v.open); err != nil {
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
		e := entry{chat: protocol.Chat{Peer: c.ID}, name: c.Name, online: online[c.ID], asks: c.Standing == store.Request, verified: c.Verified}
		if e.unread, err = s.Unread(ctx, e.chat); err != nil {
			return err
		}
		v.chats = append(v.chats, e)
	}
	for _, r := range rooms {
		e := entry{chat: r.Chat, name: "#" + r.Name, gone: r.Gone}
		for _, id := range append(r.Members, r.Chat.Peer) {
			e.people = append(e.people, s.Name(ctx, id))
			e.online = e.online || online[id]
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
	if !e.online {
		return e.name + " (" + words + ", away)"
	}
	return fmt.Sprintf("%s (%s, online over %d paths)", e.name, words, m.view.paths)
}
