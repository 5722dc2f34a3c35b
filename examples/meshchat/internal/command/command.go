// Package command is what a person can say to meshchat: one table, which the screen, the plain mode, the command line and
// the admin socket share.
package command

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/chat"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/contact"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/protocol"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/store"
)

// A Session is whom commands are given to.
type Session struct {
	*chat.Engine
	// Addrs are what an invitation says of where we are.
	Addrs func() []multiaddr.Multiaddr
}

// A Result is what a command has to show: lines for people, safe for a terminal, and what they were made of.
type Result struct {
	Lines []string `json:"lines"`
	Data  any      `json:"data,omitempty"`
}

func said(format string, args ...any) (*Result, error) {
	return &Result{Lines: []string{fmt.Sprintf(format, args...)}}, nil
}

// A spec is one command. The last of most arguments is the rest of the line.
type spec struct {
	name, args, help string
	least, most      int
	run              func(ctx context.Context, s *Session, a []string) (*Result, error)
}

// ErrUsage says that there is no such command, or that it wants other arguments.
var ErrUsage = errors.New("wrong usage")

// The table, in the order of help.
var specs []spec

func init() { // else help would need itself
	specs = []spec{
		{"msg", "WHO TEXT", "say something to a contact, or in a #room", 2, 2, msg},
		{"file", "WHO PATH", "offer a file", 2, 2, file},
		{"files", "", "list files that were offered", 0, 0, files},
		{"get", "NUMBER", "take a file that was offered", 1, 1, onFile((*chat.Engine).AcceptFile, "is on its way")},
		{"drop", "NUMBER", "decline a file, or stop it", 1, 1, onFile((*chat.Engine).DropFile, "is dropped")},
		{"contacts", "", "list contacts, requests and rooms", 0, 0, contacts},
		{"history", "WHO [LINES]", "show what was said", 1, 2, history},
		{"invite", "", "make an invitation: one string, good for one person and a week", 0, 0, invite},
		{"join", "INVITATION [NAME]", "make who sent it a contact", 1, 2, join},
		{"accept", "WHO", "make who asked a contact", 1, 1, standing(store.Friend, "is a contact")},
		{"block", "WHO", "hear somebody no more", 1, 1, standing(store.Blocked, "is blocked")},
		{"forget", "WHO", "forget a contact or a room, and all that was said", 1, 1, forget},
		{"rename", "WHO NAME", "call a contact or a room otherwise", 2, 2, rename},
		{"verify", "WHO [yes]", "show the words to compare by voice; with yes: they agree", 1, 2, verify},
		{"room", "new NAME WHO.. | add NAME WHO | remove NAME WHO", "make a room, or change who is in yours", 2, 3, room},
		{"me", "", "show who you are", 0, 0, me},
		{"help", "", "show this", 0, 0, help},
	}
}

// Do obeys a line such as "/msg ann hello".
func Do(ctx context.Context, s *Session, line string) (*Result, error) {
	name, rest, _ := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, "/")), " ")
	p, err := find(name)
	if err != nil {
		return nil, err
	}
	return p.obey(ctx, s, split(rest, p.most))
}

// Run obeys a command with arguments that are apart already.
func Run(ctx context.Context, s *Session, name string, args ...string) (*Result, error) {
	p, err := find(name)
	if err != nil {
		return nil, err
	}
	if len(args) > p.most && p.most > 0 {
		args = append(slices.Clone(args[:p.most-1]), strings.Join(args[p.most-1:], " "))
	}
	return p.obey(ctx, s, args)
}

func find(name string) (*spec, error) {
	for i := range specs {
		if specs[i].name == name {
			return &specs[i], nil
		}
	}
	return nil, fmt.Errorf("%w: there is no /%.20s; /help lists what there is", ErrUsage, program.Printable(name))
}

func (p *spec) obey(ctx context.Context, s *Session, args []string) (*Result, error) {
	if len(args) < p.least || len(args) > p.most {
		return nil, fmt.Errorf("%w: /%s %s", ErrUsage, p.name, p.args)
	}
	return p.run(ctx, s, args)
}

// split takes at most n words off a line; the last has the rest.
func split(line string, n int) (out []string) {
	for line = strings.TrimSpace(line); line != ""; line = strings.TrimLeft(line, " \t") {
		if len(out) == n-1 {
			return append(out, line)
		}
		i := strings.IndexAny(line, " \t")
		if i < 0 {
			return append(out, line)
		}
		out, line = append(out, line[:i]), line[i:]
	}
	return out
}

func msg(ctx context.Context, s *Session, a []string) (*Result, error) {
	c, err := s.Resolve(ctx, a[0])
	if err != nil {
		return nil, err
	}
	return new(Result), s.Send(ctx, c, a[1])
}

func file(ctx context.Context, s *Session, a []string) (*Result, error) {
	c, err := s.Resolve(ctx, a[0])
	if err != nil {
		return nil, err
	}
	return new(Result), s.SendFile(ctx, c, a[1])
}

func files(ctx context.Context, s *Session, _ []string) (*Result, error) {
	all, err := s.Files(ctx)
	r := &Result{Lines: []string{}}
	for i := range all {
		r.Lines = append(r.Lines, s.FileLine(ctx, &all[i]))
	}
	return r, err
}

// FileLine says what a transfer is and how far.
func (s *Session) FileLine(ctx context.Context, f *chat.File) string {
	way := "from"
	if f.Out {
		way = "to"
	}
	return fmt.Sprintf("file %d %s %s: %s, %s: %s", f.Number, way, s.Name(ctx, f.Peer), program.Printable(f.Name), humanize.IBytes(uint64(f.Size)), FileState(f))
}

// FileState says how far a transfer is.
func FileState(f *chat.File) string {
	switch {
	case f.State == store.Running && f.Size > 0:
		return fmt.Sprintf("%d %%", 100*f.Done/f.Size)
	case f.State == store.Offered && !f.Out:
		return fmt.Sprintf("offered, /get %d takes it", f.Number)
	case f.State == store.Done && !f.Out:
		return "done: " + program.Printable(f.Path)
	case f.State == store.Failed:
		return "failed: " + program.Printable(f.Why)
	}
	return f.State.String()
}

func onFile(f func(*chat.Engine, context.Context, int64) error, what string) func(context.Context, *Session, []string) (*Result, error) {
	return func(ctx context.Context, s *Session, a []string) (*Result, error) {
		n, err := strconv.ParseInt(a[0], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%w: %.20q is no number of a file; /files lists them", ErrUsage, a[0])
		}
		if err := f(s.Engine, ctx, n); err != nil {
			return nil, err
		}
		return said("file %d %s", n, what)
	}
}

// A Person is a contact as JSON.
type Person struct {
	Name, ID, Nick, Standing string
	Verified, Online         bool
	Unread, Queued           int
}

// A Room is one as JSON.
type Room struct {
	Name    string
	Creator string
	Members []string
	Gone    bool
	Unread  int
}

func contacts(ctx context.Context, s *Session, _ []string) (*Result, error) {
	people, err := s.Contacts(ctx)
	if err != nil {
		return nil, err
	}
	rooms, err := s.Rooms(ctx)
	if err != nil {
		return nil, err
	}
	online := s.Online()
	var data struct {
		Contacts []Person
		Rooms    []Room
	}
	var b strings.Builder
	if len(people) > 0 {
		t := program.NewTable(&b, "NAME", "IS", "SEEN", "UNREAD", "WAIT", "WORDS", "ID")
		for _, c := range people {
			p := Person{Name: c.Name, ID: c.ID.String(), Nick: c.Nick, Standing: Standing(c.Standing), Verified: c.Verified, Online: online[c.ID]}
			if p.Unread, err = s.Unread(ctx, protocol.Chat{Peer: c.ID}); err != nil {
				return nil, err
			}
			if err = s.Store.View(ctx, func(tx *store.Tx) (err error) {
				p.Queued, err = tx.Queued(c.ID)
				return err
			}); err != nil {
				return nil, err
			}
			data.Contacts = append(data.Contacts, p)
			t.Row(c.Name, p.Standing, choose(p.Online, "online", "away"), strconv.Itoa(p.Unread), strconv.Itoa(p.Queued), choose(c.Verified, "verified", "-"), p.ID)
		}
		if err := t.Flush(); err != nil {
			return nil, err
		}
	}
	if len(rooms) > 0 {
		t := program.NewTable(&b, "ROOM", "OF", "UNREAD", "MEMBERS")
		for _, r := range rooms {
			row := Room{Name: r.Name, Creator: s.Name(ctx, r.Chat.Peer), Gone: r.Gone}
			if row.Unread, err = s.Unread(ctx, r.Chat); err != nil {
				return nil, err
			}
			for _, m := range r.Members {
				row.Members = append(row.Members, s.Name(ctx, m))
			}
			data.Rooms = append(data.Rooms, row)
			t.Row("#"+r.Name, row.Creator, strconv.Itoa(row.Unread), choose(r.Gone, "you are no longer in it", strings.Join(row.Members, ", ")))
		}
		if err := t.Flush(); err != nil {
			return nil, err
		}
	}
	if b.Len() == 0 {
		b.WriteString("nobody yet: /invite makes an invitation, /join takes one")
	}
	return &Result{Lines: strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n"), Data: data}, nil
}

func choose(b bool, yes, no string) string {
	if b {
		return yes
	}
	return no
}

// Standing is a standing in a word.
func Standing(s store.Standing) string {
	switch s {
	case store.Request:
		return "asks"
	case store.Friend:
		return "contact"
	case store.Blocked:
		return "blocked"
	}
	return "unknown"
}

// A Said is a message as JSON.
type Said struct{ Time, From, Text, File, Mark string }

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
	lines, err := s.History(ctx, c, n)
	r := &Result{Lines: []string{}}
	var data []Said
	for i := range lines {
		l := &lines[i]
		r.Lines = append(r.Lines, Lines(l)...)
		d := Said{Time: l.Time.UTC().Format("2006-01-02T15:04:05Z"), From: l.Author, Text: l.Text, Mark: l.Mark()}
		if l.File != nil {
			d.File = l.File.Name
		}
		data = append(data, d)
	}
	r.Data = data
	return r, err
}

// Lines are a message for people: one line, and more where it has more.
func Lines(l *chat.Line) (out []string) {
	text := l.Text
	switch {
	case l.Damaged:
		return []string{"[--:--] (this message is damaged in the store)"}
	case l.File != nil:
		text = fmt.Sprintf("(file %s, %s)", l.File.Name, humanize.IBytes(uint64(l.File.Size)))
	}
	head := fmt.Sprintf("[%s] %s: ", l.Time.Local().Format("15:04"), program.Printable(l.Author))
	for i, line := range strings.Split(text, "\n") {
		line = Clean(line)
		if i > 0 {
			head = "        "
		}
		out = append(out, head+line)
	}
	if m := l.Mark(); m != "" {
		out[len(out)-1] += "  (" + program.Printable(m) + ")"
	}
	return out
}

// Clean is a line of others for the terminal.
func Clean(line string) string {
	return program.Printable(strings.ReplaceAll(strings.TrimRight(line, "\r"), "\t", "    "))
}

func invite(ctx context.Context, s *Session, _ []string) (*Result, error) {
	v, err := s.Invite(ctx, s.Addrs())
	if err != nil {
		return nil, err
	}
	return said("%s", v)
}

func join(ctx context.Context, s *Session, a []string) (*Result, error) {
	name := ""
	if len(a) > 1 {
		name = a[1]
	}
	c, err := s.Join(ctx, a[0], name)
	if err != nil {
		return nil, err
	}
	return said("%s is a contact; /verify %s shows words to compare", c.Name, c.Name)
}

// person resolves one who is no room.
func person(ctx context.Context, s *Session, name string) (protocol.Chat, error) {
	c, err := s.Resolve(ctx, name)
	if err == nil && c.Room != 0 {
		err = fmt.Errorf("%w: %s is a room", ErrUsage, name)
	}
	return c, err
}

func standing(to store.Standing, what string) func(context.Context, *Session, []string) (*Result, error) {
	return func(ctx context.Context, s *Session, a []string) (*Result, error) {
		c, err := person(ctx, s, a[0])
		if err != nil {
			return nil, err
		}
		if err := s.SetStanding(ctx, c.Peer, to); err != nil {
			return nil, err
		}
		return said("%s %s", a[0], what)
	}
}

func forget(ctx context.Context, s *Session, a []string) (*Result, error) {
	c, err := s.Resolve(ctx, a[0])
	if err != nil {
		return nil, err
	}
	if err := s.Forget(ctx, c); err != nil {
		return nil, err
	}
	return said("%s is forgotten", a[0])
}

func rename(ctx context.Context, s *Session, a []string) (*Result, error) {
	c, err := s.Resolve(ctx, a[0])
	if err != nil {
		return nil, err
	}
	if err := s.Rename(ctx, c, strings.TrimPrefix(a[1], "#")); err != nil {
		return nil, err
	}
	return said("%s is %s now", a[0], s.ChatName(ctx, c))
}

func verify(ctx context.Context, s *Session, a []string) (*Result, error) {
	c, err := person(ctx, s, a[0])
	if err != nil {
		return nil, err
	}
	if len(a) == 1 {
		words := contact.Phrase(s.ID, c.Peer)
		return &Result{Lines: []string{
			"Read these to each other, by voice; both must have the same:",
			"    " + strings.Join(words[:contact.Words/2], " "), "    " + strings.Join(words[contact.Words/2:], " "),
			"If they agree: /verify " + a[0] + " yes",
		}, Data: words}, nil
	}
	if a[1] != "yes" {
		return nil, fmt.Errorf("%w: /verify WHO yes, when the words agree", ErrUsage)
	}
	if err := s.Verified(ctx, c.Peer); err != nil {
		return nil, err
	}
	return said("%s is verified", a[0])
}

func room(ctx context.Context, s *Session, a []string) (*Result, error) {
	name := strings.TrimPrefix(a[1], "#")
	var who []protocol.Chat
	if len(a) > 2 {
		for w := range strings.FieldsSeq(a[2]) {
			c, err := person(ctx, s, w)
			if err != nil {
				return nil, err
			}
			who = append(who, c)
		}
	}
	if a[0] == "new" {
		c, err := s.CreateRoom(ctx, name)
		for _, w := range who {
			if err == nil {
				err = s.SetMember(ctx, c, w.Peer, true)
			}
		}
		if err != nil {
			return nil, err
		}
		return said("#%s is made", name)
	}
	if a[0] != "add" && a[0] != "remove" || len(who) != 1 {
		return nil, fmt.Errorf("%w: /room new NAME WHO.. | add NAME WHO | remove NAME WHO", ErrUsage)
	}
	c, err := s.Resolve(ctx, "#"+name)
	if err != nil {
		return nil, err
	}
	if err := s.SetMember(ctx, c, who[0].Peer, a[0] == "add"); err != nil {
		return nil, err
	}
	return said("#%s: %s %s", name, a[2], choose(a[0] == "add", "is in", "is out"))
}

func me(_ context.Context, s *Session, _ []string) (*Result, error) {
	r := &Result{Lines: []string{"ID     " + s.ID.String(), "nick   " + s.Nick, "files  " + s.Dir}}
	switch n := s.Node(); {
	case n != nil:
		r.Lines = append(r.Lines, fmt.Sprintf("relays %d forward to this node", len(n.Stats().Reservations)))
	case s.Problem() != nil:
		r.Lines = append(r.Lines, "node   "+program.Printable(s.Problem().Error()))
	}
	if n := s.Store.Damaged(); n > 0 {
		r.Lines = append(r.Lines, fmt.Sprintf("store  %d damaged rows were left out; the log says which", n))
	}
	return r, nil
}

func help(context.Context, *Session, []string) (*Result, error) {
	r := new(Result)
	for _, p := range specs {
		r.Lines = append(r.Lines, fmt.Sprintf("/%s %s", p.name, p.args), "        "+p.help)
	}
	return r, nil
}
