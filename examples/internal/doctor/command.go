package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/splitmesh/splitmesh/examples/internal/admin"
	"github.com/splitmesh/splitmesh/examples/internal/node"
	"github.com/splitmesh/splitmesh/examples/internal/program"
)

// A Question is what is asked of a program that runs.
type Question struct {
	Target      string `json:"target"`
	RelayedOnly bool   `json:"relayed_only"`
}

// An Opener gives the doctor of a program that does not run, and what the question's target is to be dialled as. done is
// called in the end.
type Opener func(ctx context.Context, state *program.State, q Question) (d *Doctor, target string, done func() error, err error)

// Handle has a program that runs examine from its own node.
func Handle(mux *http.ServeMux, n *node.Node, s *node.Settings, dir string) {
	Answer(mux, func(_ context.Context, q Question) (*Doctor, string, error) {
		return Of(n, s, dir, q.RelayedOnly), q.Target, nil
	})
}

// Answer is Handle for who has other targets, or not always a node.
func Answer(mux *http.ServeMux, doctor func(context.Context, Question) (*Doctor, string, error)) {
	admin.Handle(mux, "POST /doctor", func(ctx context.Context, q Question) (Report, error) {
		d, target, err := doctor(ctx, q)
		if err != nil {
			return Report{}, err
		}
		return d.Examine(ctx, target, nil), nil
	})
}

// Of is the doctor of a node that was made of the settings.
func Of(n *node.Node, s *node.Settings, dir string, relayedOnly bool) *Doctor {
	d := &Doctor{Node: n.Node, State: dir, RelayedOnly: relayedOnly, Clocks: append([]string(nil), s.Registries...)}
	for _, b := range s.Bootstrap {
		if strings.HasPrefix(b, "https://") {
			d.Clocks = append(d.Clocks, b)
		}
	}
	return d
}

// Command is the subcommand doctor. It asks the program that runs, or else makes a node of the settings.
func Command(a *program.App, s *node.Settings) *cobra.Command {
	c := CommandWith(a, func(ctx context.Context, state *program.State, q Question) (*Doctor, string, func() error, error) {
		n, err := node.Open(ctx, s, state, a.Log, nil)
		if err != nil {
			return nil, "", nil, err
		}
		return Of(n, s, state.Dir, q.RelayedOnly), q.Target, n.Close, nil
	})
	c.Long += "\n\nPEER is an ID or NAME.mesh. Without a service it is a bad target: there is nothing to dial."
	return c
}

// CommandWith is Command for who makes the node otherwise.
func CommandWith(a *program.App, open Opener) *cobra.Command {
	c := &cobra.Command{
		Use: "doctor PEER:SERVICE", Short: "Find out, step by step, why a peer's service can't be reached", Args: cobra.ExactArgs(1),
		Long: "It looks at this machine's disk and clock, the name, the peer's record, each address (DNS, proxy, port, TLS), the relays,\n" +
			"and then dials. It asks the program that runs, if one does, and otherwise makes a node of the settings.\n" +
			"What a stranger is not told (wrong key, wrong network key, no node there) it can only name together.",
		Example: "  " + a.Program.Name + " doctor ann.mesh:chat\n  " + a.Program.Name + " doctor --by-relays ID:tcp/80",
	}
	relayedOnly := c.Flags().Bool("by-relays", false, "examine a dial that takes no direct path")
	asJSON := program.AddJSON(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		r, err := examine(c, a, open, Question{args[0], *relayedOnly}, *asJSON)
		if err != nil {
			return err
		}
		if *asJSON {
			err = program.ShowJSON(a.Out, r)
		} else {
			_, err = fmt.Fprintf(a.Out, "\n%s\n", r.verdict())
		}
		if err == nil && r.Cause != "" {
			err = &program.Error{Status: program.Failed, Err: errors.New("out of reach: " + string(r.Cause))}
		}
		return err
	}
	a.Settings.AddFlags(c.Flags()) // of a node that it makes: examine loads them then
	return c
}

// verdict is what came of it, in lines.
func (r *Report) verdict() string {
	switch {
	case r.Cause != "" && len(r.At) > 0:
		return fmt.Sprintf("Cause: %s: %s\n%s", r.Cause, program.Printable(strings.Join(r.At, ", ")), r.Advice)
	case r.Cause != "":
		return fmt.Sprintf("Cause: %s\n%s", r.Cause, r.Advice)
	case len(r.Missed) == 0:
		return "The service is within reach."
	}
	text := "The service is within reach by " + strings.Join(r.Reached, " and by ") + "."
	for _, m := range r.Missed {
		text += fmt.Sprintf("\nNot by %s: %s. %s", m.Way, m.Cause, m.Advice)
	}
	return text
}

func examine(c *cobra.Command, a *program.App, open Opener, q Question, silent bool) (r Report, err error) {
	tell := func(s Step) {
		if !silent {
			show(a.Out, s)
		}
	}
	err = admin.NewClient(a).Ask(c.Context(), http.MethodPost, "/doctor", nil, q, &r)
	if program.Status(err) != program.NotRunning {
		for _, s := range r.Steps {
			tell(s)
		}
		return r, err
	}
	if err := a.Load(); err != nil {
		return r, err
	}
	state, err := a.Open()
	if err != nil {
		return r, err
	}
	defer state.Close()
	d, target, done, err := open(c.Context(), state, q)
	if err != nil {
		return r, err
	}
	r = d.Examine(c.Context(), target, tell)
	return r, done()
}

// show prints a step.
func show(w io.Writer, s Step) {
	mark := "ok     "
	switch {
	case s.Cause != "":
		mark = "FAILED "
	case s.Skipped:
		mark = "skipped"
	}
	name := s.Name
	if s.Target != "" {
		name += " " + s.Target
	}
	fmt.Fprintf(w, "%s %s: %s\n", mark, program.Printable(name), program.Printable(s.Detail)) // a failure shows in the end
}
