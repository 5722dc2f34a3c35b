package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/forward"
	"github.com/splitmesh/splitmesh/registry"
)

func forwardCommand(a *program.App, s *settings) *cobra.Command {
	c := &cobra.Command{Use: "forward", Short: "Carry single ports to a peer, or from it"}
	c.AddCommand(localCommand(a, s), remoteCommand(a, s), acceptCommand(a, s))
	return c
}

// A localPart is a port of this machine that leads to a peer's service.
type localPart struct {
	Listen, Addr string
	dialling
}

func localCommand(a *program.App, s *settings) *cobra.Command {
	p := new(localPart)
	c := &cobra.Command{
		Use: "local [HOST:]PORT PEER:PORT", Short: "Have a port here lead to what a peer publishes (like ssh -L)", Args: cobra.ExactArgs(2),
		Long:    "It is for this machine's users only. A port that the peer does not publish is tried at its address, if it is up.",
		Example: "  meshvpn forward local 5432 ann:db\n  psql -h 127.0.0.1",
		RunE: func(c *cobra.Command, args []string) error {
			addr, err := forward.ServiceAddr(args[1])
			if err != nil {
				return &program.Error{Status: program.Usage, Err: err}
			}
			p.Listen, p.Addr, p.Relays = args[0], addr, s.Relays
			return runPart(c.Context(), a, s, "local", p, showText(a.Out))
		},
	}
	return a.WithSettings(c)
}

func (p *localPart) run(ctx context.Context, h *host, ready func(notice)) error {
	l, err := forward.ListenLoopback(ctx, p.Listen)
	if err != nil {
		return program.Listening("forward", err)
	}
	text := fmt.Sprintf("%s leads to %s", l.Addr(), p.Addr)
	if name, ok := p.unknown(ctx, h); ok {
		text += fmt.Sprintf("\nNobody has the name %s now: conns fail until somebody does, in the file %s or in a directory", name, h.node.Hosts.Path)
	}
	ready(notice{Text: text})
	return forward.Local(ctx, l, h.dial(&p.dialling), p.Addr, h.log)
}

// unknown is whether the peer is one of a name that nobody has.
func (p *localPart) unknown(ctx context.Context, h *host) (name string, unknown bool) {
	peer, _, _ := strings.Cut(p.Addr, ":")
	name, named := strings.CutSuffix(peer, ".mesh")
	if !named {
		return "", false
	}
	ctx, cancel := context.WithTimeout(ctx, namePatience)
	defer cancel()
	_, err := lookUp(ctx, name, h.book, h.node.Directory)
	return name, errors.Is(err, registry.ErrNotFound)
}

// namePatience is how long a port waits for what is only to be told.
const namePatience = 2 * time.Second

// A remotePart is a port of a peer's machine that leads here.
type remotePart struct {
	Peer, Target string
	Port         uint16
	dialling
}

func remoteCommand(a *program.App, s *settings) *cobra.Command {
	return a.WithSettings(&cobra.Command{
		Use: "remote PEER PORT [HOST:]PORT", Short: "Have a port of a peer's machine lead here (like ssh -R)", Args: cobra.ExactArgs(3),
		Long:    "The peer must let this node: meshvpn forward accept. It listens for its own machine only.",
		Example: "  meshvpn forward remote ann 8000 3000",
		RunE: func(c *cobra.Command, args []string) error {
			port, err := strconv.ParseUint(args[1], 10, 16)
			if err != nil || port == 0 {
				return &program.Error{Status: program.Usage, Err: fmt.Errorf("%.40q is no port", args[1])}
			}
			target, _, err := published(args[2], "")
			if err != nil {
				return &program.Error{Status: program.Usage, Err: err}
			}
			return runPart(c.Context(), a, s, "remote", &remotePart{args[0], target, uint16(port), dialling{s.Relays}}, showText(a.Out))
		},
	})
}

func (p *remotePart) run(ctx context.Context, h *host, ready func(notice)) error {
	peer, err := forward.Peer(h.node.Hosts, p.Peer)
	if err != nil {
		return &program.Error{Status: program.Usage, Err: err}
	}
	return forward.Remote(ctx, p.dialer(h), &h.gate, peer, p.Port, p.Target, h.log, func(addr string) {
		ready(notice{Text: fmt.Sprintf("%s of %s leads to %s", addr, p.Peer, p.Target)})
	})
}

// An acceptPart lets peers have ports of this machine.
type acceptPart struct {
	Ports []forward.PortRange
	access
	dialling
}

func acceptCommand(a *program.App, s *settings) *cobra.Command {
	p := new(acceptPart)
	var ports []string
	c := &cobra.Command{
		Use: "accept", Short: "Let peers have ports of this machine lead to them",
		Example: "  meshvpn forward accept --allow bob --ports 8000-8099",
		Long: "They listen for this machine's users only. A port that a peer has looks like a service of this machine: allow none that\n" +
			"a program here would trust.",
		RunE: func(c *cobra.Command, _ []string) error {
			if len(ports) == 0 {
				return &program.Error{Status: program.Usage, Err: errors.New("say which ports they may have, such as --ports 8000-8099")}
			}
			for _, text := range ports {
				r, err := forward.ParsePorts(text)
				if err != nil {
					return &program.Error{Status: program.Usage, Err: err}
				}
				p.Ports = append(p.Ports, r)
			}
			p.Relays = s.Relays
			return runPart(c.Context(), a, s, "accept", p, showText(a.Out))
		},
	}
	c.Flags().StringSliceVar(&ports, "ports", nil, "ports that they may have, like 8000-8099; can be repeated")
	p.addFlags(c)
	return a.WithSettings(c)
}

func (p *acceptPart) run(ctx context.Context, h *host, ready func(notice)) error {
	l, err := p.listen(h, forward.RemoteService)
	if err != nil {
		return err
	}
	ready(notice{Text: "Those who are allowed may have ports here: meshvpn forward remote " + h.node.ID().String() + " PORT LOCAL"})
	return forward.Accept(ctx, l, p.Ports, p.dialer(h).Dial, h.log)
}
