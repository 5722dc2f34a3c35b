package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/splitmesh/splitmesh/examples/internal/admin"
	"github.com/splitmesh/splitmesh/examples/internal/node"
	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/tun"
	"github.com/splitmesh/splitmesh/mesh"
)

func upCommand(a *program.App, s *settings) *cobra.Command {
	return a.WithSettings(&cobra.Command{
		Use: "up", Short: "Join the virtual network, until it is ended",
		Long: "Join the virtual network with a network device, until a signal or the command down ends it. It needs CAP_NET_ADMIN.\n" +
			"Peers in the file hosts of the state directory are reached at the addresses that status shows, and as NAME.mesh.\n\n" +
			"SIGHUP has it read rules and networks again: what is not allowed any more ends at once. If it is killed, what was\n" +
			"routed to it goes nowhere until it is up again, or until the command down gives it up.",
		Example: "  meshvpn up --rules 'allow * icmp,allow ann tcp 22'\n" +
			"  meshvpn up --networks '192.0.2.0/24 via gate'                 # a network behind the peer gate\n" +
			"  meshvpn up --networks '0.0.0.0/0 via gate,::/0 via gate'      # the internet by gate",
		RunE: func(c *cobra.Command, _ []string) error {
			return up(c.Context(), a, s)
		},
	})
}

func up(ctx context.Context, a *program.App, s *settings) (err error) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP) // before all else: who reloads early is not to kill it
	defer signal.Stop(hup)
	state, err := a.Open()
	if err != nil {
		return err
	}
	defer state.Close()
	if _, err := system().Recover(); err != nil {
		a.Log.Warn("what an earlier meshvpn has changed of the system's resolver is not put back", "err", err)
	}
	key, err := node.Key(&s.Node, state, a.Log)
	if err != nil {
		return err
	}
	t, err := openTunnel(s, key.ID(), state, a.Log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(t.lost(err), t.close()) }()
	t.past.process()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	h := &host{log: a.Log, settings: s}
	n, err := node.Open(ctx, &s.Node, state, a.Log, func(n *mesh.Node) {
		t.past.node(n)
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
	if err := t.join(n); err != nil {
		return err
	}
	mux := http.NewServeMux()
	t.handle(mux)
	h.handle(mux)
	h.handleDoctor(mux, state.Dir, t)
	var over ended
	done := make(chan struct{}) // over is set
	admin.Handle(mux, "POST /down", func(ctx context.Context, _ admin.Nothing) (ended, error) {
		cancel()
		select {
		case <-done:
			return over, nil
		case <-ctx.Done():
			return ended{}, ctx.Err()
		}
	})
	socket, err := admin.Listen(state.Dir, mux)
	if err != nil {
		return err
	}
	heeded := make(chan struct{})
	go func() { // ends with ctx
		defer close(heeded)
		t.heed(ctx, a, hup)
	}()
	err = t.run(ctx)
	if over = (ended{PID: os.Getpid()}); err != nil {
		over.Error = err.Error()
	}
	close(done)
	cancel()
	<-heeded
	return errors.Join(err, socket.Close())
}

// An ended is what a meshvpn that was up says as it ends.
type ended struct {
	PID   int    `json:"pid"`
	Error string `json:"error,omitempty"` // what went wrong
}

func downCommand(a *program.App) *cobra.Command {
	return &cobra.Command{
		Use: "down", Short: "End the meshvpn that is up, and take back what one that crashed has left",
		Long: "End the meshvpn that is up with the state directory. Then, or if none is up, take back what one that was killed has\n" +
			"left: routes that lead nowhere, so that nothing goes unprotected, and its entry in the system's resolver.",
		RunE: func(c *cobra.Command, _ []string) error {
			var was ended
			asking, cancel := context.WithTimeoutCause(c.Context(), patience, fmt.Errorf("the meshvpn that is up has not ended within %v: its log may say why; if need be kill it, and run down again", patience))
			defer cancel()
			err := admin.NewClient(a).Ask(asking, http.MethodPost, "/down", nil, admin.Nothing{}, &was)
			if err != nil && asking.Err() != nil && c.Context().Err() == nil {
				return context.Cause(asking)
			}
			if err != nil && program.Status(err) != program.NotRunning {
				return err
			}
			ran := err == nil
			if !ran && tun.Runs() {
				return &program.Error{
					Status: program.NotRunning, Err: errors.New("the meshvpn that is up here has another state directory"),
					Hint: "Say which with --state, as the command or the service has it that began it; that may take root.",
				}
			}
			state, err := takeOver(c.Context(), a)
			if err != nil {
				return err
			}
			defer state.Close()
			mended, err := recoverNames(c.Context(), was.PID)
			if err := errors.Join(tun.Restore(), err); err != nil {
				return err
			}
			if was.Error != "" && !mended {
				return fmt.Errorf("meshvpn is down, and something went wrong as it ended: %s", was.Error)
			}
			text := "meshvpn is down"
			if !ran {
				text = "meshvpn was not up; what an earlier one may have left is taken back"
			}
			if pid := system().Owner(); pid != 0 {
				text += fmt.Sprintf(", but for %s, which another meshvpn uses: process %d", system().File, pid)
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), text)
			return err
		},
	}
}

// recoverNames puts the system's resolver back if one that has ended left it changed, and is whether it was. A process
// that has given up its state directory may take a moment to be gone.
func recoverNames(ctx context.Context, pid int) (mended bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	s := system()
	for pid != 0 && s.Owner() == pid {
		select {
		case <-again.C:
		case <-ctx.Done():
			return false, fmt.Errorf("%s is not put back: process %d, which changed it, has not ended within %v", s.File, pid, patience)
		}
	}
	return s.Recover()
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
