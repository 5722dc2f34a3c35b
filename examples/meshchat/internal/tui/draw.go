package tui

import (
	"fmt"
	"slices"
	"strings"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"
	"github.com/dustin/go-humanize"

	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/chat"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/command"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/store"
)

// What things look like. Nothing is told by colour alone.
var (
	bold   = lipgloss.NewStyle().Bold(true)
	faint  = lipgloss.NewStyle().Faint(true)
	chosen = lipgloss.NewStyle().Reverse(true)
	alarm  = lipgloss.NewStyle().Foreground(lipgloss.Red)
)

const (
	listWidth = 22
	narrow    = 50 // columns, below which there is no list
	barWidth  = 20
)

const keys = "Enter send  Tab next chat  PgUp/PgDn scroll  F1 commands  Esc close  Ctrl+C quit"

// View implements tea.Model.
func (m *model) View() tea.View {
	v := tea.NewView(m.draw())
	v.AltScreen = true
	v.WindowTitle = "meshchat"
	if c := m.input.Cursor(); c != nil {
		c.Y = max(m.height-2, 0)
		v.Cursor = c
	}
	return v
}

// draw is the screen: title, body, news, input, keys.
func (m *model) draw() string {
	left, width := 0, m.width
	if m.width >= narrow {
		left, width = listWidth, m.width-listWidth-3
	}
	body := max(m.height-4, 1)
	right := m.body(width, body)
	list := m.list(left, body)
	rows := make([]string, 0, m.height)
	rows = append(rows, fit(bold.Render(ansi.Truncate("meshchat · "+m.title(), m.width, "…")), m.width))
	for i := range body {
		row := right[i]
		if left > 0 {
			row = list[i] + " │ " + row
		}
		rows = append(rows, row)
	}
	rows = append(rows, m.status(), m.input.View(), faint.Render(ansi.Truncate(keys, m.width, "…")))
	return strings.Join(rows[max(len(rows)-m.height, 0):], "\n")
}

// fit makes a row just so wide.
func fit(s string, width int) string {
	s = ansi.Truncate(s, width, "…")
	return s + strings.Repeat(" ", max(width-ansi.StringWidth(s), 0))
}

// status is the line between what was said and what is written.
func (m *model) status() string {
	text := fmt.Sprintf("%d relays", m.view.relays)
	switch {
	case m.view.err != nil:
		text = alarm.Render("! " + program.Printable(m.view.err.Error()))
	case m.view.problem != nil:
		text = alarm.Render("! no node: " + program.Printable(m.view.problem.Error()))
	case m.view.damaged > 0:
		text += fmt.Sprintf(", %d damaged rows in the store", m.view.damaged)
	}
	if m.news != "" {
		text += " · " + m.news
	}
	text = ansi.Truncate("─ "+text+" ", m.width, "…")
	return text + strings.Repeat("─", max(m.width-ansi.StringWidth(text), 0))
}

// list is who there is, in as many rows as height.
func (m *model) list(width, height int) []string {
	rows := make([]string, 0, height)
	at := 0
	for i, e := range m.view.chats {
		if e.chat == m.open {
			at = i
		}
	}
	first := max(at-height+1, 0)
	for _, e := range m.view.chats[min(first, len(m.view.chats)):] {
		if len(rows) == height {
			break
		}
		sign := "○ "
		switch {
		case e.asks:
			sign = "? "
		case e.gone:
			sign = "- "
		case e.online:
			sign = "● "
		}
		text := sign + e.name
		if e.unread > 0 && e.chat != m.open {
			text += fmt.Sprintf(" (%d)", e.unread)
		}
		text = fit(text, width)
		if e.chat == m.open {
			text = chosen.Render(text)
		}
		rows = append(rows, text)
	}
	for len(rows) < height {
		rows = append(rows, strings.Repeat(" ", width))
	}
	return rows
}

// body is what was said and what commands answered, the newest at the bottom.
func (m *model) body(width, height int) []string {
	var rows []string
	if m.view.open == m.open {
		for i := range m.view.lines {
			rows = append(rows, m.message(&m.view.lines[i], width)...)
		}
	}
	if len(m.view.chats) == 0 && len(m.notices) == 0 {
		rows = append(rows, wrapped("Nobody is here yet. /invite makes a string to be sent to somebody; /join STRING takes one that you were sent.", width)...)
	}
	if len(m.notices) > 0 {
		rows = append(rows, faint.Render(strings.Repeat("·", width)))
		for _, n := range m.notices {
			rows = append(rows, wrapped(n, width)...)
		}
	}
	m.up = min(m.up, max(len(rows)-height, 0))
	end := len(rows) - m.up
	rows = rows[max(end-height, 0):end]
	rows = slices.Clone(rows)
	for len(rows) < height {
		rows = append([]string{""}, rows...)
	}
	for i := range rows {
		rows[i] = fit(rows[i], width)
	}
	return rows
}

// wrapped breaks a line at words, and words that are too long.
func wrapped(line string, width int) []string {
	return strings.Split(ansi.Wrap(line, max(width, 1), ""), "\n")
}

// message is one in rows.
func (m *model) message(l *chat.Line, width int) (rows []string) {
	for _, line := range command.Lines(l) {
		rows = append(rows, wrapped(line, width)...)
	}
	if l.File == nil {
		return rows
	}
	for i := range m.view.files {
		f := &m.view.files[i]
		if f.Chat != m.open || f.ID != l.ID || f.Out != l.Mine || !f.Out && f.Peer != l.From {
			continue
		}
		rows = append(rows, wrapped("        "+m.fileRow(f), width)...)
	}
	return rows
}

// fileRow says how far a file is.
func (m *model) fileRow(f *chat.File) string {
	text := fmt.Sprintf("file %d: %s", f.Number, command.FileState(f))
	if f.State == store.Running && f.Size > 0 {
		n := int(barWidth * f.Done / f.Size)
		text = fmt.Sprintf("file %d: %s%s %s of %s", f.Number, strings.Repeat("█", n), strings.Repeat("░", barWidth-n),
			command.FileState(f), humanize.IBytes(uint64(f.Size)))
	}
	return text
}
