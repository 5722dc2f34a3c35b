package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/forward"
	"github.com/splitmesh/splitmesh/mesh"
)

// access is who may use a part, as flags give it.
type access struct {
	Allow    []string `json:"allow,omitempty"`
	AllowAll bool     `json:"allow_all,omitempty"`
}

func (a *access) addFlags(c *cobra.Command) {
	c.Flags().StringSliceVar(&a.Allow, "allow", nil, "a peer that may use it, by petname or ID; can be repeated")
	c.Flags().BoolVar(&a.AllowAll, "allow-all", false, "whoever finds this node may use it, strangers too")
}

// listen listens on a service for them.
func (a *access) listen(h *host, service string) (net.Listener, error) {
	who, err := forward.NewAccess(h.node.Hosts, a.Allow, a.AllowAll)
	if err != nil {
		return nil, &program.Error{Status: program.Usage, Err: err}
	}
	l, err := h.gate.Listen(h.node.Node, service, who)
	if errors.Is(err, mesh.ErrServiceTaken) {
		err = &program.Error{Status: program.Busy, Err: err, Hint: "Another command has this node do that: end it first. For serve, --as gives another name."}
	}
	return l, err
}

// A servePart publishes a TCP server.
type servePart struct {
	Target, Service string
	access
}

func serveCommand(a *program.App, s *settings) *cobra.Command {
	p := new(servePart)
	var as string
	c := &cobra.Command{
		Use: "serve [HOST:]PORT", Short: "Publish a TCP server for peers", Args: cobra.ExactArgs(1),
		Long: "Peers reach it as NAME.mesh:PORT through meshvpn proxy, and by meshvpn forward. Nobody may unless it is said who.",
		Example: `  meshvpn serve 8080 --as 80 --allow ann
  meshvpn serve 192.168.1.7:5432 --as db --allow ann --allow bob`,
		RunE: func(c *cobra.Command, args []string) error {
			var err error
			if p.Target, p.Service, err = published(args[0], as); err != nil {
				return &program.Error{Status: program.Usage, Err: err}
			}
			return runPart(c.Context(), a, s, "serve", p, showText(a.Out))
		},
	}
	c.Flags().StringVar(&as, "as", "", "what peers call it: a port, or a name (default the port)")
	p.addFlags(c)
	return a.WithSettings(c)
}

// published reads "[HOST:]PORT", and what it is to be called.
func published(target, as string) (addr, service string, err error) {
	if _, err := strconv.Atoi(target); err == nil {
		target = "127.0.0.1:" + target
	}
	_, port, err := net.SplitHostPort(target)
	if err != nil {
		return "", "", fmt.Errorf("%.80q is neither PORT nor HOST:PORT", target)
	}
	if service, err = forward.Service(port); err == nil && as != "" {
		service, err = forward.Service(as)
	}
	return target, service, err
}

func (p *servePart) run(ctx context.Context, h *host, ready func(notice)) error {
	l, err := p.listen(h, p.Service)
	if err != nil {
		return err
	}
	ready(notice{Text: fmt.Sprintf("%s is %s of %s", p.Target, p.Service, h.node.ID())})
	return forward.Publish(ctx, l, p.Target, h.log)
}
