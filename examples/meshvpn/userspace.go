package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"sync"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/examples/internal/admin"
	"github.com/splitmesh/splitmesh/examples/internal/node"
	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/forward"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/invite"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/registry/file"
	"github.com/splitmesh/splitmesh/transport"
)

// A part is what one command has the node do. A node is in one process, so the command that finds another meshvpn with
// its state directory has its part run there, for as long as the command itself runs.
type part interface {
	// run does it until ctx is done. It calls ready once it works.
	run(ctx context.Context, h *host, ready func(notice)) error
}

// A notice is what a part has to tell the person who waits at the command.
type notice struct {
	Text       string `json:"text,omitempty"`
	Invitation string `json:"invitation,omitempty"`
	Error      string `json:"error,omitempty"`  // the last notice of a part that failed
	Status     int    `json:"status,omitempty"` // what the command exits with then
	Done       bool   `json:"done,omitempty"`   // the last of one that has ended by itself
}

// parts makes an empty part for each command that has one.
var parts = map[string]func() part{
	"serve": func() part { return new(servePart) }, "proxy": func() part { return new(proxyPart) }, "exit": func() part { return new(exitPart) },
	"local": func() part { return new(localPart) }, "remote": func() part { return new(remotePart) }, "accept": func() part { return new(acceptPart) },
	"invite": func() part { return new(invitePart) }, "join": func() part { return new(joinPart) },
}

// A host is a node that runs parts.
type host struct {
	node     *node.Node
	gate     forward.Gate
	book     *book
	inviter  *invite.Inviter
	log      *slog.Logger
	settings *settings
	packets  *packets // nil: there is a network device, or there are none

	mu     sync.Mutex             // guards joined
	joined map[string]chan string // by the ID of the invitation; one that was revoked is closed
}

// use has the mesh node ask the gate, and know what the book does. It is for node.Open.
func (h *host) use(n *mesh.Node) {
	n.Authorize = h.gate.Authorize
	h.book = &book{hosts: n.Names.(*file.Hosts)}
	n.Names = h.book
	if !h.settings.Relays.Only {
		return
	}
	n.Names = chooser{h.book, h}
	if len(n.ListenAddrs) > 0 {
		h.log.Warn("over relays only: but node.listen is set, and the addresses of who listens are published")
	}
	if h.settings.Node.DHT {
		h.log.Warn("over relays only: but the DHT's nodes are asked directly, and a peer may be one of them; with relays in node.bootstrap --node.dht=false avoids that")
	}
}

// A chooser is the book of who reaches peers over relays only: it leaves out peers that would be taken for relays.
type chooser struct {
	*book
	of *host
}

// Relays implements node.Chooser.
func (c chooser) Relays(addrs []multiaddr.Multiaddr) []multiaddr.Multiaddr {
	return c.of.withoutPeers(addrs)
}

// withoutPeers leaves out, of addresses that are tried as those of relays, what the hosts file says of peers: who has a
// petname there is no relay, unless the settings name its address.
func (h *host) withoutPeers(addrs []multiaddr.Multiaddr) []multiaddr.Multiaddr {
	peers := make(map[identity.ID]bool)
	for _, p := range h.book.now().Peers() {
		peers[p.ID] = len(p.Names) > 0
	}
	return slices.DeleteFunc(addrs, func(a multiaddr.Multiaddr) bool {
		_, id, _, err := transport.SplitPeer(a)
		return err != nil || peers[id] && !slices.Contains(h.settings.Node.Bootstrap, a.String())
	})
}

// A book is the hosts file, and ways to those who were joined since the node began.
type book struct {
	mu    sync.Mutex // guards all below
	hosts *file.Hosts
	ways  map[identity.ID][]multiaddr.Multiaddr
}

// now is the hosts file. It looks at it once a second.
func (b *book) now() *file.Hosts {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.hosts
}

// changed has what was written to the hosts file count at once.
func (b *book) changed() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.hosts = &file.Hosts{Path: b.hosts.Path, Logger: b.hosts.Logger}
}

// Resolve implements mesh.Resolver.
func (b *book) Resolve(ctx context.Context, name string) (identity.ID, error) {
	return b.now().Resolve(ctx, name)
}

// Addrs implements mesh.AddressBook.
func (b *book) Addrs(peer identity.ID) []multiaddr.Multiaddr {
	addrs := b.now().Addrs(peer)
	b.mu.Lock()
	defer b.mu.Unlock()
	return append(addrs, b.ways[peer]...)
}

// learn takes the ways to the inviter: its own addresses, and relays by which it is reached.
func (b *book) learn(i *invite.Invitation) error {
	var ways []multiaddr.Multiaddr
	for _, a := range i.Addrs {
		if _, of, _, err := transport.SplitPeer(a); err != nil {
			return err
		} else if of != i.Peer {
			if a, err = transport.Circuit(a, i.Peer); err != nil {
				return err
			}
		}
		ways = append(ways, a)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ways == nil {
		b.ways = make(map[identity.ID][]multiaddr.Multiaddr)
	}
	b.ways[i.Peer] = ways
	return nil
}

// begin takes introductions until ctx is done; end waits for that.
func (h *host) begin(ctx context.Context, n *node.Node, state *program.State) (end func() error, err error) {
	h.node, h.joined = n, make(map[string]chan string)
	h.inviter = &invite.Inviter{Store: &invite.Store{Dir: invitationsDir(state)}, Hosts: n.Hosts.Path, Log: h.log, Joined: h.hasJoined}
	l, err := h.gate.Listen(n.Node, invite.Service, &forward.Access{All: true}) // the secret decides
	if err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- h.inviter.Serve(ctx, l) }() // ends with ctx
	return func() error { return <-ended }, nil
}

func (h *host) hasJoined(s invite.Secret, _ identity.ID, name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	id := invite.IDOf(s)
	if c := h.joined[id]; c != nil {
		delete(h.joined, id) // a repetition is no news
		c <- name            // there is room for one
	}
}

// handle has the admin socket run parts.
func (h *host) handle(mux *http.ServeMux) {
	admin.HandleStream(mux, "POST /run/{kind}", func(ctx context.Context, r *http.Request, body []byte, tell func(any) error) error {
		fresh := parts[r.PathValue("kind")]
		if fresh == nil {
			return fmt.Errorf("this meshvpn knows no %q: is it of another version?", r.PathValue("kind"))
		}
		p := fresh()
		d := json.NewDecoder(bytes.NewReader(body))
		d.DisallowUnknownFields() // one of another version could be a restriction
		if err := d.Decode(p); err != nil {
			return fmt.Errorf("the meshvpn that runs is of another version: %w", err)
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		err := p.run(ctx, h, func(n notice) {
			if tell(n) != nil {
				cancel()
			}
		})
		if err != nil {
			return tell(notice{Error: err.Error(), Status: program.Status(err)})
		}
		return tell(notice{Done: ctx.Err() == nil})
	})
	h.handleInvitations(mux)
}

// showText prints what a part has to say.
func showText(w io.Writer) func(notice) error {
	return func(n notice) error {
		_, err := fmt.Fprintln(w, n.Text)
		return err
	}
}
