package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mdp/qrterminal/v3"
	"github.com/multiformats/go-multiaddr"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/splitmesh/splitmesh/examples/internal/config"
	"github.com/splitmesh/splitmesh/examples/internal/node"
	"github.com/splitmesh/splitmesh/examples/internal/program"
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
			"used, revoked or has ended. In a private network it holds the network's key. It is answered as long as a meshvpn runs here.",
		Example: "  meshvpn invite --for bob\n  meshvpn invite --for phone --life 10m --qr\n  meshvpn invite list\n  meshvpn invite revoke bob",
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case p.For == "":
				return &program.Error{Status: program.Usage, Err: errors.New("say what the one who joins is to be called here, such as --for bob: what you allow to that name, you allow to whoever joins")}
			case !registry.ValidName(p.For):
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
	c.Flags().StringVar(&p.For, "for", "", "the petname that the one who joins is to have here")
	c.Flags().DurationVar(&p.Life, "life", 24*time.Hour, "when the invitation ends")
	c.Flags().StringSliceVar(&addrs, "addr", nil, "another address at which this node is reached, as behind a router that forwards a port")
	c.Flags().BoolVar(&p.NoWait, "no-wait", false, "do not wait for the one who joins")
	c.Flags().Bool("qr", false, "print it as a QR code, too (default when the output is a terminal)")
	c.AddCommand(listCommand(a, s), revokeCommand(a, s))
	return a.WithSettings(c)
}

func isTerminal(x any) bool {
	f, ok := x.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// printInvitation prints the text alone to out, so that it can be piped.
func printInvitation(out, errs io.Writer, n notice, qr bool) error {
	var failed []error
	if qr {
		// Capitals and digits make a smaller code; Parse takes them.
		var b bytes.Buffer
		qrterminal.GenerateWithConfig(strings.ToUpper(n.Invitation), qrterminal.Config{
			Level: qrterminal.L, Writer: &b, HalfBlocks: true, QuietZone: 2,
			BlackChar: qrterminal.BLACK_BLACK, BlackWhiteChar: qrterminal.BLACK_WHITE, WhiteChar: qrterminal.WHITE_WHITE, WhiteBlackChar: qrterminal.WHITE_BLACK,
		})
		line, _, _ := strings.Cut(b.String(), "\n")
		if need := utf8.RuneCountInString(line); need > width(out) { // broken lines can't be read
			n.Text += fmt.Sprintf("\nThis terminal is too narrow for its QR code: %d columns are needed.", need)
		} else {
			code := b.String()
			if isTerminal(out) { // white on black whatever its colours are: not all readers take a code that is inverted
				code = "\x1b[97;40m" + strings.ReplaceAll(strings.TrimSuffix(code, "\n"), "\n", "\x1b[0m\n\x1b[97;40m") + "\x1b[0m\n"
			}
			_, err := io.WriteString(out, code)
			failed = append(failed, err)
		}
	}
	_, err := fmt.Fprintln(out, n.Invitation)
	return errors.Join(append(failed, err, showText(errs)(n))...)
}

// width is how many columns there are.
func width(out io.Writer) int {
	if f, ok := out.(*os.File); ok {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil {
			return w
		}
	}
	return math.MaxInt
}

// ownName is what the one who joins is to call this node: as it is set, or as the machine is.
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
	if i.Addrs, err = h.whereabouts(ctx, config.Addrs(p.Addrs)); err != nil {
		return err
	}
	text, err := i.Text()
	if err != nil {
		return err
	}
	id, joined := invite.IDOf(i.Secret), make(chan string, 1)
	h.mu.Lock()
	h.joined[id] = joined
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.joined, id)
	}()
	if err := h.inviter.Store.Add(i.Secret, i.Ends, p.For); err != nil {
		return fmt.Errorf("invitation: %w", err)
	}
	about := "Invitation " + id + " for " + p.For + " can be used once, until " + i.Ends.Format(time.RFC1123) + ", while a meshvpn runs here: meshvpn join"
	if other, taken := h.node.Hosts.Petname(p.For); taken {
		about += "\n" + p.For + " is " + other.String() + " here: another peer will be called " + p.For + "-2."
	}
	if i.NetworkKey != nil {
		about += "\nIt holds the key of the private network: who has seen it can enter the network, even when the invitation has ended."
	}
	if len(i.Addrs) == 0 {
		about += "\nIt holds no address: " + cmp.Or(h.node.Alone, node.NoRelay)
	}
	ready(notice{Invitation: text, Text: about})
	if p.NoWait {
		return nil
	}
	ends := time.NewTimer(time.Until(i.Ends))
	defer ends.Stop()
	select {
	case name, used := <-joined:
		if !used {
			return errors.New("the invitation was revoked")
		}
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

// whereabouts are addresses of the node, unless it is to be reached by relays only, and of relays by which it is reached.
// Those of its other peers are nobody's business.
func (h *host) whereabouts(ctx context.Context, extra []multiaddr.Multiaddr) ([]multiaddr.Multiaddr, error) {
	n, relaysOnly := h.node, h.settings.Relays.Only
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
	if n.Alone == "" && (len(n.ListenAddrs) == 0 || relaysOnly) {
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
		} else if !relaysOnly {
			add(transport.WithPeer(a, n.ID()))
		}
	}
	for _, a := range h.withoutPeers(slices.Clone(n.Bootstrap)) {
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
