package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/multiformats/go-multiaddr"
	"github.com/spf13/cobra"

	"github.com/splitmesh/splitmesh/examples/internal/node"
	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/forward"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/invite"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/transport"
)

// A joinPart uses an invitation.
type joinPart struct {
	Invitation, As string
	dialling
}

func joinCommand(a *program.App, s *settings) *cobra.Command {
	p := new(joinPart)
	c := &cobra.Command{
		Use: "join", Short: "Join the peer that has made an invitation", Args: noSecret,
		Long: "The invitation is read from standard input, never from an argument: those are seen by all users of a machine. If a\n" +
			"meshvpn runs with this state directory, that one joins, and knows the inviter at once.",
		Example: "  meshvpn join <invitation.txt\n  meshvpn join --as ann",
		RunE: func(c *cobra.Command, _ []string) error {
			if p.As != "" && !registry.ValidName(p.As) {
				return &program.Error{Status: program.Usage, Err: fmt.Errorf("--as: %.40q is no petname: 1 to %d characters a-z, 0-9 and hyphen", p.As, registry.MaxName)}
			}
			if isTerminal(a.In) {
				fmt.Fprintln(a.Err, "Paste the invitation, and press Enter:") // who can't see it can paste, too
			}
			text, i, err := readInvitation(c.Context(), a.In)
			if err != nil {
				return &program.Error{Status: program.Usage, Err: err}
			}
			p.Invitation, p.Relays = text, s.Relays
			return join(c.Context(), a, s, i, p)
		},
	}
	c.Flags().StringVar(&p.As, "as", "", "the petname that the inviter is to have here (default what it proposes)")
	return a.WithSettings(c)
}

// noSecret refuses arguments, and says why.
func noSecret(_ *cobra.Command, args []string) error {
	if len(args) == 0 || len(args) == 1 && args[0] == "-" {
		return nil
	}
	return errors.New("an invitation is secret, and arguments are seen by all users of this machine: give it on standard input, as in meshvpn join <invitation.txt")
}

// readInvitation reads lines until they are an invitation, one of them is empty or there are no more. What is before it,
// such as its QR code, is passed over.
func readInvitation(ctx context.Context, in io.Reader) (text string, i *invite.Invitation, err error) {
	type result struct {
		text string
		i    *invite.Invitation
		err  error
	}
	read := make(chan result, 1)
	go func() { // ends with the input; a process that is told to end does not wait for it
		r := result{err: invite.ErrNoInvitation}
		lines := bufio.NewScanner(io.LimitReader(in, maxInput))
		lines.Buffer(nil, maxInput+1)
		for r.err != nil && lines.Scan() {
			line := strings.TrimSpace(lines.Text())
			switch {
			case invite.Begins(line):
				r.text = line
			case r.text == "":
				continue
			case line == "":
				read <- r
				return
			default:
				r.text += line
			}
			r.i, r.err = invite.Parse(r.text)
		}
		if err := lines.Err(); err != nil {
			r.err = err
		}
		read <- r
	}()
	var r result
	select {
	case <-ctx.Done():
		return "", nil, errors.New("no invitation was given")
	case r = <-read:
	}
	if now := time.Now(); r.err == nil && !now.Before(r.i.Ends) {
		r.err = fmt.Errorf("%w. It ended at %s, and this machine's clock says %s", invite.ErrExpired, r.i.Ends.Format(time.RFC1123), now.Format(time.RFC1123))
	}
	return r.text, r.i, r.err
}

// maxInput has room for an invitation with its QR code.
const maxInput = 64 << 10

// join joins with a node of its own, or by the one that runs with the state directory. What fails leaves nothing behind.
func join(ctx context.Context, a *program.App, s *settings, i *invite.Invitation, p *joinPart) error {
	return withState(ctx, a, func(state *program.State) error { return joinHere(ctx, a, s, state, i, p) }, func() error { return attach(ctx, a, "join", p, showText(a.Out)) })
}

func joinHere(ctx context.Context, a *program.App, s *settings, state *program.State, i *invite.Invitation, p *joinPart) (err error) {
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
		if _, of, _, err := transport.SplitPeer(addr); err == nil && (of != i.Peer || !s.Relays.Only) {
			with.Bootstrap = append(with.Bootstrap, addr.String())
		}
	}
	h := &host{log: a.Log, settings: s}
	if h.node, err = node.Open(ctx, &with, state, a.Log, h.use); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.node.Close()) }()
	var shown error
	err = p.run(ctx, h, func(n notice) { shown = showText(a.Out)(n) })
	return cmp.Or(err, shown)
}

// run has the inviter know this node, and then this node the inviter.
func (p *joinPart) run(ctx context.Context, h *host, ready func(notice)) error {
	i, err := invite.Parse(p.Invitation)
	if err != nil {
		return err
	}
	if i.Peer == h.node.ID() {
		return errors.New("this invitation is this node's own: give it to the one who is to join")
	}
	if !sameKey(h.node.NetworkKey, i.NetworkKey) {
		return errors.Join(errOtherNetwork, errors.New("or end the meshvpn that runs here, and join again, if it is to change to that network"))
	}
	// What would fail then is to fail before the invitation is used.
	if err := invite.MayRemember(h.node.Hosts.Path, i.Peer, p.As, i.Addrs); err != nil {
		return fmt.Errorf("%w\nThe invitation was not used", err)
	}
	if err := h.book.learn(i); err != nil {
		return err
	}
	dialling, cancel := context.WithTimeout(ctx, forward.DialPatience)
	defer cancel()
	conn, err := p.dialer(h).Dial(dialling, i.Peer.String()+":"+invite.Service)
	if err != nil {
		return fmt.Errorf("the inviter is not reached: %w\nThe invitation was not used: %s", err, whatNext(h, i))
	}
	defer conn.Close()
	mine, err := invite.Introduce(dialling, conn, i.Secret)
	if err != nil {
		return err
	}
	name := p.As
	if name != "" {
		err = invite.Remember(h.node.Hosts.Path, i.Peer, name, i.Addrs)
	} else {
		if name = i.Name; name == "" {
			name = "peer-" + i.Peer.Short()
		}
		name, err = invite.RememberAs(h.node.Hosts.Path, i.Peer, name, i.Addrs)
	}
	if err != nil {
		return fmt.Errorf("the inviter knows this node as %s, but: %w", mine, err)
	}
	h.book.changed()
	ready(notice{Text: fmt.Sprintf("The inviter is %s here, and this node is %s there.", name, mine)})
	return nil
}

// whatNext says what to do when the inviter was not reached: whether anybody was tells where the fault is.
func whatNext(h *host, i *invite.Invitation) string {
	const later = "try again when a meshvpn runs there"
	relays := slices.ContainsFunc(i.Addrs, func(a multiaddr.Multiaddr) bool {
		_, of, ok, err := transport.SplitPeer(a)
		return err == nil && ok && of != i.Peer
	})
	switch {
	case slices.ContainsFunc(h.node.Peers(), func(p mesh.PeerHealth) bool { return p.Up }):
		return later
	case relays:
		return "nobody whom it names is reached from here, not even a relay. See whether this machine has a network, and whether a firewall stands between; then try again"
	}
	return "see whether this machine has a network; if it has, " + later
}

var errOtherNetwork = errors.New("this node is in another private network than the invitation, or in none: give the invitation a state directory of its own with --state")

func sameKey(a, b *[32]byte) bool {
	return a == nil && b == nil || a != nil && b != nil && subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// keepNetworkKey has the node be in the network of the invitation. forget undoes it.
func keepNetworkKey(s *settings, state *program.State, i *invite.Invitation) (forget func() error, err error) {
	have, err := node.NetworkKey(&s.Node, state)
	switch {
	case err != nil:
		return nil, err
	case have == nil && i.NetworkKey != nil:
		return node.KeepNetworkKey(state, i.NetworkKey)
	case !sameKey(have, i.NetworkKey):
		return nil, errOtherNetwork
	}
	return func() error { return nil }, nil
}
