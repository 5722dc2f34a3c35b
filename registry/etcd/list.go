package etcd

import (
	"context"
	"encoding/hex"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
)

var _ registry.Lister = (*Directory)(nil)

// maxLook is how many records List fetches at a time, and so the most that it returns: a megabyte, if all are as large as
// a record may be.
const maxLook = 256

// List implements [registry.Lister]. It fetches no more than 256 records at a time, from etcd each time. What stands there
// and is no record of the peer's is left out.
func (d *Directory) List(ctx context.Context, after identity.ID, n int, capability string) (page []*registry.Record, next identity.ID, err error) {
	if err = ctx.Err(); err == nil {
		page, next, err = d.list(ctx, after, min(n, maxLook), capability)
	}
	if err != nil {
		return nil, identity.ID{}, &registry.RecordError{Op: "list", Err: err}
	}
	return page, next, nil
}

func (d *Directory) list(ctx context.Context, after identity.ID, n int, capability string) (page []*registry.Record, next identity.ID, err error) {
	ctx, cancel := d.call(ctx)
	defer cancel()
	limit := int64(n)
	if capability != "" {
		limit = maxLook
	}
	from, end := d.recordKey(after)+"\x00", clientv3.GetPrefixRangeEnd(d.records)
	for {
		found, err := d.client.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(limit))
		if err != nil {
			return nil, next, d.explain(ctx, err)
		}
		now := d.options.Now()
		for i, kv := range found.Kvs {
			id, ok := d.whose(kv.Key)
			if !ok {
				continue // somebody wrote there by hand
			}
			next = id
			r, err := d.parse(kv)
			if err != nil || capability != "" && !r.Has(capability) || r.Check(now) != nil {
				continue
			}
			d.remember(ctx, r)
			if page = append(page, r); len(page) == n && (found.More || i+1 < len(found.Kvs)) {
				return page, next, nil
			}
		}
		switch {
		case !found.More:
			return page, identity.ID{}, nil
		case !next.IsZero():
			return page, next, nil
		}
		from = string(found.Kvs[len(found.Kvs)-1].Key) + "\x00"
	}
}

// whose returns the peer whose record stands under the key, if that is any's.
func (d *Directory) whose(key []byte) (id identity.ID, ok bool) {
	b, err := hex.DecodeString(strings.TrimPrefix(string(key), d.records))
	if err == nil {
		id, err = identity.NewID(b)
	}
	return id, err == nil && d.recordKey(id) == string(key)
}
