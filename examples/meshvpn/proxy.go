package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"github.com/splitmesh/splitmesh/examples/internal/node"
	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/forward"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/proxy"
	"github.com/splitmesh/splitmesh/mesh"
)

// dialling is how a part dials peers: as the settings of its command say, and over relays only if those of the node do.
type dialling struct{ Relays relaySettings }

func (d *dialling) dialer(h *host) *mesh.Dialer {
	r := d.Relays
	r.Only = r.Only || h.settings.Relays.Only
	return r.dialer(h.node.Node)
}

// A proxyPart is the proxies.
type proxyPart struct {
	SOCKS, HTTP, Exit string // empty: none
	Password          proxy.Password
	dialling
}

func proxyCommand(a *program.App, s *settings) *cobra.Command {
	p := new(proxyPart)
	var passwordFile string
	c := &cobra.Command{
		Use: "proxy", Short: "Reach what peers publish, by a SOCKS5 and an HTTP proxy on this machine",
		Long: "The host NAME.mesh or ID.mesh with port 80 is the peer's service tcp/80, or port 80 of its address if it does not publish\n" +
			"that, is up and has a rule that allows it. Other hosts are refused, unless a peer dials them (see meshvpn exit). Without\n" +
			"--password-file every user of this machine can use the proxies. A browser that does lets the pages that it shows send\n" +
			"requests to what peers publish for you.",
		Example: `  meshvpn proxy
  curl --proxy socks5h://127.0.0.1:1080 http://ann.mesh/
  curl --proxy http://127.0.0.1:8118 http://ann.mesh/`,
		RunE: func(c *cobra.Command, _ []string) error {
			secret, err := node.Secret(passwordFile)
			switch {
			case err != nil:
				return &program.Error{Status: program.Usage, Err: fmt.Errorf("--password-file: %w", err)}
			case len(secret) > 255, passwordFile != "" && len(secret) < minPassword:
				return &program.Error{Status: program.Usage, Err: fmt.Errorf("--password-file: a password has %d to 255 bytes: make one with openssl rand -hex 16", minPassword)}
			}
			p.Password, p.Relays = proxy.Password(secret), s.Relays
			return runPart(c.Context(), a, s, "proxy", p, showText(a.Out))
		},
	}
	c.Flags().StringVar(&p.SOCKS, "socks", "127.0.0.1:1080", "where the SOCKS5 proxy listens; empty: nowhere")
	c.Flags().StringVar(&p.HTTP, "http", "127.0.0.1:8118", "where the HTTP proxy listens; empty: nowhere")
	c.Flags().StringVar(&p.Exit, "exit", "", "the peer, by petname or ID, that dials hosts outside the mesh")
	c.Flags().StringVar(&passwordFile, "password-file", "", "file with the password that both proxies ask for, with any user name; none: they ask for none")
	return a.WithSettings(c)
}

// minPassword keeps others on this machine from guessing.
const minPassword = 12

func (p *proxyPart) run(ctx context.Context, h *host, ready func(notice)) error {
	d := &proxy.Dialer{Mesh: h.dial(&p.dialling)}
	if p.Exit != "" {
		id, err := forward.Peer(h.node.Hosts, p.Exit)
		if err != nil {
			return fmt.Errorf("exit: %w", err)
		}
		d.Exit = id.String()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var text []string
	var all []func() error
	for _, s := range []struct {
		name, addr string
		serve      func(*net.TCPListener) error
	}{
		{"SOCKS5 proxy", p.SOCKS, func(l *net.TCPListener) error { return proxy.SOCKS(ctx, l, d, p.Password, h.log) }},
		{"HTTP proxy", p.HTTP, func(l *net.TCPListener) error { return proxy.HTTP(ctx, l, d, p.Password, h.log) }},
	} {
		if s.addr == "" {
			continue
		}
		l, err := forward.ListenLoopback(ctx, s.addr)
		if err != nil {
			return program.Listening(s.name, err)
		}
		defer l.Close()
		text = append(text, s.name+": "+l.Addr().String())
		all = append(all, func() error { return s.serve(l) })
	}
	if len(all) == 0 {
		return &program.Error{Status: program.Usage, Err: errors.New("neither --socks nor --http is set")}
	}
	ready(notice{Text: strings.Join(text, "\n")})
	ended := make(chan error)
	for _, f := range all {
		go func() { ended <- f() }() // ends with ctx
	}
	var errs []error
	for range all {
		errs = append(errs, <-ended)
		cancel() // one without the other is of no use
	}
	return errors.Join(errs...)
}

// An exitPart dials the internet for peers.
type exitPart struct {
	Nets []netip.Prefix
	access
}

func exitCommand(a *program.App, s *settings) *cobra.Command {
	p := new(exitPart)
	var nets []string
	c := &cobra.Command{
		Use: "exit", Short: "Let peers reach the internet from this machine",
		Long: "Peers name this node with meshvpn proxy --exit. To others it is this machine that connects. Addresses of this machine,\n" +
			"public ones too, of its networks and of private networks are not dialled, whatever a name resolves to, unless they are\n" +
			"within --net. This machine's own need a --net of just that address, such as 192.168.1.7/32.",
		Example: "  meshvpn exit --allow ann\n  meshvpn exit --allow ann --net 192.168.1.0/24",
		RunE: func(c *cobra.Command, _ []string) error {
			for _, n := range nets {
				prefix, err := netip.ParsePrefix(n)
				if err != nil {
					return &program.Error{Status: program.Usage, Err: fmt.Errorf("--net: %.40q is no network like 192.168.1.0/24", n)}
				}
				p.Nets = append(p.Nets, prefix.Masked())
			}
			return runPart(c.Context(), a, s, "exit", p, showText(a.Out))
		},
	}
	c.Flags().StringSliceVar(&nets, "net", nil, "another network that may be dialled, like 192.168.1.0/24; can be repeated")
	p.addFlags(c)
	return a.WithSettings(c)
}

func (p *exitPart) run(ctx context.Context, h *host, ready func(notice)) error {
	l, err := p.listen(h, proxy.ExitService)
	if err != nil {
		return err
	}
	if p.AllowAll {
		h.log.Warn("this exit is for everybody, and to the rest of the world all of them are this machine")
	}
	ready(notice{Text: "This node is an exit: meshvpn proxy --exit " + h.node.ID().String()})
	return (&proxy.Exit{Nets: p.Nets, Log: h.log}).Serve(ctx, l)
}
