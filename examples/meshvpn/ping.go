package main

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/splitmesh/splitmesh/examples/internal/admin"
	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/engine"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/forward"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
)

// A pingQuestion is what the command asks.
type pingQuestion struct {
	Peer  string `json:"peer"`
	Count int    `json:"count"`
}

// maxPings bounds what is asked at once. pingQuiet is how long the command says nothing.
const (
	maxPings  = 100
	pingQuiet = 2 * time.Second
)

func (t *tunnel) ping(ctx context.Context, q pingQuestion) (out []engine.Pong, err error) {
	id, err := t.resolve(ctx, q.Peer)
	if err != nil {
		return nil, err
	}
	if id == t.node.ID() {
		return nil, fmt.Errorf("%s is this node itself", q.Peer)
	}
	err = t.engine.Ping(ctx, id, min(q.Count, maxPings), func(p engine.Pong) error {
		out = append(out, p)
		return nil
	})
	return out, err
}

// resolve is whom a person means: by a name, an address or an ID.
func (t *tunnel) resolve(ctx context.Context, text string) (identity.ID, error) {
	name := strings.TrimSuffix(text, ".mesh")
	if id, err := identity.ParseID(name); err == nil {
		return id, nil
	}
	if a, err := netip.ParseAddr(text); err == nil {
		if id, ok := t.book.Peer(a); ok {
			return id, nil
		}
		return identity.ID{}, fmt.Errorf("%v is the address of no peer that is known here", a)
	}
	if !registry.ValidName(name) {
		return identity.ID{}, forward.NoPeer(name)
	}
	return t.named(ctx, name)
}

func pingCommand(a *program.App) *cobra.Command {
	c := &cobra.Command{
		Use: "ping PEER", Short: "Have a peer answer, and show which way it took", Args: cobra.ExactArgs(1),
		Long: "Have a peer answer over the mesh. It does so if a rule there allows this node anything at all; whether ping packets\npass is for ping(8) to find out. PEER is a name, an address or an ID.",
	}
	count := c.Flags().IntP("count", "c", 3, "how often")
	asJSON := program.AddJSON(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if *count < 1 || *count > maxPings {
			return &program.Error{Status: program.Usage, Err: fmt.Errorf("--count must be between 1 and %d", maxPings)}
		}
		var pongs []engine.Pong
		waiting := time.AfterFunc(pingQuiet, func() {
			fmt.Fprintf(c.ErrOrStderr(), "%s does not answer yet: it is waited for\n", args[0])
		})
		defer waiting.Stop()
		if err := admin.NewClient(a).Ask(c.Context(), http.MethodPost, "/ping", nil, pingQuestion{args[0], *count}, &pongs); err != nil {
			return err
		}
		if *asJSON {
			return program.ShowJSON(c.OutOrStdout(), pongs)
		}
		for _, p := range pongs {
			if _, err := fmt.Fprintf(c.OutOrStdout(), "%s answered in %v, %s\n", args[0], time.Duration(p.RTT).Round(10*time.Microsecond), way(p.Paths)); err != nil {
				return err
			}
		}
		return nil
	}
	return c
}

// way says by which paths.
func way(paths []engine.Path) string {
	relays := 0
	for _, path := range paths {
		if !path.Relay.IsZero() {
			relays++
		}
	}
	switch {
	case len(paths) == 0:
		return "-"
	case relays < len(paths):
		return "directly"
	case relays == 1:
		return "over 1 relay"
	}
	return fmt.Sprintf("over %d relays", relays)
}
