package multi

import (
	"context"
	"errors"
	"fmt"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
)

// ErrReadOnly is Publish's answer where no records are taken. A [Directory] does not count it as a failure of those that
// return it.
var ErrReadOnly = errors.New("the directory is read-only: publish to another")

// ReadOnly returns d without its Publish, which returns [ErrReadOnly] in its place. When d is no [registry.Namer], Resolve
// returns [registry.ErrNotFound].
func ReadOnly(d registry.Directory) registry.Namer { return readOnly{d} }

type readOnly struct{ registry.Directory }

func (readOnly) Publish(ctx context.Context, r *registry.Record) error {
	err := ctx.Err()
	if err == nil {
		err = ErrReadOnly
	}
	return &registry.RecordError{Op: "publish", ID: r.ID, Err: err}
}

// Providers implements [registry.Finder], as far as d finds peers.
func (d readOnly) Providers(ctx context.Context, capability string) ([]*registry.Record, error) {
	if !registry.CanFind(d.Directory) {
		return nil, ctx.Err()
	}
	return registry.Providers(ctx, d.Directory, capability)
}

func (d readOnly) Resolve(ctx context.Context, name string) (identity.ID, error) {
	if namer, ok := d.Directory.(registry.Namer); ok {
		return namer.Resolve(ctx, name)
	}
	err := ctx.Err()
	if err == nil {
		err = fmt.Errorf("%w: this directory keeps no names", registry.ErrNotFound)
	}
	return identity.ID{}, &registry.RecordError{Op: "lookup", Field: "name", Err: err}
}
