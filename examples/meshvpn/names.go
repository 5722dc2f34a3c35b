package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"

	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/dns"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/registry"
)

// named is whom NAME.mesh means: the node itself, a petname, or what a directory says. Whoever is named keeps the
// addresses that this returns, since somebody is about to use them.
func (t *tunnel) named(ctx context.Context, name string) (identity.ID, error) {
	if !registry.ValidName(name) {
		return identity.ID{}, fmt.Errorf("%.80q is no name, address or ID: %w", name, registry.ErrNotFound)
	}
	if name == t.node.Name {
		return t.id, nil
	}
	id, failed := lookUp(ctx, name, t.node.Hosts, t.node.Directory)
	if failed == nil {
		if err := t.book.Pin(id); err != nil {
			t.log.Warn("addresses are not written down, and may be others after a restart", "err", err)
		}
		return id, nil
	}
	if err := t.node.Hosts.Err(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		failed = fmt.Errorf("%w; %w", failed, err)
	}
	return identity.ID{}, fmt.Errorf("%s.mesh: %w", name, failed)
}

// lookUp asks those who know names, each if those before it have none such.
func lookUp(ctx context.Context, name string, all ...any) (id identity.ID, err error) {
	err = registry.ErrNotFound
	for _, r := range all {
		r, ok := r.(mesh.Resolver)
		if !ok {
			continue
		}
		if id, err = r.Resolve(ctx, name); err == nil || !errors.Is(err, registry.ErrNotFound) {
			break // who can't tell now is not to be overruled
		}
	}
	return id, err
}

// addrsOf is named for the resolver.
func (t *tunnel) addrsOf(ctx context.Context, name string) (v4, v6 netip.Addr, err error) {
	id, err := t.named(ctx, name)
	if errors.Is(err, registry.ErrNotFound) {
		err = fmt.Errorf("%w: %w", dns.ErrNoName, err)
	}
	if err != nil {
		return v4, v6, err
	}
	v4, v6 = t.book.Addrs(id)
	return v4, v6, nil
}
