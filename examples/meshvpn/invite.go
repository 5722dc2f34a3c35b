package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/mdp/qrterminal/v3"
	"github.com/multiformats/go-multiaddr"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/splitmesh/splitmesh/examples/internal/config"
	"github.com/splitmesh/splitmesh/examples/internal/node"
	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/forward"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/invite"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/transport"
)

// An invitePart makes an invitation, and waits for the one who joins.
type invitePart struct {
	For, Name string
	Life      time.Duration
	Addrs     []config.Addr
	NoWait    bool
}

func inviteCommand(a *program.App, s *settings) *cobra.Command {
	p := new(invitePart)
	var addrs []string
	c := &cobra.Command{
		Use: "invite", Short: "Print a text by which one peer joins, so that both know each other by name",
		Long: "Give the text to the one who is to join by a way that nobody else reads: whoever has it can join instead, until it was\n" +
			"used or has ended. In a private network it holds the network's key. It is answered as long as a meshvpn runs here.",
		Example: "  meshvpn invite --for bob\n  meshvpn invite --for phone --life 10m --qr",
		RunE: func(c *cobra.Command, _ []string) error {
			if p.For != "" && !registry.ValidName(p.For) {
				return &program.Error{Status: program.Usage, Err: fmt.Errorf("--for: %.40q is no petname: 1 to %d characters a-z, 0-9 and hyphen", p.For, registry.MaxName)}
			}
			if p.Life <= 0 || p.Life > invite.MaxLife {
				return &program.Error{Status: program.Usage, Err: fmt.Errorf("--life: %v is not between 1s and %v", p.Life, invite.MaxLife)}
			}
			for _, text := range addrs {
				var addr config.Addr
				if err := addr.UnmarshalText([]byte(text)); err != nil {
					return &program.Error{Status: program.Usage, Err: fmt.Errorf("--addr: %w", err)}
				}
				p.Addrs = append(p.Addrs, addr)
			}
			p.Name = ownName(s)
			qr := c.Flags().Lookup("qr")
			show := qr.Value.String() == "true" || !qr.Changed && isTerminal(a.Out)
			return runPart(c.Context(), a, s, "invite", p, func(n notice) error {
				if n.Invitation != "" {
					return printInvitation(a.Out, a.Err, n, show)
				}
				return showText(a.Err)(n)
			})
		},
	}
	c.Flags().StringVar(&p.For, "for", "", "the petname that the one who joins is to have here (default what it proposes)")
	c.Flags().DurationVar(&p.Life, "life", 24*time.Hour, "when the invitation ends")
	c.Flags().StringSliceVar(&addrs, "addr", nil, "another address at which this node is reached, as behind a router that forwards a port")
	c.Flags().BoolVar(&p.NoWait, "no-wait", false, "do not wait for the one who joins")
	c.Flags().Bool("qr", false, "print it as a QR code, too (default when the output is a terminal)")
	return a.WithSettings(c)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// printInvitation prints the text alone to out, so that it can be piped.
func printInvitation(out, errs io.Writer, n notice, qr bool) error {
	if qr {
		// Capitals and digits make a smaller code; Parse takes them.
		qrterminal.GenerateWithConfig(strings.ToUpper(n.Invitation), qrterminal.Config{
			Level: qrterminal.L, Writer: out, HalfBlocks: true, QuietZone: 2,
			BlackChar: qrterminal.BLACK_BLACK, BlackWhiteChar: qrterminal.BLACK_WHITE, WhiteChar: qrterminal.WHITE_WHITE, WhiteBlackChar: qrterminal.WHITE_BLACK,
		})
	}
	_, err := fmt.Fprintln(out, n.Invitation)
	return errors.Join(err, showText(errs)(n))
}

// ownName is what this node would like to be called: as it is set, or as the machine is.
func ownName(s *settings) string {
	if s.Node.Name != "" {
		return s.Node.Name
	}
	host, err := os.Hostname()
	if err != nil {
		return ""
	}
	host, _, _ = strings.Cut(strings.ToLower(host), ".")
	if !registry.ValidName(host) || host == "localhost" {
		return ""
	}
	return host
}

func (p *invitePart) run(ctx context.Context, h *host, ready func(notice)) error {
	i := invite.Invitation{
		Peer: h.node.ID(), Name: p.Name, NetworkKey: h.node.NetworkKey, Secret: invite.NewSecret(), Ends: time.Now().Add(p.Life).Truncate(time.Second),
	}
	var err error
	if i.Addrs, err = whereabouts(ctx, h.node, config.Addrs(p.Addrs)); err != nil {
		return err
	}
	text, err := i.Text()
	if err != nil {
		return err
	}
	joined := make(chan string, 1)
	h.mu.Lock()
	h.joined[i.Secret] = joined
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.joined, i.Secret)
	}()
	if err := h.inviter.Store.Add(i.Secret, i.Ends, p.For); err != nil {
		return fmt.Errorf("invitation: %w", err)
	}
	about := "It can be used once, until " + i.Ends.Format(time.RFC1123) + ", while a meshvpn runs here: meshvpn join"
	if i.NetworkKey != nil {
		about += "\nIt holds the key of the private network: who has seen it can enter the network, even when the invitation has ended."
	}
	ready(notice{Invitation: text, Text: about})
	if p.NoWait {
		return nil
	}
	ends := time.NewTimer(time.Until(i.Ends))
	defer ends.Stop()
	select {
	case name := <-joined:
		ready(notice{Text: name + " has joined."})
		return nil
	case <-ends.C:
		return errors.New("the invitation has ended, and nobody has joined")
	case <-ctx.Done():
		return nil
	}
}

// reservePatience bounds the wait for a relay, where peers come by relays only.
const reservePatience = 10 * time.Second

// whereabouts are addresses of a node and of relays by which it is reached.
func whereabouts(ctx context.Context, n *node.Node, extra []multiaddr.Multiaddr) ([]multiaddr.Multiaddr, error) {
	var out []multiaddr.Multiaddr
	add := func(a multiaddr.Multiaddr) {
		if len(out) < invite.MaxAddrs && !slices.ContainsFunc(out, a.Equal) {
			out = append(out, a)
		}
	}
	for _, a := range extra {
		if _, _, ok, err := transport.SplitPeer(a); err != nil || !ok {
			a = transport.WithPeer(a, n.ID())
		}
		add(a)
	}
	if len(n.ListenAddrs) == 0 {
		waiting, cancel := context.WithTimeout(ctx, reservePatience)
		_ = n.WaitReserved(waiting, 1) // without one there may be other ways
		cancel()
	}
	r, err := n.Record()
	if err != nil {
		return nil, err
	}
	for _, a := range r.Addrs {
		if relay, _, ok, err := transport.SplitCircuit(a); err == nil && ok {
			add(relay)
		} else {
			add(transport.WithPeer(a, n.ID()))
		}
	}
	for _, a := range n.Bootstrap {
		add(a)
	}
	if len(out) == 0 && n.Directory == nil {
		return nil, &program.Error{
			Status: program.Settings, Err: errors.New("nobody could find this node: it listens nowhere, and knows no relay"),
			Hint: "Set --node.listen, or relays with --node.bootstrap.",
		}
	}
	return out, nil
}

func joinCommand(a *program.App, s *settings) *cobra.Command {
	var as string
	c := &cobra.Command{
		Use: "join [INVITATION]", Short: "Join the peer that has made an invitation", Args: cobra.MaximumNArgs(1),
		Long: "Without an argument the invitation is read from standard input. One that holds the key of a private network is taken\n" +
			"there only: arguments are seen by all users of a machine.",
		Example: "  meshvpn join <invitation.txt",
		RunE: func(c *cobra.Command, args []string) error {
			i, err := readInvitation(a.In, args)
			if err != nil {
				return &program.Error{Status: program.Usage, Err: err}
			}
			return join(c.Context(), a, s, i, as)
		},
	}
	c.Flags().StringVar(&as, "as", "", "the petname that the inviter is to have here (default what it proposes)")
	return a.WithSettings(c)
}

func readInvitation(in io.Reader, args []string) (*invite.Invitation, error) {
	var text string
	if len(args) > 0 && args[0] != "-" {
		text = args[0]
	} else {
		b, err := io.ReadAll(io.LimitReader(in, 2*invite.MaxText+1))
		if err != nil {
			return nil, err
		}
		text = string(bytes.TrimSpace(b))
	}
	i, err := invite.Parse(text)
	switch {
	case err != nil:
		return nil, err
	case i.NetworkKey != nil && len(args) > 0 && args[0] != "-":
		return nil, errors.New("the invitation holds the key of a private network, and arguments are seen by all users of this machine: give it on standard input, without an argument")
	case !time.Now().Before(i.Ends):
		return nil, invite.ErrExpired
	}
	return i, nil
}

// join has the inviter know this node, and then this node the inviter: what fails leaves nothing behind.
func join(ctx context.Context, a *program.App, s *settings, i *invite.Invitation, as string) (err error) {
	state, err := a.Open()
	if err != nil {
		return err
	}
	defer state.Close()
	forget, err := keepNetworkKey(s, state, i)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, forget())
		}
	}()
	with := s.Node
	for _, addr := range i.Addrs {
		with.Bootstrap = append(with.Bootstrap, addr.String())
	}
	n, err := node.Open(ctx, &with, state, a.Log, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	dialling, cancel := context.WithTimeout(ctx, forward.DialPatience)
	defer cancel()
	conn, err := n.Dial(dialling, i.Peer.String()+":"+invite.Service)
	if err != nil {
		return fmt.Errorf("the inviter is not reached: %w\nThe invitation is still good: try again when a meshvpn runs there", err)
	}
	defer conn.Close()
	mine, err := invite.Introduce(dialling, conn, i.Secret, ownName(s))
	if err != nil {
		return err
	}
	name := as
	if name != "" {
		err = invite.Remember(n.Hosts.Path, i.Peer, name, i.Addrs)
	} else {
		if name = i.Name; name == "" {
			name = "peer-" + i.Peer.Short()
		}
		name, err = invite.RememberAs(n.Hosts.Path, i.Peer, name, i.Addrs)
	}
	if err != nil {
		return fmt.Errorf("the inviter knows this node as %s, but: %w", mine, err)
	}
	_, err = fmt.Fprintf(a.Out, "The inviter is %s here, and this node is %s there.\n", name, mine)
	return err
}

// keepNetworkKey has the node be in the network of the invitation. forget undoes it.
func keepNetworkKey(s *settings, state *program.State, i *invite.Invitation) (forget func() error, err error) {
	have, err := node.NetworkKey(&s.Node, state)
	switch {
	case err != nil:
		return nil, err
	case have == nil && i.NetworkKey != nil:
		return node.KeepNetworkKey(state, i.NetworkKey)
	case (have == nil) != (i.NetworkKey == nil), have != nil && *have != *i.NetworkKey:
		return nil, errors.New("this node is in another private network than the invitation: give the invitation a state directory of its own with --state")
	}
	return func() error { return nil }, nil
}
