package sqlite

import (
	"context"
	"database/sql"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
)

var _ registry.Lister = (*Directory)(nil)

// maxLook is how many rows List looks at, and so the most that it returns: it bounds for how long it reads, and what a
// search for a rare capability costs.
const maxLook = 1024

// List implements [registry.Lister]. It looks at no more than 1,024 records at a time. Those that are damaged are not
// listed: Lookup says which they are.
func (d *Directory) List(ctx context.Context, after identity.ID, n int, capability string) (page []*registry.Record, next identity.ID, err error) {
	err = d.call(ctx, func(ctx context.Context) error {
		return use(ctx, d.readers, func(whole context.Context, c *sql.Conn) (err error) {
			page, next, err = d.list(ctx, whole, c, after, n, capability)
			return err
		})
	})
	if err != nil {
		return nil, identity.ID{}, &registry.RecordError{Op: "list", Err: err}
	}
	return page, next, nil
}

// list is List on a connection. It ends with ctx, between two rows; the query itself is in whole, which does not end.
func (d *Directory) list(ctx, whole context.Context, c *sql.Conn, after identity.ID, n int, capability string) (page []*registry.Record, next identity.ID, err error) {
	now := d.now()
	rows, err := c.QueryContext(whole, listed, after[:], []byte(capability), maxLook+1)
	if err != nil {
		return nil, next, err
	}
	defer rows.Close()
	for looked := 0; rows.Next(); looked++ {
		if err := ctx.Err(); err != nil {
			return nil, next, err
		}
		if looked == maxLook || len(page) == n {
			return page, next, nil
		}
		id, e, err := scan(rows)
		copy(next[:], id)
		if err == nil && (capability == "" || e.record.Has(capability)) && e.record.Check(now) == nil {
			page = append(page, e.record)
		}
	}
	return page, identity.ID{}, rows.Err()
}
