package multi

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
)

// A flight is one question about a peer to all directories, for everybody who asks meanwhile.
type flight struct {
	id     identity.ID
	landed chan struct{} // closed once record and err are set, which are then read-only
	record *registry.Record
	err    error
}

// Lookup implements [registry.Directory]. What is remembered is returned at once. Otherwise it asks all directories, and
// returns the newest record when all have answered or [Directory.Grace] after the first that knows the peer, and a
// revocation at once. What comes later, in the time that Timeout leaves, is remembered.
//
// Only when no directory knows the peer does it say of each that failed why; it returns [registry.ErrNotFound] when
// none failed.
func (d *Directory) Lookup(ctx context.Context, id identity.ID) (*registry.Record, error) {
	r, err := d.lookup(ctx, id)
	if err != nil {
		return nil, &registry.RecordError{Op: "lookup", ID: id, Err: err}
	}
	return r.Clone(), nil
}

func (d *Directory) lookup(ctx context.Context, id identity.ID) (*registry.Record, error) {
	if err := d.enter(ctx); err != nil {
		return nil, err
	}
	defer d.wg.Done()
	if len(d.Directories) == 0 {
		return nil, registry.ErrNotFound
	}
	r, f, err := d.board(id, false)
	if r == nil && f == nil && err == nil {
		if err := d.takeSlot(ctx); err != nil {
			return nil, err
		}
		r, f, err = d.board(id, true)
	}
	if f == nil {
		return r, err
	}
	select {
	case <-f.landed:
		return f.record, f.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// board returns what is remembered of a peer, or else the flight that is to be waited for, or else nothing: then the
// caller needs a slot. A slot that the caller has is the flight's or given back. What is old is asked for again if there
// is a slot to be had.
func (d *Directory) board(id identity.ID, slot bool) (*registry.Record, *flight, error) {
	now := d.now()
	d.mu.Lock()
	defer d.mu.Unlock()
	r, ask, err := d.remembered(id, now)
	f := d.flights[id]
	if f == nil && ask && (slot || r != nil && d.freeSlot()) {
		slot = false
		f = &flight{id: id, landed: make(chan struct{})}
		d.flights[id] = f
		d.wg.Go(func() { d.fly(f) }) // ends when the directories have answered, which the timeout and Close bound
	}
	if slot {
		<-d.slots
	}
	if r != nil || err != nil {
		return r, nil, err
	}
	return nil, f, nil
}

// freeSlot takes a slot if there is one.
func (d *Directory) freeSlot() bool {
	select {
	case d.slots <- struct{}{}:
		return true
	default:
		return false
	}
}

// fly asks all directories and keeps what they say. It lands as soon as that is good enough, and ends with the last
// answer.
func (d *Directory) fly(f *flight) {
	ctx, cancel := context.WithTimeout(d.ctx, d.timeout)
	defer cancel()
	answers := d.ask(ctx, func(ctx context.Context, dir registry.Directory) (*registry.Record, error) {
		return dir.Lookup(ctx, f.id)
	})
	var best *registry.Record
	var grace <-chan time.Time
	failures, overdue := silent(len(d.Directories)), ctx.Done()
	for left := len(failures); left > 0; {
		select {
		case a := <-answers:
			left--
			failures[a.from] = d.believe(f.id, a)
			switch {
			case failures[a.from] != nil:
				continue
			case a.record.Newer(best):
				best = a.record
			}
			if best.Revoked {
				d.land(f, best, nil)
			} else if grace == nil {
				timer := time.NewTimer(d.grace)
				defer timer.Stop()
				grace = timer.C
			}
		case <-grace:
			d.land(f, best, nil)
		case <-overdue: // a directory that does not keep to ctx keeps nobody waiting
			overdue = nil
			d.land(f, best, failures)
		}
	}
	d.land(f, best, failures)
}

// believe keeps the record of an answer about id, or returns what is wrong with it.
func (d *Directory) believe(id identity.ID, a answer) error {
	r, now := a.record, d.now()
	switch {
	case a.err != nil:
		return a.err
	case r == nil:
		return errors.New("it answered with neither a record nor an error")
	case r.ID != id:
		return fmt.Errorf("%w: it answered with the record of %s", registry.ErrMalformed, r.ID)
	}
	switch err := r.Check(now); {
	case errors.Is(err, registry.ErrExpired):
		return fmt.Errorf("%w: %w", registry.ErrNotFound, plain(err))
	case err != nil:
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.learn(r, now) {
		return fmt.Errorf("%w: it has an old one: %w", registry.ErrNotFound, registry.ErrRollback)
	}
	return nil
}

// land tells all who wait for f the newest that is known by now, or why there is nothing. Only the first call counts.
func (d *Directory) land(f *flight, best *registry.Record, failures []error) {
	now := d.now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.flights[f.id] != f {
		return
	}
	delete(d.flights, f.id)
	defer close(f.landed)
	// What is remembered may be newer than best, if somebody published it; or it was pushed out meanwhile.
	f.record, _, f.err = d.remembered(f.id, now)
	if f.record == nil && f.err == nil && best != nil && best.Check(now) == nil {
		f.record = best
	}
	if f.record != nil {
		if c, ok := d.records.get(f.id); ok {
			c.refresh = d.refreshAt(c.record, now)
		}
		return
	}
	if f.err != nil {
		return
	}
	if d.ctx.Err() != nil {
		f.err = errClosed
		return
	}
	f.err = verdict(failures)
	if errors.Is(f.err, registry.ErrNotFound) {
		d.misses.put(f.id, miss{now, f.err})
	}
}

// verdict says why no directory knows a peer.
func verdict(failures []error) error {
	absent, failed := registry.ErrNotFound, []error(nil)
	for i, err := range failures {
		switch {
		case err == nil: // its record has expired since
		case !errors.Is(err, registry.ErrNotFound):
			failed = append(failed, said(i, err))
		case !errors.Is(absent, registry.ErrExpired): // who knew the peer says more
			absent = plain(err)
		}
	}
	if len(failed) > 0 {
		return errors.Join(failed...)
	}
	return absent
}
