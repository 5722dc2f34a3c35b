package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/splitmesh/splitmesh/examples/internal/admin"
	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/engine"
)

// status is what the command of that name shows.
type status struct {
	Device string `json:"device"`
	engine.Status
	Resolver string                    `json:"resolver,omitempty"` // what is to be known of how names are asked for
	Names    map[string][]string       `json:"names"`              // petnames, by ID
	RTT      map[string]engine.Seconds `json:"rtt_seconds"`        // of peers with whom there is a session
}

// handle answers at the admin socket.
func (t *tunnel) handle(mux *http.ServeMux) {
	admin.Handle(mux, "GET /status", func(context.Context, admin.Nothing) (status, error) { return t.status(), nil })
	admin.Handle(mux, "POST /ping", t.ping)
}

func (t *tunnel) status() status {
	s := status{Device: t.device.Name(), Status: t.engine.Status(), Names: make(map[string][]string), RTT: make(map[string]engine.Seconds)}
	if text := t.asking.Load(); text != nil {
		s.Resolver = *text
	}
	for _, p := range t.node.Hosts.Peers() {
		if len(p.Names) == 0 { // a relay, maybe: the file says just where it is
			continue
		}
		s.Names[p.ID.String()] = p.Names
		if !slices.ContainsFunc(s.Peers, func(q engine.PeerStatus) bool { return q.ID == p.ID }) && p.ID != s.ID {
			s.Peers = append(s.Peers, t.engine.Silent(p.ID))
		}
	}
	for _, p := range t.node.Node.Peers() {
		if p.Up {
			s.RTT[p.ID.String()] = engine.Seconds(p.RTT)
		}
	}
	return s
}

func statusCommand(a *program.App) *cobra.Command {
	c := &cobra.Command{Use: "status", Short: "Show this node's addresses, its peers and theirs, and what was dropped"}
	asJSON := program.AddJSON(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		var s status
		if err := admin.NewClient(a).Ask(c.Context(), http.MethodGet, "/status", nil, nil, &s); err != nil {
			return err
		}
		if *asJSON {
			return program.ShowJSON(c.OutOrStdout(), s)
		}
		return s.show(c.OutOrStdout())
	}
	return c
}

func (s *status) show(w io.Writer) error {
	fmt.Fprintf(w, "%s  %s %s\n%s\n", s.Device, s.IPv4, s.IPv6, s.ID) // a failure is the table's too
	if s.Resolver != "" {
		fmt.Fprintln(w, program.Printable(s.Resolver))
	}
	fmt.Fprintln(w)
	head := []string{"PEER", "IPV4", "IPV6", "WAY", "ROUND TRIP", "SENT", "RECEIVED"}
	failed := slices.ContainsFunc(s.Peers, func(p engine.PeerStatus) bool { return p.Error != "" })
	if failed {
		head = append(head, "NOT REACHED BECAUSE")
	}
	t := program.NewTable(w, head...)
	for _, p := range s.Peers {
		id := p.ID.String()
		name := strings.Join(s.Names[id], " ")
		if name == "" {
			name = p.ID.Short()
		}
		rtt := "-"
		if d, up := s.RTT[id]; up {
			rtt = time.Duration(d).Round(10 * time.Microsecond).String()
		}
		row := []string{name, p.IPv4, p.IPv6, way(p.Paths), rtt, humanize.IBytes(p.Sent.Bytes), humanize.IBytes(p.Received.Bytes)}
		if failed {
			row = append(row, p.Error)
		}
		t.Row(row...)
	}
	if err := t.Flush(); err != nil || len(s.Dropped) == 0 {
		return err
	}
	fmt.Fprintln(w)
	t = program.NewTable(w, "DROPPED BECAUSE", "PACKETS")
	for _, why := range slices.Sorted(maps.Keys(s.Dropped)) {
		t.Row(why, fmt.Sprint(s.Dropped[why]))
	}
	return t.Flush()
}
