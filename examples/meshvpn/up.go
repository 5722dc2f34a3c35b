package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/splitmesh/splitmesh/examples/internal/admin"
	"github.com/splitmesh/splitmesh/examples/internal/doctor"
	"github.com/splitmesh/splitmesh/examples/internal/node"
	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/mesh"
)

func upCommand(a *program.App, s *settings) *cobra.Command {
	return a.WithSettings(&cobra.Command{
		Use: "up", Short: "Join the virtual network, until it is ended",
		Long: "Join the virtual network with a network device, until a signal or the command down ends it. It needs CAP_NET_ADMIN.\n" +
			"Peers in the file hosts of the state directory are reached at the addresses that status shows.",
		Example: "  meshvpn up --rules 'allow * icmp,allow ann tcp 22'",
		RunE: func(c *cobra.Command, _ []string) error {
			return up(c.Context(), a, s)
		},
	})
}

func up(ctx context.Context, a *program.App, s *settings) (err error) {
	state, err := a.Open()
	if err != nil {
		return err
	}
	defer state.Close()
	if err := restore(state.Dir); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	h := &host{log: a.Log, settings: s}
	n, err := node.Open(ctx, &s.Node, state, a.Log, func(n *mesh.Node) {
		s.adjust(n)
		h.use(n)
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	end, err := h.begin(ctx, n, state)
	if err != nil {
		return err
	}
	defer func() {
		cancel()
		err = errors.Join(err, end())
	}()
	t, err := openTunnel(s, n, state, a.Log)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	t.handle(mux)
	h.handle(mux)
	doctor.Handle(mux, n, &s.Node, state.Dir)
	admin.Handle(mux, "POST /down", func(context.Context, admin.Nothing) (admin.Nothing, error) {
		cancel()
		return admin.Nothing{}, nil
	})
	socket, err := admin.Listen(state.Dir, mux)
	if err != nil {
		return errors.Join(err, t.device.Close())
	}
	err = t.run(ctx)
	return errors.Join(err, socket.Close())
}

func downCommand(a *program.App) *cobra.Command {
	return &cobra.Command{
		Use: "down", Short: "End the meshvpn that is up, and take back what one that crashed has left",
		RunE: func(c *cobra.Command, _ []string) error {
			err := admin.NewClient(a).Ask(c.Context(), http.MethodPost, "/down", nil, admin.Nothing{}, new(admin.Nothing))
			if err != nil && program.Status(err) != program.NotRunning {
				return err
			}
			ran := err == nil
			state, err := takeOver(c.Context(), a)
			if err != nil {
				return err
			}
			defer state.Close()
			if err := restore(state.Dir); err != nil {
				return err
			}
			text := "meshvpn is down"
			if !ran {
				text = "meshvpn was not up; what an earlier one may have left is taken back"
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), text)
			return err
		},
	}
}

// patience is how long a meshvpn may take to end.
const patience = 15 * time.Second

// takeOver waits until the one that was up has ended.
func takeOver(ctx context.Context, a *program.App) (*program.State, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		state, err := a.Open()
		if program.Status(err) != program.Busy {
			return state, err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("it has not ended within %v: %w", patience, err)
		}
	}
}
