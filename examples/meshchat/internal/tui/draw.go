package tui

import (
	"fmt"
	"slices"
	"strings"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"
	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"

	"github.com/splitmesh/splitmesh/examples/meshchat/internal/chat"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/command"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/store"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/text"
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
	if m.width >= narrow && !m.copying() {
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
	row := english.Plural(m.view.relays, "relay", "")
	switch {
	case m.view.err != nil:
		row = alarm.Render("! " + text.Line(m.view.err.Error()))
	case m.view.problem != nil:
		row = alarm.Render("! no node: " + text.Line(m.view.problem.Error()))
	case m.view.damaged > 0:
		row += ", " + english.Plural(m.view.damaged, "damaged row", "") + " in the store"
	}
	if m.news != "" {
		row += " · " + m.news
	}
	row = ansi.Truncate("─ "+row+" ", m.width, "…")
	return row + strings.Repeat("─", max(m.width-ansi.StringWidth(row), 0))
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
		row := sign + e.name
		if e.unread > 0 && e.chat != m.open {
			row += fmt.Sprintf(" (%d)", e.unread)
		}
		row = fit(row, width)
		if e.chat == m.open {
			row = chosen.Render(row)
		}
		rows = append(rows, row)
	}
	for len(rows) < height {
		rows = append(rows, strings.Repeat(" ", width))
	}
	return rows
}

// body is what was said and what commands answered, the newest at the bottom.
func (m *model) body(width, height int) []string {
	if m.copying() {
		return m.window(m.toBeCopied(width), width, height)
	}
	var rows []string
	if len(m.view.chats) == 0 && len(m.notices) == 0 {
		rows = append(rows, wrapped("Nobody is here yet. /invite makes a string to be sent to somebody; /join STRING takes one that you were sent.", "", width)...)
	}
	if len(m.notices) > 0 {
		rows = append(rows, faint.Render(strings.Repeat("·", width)))
		for _, n := range m.notices {
			rows = append(rows, wrapped(n, "", width)...)
		}
	}
	// Messages from the last up, as many as are seen: they may be long, and there are hundreds.
	for i := len(m.view.lines) - 1; i >= 0 && m.view.open == m.open && len(rows) < height+m.up; i-- {
		rows = append(m.message(&m.view.lines[i], width), rows...)
	}
	return m.window(rows, width, height)
}

// copying reports whether something is shown to be copied: then nothing else is.
func (m *model) copying() bool { return m.toCopy && len(m.notices) > 0 }

// toBeCopied is that, alone on its rows: what a terminal selects there is the text and spaces.
func (m *model) toBeCopied(width int) []string {
	rows := wrapped("Copy all of these lines, and send them to one person by a way that nobody else reads: whoever is first can use them. That it takes several does no harm. Esc closes this.", "", width)
	rows = append(rows, "")
	for _, n := range m.notices {
		rows = append(rows, strings.Split(ansi.Hardwrap(n, max(width, 1), true), "\n")...)
	}
	return append(rows, "")
}

// window is as many of the rows as height, from the last up or from where they are scrolled to.
func (m *model) window(rows []string, width, height int) []string {
	m.up = min(m.up, max(len(rows)-height, 0))
	end := len(rows) - m.up
	rows = slices.Clone(rows[max(end-height, 0):end])
	if missing := height - len(rows); missing > 0 {
		rows = append(make([]string, missing), rows...)
	}
	for i := range rows {
		rows[i] = fit(rows[i], width)
	}
	return rows
}

// wrapped breaks a line at words, and words that are too long. indent stands before all rows but the first.
func wrapped(line, indent string, width int) []string {
	if width < 2*len(indent) {
		indent = indent[:max(width/4, 0)]
	}
	rows := strings.Split(ansi.Wrap(line, max(width-len(indent), 1), ""), "\n")
	for i := range rows[1:] {
		rows[1+i] = indent + rows[1+i]
	}
	return rows
}

// message is one in rows.
func (m *model) message(l *chat.Line, width int) (rows []string) {
	for _, line := range command.Lines(l) {
		rows = append(rows, wrapped(line, command.Indent, width)...)
	}
	if l.File == nil {
		return rows
	}
	for i := range m.view.files {
		f := &m.view.files[i]
		if f.Chat != m.open || f.ID != l.ID || f.Out != l.Mine || !f.Out && f.Peer != l.From {
			continue
		}
		rows = append(rows, wrapped(command.Indent+m.fileRow(f), command.Indent, width)...)
	}
	return rows
}

// fileRow says how far a file is.
func (m *model) fileRow(f *chat.File) string {
	row := fmt.Sprintf("file %d: %s", f.Number, command.FileState(f))
	if f.State == store.Running && f.Size > 0 {
		n := int(barWidth * f.Done / f.Size)
		row = fmt.Sprintf("file %d: %s%s %s of %s", f.Number, strings.Repeat("█", n), strings.Repeat("░", barWidth-n),
			command.FileState(f), humanize.IBytes(uint64(f.Size)))
	}
	return row
}
