package etcd

import (
	"context"
	"errors"
	"iter"
	"net"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/splitmesh/splitmesh/registry"
)

const (
	// watchPage is how many records are fetched at a time when Watch catches up.
	watchPage = 128
	// watchBuffer is how many changes Watch keeps for a reader that is slow. Beyond, it forgets them, and catches up.
	watchBuffer = 256
	// watchAgain is how long Watch waits after an error.
	watchAgain = time.Second
)

var (
	errStopped = errors.New("the reader of the watch stopped")
	errBehind  = errors.New("the reader of the watch is behind")
	errBack    = errors.New("etcd has gone back")
)

// Watch returns the records that are kept, and then each one that is published, by whomever, until ctx is done. What it
// sees goes into Options.Cache too.
//
// A record is returned once it passed [registry.Record.Check], and the reader may change it. Of one peer each is newer than
// the one before, or the same again, unless somebody put an old one back by hand, or all of them from a backup. A reader
// that is slow, or a connection that was lost, makes it skip what was replaced meanwhile, not what stands. That a record
// has expired, or was removed, it does not tell.
//
// An error does not end it: it says that etcd can't be asked at the moment, or that something else than a record of the
// peer's stands in a peer's place. Whoever has seen enough stops reading. Only when the client was closed, and the error
// wraps [net.ErrClosed], there is no more.
func (d *Directory) Watch(ctx context.Context) iter.Seq2[*registry.Record, error] {
	return func(yield func(*registry.Record, error) bool) {
		w := &watch{d: d, yield: yield}
		for {
			err := w.catchUp(ctx)
			if err == nil {
				err = w.follow(ctx)
			}
			switch {
			case ctx.Err() != nil || errors.Is(err, errStopped):
				return
			case errors.Is(err, errBack):
				w.seen = 0
				continue
			case errors.Is(err, errBehind) || errors.Is(err, rpctypes.ErrCompacted):
				continue
			}
			if !yield(nil, &registry.RecordError{Op: "lookup", Err: err}) || errors.Is(err, net.ErrClosed) {
				return
			}
			select {
			case <-time.After(watchAgain):
			case <-ctx.Done():
				return
			}
		}
	}
}

// A watch is one run of Watch.
type watch struct {
	d     *Directory
	yield func(*registry.Record, error) bool
	// seen is the revision up to which everything was told. A transaction's changes have one revision, and the last one
	// may have been told in part.
	seen int64
}

// A change is what became of a record.
type change struct {
	record   *registry.Record // nil when there is nothing to tell
	err      error
	revision int64
}

// read judges what was put under a peer's key.
func (w *watch) read(kv *mvccpb.KeyValue) change {
	r, err := w.d.parse(kv)
	if err == nil {
		err = r.Check(w.d.options.Now())
	}
	switch {
	case errors.Is(err, registry.ErrExpired): // it is only still there
		return change{revision: kv.ModRevision}
	case err != nil:
		return change{err: &registry.RecordError{Op: "lookup", Err: err}, revision: kv.ModRevision}
	}
	return change{record: r, revision: kv.ModRevision}
}

// tell hands c to the reader, and reports whether it wants more.
func (w *watch) tell(ctx context.Context, c change) bool {
	switch {
	case c.err != nil:
		return w.yield(nil, c.err)
	case c.record != nil:
		w.d.remember(ctx, c.record)
		return w.yield(c.record, nil)
	}
	return true
}

// catchUp tells of all records that were put since what was seen, page by page, as they were at one revision.
func (w *watch) catchUp(ctx context.Context) error {
	key, end := w.d.records, clientv3.GetPrefixRangeEnd(w.d.records)
	for revision := int64(0); ; {
		page, err := w.page(ctx, key, end, revision)
		if err != nil {
			return err
		}
		if revision == 0 {
			revision = page.Header.Revision
			if revision < w.seen { // etcd has gone back: see receive
				w.seen = 0
			}
		}
		for _, kv := range page.Kvs {
			if kv.ModRevision >= w.seen && !w.tell(ctx, w.read(kv)) {
				return errStopped
			}
		}
		if !page.More {
			w.seen = revision
			return nil
		}
		key = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
	}
}

func (w *watch) page(ctx context.Context, key, end string, revision int64) (*clientv3.GetResponse, error) {
	ctx, cancel := w.d.call(ctx)
	defer cancel()
	page, err := w.d.client.Get(ctx, key, clientv3.WithRange(end), clientv3.WithLimit(watchPage), clientv3.WithRev(revision))
	if err != nil {
		return nil, w.d.explain(ctx, err)
	}
	return page, nil
}

// follow tells of what is put after what was seen, until the reader stops or falls behind, or etcd gives up.
func (w *watch) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	changes := make(chan change, watchBuffer)
	var ended error // written before changes is closed, read after
	from := w.seen + 1
	go func() { // ends with the watch: at the latest when follow returns, which waits for it
		defer close(changes)
		ended = w.receive(ctx, from, changes)
	}()
	defer func() {
		cancel()
		for range changes { // until it is closed
		}
	}()
	w.d.watching.Add(1)
	defer w.d.watching.Add(-1)
	for c := range changes {
		if !w.tell(ctx, c) {
			return errStopped
		}
		w.seen = c.revision
	}
	return ended
}

// receive moves what etcd reports to changes, until there is no room: the client itself would keep any number. It uses
// nothing of w that changes.
func (w *watch) receive(ctx context.Context, from int64, changes chan<- change) error {
	// A member that lost its leader ends the watch, rather than to be silent for good.
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	// A cluster that was restored from a backup counts its revisions on from there, and reports nothing until it has
	// come to where it was. Its progress, which it reports every 10 minutes unless it is told otherwise, gives it away.
	// So may a member that is behind the others; then some is told again.
	reports := w.d.client.Watch(ctx, w.d.records, clientv3.WithPrefix(), clientv3.WithRev(from), clientv3.WithFilterDelete(), clientv3.WithProgressNotify())
	reached := from - 1
	for report := range reports {
		if err := report.Err(); err != nil {
			return w.d.explain(ctx, err)
		}
		if report.Header.Revision < reached {
			return errBack
		}
		reached = report.Header.Revision
		for _, event := range report.Events {
			select {
			case changes <- w.read(event.Kv):
			default:
				return errBehind
			}
		}
	}
	return w.d.explain(ctx, errors.New("the watch ended"))
}
