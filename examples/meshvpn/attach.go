package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/splitmesh/splitmesh/examples/internal/admin"
	"github.com/splitmesh/splitmesh/examples/internal/node"
	"github.com/splitmesh/splitmesh/examples/internal/program"
)

// withState has here use the state directory, or there ask the meshvpn that has it. That one may be about to start, or to
// end: it is waited for.
func withState(ctx context.Context, a *program.App, here func(*program.State) error, there func() error) error {
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		state, err := a.Open()
		switch {
		case err == nil:
			return errors.Join(here(state), state.Close())
		case program.Status(err) != program.Busy:
			return err
		}
		asked := there()
		if program.Status(asked) != program.NotRunning {
			return asked
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return nil
		case <-waiting.Done():
			return fmt.Errorf("%w\nIt does not answer at its admin socket", err)
		}
	}
}

// runPart runs a part until ctx is done, here or in the meshvpn that has the state directory.
func runPart(ctx context.Context, a *program.App, s *settings, kind string, p part, show func(notice) error) error {
	return withState(ctx, a, func(state *program.State) error { return runHere(ctx, a, s, state, p, show) }, func() error { return attach(ctx, a, kind, p, show) })
}

func runHere(ctx context.Context, a *program.App, s *settings, state *program.State, p part, show func(notice) error) error {
	h := &host{log: a.Log, settings: s}
	n, err := node.Open(ctx, &s.Node, state, a.Log, h.use)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	end, err := h.begin(ctx, n, state)
	if err != nil {
		cancel()
		return errors.Join(err, n.Close())
	}
	h.packets = &packets{node: n.Node, path: state.Path("addresses"), relays: s.Relays, log: a.Log}
	endPackets := h.packets.begin(ctx)
	mux := http.NewServeMux()
	h.handle(mux)
	h.handleDoctor(mux, state.Dir, nil)
	mux.HandleFunc("/", noDevice)
	socket, err := admin.Listen(state.Dir, mux)
	if err == nil {
		err = p.run(ctx, h, func(n notice) {
			if err := show(n); err != nil {
				cancel()
			}
		})
		err = errors.Join(err, socket.Close())
	}
	cancel()
	endPackets()
	return errors.Join(err, end(), n.Close())
}

// noDevice answers what only a meshvpn that is up knows.
func noDevice(w http.ResponseWriter, r *http.Request) {
	text := fmt.Sprintf("the meshvpn that runs here has no network device, and does no %.40q: that takes meshvpn up. To find out whether a peer is reached: meshvpn doctor NAME:PORT", r.URL.Path)
	admin.Fail(w, http.StatusNotFound, errors.New(text))
}

// attach has the meshvpn that runs do it.
func attach(ctx context.Context, a *program.App, kind string, p part, show func(notice) error) error {
	var failed error
	done, told := false, false
	err := admin.NewClient(a).Follow(ctx, http.MethodPost, "/run/"+url.PathEscape(kind), p, func(line []byte) error {
		var n notice
		if err := json.Unmarshal(line, &n); err != nil {
			return err
		}
		switch {
		case n.Error != "":
			failed = &program.Error{Status: cmp.Or(n.Status, program.Failed), Err: errors.New(n.Error)}
			return failed
		case n.Done:
			done = true
			return nil
		case n.Text == "" && n.Invitation == "":
			return nil
		}
		if !told {
			told = true
			a.Log.Info("done by the meshvpn that runs with this state directory: its settings count, not those given here")
		}
		return show(n)
	})
	switch {
	case failed != nil, ctx.Err() != nil:
		return failed
	case errors.Is(err, io.ErrUnexpectedEOF), err == nil && !done:
		return errors.New("the meshvpn that did it has ended")
	}
	return err
}
