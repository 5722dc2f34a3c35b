// Package etcd is a directory of records in an etcd cluster, for networks whose operator runs one: what was published
// outlives any of its members, and of the processes that publish there.
//
// The smallest program:
//
//	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"https://etcd.example:2379"}})
//	if err != nil {
//		return err
//	}
//	defer client.Close()
//	node := &mesh.Node{Directory: etcd.New(client, etcd.Options{})}
//
// What the package promises, to all processes that share a prefix:
//
//   - What Publish has acknowledged is kept by a majority of the members, and a Lookup that asks etcd later returns it or
//     a newer record.
//   - The newest record wins, whoever publishes at the same time: no peer can be rolled back to a record that could still
//     be valid, a name is one peer's at a time, and a revocation of a peer that has a record is kept for good.
//   - Whoever can write to etcd without this package can withhold records and bring back old ones, but not forge any.
//
// # Keys
//
// Below the prefix, records/PEER holds the peer's record as [registry.Record.Marshal] encodes it, where PEER is the ID's 32
// bytes in lower-case hexadecimal digits, which sort as IDs do, and names/NAME the ID of the peer that has the name. Both ride on leases, with which etcd removes them when no record of the peer's can be valid
// any more; revocations have none. Records are also judged by the clock of whoever reads them: leases only tidy up.
// unknown/PEER, which is empty, says that the revocation in records/PEER is of a peer that had no record when it came.
//
// etcd keeps what was replaced until it is compacted: run it with --auto-compaction-retention, or its database fills up.
package etcd

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
)

// What the zero [Options] mean.
const (
	DefaultPrefix     = "/splitmesh/"
	DefaultMaxRecords = 65536
	DefaultTimeout    = 5 * time.Second
)

// Options say where in etcd a directory is, and what its bounds are. The zero value is ready for use.
type Options struct {
	// Prefix begins every key, up to a slash: whoever uses the same is in the same directory. Empty means
	// DefaultPrefix. No directory's prefix may begin with another's.
	Prefix string
	// MaxRecords bounds the records held, revocations included. 0 means DefaultMaxRecords. A newcomer is counted before
	// it gets its place, so that those who come at the same moment may exceed the bound, by no more than they are.
	MaxRecords int
	// Timeout bounds each call, beside its context. 0 means DefaultTimeout.
	Timeout time.Duration
	// Cache, when it is set, is where Watch puts the records that it sees, and where Lookup looks first as long as a
	// Watch is running: a directory of this process alone, such as memory.New(). What Lookup returns from there is as
	// old as the watch is late, and as long as etcd is away it is what was seen last. nil means to ask etcd each time.
	Cache registry.Directory
	// Now is the clock. nil means time.Now.
	Now func() time.Time
}

// A Directory implements [registry.Namer], [registry.Lister] and [registry.Authority]. [New] makes one.
//
// As an Authority it admits whoever has published, so it keeps nobody out; it only tells whom it knows, whose record
// has expired, and who was revoked. It asks etcd each time.
//
// A place is given up when the peer's record, and any older one, must have expired, some time after [registry.MaxLife]
// has passed since its Sequence. A revocation that took the place of a record is never given up; one of a peer unknown
// here is when that much time has passed and a newcomer has no other place. The one that came first goes first.
type Directory struct {
	client  *clientv3.Client
	options Options // filled in
	// What their keys begin with.
	records, names, unknown string
	leases                  leases
	// watching counts the calls of Watch that have seen all there was when they began.
	watching atomic.Int32
}

// New returns the directory that is kept in etcd under options.Prefix. The client stays the caller's, who closes it when
// the directory is used no more, and sets DialKeepAliveTime in its configuration, so that a Watch notices a connection
// that died without a word.
func New(client *clientv3.Client, options Options) *Directory {
	if options.Prefix == "" {
		options.Prefix = DefaultPrefix
	}
	if options.MaxRecords <= 0 {
		options.MaxRecords = DefaultMaxRecords
	}
	if options.Timeout <= 0 {
		options.Timeout = DefaultTimeout
	}
	if options.Now == nil {
		options.Now = time.Now
	}
	prefix := strings.TrimSuffix(options.Prefix, "/")
	return &Directory{
		client:  client,
		options: options,
		records: prefix + "/records/",
		names:   prefix + "/names/",
		unknown: prefix + "/unknown/",
		leases:  leases{client: client, now: options.Now, turn: make(chan struct{}, 1)},
	}
}

func (d *Directory) recordKey(id identity.ID) string  { return d.records + hex.EncodeToString(id[:]) }
func (d *Directory) unknownKey(id identity.ID) string { return d.unknown + hex.EncodeToString(id[:]) }
func (d *Directory) nameKey(name string) string       { return d.names + name }

// get returns what etcd keeps under the key, or nil.
func (d *Directory) get(ctx context.Context, key string, opts ...clientv3.OpOption) (*mvccpb.KeyValue, error) {
	resp, err := d.client.Get(ctx, key, opts...)
	if err != nil {
		return nil, d.explain(ctx, err)
	}
	return first(resp.Kvs), nil
}

func first(kvs []*mvccpb.KeyValue) *mvccpb.KeyValue {
	if len(kvs) == 0 {
		return nil
	}
	return kvs[0]
}

// parse returns the record in kv if it is one, and that of the peer whose key it stands under.
func (d *Directory) parse(kv *mvccpb.KeyValue) (*registry.Record, error) {
	r, err := registry.Parse(kv.Value)
	if err != nil {
		return nil, err
	}
	if d.recordKey(r.ID) != string(kv.Key) {
		return nil, fmt.Errorf("%w: a record of %s stands under %.100q", registry.ErrBadSignature, r.ID, kv.Key)
	}
	return r, nil
}

// Lookup implements [registry.Directory]. For a peer whose record has expired the error wraps [registry.ErrExpired] as
// well as [registry.ErrNotFound], and likewise the reason when etcd holds something else than its record.
func (d *Directory) Lookup(ctx context.Context, id identity.ID) (*registry.Record, error) {
	fail := func(err error) (*registry.Record, error) {
		return nil, &registry.RecordError{Op: "lookup", ID: id, Err: err}
	}
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	if d.options.Cache != nil && d.watching.Load() > 0 {
		if r, err := d.options.Cache.Lookup(ctx, id); err == nil {
			return r, nil
		}
	}
	ctx, cancel := d.call(ctx)
	defer cancel()
	kv, err := d.get(ctx, d.recordKey(id))
	switch {
	case err != nil:
		return fail(err)
	case kv == nil:
		return fail(registry.ErrNotFound)
	}
	r, err := d.parse(kv)
	if err == nil {
		err = r.Check(d.options.Now())
	}
	if err != nil {
		return fail(fmt.Errorf("%w: %w", registry.ErrNotFound, err))
	}
	d.remember(ctx, r)
	return r, nil
}

// remember puts r into the cache, so that no later Lookup returns an older one. The cache may have a newer, or be full.
func (d *Directory) remember(ctx context.Context, r *registry.Record) {
	if d.options.Cache != nil {
		_ = d.options.Cache.Publish(context.WithoutCancel(ctx), r)
	}
}

// Standing implements [registry.Authority].
func (d *Directory) Standing(ctx context.Context, id identity.ID) (registry.Standing, error) {
	fail := func(err error) (registry.Standing, error) {
		return registry.Unknown, &registry.RecordError{Op: "lookup", ID: id, Err: err}
	}
	ctx, cancel := d.call(ctx)
	defer cancel()
	kv, err := d.get(ctx, d.recordKey(id))
	if err != nil {
		return fail(err)
	}
	if kv == nil {
		return registry.Unknown, nil
	}
	r, err := d.parse(kv)
	if err != nil {
		return fail(err) // a revocation may have stood there
	}
	switch err := r.Check(d.options.Now()); {
	case r.Revoked:
		return registry.Revoked, nil
	case err == nil:
		return registry.Active, nil
	case errors.Is(err, registry.ErrExpired):
		return registry.Expired, nil
	default: // the clock was set back, and the record is from the future now
		return registry.Unknown, nil
	}
}

// Resolve implements [registry.Namer]. The peer that it returns has signed a record with the name.
func (d *Directory) Resolve(ctx context.Context, name string) (identity.ID, error) {
	fail := func(err error) (identity.ID, error) {
		return identity.ID{}, &registry.RecordError{Op: "lookup", Field: "name", Err: err}
	}
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	nobody := fmt.Errorf("%w: nobody is called %.40q here", registry.ErrNotFound, name)
	if !registry.ValidName(name) {
		return fail(nobody)
	}
	ctx, cancel := d.call(ctx)
	defer cancel()
	kv, err := d.get(ctx, d.nameKey(name))
	if err != nil {
		return fail(err)
	}
	id, held, err := d.holder(ctx, name, kv)
	switch {
	case err != nil:
		return fail(err)
	case !held:
		return fail(nobody)
	}
	return id, nil
}

// holder returns whose the name is, if anybody's. kv is what stands under its key, or nil.
func (d *Directory) holder(ctx context.Context, name string, kv *mvccpb.KeyValue) (id identity.ID, held bool, err error) {
	if kv == nil {
		return id, false, nil
	}
	if id, err = identity.ParseID(string(kv.Value)); err != nil {
		return id, false, nil //nolint:nilerr // somebody wrote there by hand: it is nobody's name
	}
	kv, err = d.get(ctx, d.recordKey(id))
	if err != nil || kv == nil {
		return id, false, err
	}
	r, err := d.parse(kv)
	if err != nil {
		return id, false, nil //nolint:nilerr // as above
	}
	return id, r.Name == name && r.Sequence > d.longAgo(), nil
}

// longAgo returns the Sequence from which on back a record, and any older one of its peer, must have expired.
func (d *Directory) longAgo() int64 { return d.options.Now().Add(-registry.MaxLife).UnixMilli() }
