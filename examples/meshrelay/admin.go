package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/splitmesh/splitmesh/examples/internal/admin"
	"github.com/splitmesh/splitmesh/examples/internal/doctor"
	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/identity"
)

// status is what the relay says of itself.
type status struct {
	ID           identity.ID       `json:"id"`
	Addrs        []string          `json:"addrs"`
	State        string            `json:"state"` // serving or draining
	Since        time.Time         `json:"since"`
	Sessions     int               `json:"sessions"`
	Reservations int               `json:"reservations"`
	Circuits     int               `json:"circuits"`
	Bytes        uint64            `json:"bytes"` // that circuits have carried
	Refused      map[string]uint64 `json:"refused"`
	Unpublished  string            `json:"unpublished,omitempty"` // why a directory did not take its record
}

// peer is one that the relay has sessions with.
type peer struct {
	ID       identity.ID `json:"id"`
	Remote   string      `json:"remote"`
	Reserved bool        `json:"reserved"`
	Dialled  int         `json:"circuits_dialled"` // by it
	Reached  int         `json:"circuits_reached"` // that lead to it
	Bytes    uint64      `json:"bytes"`            // of these circuits
	RTT      float64     `json:"rtt_ms"`
}

// circuit is one that the relay carries.
type circuit struct {
	Source identity.ID `json:"source"`
	Target identity.ID `json:"target"`
	Since  time.Time   `json:"since"`
	Bytes  uint64      `json:"bytes"`
}

type kick struct {
	ID identity.ID `json:"id"`
}

type kicked struct {
	Sessions int `json:"sessions"`
}

// drainResult says how a drain ended.
type drainResult struct {
	Left    int     `json:"circuits_left"`
	Seconds float64 `json:"seconds"`
}

func (r *relay) adminHandler() http.Handler {
	mux := http.NewServeMux()
	admin.Handle(mux, "GET /status", func(context.Context, admin.Nothing) (status, error) { return r.status(), nil })
	admin.Handle(mux, "GET /peers", func(context.Context, admin.Nothing) ([]peer, error) { return r.peers(), nil })
	admin.Handle(mux, "GET /circuits", func(context.Context, admin.Nothing) ([]circuit, error) {
		out := []circuit{}
		for _, c := range r.node.Circuits() {
			out = append(out, circuit(c))
		}
		return out, nil
	})
	admin.Handle(mux, "POST /kick", func(_ context.Context, k kick) (kicked, error) {
		n := r.node.Disconnect(k.ID)
		if n == 0 {
			return kicked{}, fmt.Errorf("there is no session with %s: see meshrelay peers", k.ID)
		}
		r.log.Info("peer put out by the owner", "peer", k.ID.Short())
		return kicked{n}, nil
	})
	admin.Handle(mux, "POST /drain", func(ctx context.Context, _ admin.Nothing) (drainResult, error) {
		begin := time.Now()
		r.askEnd.Do(func() { close(r.end) })
		select {
		case <-r.drained:
		case <-ctx.Done():
		}
		return drainResult{r.node.Stats().Relay.Circuits, time.Since(begin).Seconds()}, nil
	})
	doctor.Handle(mux, r.node, r.settings, r.app.Dir())
	return mux
}

func (r *relay) status() status {
	st := r.node.Stats()
	s := status{
		ID: r.node.ID(), Addrs: r.addrs(), State: "serving", Since: r.since, Sessions: len(st.Sessions),
		Reservations: st.Relay.Reservations, Circuits: st.Relay.Circuits, Bytes: st.Relay.Bytes, Refused: st.Relay.Refused,
	}
	if st.Unpublished != nil {
		s.Unpublished = st.Unpublished.Error()
	}
	if r.draining.Load() {
		s.State = "draining"
	}
	return s
}

func (r *relay) peers() []peer {
	all := make(map[identity.ID]*peer)
	of := func(id identity.ID) *peer {
		if all[id] == nil {
			all[id] = &peer{ID: id}
		}
		return all[id]
	}
	for _, s := range r.node.Stats().Sessions {
		p := of(s.Peer)
		for i := range s.Paths {
			p.Remote = cmp.Or(p.Remote, s.Paths[i].Remote)
			p.RTT = max(p.RTT, float64(s.Paths[i].RTT)/float64(time.Millisecond))
		}
	}
	for _, id := range r.node.Reserved() {
		of(id).Reserved = true
	}
	for _, c := range r.node.Circuits() {
		from, to := of(c.Source), of(c.Target)
		from.Dialled, from.Bytes = from.Dialled+1, from.Bytes+c.Bytes
		to.Reached, to.Bytes = to.Reached+1, to.Bytes+c.Bytes
	}
	out := make([]peer, 0, len(all))
	for _, p := range all {
		out = append(out, *p)
	}
	slices.SortFunc(out, func(a, b peer) int { return a.ID.Compare(b.ID) })
	return out
}

// settingOf is the setting of what refuses: of a field of mesh.RelayConfig.
func settingOf(field string) string {
	if field == "Allow" {
		return "allow or deny"
	}
	var b strings.Builder
	for i, r := range field {
		if i > 0 && unicode.IsUpper(r) {
			b.WriteByte('-')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// adminCommands ask the relay that runs.
func adminCommands(a *program.App) []*cobra.Command {
	return []*cobra.Command{
		question(a, http.MethodGet, &cobra.Command{Use: "status", Short: "Say how the relay is", Example: "  meshrelay status --json"}, nil,
			func(s status) error {
				t := program.NewTable(a.Out, "ID", s.ID.String())
				t.Row("state", s.State+", for "+age(s.Since))
				for _, addr := range s.Addrs {
					t.Row("address", addr)
				}
				t.Row("sessions", strconv.Itoa(s.Sessions))
				t.Row("reservations", strconv.Itoa(s.Reservations))
				t.Row("circuits", strconv.Itoa(s.Circuits))
				t.Row("carried", humanize.IBytes(s.Bytes))
				for _, limit := range slices.Sorted(maps.Keys(s.Refused)) {
					t.Row("refused by "+settingOf(limit), strconv.FormatUint(s.Refused[limit], 10))
				}
				if s.Unpublished != "" {
					t.Row("not published", s.Unpublished)
				}
				return t.Flush()
			}),
		question(a, http.MethodGet, &cobra.Command{Use: "peers", Short: "List the peers that the relay has sessions with"}, nil,
			func(all []peer) error {
				t := program.NewTable(a.Out, "PEER", "FROM", "RESERVED", "DIALLED", "REACHED", "CARRIED", "RTT")
				for _, p := range all {
					reserved := "no"
					if p.Reserved {
						reserved = "yes"
					}
					t.Row(p.ID.String(), p.Remote, reserved, strconv.Itoa(p.Dialled), strconv.Itoa(p.Reached), humanize.IBytes(p.Bytes), fmt.Sprintf("%.1f ms", p.RTT))
				}
				return t.Flush()
			}),
		question(a, http.MethodGet, &cobra.Command{Use: "circuits", Short: "List the circuits that the relay carries, the oldest first"}, nil,
			func(all []circuit) error {
				t := program.NewTable(a.Out, "FROM", "TO", "AGE", "CARRIED")
				for _, c := range all {
					t.Row(c.Source.String(), c.Target.String(), age(c.Since), humanize.IBytes(c.Bytes))
				}
				return t.Flush()
			}),
		question(a, http.MethodPost, &cobra.Command{
			Use: "kick ID", Short: "End all sessions with a peer, with its reservation and circuits", Args: cobra.ExactArgs(1),
			Long: "It may come back at once: to keep it out, add it to relay.deny, and reload.",
		}, func(args []string) (any, error) {
			id, err := identity.ParseID(args[0])
			if err != nil {
				return nil, &program.Error{Status: program.Usage, Err: err}
			}
			return kick{id}, nil
		}, func(k kicked) error {
			_, err := fmt.Fprintf(a.Out, "%d sessions ended\n", k.Sessions)
			return err
		}),
		question(a, http.MethodPost, &cobra.Command{
			Use: "drain", Short: "Have the peers move to other relays, and end the relay",
			Long: "It returns when the last circuit is gone, or drain.timeout is over; the relay then ends. SIGTERM does the same.",
		}, func([]string) (any, error) { return admin.Nothing{}, nil }, func(d drainResult) error {
			_, err := fmt.Fprintf(a.Out, "drained in %.1f s; circuits left: %d\n", d.Seconds, d.Left)
			return err
		}),
	}
}

// question makes a command of which the name is the path to ask at: it shows the answer, or prints it as JSON.
func question[Out any](a *program.App, method string, c *cobra.Command, in func(args []string) (any, error), show func(Out) error) *cobra.Command {
	asJSON := program.AddJSON(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		var body any
		if in != nil {
			var err error
			if body, err = in(args); err != nil {
				return err
			}
		}
		var out Out
		if err := admin.NewClient(a).Ask(c.Context(), method, "/"+c.Name(), nil, body, &out); err != nil {
			return err
		}
		if *asJSON {
			return program.ShowJSON(a.Out, out)
		}
		return show(out)
	}
	return c
}

// age is how long ago t was, in the largest units.
func age(t time.Time) string { return time.Since(t).Round(time.Second).String() }
