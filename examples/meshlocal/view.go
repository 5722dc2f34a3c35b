package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/splitmesh/splitmesh/examples/internal/program"
)

// reportEvery is how often a line is printed where there is no live view.
const reportEvery = 2 * time.Second

// report prints a line now and then, and the whole at the end.
func report(ctx context.Context, w *world, out io.Writer) error {
	fmt.Fprintln(out, w.invitation())
	for sleep(ctx, reportEvery) {
		fmt.Fprintln(out, w.line())
	}
	if _, err := io.WriteString(out, w.screen(0)); err != nil {
		return err
	}
	if f := w.tally.figures(); f.talks == 0 || f.failed == f.talks {
		return errors.New("nobody reached anybody")
	}
	return nil
}

// line is the state of the network in a line.
func (w *world) line() string {
	f := w.tally.figures()
	return fmt.Sprintf("%v: %d dials, %d failed, %d direct, %d split, %d relays died; first byte back in %v, 99 %% in %v",
		time.Since(w.began).Round(time.Second), f.talks, f.failed, f.direct, f.split, f.deaths, f.median.Round(100*time.Microsecond), f.slowest.Round(100*time.Microsecond))
}

// invitation says how others join.
func (w *world) invitation() string {
	for _, m := range w.members {
		if n, _ := m.alive(); n != nil && m.relay {
			return "Join it: SPLITMESH_BOOTSTRAP=" + n.Addrs()[0].String()
		}
	}
	return "No relay lives."
}

// screen is the whole state, in at most so many lines; 0: all.
func (w *world) screen(height int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%s\n\n", w.line(), w.invitation())
	t := program.NewTable(&b, "NODE", "KIND", "ADDRESS", "SESSIONS", "RESERVED", "CIRCUITS", "CARRIED", "KNOWS", "KEEPS", "ECHOES")
	rows := 5
	for i, m := range w.members {
		if height > 0 && rows >= height-maxErrors-2 {
			t.Row(fmt.Sprintf("and %d more", len(w.members)-i))
			break
		}
		rows++
		kind := "peer"
		switch {
		case m.relay:
			kind = "relay"
		case m.hidden:
			kind = "hidden"
		}
		m.mu.Lock()
		n, d, echoes := m.node, m.dht, m.echoes
		addr := "by relays"
		if len(m.addrs) > 0 {
			addr = m.addrs[0].String()
		}
		m.mu.Unlock()
		if n == nil {
			t.Row(m.key.ID().Short(), kind, "dead")
			continue
		}
		st, ds := n.Stats(), d.Stats()
		reserved := fmt.Sprintf("at %d", len(st.Reservations))
		circuits, carried := "", ""
		if m.relay {
			reserved = fmt.Sprintf("%d here", st.Relay.Reservations)
			circuits, carried = fmt.Sprint(st.Relay.Circuits), fmt.Sprintf("%d KiB", st.Relay.Bytes>>10)
		}
		t.Row(m.key.ID().Short(), kind, addr, fmt.Sprint(len(st.Sessions)), reserved, circuits, carried, fmt.Sprint(ds.Contacts), fmt.Sprint(ds.Records), fmt.Sprint(echoes))
	}
	_ = t.Flush() // a strings.Builder does not fail
	for _, p := range w.tally.figures().problems {
		fmt.Fprintf(&b, "\n%s", program.Printable(p))
	}
	b.WriteByte('\n')
	return b.String()
}

// A model is the live view.
type model struct {
	w             *world
	ctx           context.Context
	width, height int
}

type tick time.Time

func (m *model) next() tea.Cmd {
	return tea.Tick(time.Second, func(t time.Time) tea.Msg { return tick(t) })
}

// Init implements tea.Model.
func (m *model) Init() tea.Cmd { return m.next() }

// Update implements tea.Model.
func (m *model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tick:
		return m, m.next()
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case tea.KeyPressMsg:
		switch msg.String() {
		case "q", "ctrl+c":
			return m, tea.Quit
		case "c":
			m.w.cut(m.ctx)
		}
	}
	return m, nil
}

// View implements tea.Model.
func (m *model) View() tea.View {
	lines := strings.Split(m.w.screen(m.height), "\n")
	for i, l := range lines {
		if r := []rune(l); m.width > 0 && len(r) > m.width {
			lines[i] = string(r[:m.width])
		}
	}
	v := tea.NewView(strings.Join(lines, "\n") + "\nc cuts a relay off, q ends it")
	v.AltScreen = true
	return v
}

// watch shows the live view until it is ended.
func watch(ctx context.Context, end func(), w *world, out *os.File) error {
	defer end()
	_, err := tea.NewProgram(&model{w: w, ctx: ctx}, tea.WithContext(ctx), tea.WithOutput(out)).Run()
	if errors.Is(err, tea.ErrProgramKilled) && ctx.Err() != nil { // its time was up, or it was interrupted
		err = nil
	}
	fmt.Fprintln(out, w.line())
	return err
}
