package multi_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/registry/multi"
	"github.com/splitmesh/splitmesh/registry/registrytest"
)

func TestNewestWithinGrace(t *testing.T) {
	try(t, func(t *testing.T, d *trial) {
		older, newer := pair(t, d.key)
		d.over((&far{}).holds(t, older), (&far{delay: multi.DefaultGrace / 2}).holds(t, newer), (&far{delay: time.Hour}).holds(t, newer))
		d.gives(t, newer)
	})
}

func TestLaterThanGrace(t *testing.T) {
	try(t, func(t *testing.T, d *trial) {
		older, newer := pair(t, d.key)
		late := (&far{delay: 2 * multi.DefaultGrace}).holds(t, newer)
		d.over((&far{}).holds(t, older), late)
		d.gives(t, older) // not waited for
		d.gives(t, older)
		pass(late.delay)
		synctest.Wait()
		d.gives(t, newer) // but remembered
		asked(t, late, 1)
	})
}

func TestNoGrace(t *testing.T) {
	try(t, func(t *testing.T, d *trial) {
		older, newer := pair(t, d.key)
		d.Grace = -1
		d.over((&far{}).holds(t, older), (&far{delay: time.Millisecond}).holds(t, newer))
		d.gives(t, older)
	})
}

func TestTimeout(t *testing.T) {
	for _, deaf := range []bool{false, true} {
		t.Run(fmt.Sprintf("deaf=%v", deaf), func(t *testing.T) {
			try(t, func(t *testing.T, d *trial) {
				record := registrytest.Signed(t, d.key, time.Now())
				d.over((&far{}).holds(t, record), &far{delay: time.Hour, deaf: deaf})
				d.gives(t, record)
				// The other may know, so this is no ErrNotFound, and no miss to remember.
				id, start := registrytest.Key(t).ID(), time.Now()
				if err := d.fails(t, id, context.DeadlineExceeded); errors.Is(err, registry.ErrNotFound) || !strings.Contains(err.Error(), "directory 2") {
					t.Errorf("Lookup: %v", err)
				}
				stood(t, start, multi.DefaultTimeout)
				start = time.Now()
				err := d.Publish(t.Context(), registrytest.Signed(t, d.key, time.Now().Add(time.Second)))
				if !errors.Is(err, multi.ErrPartly) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "directory 2") {
					t.Errorf("Publish: %v", err)
				}
				stood(t, start, multi.DefaultTimeout)
				synctest.Wait()
				d.Directories[1].(*far).delay = 0
				d.fails(t, id, registry.ErrNotFound)
			})
		})
	}
}

func TestFailuresAreTold(t *testing.T) {
	try(t, func(t *testing.T, d *trial) {
		one, two := errors.New("no route"), errors.New("no licence")
		d.over(&far{err: one}, &far{}, &far{err: two})
		err := d.fails(t, d.key.ID(), one)
		if !errors.Is(err, two) || errors.Is(err, registry.ErrNotFound) {
			t.Errorf("Lookup: %v", err)
		}
		var re *registry.RecordError
		if !errors.As(err, &re) || re.Op != "lookup" || re.ID != d.key.ID() {
			t.Errorf("Lookup: %v", err)
		}
	})
}

func TestNobodyKnows(t *testing.T) {
	try(t, func(t *testing.T, d *trial) {
		d.fails(t, d.key.ID(), registry.ErrNotFound) // there is no directory
		if err := d.Publish(t.Context(), registrytest.Signed(t, d.key, time.Now())); !errors.Is(err, multi.ErrReadOnly) {
			t.Errorf("Publish: %v", err)
		}
	})
	try(t, func(t *testing.T, d *trial) {
		knew := (&far{}).holds(t, registrytest.Signed(t, d.key, time.Now()))
		d.over(&far{}, knew, &far{})
		pass(24 * time.Hour)
		d.fails(t, d.key.ID(), registry.ErrExpired)
		d.fails(t, d.key.ID(), registry.ErrNotFound)
	})
}

// What a directory in this process can try; one on the network is Parse's affair first.
func TestLiesAreRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		lie  func(t *testing.T, k *identity.Key) (*registry.Record, error)
		want error
	}{
		"another peer's": {func(t *testing.T, _ *identity.Key) (*registry.Record, error) {
			return registrytest.Signed(t, registrytest.Key(t), time.Now()), nil
		}, registry.ErrMalformed},
		"unsigned": {func(t *testing.T, k *identity.Key) (*registry.Record, error) {
			r := registrytest.Draft(t, time.Now())
			r.ID = k.ID()
			return r, nil
		}, registry.ErrBadSignature},
		"changed": {func(t *testing.T, k *identity.Key) (*registry.Record, error) {
			r := registrytest.Signed(t, k, time.Now())
			r.Revoked = true
			return r, nil
		}, registry.ErrBadSignature},
		"from the future": {func(t *testing.T, k *identity.Key) (*registry.Record, error) {
			return registrytest.Signed(t, k, time.Now().Add(time.Hour)), nil
		}, registry.ErrFuture},
		"expired": {func(t *testing.T, k *identity.Key) (*registry.Record, error) {
			return registrytest.Signed(t, k, time.Now().Add(-25*time.Hour)), nil
		}, registry.ErrNotFound},
		"nothing at all": {func(*testing.T, *identity.Key) (*registry.Record, error) { return nil, nil }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			try(t, func(t *testing.T, d *trial) {
				liar := &far{lie: func(identity.ID) (*registry.Record, error) { return tc.lie(t, d.key) }}
				honest := new(far)
				d.over(liar, honest)
				got, err := d.Lookup(t.Context(), d.key.ID())
				if got != nil || err == nil || tc.want != nil && !errors.Is(err, tc.want) || errors.Is(err, registry.ErrNotFound) != (tc.want == registry.ErrNotFound) {
					t.Errorf("Lookup: %+v, %v; want %v", got, err, tc.want)
				}
				pass(multi.DefaultMissLife)
				record := registrytest.Signed(t, d.key, time.Now())
				honest.holds(t, record)
				d.gives(t, record)
			})
		})
	}
}

// A record that is pushed out while its look-up waits for something newer is returned all the same.
func TestPushedOutWithinGrace(t *testing.T) {
	try(t, func(t *testing.T, d *trial) {
		first, second := registrytest.Signed(t, d.key, time.Now()), registrytest.Signed(t, registrytest.Key(t), time.Now())
		d.over((&far{}).holds(t, first, second), &far{delay: time.Hour})
		d.MaxRecords = 1
		var wg sync.WaitGroup
		for _, r := range []*registry.Record{first, second} {
			wg.Go(func() { // ends within the grace
				if got, err := d.Lookup(t.Context(), r.ID); err != nil || !got.Equal(r) {
					t.Errorf("Lookup: %+v, %v", got, err)
				}
			})
		}
		wg.Wait()
	})
}

func TestSharedCalls(t *testing.T) {
	try(t, func(t *testing.T, d *trial) {
		record := registrytest.Signed(t, d.key, time.Now())
		one, two := (&far{delay: time.Second}).holds(t, record), &far{delay: time.Second}
		d.over(one, two)
		impatient, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() { // ends with the look-up
				if i == 0 { // who gives up does not take the others along
					if _, err := d.Lookup(impatient, record.ID); !errors.Is(err, context.Canceled) {
						t.Errorf("Lookup, given up: %v", err)
					}
					return
				}
				got, err := d.Lookup(t.Context(), record.ID)
				if err != nil || !got.Equal(record) {
					t.Errorf("Lookup: %+v, %v", got, err)
					return
				}
				got.Addrs[0] = nil // each has a copy
			})
		}
		synctest.Wait()
		cancel()
		wg.Wait()
		d.gives(t, record)
		asked(t, one, 1)
		asked(t, two, 1)
	})
}

func TestCallsAreBounded(t *testing.T) {
	try(t, func(t *testing.T, d *trial) {
		slow := &far{delay: time.Second}
		d.over(slow, new(far))
		d.MaxCalls = 3
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() { // ends with its call
				k := registrytest.Key(t)
				if i%2 == 0 {
					if err := d.Publish(t.Context(), registrytest.Signed(t, k, time.Now())); err != nil {
						t.Error(err)
					}
				} else if r, err := d.Lookup(t.Context(), k.ID()); !errors.Is(err, registry.ErrNotFound) {
					t.Errorf("Lookup: %v, %v", r, err)
				}
			})
		}
		wg.Wait()
		asked(t, slow, 20)
		if slow.most != 3 {
			t.Errorf("called %d times at once, want 3", slow.most)
		}
	})
	try(t, func(t *testing.T, d *trial) { // who waits for its turn still keeps to its context, and to Close
		d.over(&far{delay: time.Second})
		d.MaxCalls = 1
		var wg sync.WaitGroup
		wg.Go(func() { d.fails(t, d.key.ID(), net.ErrClosed) })
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := d.Lookup(ctx, registrytest.Key(t).ID()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Lookup: %v", err)
		}
		if err := d.Publish(ctx, registrytest.Signed(t, d.key, time.Now())); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Publish: %v", err)
		}
		wg.Go(func() { d.fails(t, registrytest.Key(t).ID(), net.ErrClosed) })
		synctest.Wait()
		d.Close()
		wg.Wait()
	})
}
