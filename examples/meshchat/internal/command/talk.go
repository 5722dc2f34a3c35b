package command

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"

	"github.com/splitmesh/splitmesh/examples/meshchat/internal/chat"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/protocol"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/store"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/text"
)

func msg(ctx context.Context, s *Session, a []string) (*Result, error) {
	c, err := s.Resolve(ctx, a[0])
	if err != nil {
		return nil, err
	}
	return new(Result), s.Send(ctx, c, a[1])
}

// A Said is a message as JSON.
type Said struct{ Time, From, Text, File, Mark string }

// maxShown bounds the bytes of texts in one answer.
const maxShown = 4 << 20

func history(ctx context.Context, s *Session, a []string) (*Result, error) {
	c, err := s.Resolve(ctx, a[0])
	if err != nil {
		return nil, err
	}
	n := 50
	if len(a) > 1 {
		if n, err = strconv.Atoi(a[1]); err != nil || n < 1 || n > store.MaxHistory {
			return nil, fmt.Errorf("%w: %.20q is no number of lines from 1 to %d", ErrUsage, a[1], store.MaxHistory)
		}
	}
	unseen, err := s.Unseen(ctx, c)
	if err != nil {
		return nil, err
	}
	lines, err := s.History(ctx, c, n)
	if err != nil {
		return nil, err
	}
	first := len(lines)
	for size := 0; first > 0 && size < maxShown; first-- {
		size += len(lines[first-1].Text) + protocol.MaxFileName
	}
	lines = lines[first:]
	r := &Result{Lines: []string{}}
	data := []Said{}
	for i := range lines {
		l := &lines[i]
		r.Lines = append(r.Lines, Lines(l)...)
		d := Said{Time: l.Time.UTC().Format("2006-01-02T15:04:05Z"), From: l.Author, Text: l.Text, Mark: l.Mark()}
		if l.File != nil {
			d.File = l.File.Name
		}
		if l.Damaged {
			d = Said{Mark: "damaged"}
		}
		data = append(data, d)
	}
	r.Data = data
	if len(unseen) == 0 || unseen[0].Number < lines[0].Number { // not all of it is shown
		return r, nil
	}
	return r, s.MarkRead(ctx, c, unseen)
}

// maxRows is how many lines of one message are shown to people.
const maxRows = 100

// Indent stands before all lines of a message but its first, so that none looks like another's.
const Indent = "        "

// Lines are a message for people: one line, and more where it has more.
func Lines(l *chat.Line) (out []string) {
	if l.Damaged {
		return []string{"[--:--] (this message is damaged in the store)"}
	}
	said := l.Text
	if l.File != nil {
		said = fmt.Sprintf("(file %s, %s)", text.Name(l.File.Name), humanize.IBytes(uint64(l.File.Size)))
	}
	rows := strings.SplitN(said, "\n", maxRows+1)
	if len(rows) > maxRows {
		rows[maxRows] = "(" + english.Plural(1+strings.Count(rows[maxRows], "\n"), "more line", "") + ": history --json has all)"
	}
	head := fmt.Sprintf("[%s] %s: ", when(l.Time.Local(), time.Now()), text.Line(l.Author))
	for _, row := range rows {
		out = append(out, head+Clean(row))
		head = Indent
	}
	if m := l.Mark(); m != "" {
		out[len(out)-1] += "  (" + text.Line(m) + ")"
	}
	return out
}

// when is a time today, or one with its day.
func when(t, now time.Time) string {
	if t.Year() == now.Year() && t.YearDay() == now.YearDay() {
		return t.Format("15:04")
	}
	return t.Format("2006-01-02 15:04")
}

// Clean is a line of others for the terminal.
func Clean(line string) string { return text.Line(strings.TrimRight(line, "\r")) }
