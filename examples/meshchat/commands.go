package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/splitmesh/splitmesh/examples/internal/admin"
	"github.com/splitmesh/splitmesh/examples/internal/node"
	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/command"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/contact"
)

// order is a command on its way to the program that runs.
type order struct {
	Name string   `json:"name"`
	Args []string `json:"args,omitempty"`
}

// reply is what came of it. Status is the exit status that Error means.
type reply struct {
	command.Result
	Error  string `json:"error,omitempty"`
	Warn   string `json:"warn,omitempty"` // beside the result, which may be piped
	Status int    `json:"status,omitempty"`
}

func obey(ctx context.Context, s *command.Session, o order) *reply {
	r, err := command.Run(ctx, s, o.Name, o.Args...)
	switch {
	case errors.Is(err, command.ErrUsage):
		return &reply{Error: err.Error(), Status: program.Usage}
	case err != nil:
		return &reply{Error: err.Error(), Status: program.Status(err)}
	}
	out := &reply{Result: *r}
	if o.Name == "invite" && len(o.Args) == 0 && len(s.Addrs()) == 0 {
		why := node.NoRelay
		if s.Node() == nil {
			why = "this node's are known only while meshchat runs, so make another then"
		}
		out.Warn = "the invitation holds no address: " + cmp.Or(s.Alone(), why)
	}
	return out
}

func commands(a *program.App, s *settings) []*cobra.Command {
	var lines, background bool
	run := a.WithSettings(&cobra.Command{
		Use: "run", Short: "Chat, on the screen",
		Long: "Chat, on the screen; with --plain by lines, for pipes and for screen readers; with --background without either, as a\n" +
			"service: what comes is kept, unread, until history, or a run with a screen, shows it.",
		Example: "  meshchat run --nick Ann\n  meshchat run --plain",
		RunE: func(c *cobra.Command, _ []string) error {
			how := onScreen
			switch {
			case background && lines:
				return &program.Error{Status: program.Usage, Err: errors.New("--plain and --background exclude each other")}
			case background:
				how = unseen
			case lines:
				how = byLines
			}
			return run(c.Context(), a, s, how)
		},
	})
	run.Flags().BoolVar(&lines, "plain", false, "by lines instead of a screen")
	run.Flags().BoolVar(&background, "background", false, "tell nothing and ask nothing: other commands do")
	one := func(name string, c *cobra.Command) *cobra.Command {
		json := program.AddJSON(c)
		c.RunE = func(c *cobra.Command, args []string) error { return tell(c.Context(), a, s, *json, order{name, args}) }
		return a.WithSettings(c)
	}
	do := a.WithSettings(&cobra.Command{
		Use: "do COMMAND [ARGUMENT]...", Short: "Give any command that can be given within the chat", Args: cobra.MinimumNArgs(1),
		Long:    `Give any command that can be given within the chat, such as "room" or "verify"; "meshchat do help" lists them.`,
		Example: "  meshchat do room new garden ann bob\n  meshchat do verify ann",
		RunE: func(c *cobra.Command, args []string) error {
			return tell(c.Context(), a, s, false, order{args[0], args[1:]})
		},
	})
	return []*cobra.Command{
		run, do,
		one("invite", &cobra.Command{
			Use: "invite [cancel]", Short: "Make an invitation: one string, good for one person and a week", Args: cobra.MaximumNArgs(1),
			Long: "Make an invitation: one string, good for one person and a week. With cancel those that nobody has used are good no more.",
		}),
		one("join", &cobra.Command{Use: "join STRING [PETNAME]", Short: "Make who sent the invitation a contact", Long: "Make who sent the invitation a contact. It holds a secret that is good once; with - it is read from the standard input, so\nthat other users of this machine can't see it among the arguments. Spaces and line ends in it count for nothing.", Args: cobra.MinimumNArgs(1)}),
		one("contacts", &cobra.Command{Use: "contacts", Short: "List contacts, requests and rooms"}),
		one("msg", &cobra.Command{
			Use: "send PETNAME TEXT...", Short: "Send a message, now or when the program runs", Args: cobra.MinimumNArgs(2),
			Example: "  meshchat send ann see you at eight\n  meshchat send '#garden' hello all",
		}),
		one("file", &cobra.Command{
			Use: "file PETNAME PATH", Short: "Offer a file, now or when the program runs", Args: cobra.ExactArgs(2),
			Long: "Offer a file, now or when the program runs. It is read when it is taken, so it must stay where it is.",
		}),
		one("history", &cobra.Command{
			Use: "history PETNAME [LINES]", Short: "Print what was said, which is read then", Args: cobra.RangeArgs(1, 2),
		}),
	}
}

// maxInput has room for an invitation that was folded.
const maxInput = 4 * contact.MaxInvitation

// tell gives a command to the program that runs, or, when none does, to what is in the state directory.
func tell(ctx context.Context, a *program.App, s *settings, json bool, o order) error {
	if o.Name == "join" && o.Args[0] == "-" {
		b, err := io.ReadAll(io.LimitReader(a.In, maxInput))
		if err != nil {
			return err
		}
		o.Args[0] = string(b)
	}
	if o.Name == "file" && len(o.Args) > 1 { // the program that runs stands elsewhere
		path, err := filepath.Abs(strings.Join(o.Args[1:], " "))
		if err != nil {
			return err
		}
		o.Args = []string{o.Args[0], path}
	}
	r, err := ask(ctx, a, s, o)
	if err != nil {
		return err
	}
	if r.Error != "" {
		return &program.Error{Status: r.Status, Err: errors.New(r.Error)}
	}
	if r.Warn != "" {
		fmt.Fprintf(a.Err, "%s: %s\n", a.Program.Name, program.Printable(r.Warn))
	}
	if json {
		return program.ShowJSON(a.Out, r.Data)
	}
	for _, l := range r.Lines {
		if _, err := fmt.Fprintln(a.Out, program.Printable(l)); err != nil {
			return err
		}
	}
	return nil
}

// ask has a command be obeyed by the program that runs, or, when none does, by what is in the state directory.
func ask(ctx context.Context, a *program.App, s *settings, o order) (*reply, error) {
	switch o.Name {
	case "help": // it needs neither
		return obey(ctx, nil, o), nil
	case "invite", "join": // they begin a chat
	default:
		if err := begun(a); err != nil {
			return nil, err
		}
	}
	state, err := a.Open()
	switch {
	case program.Status(err) == program.Busy:
		r := new(reply)
		return r, admin.NewClient(a).Ask(ctx, http.MethodPost, "/command", nil, o, r)
	case err != nil:
		return nil, err
	}
	defer state.Close()
	return offline(ctx, a, s, state, o)
}

// begun says that there is no state directory of a chat, as when its name is mistyped: no key is made for that.
func begun(a *program.App) error {
	for _, name := range []string{storeName, storeName + "-wal"} { // the second alone is damage, which is told otherwise
		if _, err := os.Lstat(filepath.Join(a.Dir(), name)); !errors.Is(err, fs.ErrNotExist) {
			return nil // what else is wrong there is told when it is opened
		}
	}
	return &program.Error{
		Status: program.Failed, Err: fmt.Errorf("there is no chat in %s", a.Dir()),
		Hint: "Name the right directory with --state; or begin a chat there with meshchat run, invite or join.",
	}
}

// offline obeys a command without a node: what it sends waits for the next run.
func offline(ctx context.Context, a *program.App, s *settings, state *program.State, o order) (*reply, error) {
	session, err := open(ctx, a, s, state)
	if err != nil {
		return nil, err
	}
	defer session.Store.Close()
	return obey(ctx, session, o), nil
}
