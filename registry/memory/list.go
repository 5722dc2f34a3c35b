package memory

import (
	"context"
	"slices"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
)

var _ registry.Lister = (*Directory)(nil)

// maxLook is how many records List looks at, and so the most that it returns: it bounds how long it holds the lock, in
// which it copies as many pointers, and what a search for a rare capability costs.
const maxLook = 1024

// List implements [registry.Lister]. It takes O(log n), and looks at no more than 1,024 records at a time.
func (d *Directory) List(ctx context.Context, after identity.ID, n int, capability string) (page []*registry.Record, next identity.ID, err error) {
	if err := ctx.Err(); err != nil {
		return nil, identity.ID{}, &registry.RecordError{Op: "list", Err: err}
	}
	now := d.now()
	look, more := d.behind(after)
	for i, r := range look {
		if capability != "" && !r.Has(capability) || r.Check(now) != nil {
			continue
		}
		if page = append(page, r.Clone()); len(page) == n && (more || i+1 < len(look)) {
			return page, r.ID, nil
		}
	}
	if more {
		next = look[len(look)-1].ID
	}
	return page, next, nil
}

// behind returns the records that follow after, maxLook at most, which nobody may change, and whether there are more.
func (d *Directory) behind(after identity.ID) (look []*registry.Record, more bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	i, found := d.search(after)
	if found {
		i++
	}
	rest := d.sorted[i:]
	look = make([]*registry.Record, min(len(rest), maxLook))
	for i := range look {
		look[i] = rest[i].record
	}
	return look, len(rest) > len(look)
}

// search returns where id's entry stands in sorted, or would stand. d.mu is held.
func (d *Directory) search(id identity.ID) (i int, found bool) {
	return slices.BinarySearchFunc(d.sorted, id, func(e *entry, id identity.ID) int { return e.record.ID.Compare(id) })
}
