package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/splitmesh/splitmesh/examples/internal/admin"
	"github.com/splitmesh/splitmesh/examples/internal/node"
	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/invite"
	"github.com/splitmesh/splitmesh/registry/file"
)

// An invitation is one as list shows it.
type invitation struct {
	invite.Info
	Name string `json:"name,omitempty"` // of who has used it
}

// invitations are those of a node.
type invitations struct {
	store *invite.Store
	hosts *file.Hosts
}

func (l *invitations) list() ([]invitation, error) { return l.named(l.store.List()) }

func (l *invitations) revoke(which string) ([]invitation, error) {
	return l.named(l.store.Revoke(which))
}

func (l *invitations) named(all []invite.Info, err error) ([]invitation, error) {
	out := []invitation{}
	peers := (&file.Hosts{Path: l.hosts.Path}).Peers()
	for _, i := range all {
		x := invitation{Info: i}
		if i.By != nil {
			x.Name = i.By.Short()
			if p := slices.IndexFunc(peers, func(p file.Peer) bool { return p.ID == *i.By && len(p.Names) > 0 }); p >= 0 {
				x.Name = peers[p].Names[0]
			}
		}
		out = append(out, x)
	}
	return out, err
}

// A revocation is what the admin socket is asked.
type revocation struct {
	Which string `json:"which"`
}

// handleInvitations answers at the admin socket. Who waits for the one who joins is told that nobody will.
func (h *host) handleInvitations(mux *http.ServeMux) {
	l := &invitations{h.inviter.Store, h.node.Hosts}
	admin.Handle(mux, "GET /invitations", func(context.Context, admin.Nothing) ([]invitation, error) { return l.list() })
	admin.Handle(mux, "POST /invitations/revoke", func(_ context.Context, r revocation) ([]invitation, error) {
		all, err := l.revoke(r.Which)
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, i := range all {
			if c := h.joined[i.ID]; c != nil {
				delete(h.joined, i.ID)
				close(c)
			}
		}
		return all, err
	})
}

// atInvitations does something with the invitations, or has the meshvpn do it that runs with the state directory.
func atInvitations(ctx context.Context, a *program.App, s *settings, here func(*invitations) ([]invitation, error), method, path string, in any) (out []invitation, err error) {
	err = withState(ctx, a, func(state *program.State) (err error) {
		out, err = here(&invitations{&invite.Store{Dir: invitationsDir(state)}, node.Hosts(&s.Node, state)})
		return err
	}, func() error { return admin.NewClient(a).Ask(ctx, method, path, nil, in, &out) })
	return out, err
}

func invitationsDir(state *program.State) string { return state.Path("invitations") }

func listCommand(a *program.App, s *settings) *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "Show the invitations that have not ended, and who has used them"}
	asJSON := program.AddJSON(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		all, err := atInvitations(c.Context(), a, s, (*invitations).list, http.MethodGet, "/invitations", nil)
		if err != nil {
			return err
		}
		if *asJSON {
			return program.ShowJSON(a.Out, all)
		}
		t := program.NewTable(a.Out, "INVITATION", "FOR", "ENDS", "USED BY")
		for _, i := range all {
			used := i.Name
			if used == "" {
				used = "-"
			}
			t.Row(i.ID, i.For, i.Ends.Local().Format(time.RFC1123), used)
		}
		return t.Flush()
	}
	return a.WithSettings(c)
}

func revokeCommand(a *program.App, s *settings) *cobra.Command {
	return a.WithSettings(&cobra.Command{
		Use: "revoke INVITATION|NAME", Short: "Let nobody in by an invitation, or by those for a name", Args: cobra.ExactArgs(1),
		Long:    "A name is the one of invite --for. Who has already joined stays known: take the name out of the file hosts, and of --allow.",
		Example: "  meshvpn invite revoke bob\n  meshvpn invite revoke 1a2b3c4d",
		RunE: func(c *cobra.Command, args []string) error {
			revoke := func(l *invitations) ([]invitation, error) { return l.revoke(args[0]) }
			all, err := atInvitations(c.Context(), a, s, revoke, http.MethodPost, "/invitations/revoke", revocation{args[0]})
			for _, i := range all {
				fmt.Fprintf(a.Out, "Invitation %s for %s is revoked.\n", i.ID, i.For)
			}
			return err
		},
	})
}
