package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/splitmesh/splitmesh/examples/internal/admin"
	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/command"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/contact"
)

// order is a command on its way to the program that runs.
type order struct {
	Name string   `json:"name"`
	Args []string `json:"args,omitempty"`
}

func commands(a *program.App, s *settings) []*cobra.Command {
	plain := false
	run := a.WithSettings(&cobra.Command{
		Use: "run", Short: "Chat, on the screen",
		Long:    "Chat, on the screen; with --plain by lines, for pipes, for screen readers, and as a service.",
		Example: "  meshchat run --nick Ann\n  meshchat run --plain",
		RunE:    func(c *cobra.Command, _ []string) error { return run(c.Context(), a, s, plain) },
	})
	run.Flags().BoolVar(&plain, "plain", false, "by lines instead of a screen")
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
		one("invite", &cobra.Command{Use: "invite", Short: "Make an invitation: one string, good for one person and a week"}),
		one("join", &cobra.Command{Use: "join STRING [PETNAME]", Short: "Make who sent the invitation a contact", Long: "Make who sent the invitation a contact. It holds a secret that is good once; with - it is read from the standard input, so\nthat other users of this machine can't see it among the arguments.", Args: cobra.RangeArgs(1, 2)}),
		one("contacts", &cobra.Command{Use: "contacts", Short: "List contacts, requests and rooms"}),
		one("msg", &cobra.Command{
			Use: "send PETNAME TEXT...", Short: "Send a message, now or when the program runs", Args: cobra.MinimumNArgs(2),
			Example: "  meshchat send ann see you at eight\n  meshchat send '#garden' hello all",
		}),
		one("history", &cobra.Command{Use: "history PETNAME [LINES]", Short: "Print what was said", Args: cobra.RangeArgs(1, 2)}),
	}
}

// tell gives a command to the program that runs, or, when none does, to what is in the state directory.
func tell(ctx context.Context, a *program.App, s *settings, json bool, o order) error {
	if o.Name == "join" && o.Args[0] == "-" {
		b, err := io.ReadAll(io.LimitReader(a.In, contact.MaxInvitation+1))
		if err != nil {
			return err
		}
		o.Args[0] = strings.TrimSpace(string(b))
	}
	r := new(command.Result)
	state, err := a.Open()
	switch {
	case program.Status(err) == program.Busy:
		err = admin.NewClient(a).Ask(ctx, http.MethodPost, "/command", nil, o, r)
	case err == nil:
		defer state.Close()
		r, err = offline(ctx, a, s, state, o)
	}
	if err != nil {
		return err
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

// offline obeys a command without a node: what it sends waits for the next run.
func offline(ctx context.Context, a *program.App, s *settings, state *program.State, o order) (*command.Result, error) {
	session, err := open(ctx, a, s, state)
	if err != nil {
		return nil, err
	}
	defer session.Store.Close()
	return command.Run(ctx, session, o.Name, o.Args...)
}
