package etcd

import (
	"context"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// slack is how much longer than needed a lease may last, and so for how long records that are made one after the other
// share it.
const slack = time.Hour

// leases are those that this process was granted, and that still run.
//
// A lease for each record would be one more write to etcd for each Publish, and etcd would watch over as many as there
// are records; one for each peer, kept alive, would need the peer, or us, to be there. So records that must last
// about as long share a lease: a process asks for one an hour, whatever it publishes, and one more for each hour by which
// Sequences differ. Nobody keeps them alive. A record that is replaced moves to another lease, and so there is
// none to revoke: it ends when what is left on it must have expired.
//
// How long a lease will last is reckoned by two clocks since it was granted, and the shorter counts: no step of the wall
// clock makes one seem to last longer, and neither does a machine that slept, whose monotonic clock stood still.
type leases struct {
	client *clientv3.Client
	now    func() time.Time
	// turn has a capacity of one: whoever put something in may touch granted. It is a mutex that a context interrupts.
	turn    chan struct{}
	granted []granted
}

type granted struct {
	id   clientv3.LeaseID
	ends time.Time // by the monotonic clock
	over time.Time // by the wall clock
}

func (l *leases) left(g granted) time.Duration {
	return min(time.Until(g.ends), g.over.Sub(l.now()))
}

// lasting returns a lease that lasts at least as long as is needed, and at most slack longer.
func (l *leases) lasting(ctx context.Context, needed time.Duration) (clientv3.LeaseID, error) {
	if err := l.lock(ctx); err != nil {
		return clientv3.NoLease, err
	}
	defer l.unlock()
	l.granted = slices.DeleteFunc(l.granted, func(g granted) bool { return l.left(g) <= 0 })
	for _, g := range l.granted {
		if left := l.left(g); needed <= left && left <= needed+slack {
			return g.id, nil
		}
	}
	asked, at := time.Now(), l.now().Round(0) // of which what is left has no monotonic reading either
	resp, err := l.client.Grant(ctx, int64((needed+slack)/time.Second))
	if err != nil {
		return clientv3.NoLease, err
	}
	lasts := time.Duration(resp.TTL) * time.Second
	l.granted = append(l.granted, granted{resp.ID, asked.Add(lasts), at.Add(lasts)})
	return resp.ID, nil
}

// forget strikes out a lease that etcd doesn't know any more: it was revoked by hand, or the cluster is another.
func (l *leases) forget(ctx context.Context, id clientv3.LeaseID) error {
	if err := l.lock(ctx); err != nil {
		return err
	}
	defer l.unlock()
	l.granted = slices.DeleteFunc(l.granted, func(g granted) bool { return g.id == id })
	return nil
}

func (l *leases) lock(ctx context.Context) error {
	select {
	case l.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *leases) unlock() { <-l.turn }
