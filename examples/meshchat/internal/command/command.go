// Package command is what a person can say to meshchat: one table, which the screen, the plain mode, the command line and
// the admin socket share.
package command

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dustin/go-humanize/english"
	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/chat"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/store"
)

// A Session is whom commands are given to.
type Session struct {
	*chat.Engine
	// Addrs are what an invitation says of where we are.
	Addrs func() []multiaddr.Multiaddr
	// Alone says what to set if nobody can reach us; empty: somebody may.
	Alone func() string
}

// A Result is what a command has to show: lines for people, safe for a terminal, and what they were made of.
type Result struct {
	Lines []string `json:"lines"`
	Data  any      `json:"data,omitempty"`
	// ToCopy says that the lines are to be copied: nothing is to stand beside them.
	ToCopy bool `json:"-"`
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
		{"file", "WHO PATH", "offer a file; it is read when it is taken, so it must stay", 2, 2, file},
		{"files", "", "list files that were offered", 0, 0, files},
		{"get", "NUMBER", "take a file that was offered", 1, 1, onFile((*chat.Engine).AcceptFile, "is taken; /files says how far it is")},
		{"drop", "NUMBER", "decline a file, stop it, or take back what you offered", 1, 1, onFile((*chat.Engine).DropFile, "is dropped")},
		{"contacts", "", "list contacts, requests and rooms", 0, 0, contacts},
		{"history", "WHO [LINES]", "show what was said, which is read then", 1, 2, history},
		{"invite", "[cancel]", "make an invitation: one string, good for one person and a week; or have those that are unused be good no more", 0, 1, invite},
		{"join", "INVITATION [NAME]", "make who sent it a contact; that it was folded does no harm", 1, 2, join},
		{"accept", "WHO", "make who asked a contact", 1, 1, standing(store.Friend, "is a contact")},
		{"block", "WHO", "hear somebody no more; he is out of your rooms, and no file goes to or fro", 1, 1, standing(store.Blocked, "is blocked")},
		{"forget", "WHO", "forget a contact, or a room that you have left, and all that was said", 1, 1, forget},
		{"rename", "WHO NAME", "call a contact or a room otherwise", 2, 2, rename},
		{"verify", "WHO [yes]", "show the words to compare by voice; with yes: they agree", 1, 2, verify},
		{"room", roomArgs, "make a room, change who is in yours, or leave one; yours is closed then", 2, 3, room},
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

func choose(b bool, yes, no string) string {
	if b {
		return yes
	}
	return no
}

func me(_ context.Context, s *Session, _ []string) (*Result, error) {
	r := &Result{Lines: []string{"ID     " + s.ID.String(), "nick   " + s.Nick, "files  " + s.Dir}}
	switch n := s.Node(); {
	case n != nil:
		relays := len(n.Stats().Reservations)
		r.Lines = append(r.Lines, fmt.Sprintf("relays %d %s to this node", relays, english.PluralWord(relays, "forwards", "forward")))
	case s.Problem() != nil:
		r.Lines = append(r.Lines, "node   "+program.Printable(s.Problem().Error()))
	}
	if n := s.Store.Damaged(); n > 0 {
		r.Lines = append(r.Lines, fmt.Sprintf("store  %s left out; the log says which", english.Plural(n, "damaged row is", "damaged rows are")))
	}
	return r, nil
}

func help(context.Context, *Session, []string) (*Result, error) {
	r := new(Result)
	for _, p := range specs {
		r.Lines = append(r.Lines, strings.TrimSpace("/"+p.name+" "+p.args), "        "+p.help)
	}
	r.Lines = append(r.Lines, "/quit", "        end the program, within it", "A line without a slash is said in the chat that is open.")
	return r, nil
}
