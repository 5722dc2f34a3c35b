package mesh

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
)

// nameSuffix tells names from IDs: no ID has a dot.
const nameSuffix = ".mesh"

// A Resolver knows whom a name means, or returns an error that wraps
// [registry.ErrNotFound]. A [registry.Namer] is one.
type Resolver interface {
	Resolve(ctx context.Context, name string) (identity.ID, error)
}

// An AddressBook is a Resolver that knows addresses, too, each ending in /p2p/ID, such as
// a hosts file. A node whose Names it is dials them beside what the directory knows.
type AddressBook interface {
	Resolver
	Addrs(peer identity.ID) []multiaddr.Multiaddr
}

// resolve is [ParseAddr] for who also takes names.
func (d *Dialer) resolve(ctx context.Context, addr string) (Addr, error) {
	peer, service, ok := strings.Cut(addr, ":")
	name, named := strings.CutSuffix(peer, nameSuffix)
	if !ok || !named {
		return ParseAddr(addr)
	}
	if !registry.ValidName(name) {
		return Addr{}, addrError(addr, fmt.Sprintf("a name has 1 to %d characters a-z, 0-9 and hyphen, before %s", registry.MaxName, nameSuffix), nil)
	}
	if err := checkService(service); err != nil {
		return Addr{}, addrError(addr, err.Error(), nil)
	}
	if d.Node == nil {
		return Addr{}, &OpError{Op: "dial", Service: service, Err: errors.New("the Dialer has no Node")}
	}
	id, err := d.Node.resolveName(ctx, name)
	if err != nil {
		return Addr{}, addrError(addr, "peer", err)
	}
	return Addr{id, service}, nil
}

// resolveName asks those who know names: first the node's own, then the directory.
func (n *Node) resolveName(ctx context.Context, name string) (identity.ID, error) {
	var errs []error
	for _, r := range []any{n.Names, n.Directory} {
		r, ok := r.(Resolver)
		if !ok {
			continue
		}
		id, err := r.Resolve(ctx, name)
		if err == nil {
			return id, nil
		}
		if errs = append(errs, err); !errors.Is(err, registry.ErrNotFound) {
			break // who can't tell now is not to be overruled
		}
	}
	if len(errs) == 0 {
		return identity.ID{}, fmt.Errorf("%w: this node knows no names: set Node.Names, or a Directory that gives them", registry.ErrNotFound)
	}
	return identity.ID{}, errors.Join(errs...)
}
