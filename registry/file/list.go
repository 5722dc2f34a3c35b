package file

import (
	"context"
	"slices"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
)

var _ registry.Lister = (*Directory)(nil)

// maxLook is how many records List looks at, and so the most that it returns: it bounds how long others wait for it.
const maxLook = 1024

// List implements [registry.Lister]. It looks at no more than 1,024 records at a time. Those whose files are damaged are
// not listed.
func (d *Directory) List(ctx context.Context, after identity.ID, n int, capability string) (page []*registry.Record, next identity.ID, err error) {
	look, more, err := d.behind(ctx, after)
	if err != nil {
		return nil, next, &registry.RecordError{Op: "list", Err: err}
	}
	now := d.now()
	for i, at := range look {
		r := at.record
		if r == nil || capability != "" && !r.Has(capability) || r.Check(now) != nil {
			continue
		}
		if page = append(page, r.Clone()); len(page) == n && (more || i+1 < len(look)) {
			return page, r.ID, nil
		}
	}
	if more {
		next = look[len(look)-1].id
	}
	return page, next, nil
}

// A place is an entry and whose it is.
type place struct {
	id identity.ID
	*entry
}

// behind returns the places that follow after, maxLook at most, and whether there are more.
func (d *Directory) behind(ctx context.Context, after identity.ID) (look []place, more bool, err error) {
	if err := d.read(ctx); err != nil {
		return nil, false, err
	}
	defer d.mu.RUnlock()
	i, found := slices.BinarySearchFunc(d.order, after, identity.ID.Compare)
	if found {
		i++
	}
	rest := d.order[i:]
	for _, id := range rest[:min(len(rest), maxLook)] {
		look = append(look, place{id, d.entries[id]})
	}
	return look, len(rest) > len(look), nil
}
