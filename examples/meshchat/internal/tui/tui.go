// Package tui is meshchat on a screen: who there is on the left, what was said on the right, and a line to write in.
package tui

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"charm.land/bubbles/v2/textinput"
	tea "charm.land/bubbletea/v2"

	"github.com/splitmesh/splitmesh/examples/meshchat/internal/chat"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/command"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/protocol"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/text"
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
	toCopy  bool     // they are: nothing stands beside them
	news    string   // the last thing that happened elsewhere
	looking bool     // a look is under way
	again   bool     // and something changed meanwhile
}

// What the model is told.
type (
	happened chat.Event
	looked   view
	tick     struct{}
	answered struct {
		line string
		r    *command.Result
		err  error
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
func (m *model) Init() tea.Cmd { return tea.Batch(m.wait, m.look(), every()) }

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
	return m.look()
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
			m.news = text.Line(msg.Text)
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
	if m.current() == nil && len(v.chats) > 0 { // none was, or it is forgotten
		m.open, m.again = v.chats[0].chat, true
	}
	if !m.again {
		return nil
	}
	m.again, m.looking = false, true
	look := m.look()
	return func() tea.Msg { // not more often than a person sees
		select {
		case <-time.After(refreshRate):
		case <-m.ctx.Done():
		}
		return look()
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
			return answered{line, r, err}
		}
		if open.Peer.IsZero() {
			return answered{line, nil, errors.New("nobody is chosen: /invite and /join make contacts, Tab chooses one")}
		}
		return answered{line, new(command.Result), s.Send(ctx, open, line)}
	}
}

func (m *model) answer(a answered) tea.Cmd {
	m.notices, m.toCopy = nil, a.err == nil && a.r.ToCopy
	if a.err != nil {
		m.notices = []string{"! " + text.Line(a.err.Error())}
		if m.input.Value() == "" { // it can be mended, and said again
			m.input.SetValue(a.line)
			m.input.CursorEnd()
		}
	} else {
		for _, l := range a.r.Lines[:min(len(a.r.Lines), maxNotices)] {
			m.notices = append(m.notices, text.Line(l))
		}
	}
	return m.refresh()
}
