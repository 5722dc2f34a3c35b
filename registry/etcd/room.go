package etcd

import (
	"context"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/splitmesh/splitmesh/registry"
)

// A revocation has no lease, and anybody can make keys and revoke them. So that nobody fills the directory for good with
// revocations of peers that never were, those that took the place of nothing are noted, and give up theirs.

// note returns what notes that r, if it is a revocation, takes the place of nothing or of a revocation that did, and
// when it came. old is the record that is there, and at what stands under its key; both may be nil.
func (d *Directory) note(r, old *registry.Record, at *mvccpb.KeyValue) []clientv3.Op {
	key := d.unknownKey(r.ID)
	switch {
	case !r.Revoked:
		return nil
	case at == nil:
		return []clientv3.Op{clientv3.OpPut(key, "")}
	case old != nil && old.Revoked:
		noted := clientv3.Compare(clientv3.CreateRevision(key), ">", 0)
		return []clientv3.Op{clientv3.OpTxn([]clientv3.Cmp{noted}, []clientv3.Op{clientv3.OpPut(key, "")}, nil)}
	}
	return []clientv3.Op{clientv3.OpDelete(key)} // somebody wrote over what was noted
}

// room makes a place for a newcomer, or returns an error when there is none.
func (d *Directory) room(ctx context.Context) error {
	for {
		held, err := d.client.Get(ctx, d.records, clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil {
			return d.explain(ctx, err)
		}
		if held.Count < int64(d.options.MaxRecords) {
			return nil
		}
		switch done, err := d.giveUp(ctx); {
		case err != nil:
			return err
		case !done:
			return fmt.Errorf("%w (it holds %d records)", registry.ErrFull, held.Count)
		}
	}
}

// giveUp removes, of the revocations that are noted, the one that came first, and reports false when there is none that
// may go.
func (d *Directory) giveUp(ctx context.Context) (done bool, err error) {
	noted, err := d.get(ctx, d.unknown, clientv3.WithPrefix(), clientv3.WithKeysOnly(),
		clientv3.WithSort(clientv3.SortByModRevision, clientv3.SortAscend), clientv3.WithLimit(1))
	if noted == nil {
		return false, err
	}
	recordKey := d.records + strings.TrimPrefix(string(noted.Key), d.unknown)
	at, err := d.get(ctx, recordKey)
	if err != nil {
		return false, err
	}
	if at != nil {
		if r, err := d.parse(at); err == nil && r.Sequence > d.longAgo() {
			return false, nil
		}
	}
	unchanged := clientv3.Compare(clientv3.ModRevision(recordKey), "=", revision(at))
	_, err = d.client.Txn(ctx).If(unchanged).Then(clientv3.OpDelete(recordKey), clientv3.OpDelete(string(noted.Key))).Commit()
	if err != nil {
		return false, d.explain(ctx, err)
	}
	return true, nil
}
