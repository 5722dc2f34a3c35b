package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/splitmesh/splitmesh/examples/internal/doctor"
	"github.com/splitmesh/splitmesh/examples/internal/node"
	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/command"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/protocol"
)

// doctorCommand is the doctor that knows contacts by their petnames, and what their invitations said of where they are.
func doctorCommand(a *program.App, s *settings) *cobra.Command {
	c := doctor.CommandWith(a, func(ctx context.Context, state *program.State, q doctor.Question) (*doctor.Doctor, string, func() error, error) {
		session, err := open(ctx, a, s, state)
		if err != nil {
			return nil, "", nil, err
		}
		defer session.Store.Close()
		target, err := targetOf(ctx, session, q.Target)
		if err != nil {
			return nil, "", nil, err
		}
		extra, err := session.Extra(ctx)
		if err != nil {
			return nil, "", nil, err
		}
		n, err := node.Open(ctx, s.nodeWith(extra), state, a.Log, nil)
		if err != nil {
			return nil, "", nil, err
		}
		return doctor.Of(n, &s.Node, state.Dir, q.RelayedOnly || s.RelayedOnly), target, n.Close, nil
	})
	examine := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := begun(a); err != nil {
			return err
		}
		return examine(c, args)
	}
	c.Use = "doctor PETNAME|PEER:SERVICE"
	c.Short = "Find out, step by step, why a contact can't be reached"
	c.Long += "\n\nPEER is an ID or NAME.mesh. Without a service it is the chat that is dialled."
	c.Example = "  meshchat doctor ann\n  meshchat doctor --by-relays ID:chat"
	return c
}

// examining is the doctor of the program that runs.
func examining(session *command.Session, s *settings, dir string) func(context.Context, doctor.Question) (*doctor.Doctor, string, error) {
	return func(ctx context.Context, q doctor.Question) (*doctor.Doctor, string, error) {
		target, err := targetOf(ctx, session, q.Target)
		if err != nil {
			return nil, "", err
		}
		n := session.Node()
		if n == nil {
			err := errors.New("the node is just being opened: try again")
			if why := session.Problem(); why != nil {
				err = fmt.Errorf("there is no node: %w", why)
			}
			return nil, "", err
		}
		return doctor.Of(&node.Node{Node: n}, &s.Node, dir, q.RelayedOnly || s.RelayedOnly), target, nil
	}
}

// targetOf is what the doctor dials: of a contact his ID, of a name without a service the chat.
func targetOf(ctx context.Context, session *command.Session, text string) (string, error) {
	peer, service, ok := strings.Cut(text, ":")
	if !ok {
		service = protocol.Service
	}
	chat, err := session.Resolve(ctx, peer)
	switch {
	case err == nil && chat.Room != 0:
		return "", &program.Error{Status: program.Usage, Err: fmt.Errorf("%s is a room: name one who is in it", peer)}
	case err == nil:
		peer = chat.Peer.String()
	case !ok && !strings.HasSuffix(peer, ".mesh") && len(peer) < 52: // shorter than any ID
		return "", err
	}
	return peer + ":" + service, nil
}
