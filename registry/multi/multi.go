// Package multi makes one directory of several: it asks all at once, keeps what they say, and publishes to all that take
// records.
//
// The smallest program:
//
//	directory := &multi.Directory{Directories: []registry.Directory{near, far}}
//	defer directory.Close()
//	node := &mesh.Node{Directory: directory}
//
// What the package promises:
//
//   - A directory that is slow, fails or lies costs those who look up a peer that another knows [Directory.Grace] at most,
//     and what it says is used only if the peer has signed it.
//   - Who was shown a record is not shown an older one afterwards, nor any other once it was shown a revocation. That holds
//     for as many peers as are remembered: see [Directory.MaxRecords] and [Directory.MaxRevocations].
//   - However many ask, Lookup and Publish call each directory no more than [Directory.MaxCalls] times at once, and those
//     who wait for one peer share a call.
package multi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
)

// What a [Directory] does unless it is told otherwise.
const (
	DefaultTimeout        = 5 * time.Second
	DefaultGrace          = 100 * time.Millisecond
	DefaultRefresh        = 10 * time.Minute
	DefaultMissLife       = 5 * time.Second
	DefaultMaxRecords     = 4096
	DefaultMaxRevocations = 65536
	DefaultMaxCalls       = 256
)

// refreshPart is the part of its remaining life after which a record is looked up again, if Refresh is not shorter.
const refreshPart = 4

// A Directory implements [registry.Namer] and [registry.Finder] over others. Its exported fields are read-only after the first method call, and
// it must not be copied. Close it when it is no longer used.
type Directory struct {
	// Directories are those to ask, in the order in which Resolve trusts them. Those that are no [registry.Namer] know
	// no names; those whose Publish returns [ErrReadOnly] take no records.
	Directories []registry.Directory
	// Timeout bounds each call of a directory. 0 means DefaultTimeout.
	Timeout time.Duration
	// Grace is how long Lookup waits, once a directory knows the peer, for one that knows something newer. What comes
	// later, a revocation too, is for the next Lookup. 0 means DefaultGrace; negative: no longer than it must.
	Grace time.Duration
	// Refresh is the age at which a record that is asked for is looked up again, in the background; a quarter of the
	// life that it had left is enough too. 0 means DefaultRefresh.
	Refresh time.Duration
	// MissLife is how long it is remembered that no directory knows a peer. 0 means DefaultMissLife; negative: not at all.
	MissLife time.Duration
	// MaxRecords bounds the records that are kept, and the misses: those asked for last. 0 means DefaultMaxRecords,
	// 4 MB of ordinary records and 64 MB at worst.
	MaxRecords int
	// MaxRevocations bounds the revocations that are kept, which records do not push out. 0 means DefaultMaxRevocations.
	MaxRevocations int
	// MaxCalls bounds the calls of each directory at once by Lookup and Publish; more wait. 0 means DefaultMaxCalls.
	MaxCalls int
	// Now is the clock by which records are judged. nil means time.Now.
	Now func() time.Time

	setup sync.Once

	// Set by init, then read-only.
	timeout, grace, refresh, missLife time.Duration
	now                               func() time.Time
	ctx                               context.Context // ends with Close
	cancel                            context.CancelFunc
	slots                             chan struct{} // one in it for each call of all directories that has not ended

	wg sync.WaitGroup // every method call and goroutine; Add under mu while not closed

	mu          sync.Mutex // guards all below
	closed      bool
	records     lru[*cached]
	revocations lru[*registry.Record]
	misses      lru[miss]
	flights     map[identity.ID]*flight
}

// init fills what the fields leave open. It starts nothing.
func (d *Directory) init() {
	d.setup.Do(func() {
		d.timeout = cmp.Or(d.Timeout, DefaultTimeout)
		d.grace = cmp.Or(d.Grace, DefaultGrace)
		d.refresh = cmp.Or(d.Refresh, DefaultRefresh)
		d.missLife = cmp.Or(d.MissLife, DefaultMissLife)
		d.records.max = cmp.Or(d.MaxRecords, DefaultMaxRecords)
		d.misses.max = d.records.max
		d.revocations.max = cmp.Or(d.MaxRevocations, DefaultMaxRevocations)
		d.slots = make(chan struct{}, cmp.Or(d.MaxCalls, DefaultMaxCalls))
		d.flights = make(map[identity.ID]*flight)
		d.ctx, d.cancel = context.WithCancel(context.Background())
		if d.now = d.Now; d.now == nil {
			d.now = time.Now
		}
	})
}

var errClosed = fmt.Errorf("multi directory: %w", net.ErrClosed)

// enter has Close wait for the caller, until d.wg.Done, unless it returns an error.
func (d *Directory) enter(ctx context.Context) error {
	d.init()
	if err := ctx.Err(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return errClosed
	}
	d.wg.Add(1)
	return nil
}

// Close ends the calls that are under way and returns when all have ended, of this directory and of those below, which
// it does not close. It is idempotent and safe at any moment.
func (d *Directory) Close() error {
	d.init()
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.cancel()
	d.wg.Wait()
	return nil
}

// within bounds ctx by the timeout and by Close.
func (d *Directory) within(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	stop := context.AfterFunc(d.ctx, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

// takeSlot waits until all directories may be called once more.
func (d *Directory) takeSlot(ctx context.Context) error {
	select {
	case d.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-d.ctx.Done():
		return errClosed
	}
}

// An answer is what the directory of that index returned.
type answer struct {
	from   int
	record *registry.Record
	err    error
}

// ask calls all directories, of which there is at least one, at once, for a caller that entered and holds a slot. The
// last of them to answer gives the slot back. Nobody needs to read the answers.
func (d *Directory) ask(ctx context.Context, call func(context.Context, registry.Directory) (*registry.Record, error)) <-chan answer {
	answers := make(chan answer, len(d.Directories))
	var left atomic.Int64
	left.Store(int64(len(d.Directories)))
	for i, dir := range d.Directories {
		d.wg.Go(func() { // ends when the directory answers, as it must once ctx is done
			r, err := call(ctx, dir)
			answers <- answer{i, r, err}
			if left.Add(-1) == 0 {
				<-d.slots
			}
		})
	}
	return answers
}

// ErrPartly is of a Publish after which some directories have the record, and others that take records do not.
var ErrPartly = errors.New("published, but not everywhere: publish it again")

// Publish implements [registry.Directory]. It publishes to all directories, and succeeds when all that take records have
// taken it: there may be those who ask no other than the one that did not, and miss a revocation. Otherwise it says of
// each why not, and returns [ErrPartly] too when another has taken it; who only wants to be found somewhere may take that
// for success. It returns [ErrReadOnly] when none takes any.
func (d *Directory) Publish(ctx context.Context, r *registry.Record) error {
	if err := d.publish(ctx, r); err != nil {
		return &registry.RecordError{Op: "publish", ID: r.ID, Err: err}
	}
	return nil
}

func (d *Directory) publish(ctx context.Context, r *registry.Record) error {
	if err := d.enter(ctx); err != nil {
		return err
	}
	defer d.wg.Done()
	now := d.now()
	if err := r.Check(now); err != nil {
		return err
	}
	mine := r.Clone()
	if err := d.rollback(mine); err != nil {
		return err
	}
	if len(d.Directories) == 0 {
		return ErrReadOnly
	}
	if err := d.takeSlot(ctx); err != nil {
		return err
	}
	bounded, cancel := d.within(ctx)
	defer cancel()
	answers := d.ask(bounded, func(ctx context.Context, dir registry.Directory) (*registry.Record, error) {
		return nil, dir.Publish(ctx, mine)
	})
	failures := silent(len(d.Directories))
	for range d.Directories {
		a, ok := next(bounded, answers)
		if !ok {
			break
		}
		failures[a.from] = a.err
	}

	taken, refusals := false, []error(nil)
	for i, err := range failures {
		switch {
		case err == nil:
			taken = true
		case !errors.Is(err, ErrReadOnly):
			refusals = append(refusals, said(i, err))
		}
	}
	if taken {
		d.mu.Lock()
		d.learn(mine, now)
		d.mu.Unlock()
	}
	switch {
	case len(refusals) == 0 && taken:
		return nil
	case len(refusals) == 0:
		return ErrReadOnly
	case ctx.Err() != nil:
		refusals = append(refusals, ctx.Err())
	case d.ctx.Err() != nil:
		refusals = append(refusals, errClosed)
	}
	why := errors.Join(refusals...)
	if taken {
		return fmt.Errorf("%w:\n%w", ErrPartly, why)
	}
	return why
}

// rollback returns why r may not take the place of what is known of its peer, if so.
func (d *Directory) rollback(r *registry.Record) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	known := d.known(r.ID)
	switch {
	case r.Equal(known) || r.Newer(known):
		return nil
	case known.Revoked:
		return fmt.Errorf("%w: the key was revoked for good; make a new one", registry.ErrRollback)
	}
	return fmt.Errorf("%w, made at %s", registry.ErrRollback, time.UnixMilli(known.Sequence).UTC().Format(time.RFC3339))
}

// Resolve implements [registry.Namer]. It asks one directory after the other, and the first that knows the name is
// believed. One that fails ends the search, as does a peer that is known to be revoked: who keeps a directory from
// answering, or stole a key, is not to choose whose word counts in its place. So those that are not always in reach go last.
func (d *Directory) Resolve(ctx context.Context, name string) (identity.ID, error) {
	id, err := d.resolve(ctx, name)
	if err != nil {
		return identity.ID{}, &registry.RecordError{Op: "lookup", Field: "name", Err: err}
	}
	return id, nil
}

func (d *Directory) resolve(ctx context.Context, name string) (identity.ID, error) {
	if err := d.enter(ctx); err != nil {
		return identity.ID{}, err
	}
	defer d.wg.Done()
	if !registry.ValidName(name) {
		return identity.ID{}, fmt.Errorf("%w: %.40q is no name", registry.ErrNotFound, name)
	}
	for i, dir := range d.Directories {
		namer, ok := dir.(registry.Namer)
		if !ok {
			continue
		}
		id, err := d.resolveAt(ctx, namer, name)
		switch {
		case errors.Is(err, registry.ErrNotFound):
		case ctx.Err() != nil:
			return identity.ID{}, ctx.Err()
		case d.ctx.Err() != nil:
			return identity.ID{}, errClosed
		case err != nil:
			return identity.ID{}, said(i, err)
		case id.IsZero():
			return identity.ID{}, said(i, errors.New("it gave the name to nobody"))
		case d.isRevoked(id):
			return identity.ID{}, fmt.Errorf("%w: the key of who is called %q was revoked", registry.ErrNotFound, name)
		default:
			return id, nil
		}
	}
	return identity.ID{}, fmt.Errorf("%w: nobody is called %q", registry.ErrNotFound, name)
}

func (d *Directory) resolveAt(ctx context.Context, namer registry.Namer, name string) (identity.ID, error) {
	ctx, cancel := d.within(ctx)
	defer cancel()
	return namer.Resolve(ctx, name)
}

// silent returns the failures of n directories of which none has answered.
func silent(n int) []error {
	failures := make([]error, n)
	for i := range failures {
		failures[i] = context.DeadlineExceeded
	}
	return failures
}

// next returns the next answer, or false when there is none once ctx is done.
func next(ctx context.Context, answers <-chan answer) (answer, bool) {
	select {
	case a := <-answers:
		return a, true
	case <-ctx.Done():
	}
	select {
	case a := <-answers:
		return a, true
	default:
		return answer{}, false
	}
}

// said adds to err which directory, counted from 1, returned it.
func said(i int, err error) error { return fmt.Errorf("directory %d: %w", i+1, plain(err)) }

// plain takes away what the error of this directory says again.
func plain(err error) error {
	if re, ok := err.(*registry.RecordError); ok {
		return re.Err
	}
	return err
}
