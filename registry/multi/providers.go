package multi

import (
	"context"
	"errors"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
)

// Providers implements [registry.Finder]. It asks all directories that find peers, and returns the newest record of each
// peer that any of them names, unless it is known to be revoked. Only when no directory names any does it say of each
// that failed why.
func (d *Directory) Providers(ctx context.Context, capability string) ([]*registry.Record, error) {
	found, err := d.providers(ctx, capability)
	if err != nil {
		return nil, &registry.RecordError{Op: "list", Err: err}
	}
	return found, nil
}

func (d *Directory) providers(ctx context.Context, capability string) ([]*registry.Record, error) {
	if err := d.enter(ctx); err != nil {
		return nil, err
	}
	defer d.wg.Done()
	if len(d.Directories) == 0 {
		return nil, nil
	}
	if err := d.takeSlot(ctx); err != nil {
		return nil, err
	}
	bounded, cancel := d.within(ctx)
	defer cancel()
	lists := make(chan []*registry.Record, len(d.Directories))
	answers := d.ask(bounded, func(ctx context.Context, dir registry.Directory) (*registry.Record, error) {
		if !registry.CanFind(dir) {
			return nil, nil
		}
		found, err := registry.Providers(ctx, dir, capability)
		if len(found) > 0 {
			lists <- found
		}
		return nil, err
	})
	failures := silent(len(d.Directories))
	for range d.Directories {
		a, ok := next(bounded, answers)
		if !ok {
			break
		}
		failures[a.from] = a.err
	}
	newest := make(map[identity.ID]*registry.Record)
	for more := true; more; {
		select {
		case list := <-lists:
			for _, r := range list {
				if r.Newer(newest[r.ID]) && !d.isRevoked(r.ID) {
					newest[r.ID] = r
				}
			}
		default:
			more = false
		}
	}
	found := make([]*registry.Record, 0, len(newest))
	for _, r := range newest {
		found = append(found, r)
	}
	if len(found) > 0 {
		return found, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	var why []error
	for i, err := range failures {
		if err != nil {
			why = append(why, said(i, err))
		}
	}
	return nil, errors.Join(why...)
}
