package etcd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/splitmesh/splitmesh/registry"
)

const (
	// maxRaces is how often Publish looks again because somebody else was faster. Each time one of them has succeeded.
	maxRaces = 32
	// retryAfter is how long Publish waits before it asks again an etcd that had no leader, or no connection.
	retryAfter = 50 * time.Millisecond
)

// Publish implements [registry.Directory]. It is one transaction, which etcd refuses if the record or the name changed
// since Publish looked; then Publish looks again. It asks again, too, while etcd is away and there is time: whether
// the answer to a transaction was lost shows when it looks, and nothing is done twice.
func (d *Directory) Publish(ctx context.Context, r *registry.Record) error {
	fail := func(err error) error { return &registry.RecordError{Op: "publish", ID: r.ID, Err: err} }
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	if err := r.Check(d.options.Now()); err != nil {
		return fail(err)
	}
	mine := r.Clone()
	ctx, cancel := d.call(ctx)
	defer cancel()
	for races := 0; races < maxRaces; {
		switch done, err := d.publish(ctx, mine); {
		case done:
			d.remember(ctx, mine)
			return nil
		case err == nil:
			races++
		case !isAway(err):
			return fail(err)
		default:
			select {
			case <-time.After(retryAfter):
			case <-ctx.Done():
				return fail(fmt.Errorf("%w: %w", d.over(ctx), err))
			}
		}
	}
	return fail(ErrBusy)
}

// publish is one attempt. It is not done, without an error, when somebody was faster.
func (d *Directory) publish(ctx context.Context, r *registry.Record) (done bool, err error) {
	recordKey, nameKey := d.recordKey(r.ID), d.nameKey(r.Name)
	ops := []clientv3.Op{clientv3.OpGet(recordKey)}
	if r.Name != "" {
		ops = append(ops, clientv3.OpGet(nameKey))
	}
	found, err := d.client.Txn(ctx).Then(ops...).Commit()
	if err != nil {
		return false, d.explain(ctx, err)
	}
	at := first(found.Responses[0].GetResponseRange().Kvs)
	var named *mvccpb.KeyValue
	if r.Name != "" {
		named = first(found.Responses[1].GetResponseRange().Kvs)
	}

	if named != nil && string(named.Value) != r.ID.String() {
		switch holder, held, err := d.holder(ctx, r.Name, named); {
		case err != nil:
			return false, err
		case held:
			return false, fmt.Errorf("%w: %q is %s's", registry.ErrNameTaken, r.Name, holder)
		}
	}
	old, err := d.replaceable(ctx, r, at)
	if err != nil {
		return false, err
	}
	if r.Equal(old) {
		return true, nil
	}
	lease, err := d.lease(ctx, r)
	if err != nil {
		return false, err
	}

	// The name is put each time, so that its revision tells whoever wants it that its holder is alive.
	unchanged := []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(recordKey), "=", revision(at))}
	ops = []clientv3.Op{clientv3.OpPut(recordKey, string(r.Marshal()), clientv3.WithLease(lease))}
	if r.Name != "" {
		unchanged = append(unchanged, clientv3.Compare(clientv3.ModRevision(nameKey), "=", revision(named)))
		ops = append(ops, clientv3.OpPut(nameKey, r.ID.String(), clientv3.WithLease(lease)))
	}
	if old != nil && old.Name != "" && old.Name != r.Name {
		givenUp := d.nameKey(old.Name)
		stillMine := clientv3.Compare(clientv3.Value(givenUp), "=", r.ID.String())
		ops = append(ops, clientv3.OpTxn([]clientv3.Cmp{stillMine}, []clientv3.Op{clientv3.OpDelete(givenUp)}, nil))
	}
	ops = append(ops, d.note(r, old, at)...)
	put, err := d.client.Txn(ctx).If(unchanged...).Then(ops...).Commit()
	switch {
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		return false, d.leases.forget(ctx, lease)
	case err != nil:
		return false, d.explain(ctx, err)
	}
	return put.Succeeded, nil
}

// replaceable returns the record that r takes the place of, nil when there is none, or why it may not. at is what
// stands under its key, or nil.
func (d *Directory) replaceable(ctx context.Context, r *registry.Record, at *mvccpb.KeyValue) (*registry.Record, error) {
	if at == nil {
		return nil, d.room(ctx)
	}
	old, err := d.parse(at)
	switch {
	case err != nil: // whatever it is, it is no record of this peer's
		return nil, nil //nolint:nilerr // as said
	case r.Equal(old) || r.Newer(old):
		return old, nil
	case old.Revoked:
		return nil, fmt.Errorf("%w: the key was revoked for good; make a new one", registry.ErrRollback)
	}
	return nil, fmt.Errorf("%w, made at %s", registry.ErrRollback, time.UnixMilli(old.Sequence).UTC().Format(time.RFC3339))
}

// lease returns what r rides on: none for a revocation, and for others one that lasts until all clocks agree that r, and
// any older record, has expired.
func (d *Directory) lease(ctx context.Context, r *registry.Record) (clientv3.LeaseID, error) {
	if r.Revoked {
		return clientv3.NoLease, nil
	}
	over := time.UnixMilli(r.Sequence).Add(registry.MaxLife + registry.MaxSkew)
	id, err := d.leases.lasting(ctx, over.Sub(d.options.Now()))
	if err != nil {
		return id, d.explain(ctx, err)
	}
	return id, nil
}

// revision returns when kv was written, which for nil is 0, as etcd has it.
func revision(kv *mvccpb.KeyValue) int64 {
	if kv == nil {
		return 0
	}
	return kv.ModRevision
}
