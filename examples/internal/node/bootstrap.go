package node

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/registry/bootstrap"
	"github.com/splitmesh/splitmesh/transport"
)

// Unreachable says what to set when a node of the settings has no address and knows nobody by whom it could be reached; else
// it is empty.
func Unreachable(s *Settings, state *program.State) string {
	ways := len(s.Listen) + len(s.Bootstrap) + len(s.Registries)
	hosts := Hosts(s, state)
	for _, p := range hosts.Peers() {
		ways += len(hosts.Addrs(p.ID))
	}
	_, saved := os.Stat(state.Path(savedName))
	if ways > 0 || s.LAN || s.DHT && saved == nil {
		return ""
	}
	return "nobody can reach this node: set node.bootstrap to relays, or node.listen to an address"
}

// NoRelay is why an invitation holds no address although the node is not Unreachable.
const NoRelay = "no relay serves this node so far, since node.bootstrap has not answered in time or names none; who joins has to find it in a directory"

const (
	// bootstrapPatience bounds the wait for sources of first addresses.
	bootstrapPatience = 10 * time.Second
	// Sources of which none has answered are asked again after minAskAgain, twice as long each time, up to maxAskAgain.
	minAskAgain = time.Second
	maxAskAgain = time.Minute
)

// firstAddrs resolves the sources of first addresses. If none of those that are asked over the network answers, they are
// late: this machine may have no network yet, or of two relays that begin with each other one starts first. That is an
// error if the node could be reached by nothing but relays of Bootstrap, since it takes none that come late.
func firstAddrs(ctx context.Context, of *Settings, log *slog.Logger) (addrs []multiaddr.Multiaddr, late []string, err error) {
	var written, asked []string
	for _, s := range of.Bootstrap {
		if strings.HasPrefix(s, "https://") || strings.HasPrefix(s, "/dnsaddr/") {
			asked = append(asked, s)
		} else {
			written = append(written, s)
		}
	}
	if addrs, err = bootstrap.Resolve(ctx, written...); err != nil {
		return nil, nil, fmt.Errorf("bootstrap: %w", err)
	}
	within, cancel := context.WithTimeout(ctx, bootstrapPatience)
	defer cancel()
	more, err := bootstrap.Resolve(within, asked...)
	switch {
	case err == nil:
		return append(addrs, more...), nil, nil
	case ctx.Err() != nil:
		return nil, nil, fmt.Errorf("bootstrap: %w", context.Cause(ctx))
	case len(written) == 0 && len(of.Listen) == 0 && (of.Reservations < 0 || !of.DHT && len(of.Registries) == 0):
		return nil, nil, fmt.Errorf("bootstrap: %w", err)
	}
	log.Warn("bootstrap has not answered, and is asked again until it does", "err", err)
	return addrs, asked, nil
}

// A Chooser is a mesh node's Names that chooses, among the addresses of Bootstrap and those that come late, the ones that
// the node may try as addresses of relays.
type Chooser interface {
	mesh.Resolver
	Relays(addrs []multiaddr.Multiaddr) []multiaddr.Multiaddr
}

// chosen are those that the node's Names choose, if they choose.
func chosen(names mesh.Resolver, addrs []multiaddr.Multiaddr) []multiaddr.Multiaddr {
	if c, ok := names.(Chooser); ok {
		return c.Relays(addrs)
	}
	return addrs
}

// A lateBook knows, beside the node's own names and addresses, relays and peers that bootstrap named when the node ran
// already. It is dialled by them, and the DHT begins with them; that the node is reserved at them takes a directory that has
// them, since a mesh node takes only its first Bootstrap for relays of its own.
type lateBook struct {
	mesh.Resolver

	mu   sync.Mutex // guards late
	late []multiaddr.Multiaddr
}

// Addrs implements mesh.AddressBook: the peer's own addresses, and ways over all others, since they may be relays.
func (b *lateBook) Addrs(peer identity.ID) (addrs []multiaddr.Multiaddr) {
	if own, ok := b.Resolver.(mesh.AddressBook); ok {
		addrs = own.Addrs(peer)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range b.late {
		_, id, _, err := transport.SplitPeer(a) // bootstrap gives none without ID
		if err == nil && id != peer {
			a, err = transport.Circuit(a, peer)
		}
		if err == nil {
			addrs = append(addrs, a)
		}
	}
	return addrs
}

// ask asks the sources until one has answered. The caller stops it.
func (b *lateBook) ask(sources []string, log *slog.Logger) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { // ends with ctx, or an answer
		defer close(ended)
		for wait := minAskAgain; ; wait = min(2*wait, maxAskAgain) {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return
			}
			addrs, err := bootstrap.Resolve(ctx, sources...)
			if err != nil {
				log.Debug("bootstrap has not answered", "err", err)
				continue
			}
			addrs = chosen(b.Resolver, addrs)
			b.mu.Lock()
			b.late = addrs
			b.mu.Unlock()
			log.Info("bootstrap has answered", "addrs", len(addrs))
			return
		}
	}()
	return func() error {
		cancel()
		<-ended
		return nil
	}
}

// A network is the node as the DHT uses it: to begin with, it knows those who came late, too.
type network struct {
	*mesh.Node
	book *lateBook
}

// Known are whom the DHT asks first.
func (n network) Known() []identity.ID {
	ids := n.Node.Known()
	n.book.mu.Lock()
	defer n.book.mu.Unlock()
	for _, a := range n.book.late {
		if _, id, _, err := transport.SplitPeer(a); err == nil && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}
