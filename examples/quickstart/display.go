package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// A display shows how a game goes: on a terminal a block that is redrawn in
// place, elsewhere lines.
type display struct {
	w     io.Writer
	width int // of the terminal, 0: it is none
	color bool

	drawn  int       // lines of the block that stand on the terminal
	last   time.Time // when progress was shown last
	tenths int64     // of the file that had arrived by then
	rates  map[string]*rate
}

// A rate is a relay's bytes a second, smoothed.
type rate struct {
	at        time.Time
	bytes     uint64
	perSecond float64
}

// How often the block is redrawn, and the longest time between lines.
const (
	redrawEvery = 100 * time.Millisecond
	lineEvery   = 2 * time.Second
)

// newDisplay looks at what w is. NO_COLOR (no-color.org) and TERM=dumb are heeded.
func newDisplay(w io.Writer) *display {
	d := &display{w: w, rates: make(map[string]*rate)}
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || os.Getenv("TERM") == "dumb" || !understandsEscapes(f) {
		return d
	}
	d.width = 80
	if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
		d.width = width
	}
	d.color = os.Getenv("NO_COLOR") == ""
	return d
}

// say prints a line; on a terminal it goes above the block.
func (d *display) say(format string, a ...any) {
	d.erase()
	fmt.Fprintf(d.w, format+"\n", a...)
}

// erase takes the block off the terminal.
func (d *display) erase() {
	if d.drawn > 0 {
		fmt.Fprintf(d.w, "\x1b[%dA\x1b[J", d.drawn)
		d.drawn = 0
	}
}

// begin says who is there.
func (d *display) begin(g *game) {
	what := formatSize(g.o.size) + " of random data"
	if g.o.file != "" {
		what = fmt.Sprintf("%s (%s)", oneLine(g.o.file), formatSize(g.o.size))
	}
	d.say("sending %s over %d relays, with one to spare", what, g.o.relays)
	for _, p := range g.crew.procs {
		d.say("  %-9s process %-7d %s", p.name, p.cmd.Process.Pid, p.id)
	}
}

// killed says which relay was.
func (d *display) killed(g *game) {
	d.say("%s  %s killed (process %d): %s had come through it, and %s are still to come",
		g.clock(g.killedAt), d.paint(red, g.victim.name), g.victim.cmd.Process.Pid, formatSize(g.victimBrought), formatSize(g.stillToCome))
}

// recovered says that the spare has begun.
func (d *display) recovered(g *game) {
	d.say("%s  %s took its place: its first bytes arrived %v after the kill",
		g.clock(g.killedAt.Add(g.recovery)), d.paint(green, g.spare.name), g.recovery.Round(time.Millisecond))
}

// clock is the time since the transfer began.
func (g *game) clock(t time.Time) string { return fmt.Sprintf("%6.2f s", t.Sub(g.began).Seconds()) }

// progress shows how far the game is, if it is time to.
func (d *display) progress(g *game) {
	now := time.Now()
	for _, c := range g.sent.Relays {
		d.measure(now, &c)
	}
	tenths := 10 * g.received.Bytes / g.o.size
	switch end := g.gotAll != nil && g.sentAll != nil; {
	case d.width > 0 && (end || now.Sub(d.last) >= redrawEvery):
		d.erase()
		lines := d.block(g)
		fmt.Fprint(d.w, strings.Join(lines, "\n"), "\n")
		d.drawn = len(lines)
	case d.width == 0 && (tenths > d.tenths || now.Sub(d.last) >= lineEvery):
		fmt.Fprintln(d.w, g.clock(now)+" "+d.line(g))
	default:
		return
	}
	d.last, d.tenths = now, tenths
}

// finish leaves the last block standing.
func (d *display) finish() { d.drawn = 0 }

// measure updates a relay's rate.
func (d *display) measure(now time.Time, c *carried) {
	r := d.rates[c.ID]
	if r == nil {
		d.rates[c.ID] = &rate{at: now, bytes: c.Bytes}
		return
	}
	since := now.Sub(r.at)
	if since < reportEvery*9/10 {
		return
	}
	sample := float64(c.Bytes-r.bytes) / since.Seconds()
	weight := min(1, since.Seconds()/0.3)
	if r.perSecond == 0 {
		weight = 1
	}
	r.perSecond += weight * (sample - r.perSecond)
	r.at, r.bytes = now, c.Bytes
}

// A row is what is shown of one relay.
type row struct {
	name, state string
	bytes       uint64
	share, rate float64
	color       string
}

// rows are the relays in their order.
func (d *display) rows(g *game) []row {
	var total uint64
	of := make(map[string]carried)
	for _, c := range g.sent.Relays {
		total += c.Bytes
		of[c.ID] = c
	}
	var rows []row
	for _, p := range g.relays {
		c := of[p.id]
		r := row{name: p.name, bytes: c.Bytes, state: "spare", color: yellow}
		if total > 0 {
			r.share = float64(c.Bytes) / float64(total)
		}
		switch rt := d.rates[p.id]; {
		case p.killed:
			r.state, r.color = "killed", red
		case c.Live:
			r.state, r.color = "", green
			if rt != nil {
				r.rate = rt.perSecond
			}
		}
		rows = append(rows, r)
	}
	return rows
}

// line is the progress in one line.
func (d *display) line(g *game) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%3d%%", 100*g.received.Bytes/g.o.size)
	for _, r := range d.rows(g) {
		fmt.Fprintf(&b, "  %s %4.1f%%", strings.TrimPrefix(r.name, "relay "), 100*r.share)
		switch {
		case r.state != "":
			fmt.Fprintf(&b, " (%s)", r.state)
		default:
			fmt.Fprintf(&b, " (%s/s)", formatSize(r.rate))
		}
	}
	return b.String()
}

// block is the progress in a line for each relay and one for the whole.
func (d *display) block(g *game) []string {
	bar := max(d.width-50, 10)
	var lines []string
	for _, r := range d.rows(g) {
		doing := r.state
		if doing == "" {
			doing = formatSize(r.rate) + "/s"
		}
		text := fmt.Sprintf("  %-8s %5.1f%% %9s  %-12s ", r.name, 100*r.share, formatSize(r.bytes), doing)
		lines = append(lines, d.fit(text, d.paintBar(r.color, bar, r.share)))
	}
	done := float64(g.received.Bytes) / float64(g.o.size)
	text := fmt.Sprintf("  %-8s %5.1f%% %9s  of %-9s ", "arrived", 100*done, formatSize(g.received.Bytes), formatSize(g.o.size))
	return append(lines, d.fit(text, d.paintBar("", bar, done)))
}

// fit keeps a line within the terminal: one that wraps could not be erased.
func (d *display) fit(text, bar string) string {
	if len(text) >= d.width {
		return text[:max(d.width-1, 0)]
	}
	if d.width < 60 { // no room for the bar
		return text
	}
	return text + bar
}

// Colors of a terminal.
const (
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	plain  = "\x1b[0m"
)

func (d *display) paint(color, s string) string {
	if !d.color || color == "" {
		return s
	}
	return color + s + plain
}

// paintBar draws share, 0 to 1, as a part of width.
func (d *display) paintBar(color string, width int, share float64) string {
	full := int(share*float64(width) + 0.5)
	full = min(max(full, 0), width)
	return d.paint(color, strings.Repeat("█", full)) + strings.Repeat("░", width-full)
}
