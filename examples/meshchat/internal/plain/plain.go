// Package plain is meshchat for pipes and for those to whom a screen is read: commands are lines that come in, and what
// happens are lines that go out. A line is never changed later.
package plain

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/chat"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/command"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/protocol"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/store"
)

// maxLine bounds a line that comes in.
const maxLine = 64 << 10

// A talk is one run.
type talk struct {
	*command.Session
	out   *bufio.Writer
	with  protocol.Chat            // to whom lines without a slash go
	marks map[protocol.Chat]string // of our last message
	files map[int64]int64          // the last state, or tenth, that was told
}

// Run obeys lines of in, and tells what happens, until ctx ends or a line says /quit. The end of in is not the end: a
// program without a terminal goes on receiving.
func Run(ctx context.Context, s *command.Session, in io.Reader, out io.Writer) error {
	events, cancel := s.Subscribe()
	defer cancel()
	t := &talk{Session: s, out: bufio.NewWriter(out), marks: make(map[protocol.Chat]string), files: make(map[int64]int64)}
	lines := make(chan string)
	go read(ctx, in, lines)
	t.tell("* this is %s; /help lists commands, /with NAME says whom lines without a slash are for", s.ID)
	if err := t.unread(ctx); err != nil {
		return err
	}
	for {
		if err := t.out.Flush(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case line := <-lines:
			if len(line) > maxLine {
				t.tell("! a line of over %d bytes is not obeyed: send it as a file", maxLine)
				continue
			}
			if strings.TrimSpace(line) == "/quit" {
				return nil
			}
			if err := t.obey(ctx, line); err != nil && ctx.Err() == nil {
				t.tell("! %s", err)
			}
		case v := <-events:
			if err := t.happened(ctx, v); err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
}

// read sends the lines of in. It ends with in, which nobody can interrupt, or with the next line after ctx. Of a line that
// is too long it sends just as much as shows that.
func read(ctx context.Context, in io.Reader, lines chan<- string) {
	for r := bufio.NewReader(in); ; {
		var line []byte
		var err error
		for more := true; more && err == nil; {
			var part []byte
			part, more, err = r.ReadLine()
			line = append(line, part[:min(len(part), maxLine+1-len(line))]...)
		}
		if err != nil {
			return
		}
		select {
		case lines <- string(line):
		case <-ctx.Done():
			return
		}
	}
}

// tell writes a line; a failure is Flush's.
func (t *talk) tell(format string, args ...any) {
	fmt.Fprintln(t.out, program.Printable(fmt.Sprintf(format, args...)))
}

func (t *talk) obey(ctx context.Context, line string) error {
	line = strings.TrimSpace(line)
	who, isWith := strings.CutPrefix(line, "/with ")
	switch {
	case line == "":
		return nil
	case isWith:
		c, err := t.Resolve(ctx, strings.TrimSpace(who))
		if err == nil {
			t.with = c
			t.tell("* lines without a slash are for %s", t.ChatName(ctx, c))
		}
		return err
	case !strings.HasPrefix(line, "/"):
		if t.with.Peer.IsZero() {
			return errors.New("for whom? /with NAME says it for all lines that follow")
		}
		return t.Send(ctx, t.with, line)
	}
	r, err := command.Do(ctx, t.Session, line)
	if err != nil {
		return err
	}
	for _, l := range r.Lines {
		t.tell("%s", l)
	}
	return nil
}

// happened tells what is new. An event only says where to look, so one that was missed is made up for by the next.
func (t *talk) happened(ctx context.Context, v chat.Event) error {
	if v.Text != "" {
		t.tell("* %s", v.Text)
	}
	switch v.Kind {
	case chat.Said:
		return t.heard(ctx, v.Chat)
	case chat.Marked:
		return t.marked(ctx, v.Chat)
	case chat.Filed:
		return t.filed(ctx, v.Transfer.Number)
	}
	return nil
}

// unread tells what came while nobody looked.
func (t *talk) unread(ctx context.Context) error {
	people, err := t.Contacts(ctx)
	if err != nil {
		return err
	}
	rooms, err := t.Rooms(ctx)
	if err != nil {
		return err
	}
	for _, c := range people {
		if err := t.heard(ctx, protocol.Chat{Peer: c.ID}); err != nil {
			return err
		}
	}
	for _, r := range rooms {
		if err := t.heard(ctx, r.Chat); err != nil {
			return err
		}
	}
	return nil
}

// heard tells what is unread in a chat, and then it is read.
func (t *talk) heard(ctx context.Context, c protocol.Chat) error {
	lines, err := t.Unseen(ctx, c)
	if err != nil {
		return err
	}
	for i := range lines {
		if lines[i].Mine {
			continue
		}
		for _, l := range command.Lines(&lines[i]) {
			if c.Room != 0 {
				l = t.ChatName(ctx, c) + " " + l
			}
			t.tell("%s", l)
		}
	}
	if err := t.out.Flush(); err != nil { // then it can be said to be read
		return err
	}
	return t.MarkRead(ctx, c, lines)
}

// marked tells how far our last message got, if that is further than it was.
func (t *talk) marked(ctx context.Context, c protocol.Chat) error {
	lines, err := t.History(ctx, c, 20)
	for i := len(lines) - 1; err == nil && i >= 0; i-- {
		l := &lines[i]
		if !l.Mine || l.State < chat.Delivered && l.Has == 0 {
			continue
		}
		mark := fmt.Sprintf("%s: %s", l.Time.Local().Format("15:04"), l.Mark())
		if key := fmt.Sprint(l.ID, mark); t.marks[c] != key {
			t.marks[c] = key
			t.tell("* to %s, %s", t.ChatName(ctx, c), mark)
		}
		return nil
	}
	return err
}

// filed tells of a transfer whenever another tenth is done.
func (t *talk) filed(ctx context.Context, number int64) error {
	all, err := t.Files(ctx)
	for i := range all {
		f := &all[i]
		if f.Number != number {
			continue
		}
		state := int64(f.State) * 100
		if f.State == store.Running && f.Size > 0 {
			state += 10 * f.Done / f.Size
		}
		if t.files[number] != state {
			t.files[number] = state
			t.tell("* %s", t.FileLine(ctx, f))
		}
	}
	return err
}
