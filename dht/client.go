package dht

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/internal/kad"
	"github.com/splitmesh/splitmesh/registry"
)

var errAlone = errors.New("no node of the DHT answers: check Bootstrap, and that those nodes run")

// begin counts a caller for whom Close waits, unless it waits already.
func (d *DHT) begin() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed {
		d.wg.Add(1)
	}
	return !d.closed
}

// call asks the node, whose record is r if that is known. When ctx ends meanwhile, that says nothing about the node.
func (d *DHT) call(ctx context.Context, id identity.ID, r *registry.Record, q *query) (*answer, error) {
	d.mu.Lock()
	dial := d.dial
	if self := d.self; self != nil && !d.cfg.Client && self.Has(registry.CapDHTServer) {
		q.Self = self.Marshal()
	}
	d.stats.Queries++
	d.mu.Unlock()
	release := d.calling.add(id, r)
	defer release()
	asking, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	leave, err := d.calling.enter(asking, id)
	if err != nil {
		return nil, err // which says nothing about the node either
	}
	a, met, err := ask(asking, dial, id, q)
	leave(err == nil)
	if err == nil || ctx.Err() == nil {
		d.note(id, r, met, a, err)
	}
	return a, err
}

// A meeting says where a node was met: what its conn tells, if that tells anything.
type meeting interface {
	PeerHost() (host netip.Addr, dialled bool)
}

func ask(ctx context.Context, dial func(context.Context, string) (net.Conn, error), id identity.ID, q *query) (a *answer, met meeting, err error) {
	conn, err := dial(ctx, id.String()+":"+Service)
	if err != nil {
		return nil, nil, err
	}
	met, _ = conn.(meeting)
	defer func() {
		if l, ok := conn.(interface{ SetLinger(sec int) error }); ok && err != nil {
			_ = l.SetLinger(0) // who does not answer is not to be told later either
		}
		conn.Close()
	}()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	b, err := encode(q)
	if err != nil {
		return nil, nil, err
	}
	if _, err := conn.Write(b); err != nil {
		return nil, nil, err
	}
	a = new(answer)
	return a, met, read(conn, a)
}

// note has the table learn from the outcome of a query. Who answers comes into it only as one of the network in which it
// was met: of where it is, its record is no more than its word.
func (d *DHT) note(id identity.ID, r *registry.Record, met meeting, a *answer, err error) {
	if err == nil && len(a.Self) > 0 {
		if own, newest, err := d.parse(a.Self); err == nil && newest && own.ID == id && d.named(own, r) {
			r = own
		}
	}
	var host netip.Addr
	var dialled bool
	if met != nil {
		host, dialled = met.PeerHost()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c, key := d.contact(r), kad.PeerKey(id)
	if c != nil && met != nil && err == nil && !d.cfg.Private {
		c = c.Met(host, dialled)
	}
	switch {
	case err != nil:
		d.stats.Failed++
		if c != nil && d.table.Has(key) { // whom others only name may never have been there
			d.lose(c)
		}
		d.table.Failed(&kad.Contact{ID: id, Key: key})
	case a.Verdict == vBusy: // it is there, and says nothing else
		d.stats.Busy++
		d.regain(id)
	default:
		d.stats.Answered++
		d.boot()
		d.regain(id)
		if c != nil {
			d.table.Answered(c, d.cfg.Now())
		} else if r != nil && !r.Has(registry.CapDHTServer) { // it answers for the last time
			d.table.Remove(key)
		}
	}
}

// named reports whether r may be dialled when the node whose record is by names it: only who is in a private network
// names others that are. by is nil for who was configured to be asked.
func (d *DHT) named(r, by *registry.Record) bool {
	return d.cfg.Private || by == nil || kad.Public(r.Addrs) || kad.Local(by.Addrs)
}

// contact makes a contact of a record that may be nil, or not a node's that answers queries.
func (d *DHT) contact(r *registry.Record) *kad.Contact {
	if r == nil || r.Check(d.cfg.Now()) != nil || r.ID == d.net.ID() {
		return nil
	}
	c, err := kad.NewContact(r)
	if err != nil {
		return nil
	}
	if d.cfg.Private {
		c.Group = kad.PrivateGroupOf(r.Addrs)
	}
	return c
}

// Lookup implements [registry.Directory].
func (d *DHT) Lookup(ctx context.Context, id identity.ID) (*registry.Record, error) {
	fail := func(err error) (*registry.Record, error) {
		return nil, &registry.RecordError{Op: "lookup", ID: id, Err: err}
	}
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	if r, ok := d.calling.get(id); ok { // our own query needs to know where that node is
		if r == nil {
			return fail(registry.ErrNotFound)
		}
		return r.Clone(), nil
	}
	r, err := d.lookup(ctx, id)
	if err != nil {
		return fail(err)
	}
	return r.Clone(), nil
}

// lookup is Lookup, unless a query of ours that began meanwhile waits for it: for a conn to the same peer, which whoever
// asked for the lookup is about to dial. The lookup may wait for that query in turn, by way of another lookup, so after a
// little patience it ends with the record by which the query asks.
func (d *DHT) lookup(ctx context.Context, id identity.ID) (*registry.Record, error) {
	asked, stop := d.calling.await(id)
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type outcome struct {
		res *Result
		err error
	}
	ended := make(chan outcome, 1)
	go func() { // ends with ctx
		res, err := d.Find(ctx, id)
		ended <- outcome{res, err}
	}()
	var r *registry.Record
	var late <-chan time.Time
	for {
		select {
		case o := <-ended:
			switch {
			case o.err != nil:
				return nil, o.err
			case len(o.res.Records) > 0:
				return o.res.Records[0], nil
			case o.res.Asked > 0 && o.res.Answered == 0:
				return nil, fmt.Errorf("%w: %w", registry.ErrNotFound, errAlone)
			}
			return nil, registry.ErrNotFound
		case r = <-asked:
			late = time.After(circlePatience)
		case <-late:
			if r == nil { // it is asked by an address that the mesh knows
				return nil, registry.ErrNotFound
			}
			return r, nil
		}
	}
}

// Find is Lookup for who wants to know what it took. Records has one at most.
func (d *DHT) Find(ctx context.Context, id identity.ID) (*Result, error) {
	if err := d.begun(ctx); err != nil {
		return nil, err
	}
	res, err := d.find(ctx, kad.PeerKey(id), func(r *registry.Record) bool { return r.ID == id }, kad.Rules{Enough: enough})
	if err == nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		for _, r := range res.Records {
			d.sought.add(r)
		}
	}
	return res, err
}

// Providers implements [registry.Finder]. The records are of one network at most two by each node's answer; in all some
// twenty by each of the nodes that keep them.
func (d *DHT) Providers(ctx context.Context, capability string) ([]*registry.Record, error) {
	if err := ctx.Err(); err != nil {
		return nil, &registry.RecordError{Op: "list", Err: err}
	}
	res, err := d.FindProviders(ctx, capability)
	if err != nil {
		return nil, &registry.RecordError{Op: "list", Err: err}
	}
	out := make([]*registry.Record, len(res.Records))
	for i, r := range res.Records {
		out[i] = r.Clone()
	}
	return out, nil
}

// FindProviders is Providers for who wants to know what it took.
func (d *DHT) FindProviders(ctx context.Context, capability string) (*Result, error) {
	if err := d.begun(ctx); err != nil {
		return nil, err
	}
	return d.find(ctx, kad.CapabilityKey(capability), func(r *registry.Record) bool { return r.Has(capability) }, kad.Rules{Enough: enough})
}

// Publish implements [registry.Directory].
func (d *DHT) Publish(ctx context.Context, r *registry.Record) error {
	fail := func(err error) error { return &registry.RecordError{Op: "publish", ID: r.ID, Err: err} }
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	if err := r.Check(d.cfg.Now()); err != nil {
		return fail(err)
	}
	if err := d.started(ctx); err != nil {
		return fail(err)
	}
	mine := r.Clone()
	d.mu.Lock()
	newest := d.learn(mine)
	if newest {
		d.sought.add(mine)
		if mine.ID == d.net.ID() {
			d.self = mine
		}
	}
	d.mu.Unlock()
	if !newest {
		return fail(registry.ErrRollback)
	}
	if err := d.put(ctx, mine, kad.PeerKey(mine.ID)); err != nil {
		return fail(err)
	}
	for _, c := range mine.Capabilities {
		if err := d.put(ctx, mine, kad.CapabilityKey(c)); err != nil {
			d.log.Debug("record not stored under its capability", "capability", c, "err", err)
		}
	}
	return nil
}

// put stores r under the key with the nodes that are closest to it, of which this one may be one, and for each that is too
// busy with another.
func (d *DHT) put(ctx context.Context, r *registry.Record, under kad.Key) error {
	res, err := d.find(ctx, under, nil, kad.Rules{})
	if err != nil {
		return err
	}
	if !d.begin() {
		return net.ErrClosed
	}
	defer d.wg.Done()
	var (
		asking   sync.WaitGroup
		mu       sync.Mutex
		stored   int
		busy     int
		rollback error
	)
	if d.keep(r, under, d.net.ID()) == vOK {
		stored++
	}
	q := query{Op: opStore, Key: under[:], Record: r.Marshal()}
	for next, n := res.closest, kad.K; n > 0 && len(next) > 0; n, busy = busy, 0 {
		batch := next[:min(n, len(next))]
		next = next[len(batch):]
		for _, c := range batch {
			asking.Go(func() { // ends within queryTimeout
				q := q
				a, err := d.call(ctx, c.ID, c.Record, &q)
				if err != nil {
					return
				}
				newer := a.Verdict == vRollback && d.newer(a, r)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case a.Verdict == vOK:
					stored++
				case a.Verdict == vBusy:
					busy++
				case newer:
					rollback = registry.ErrRollback
				}
			})
		}
		asking.Wait()
	}
	switch {
	case rollback != nil:
		return rollback
	case stored > 0:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return errAlone
}

// newer reports whether the answer brings a record that is newer than r: who only says so is not believed.
func (d *DHT) newer(a *answer, r *registry.Record) bool {
	return slices.ContainsFunc(a.Records, func(b []byte) bool {
		n, _, err := d.parse(b)
		return err == nil && n.ID == r.ID && n.Newer(r)
	})
}
