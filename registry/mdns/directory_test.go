package mdns

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/registry/registrytest"
)

// An air is a network within the process: what one of its stations sends, all hear.
type air struct {
	mu       sync.Mutex // guards all below
	ports    map[*station]bool
	sent     int
	listFail error
	openFail error
	none     bool // no interfaces
	down     bool // sending fails
}

// A station is a directory's end of an air.
type station struct {
	air     *air
	packets chan []byte
	closed  chan struct{}
	once    sync.Once
}

func (a *air) list() (map[link][]netip.Prefix, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.listFail != nil || a.none {
		return nil, a.listFail
	}
	return map[link][]netip.Prefix{theLink: nil}, nil
}

func (a *air) open(link) (port, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.openFail != nil {
		return nil, a.openFail
	}
	s := &station{air: a, packets: make(chan []byte, 1000), closed: make(chan struct{})}
	if a.ports == nil {
		a.ports = make(map[*station]bool)
	}
	a.ports[s] = true
	return s, nil
}

func (a *air) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.sent
}

// set changes what the air's interfaces do.
func (a *air) set(change func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change()
}

func (s *station) send(b []byte) error {
	s.air.mu.Lock()
	defer s.air.mu.Unlock()
	if s.air.down {
		return errors.New("network is unreachable")
	}
	s.air.sent++
	for to := range s.air.ports {
		select {
		case to.packets <- b:
		default: // lost
		}
	}
	return nil
}

func (s *station) receive(b []byte) (int, error) {
	select {
	case p := <-s.packets:
		return copy(b, p), nil
	case <-s.closed:
		return 0, net.ErrClosed
	}
}

func (s *station) allow([]netip.Prefix) {}

func (s *station) Close() error {
	s.once.Do(func() {
		s.air.mu.Lock()
		defer s.air.mu.Unlock()
		delete(s.air.ports, s)
		close(s.closed)
	})
	return nil
}

// on returns a directory that speaks through a, and is closed with the test.
func on(t *testing.T, a *air, d *Directory) *Directory {
	t.Helper()
	d.network = a
	t.Cleanup(func() { d.Close() })
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return d
}

// alone returns a directory whom nobody hears, not even itself: what it returns is what it holds. The suites' clock stands
// still, so it need not wait long.
func alone(t *testing.T, now func() time.Time) *Directory {
	return on(t, &air{down: true}, &Directory{Now: now, patience: time.Millisecond})
}

func TestDirectory(t *testing.T) {
	registrytest.TestDirectory(t, func(t *testing.T, now func() time.Time) registry.Directory { return alone(t, now) })
}

// A record that one has published another finds, by ID and by name, whether it was there or comes later.
func TestLookupOnTheLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := new(air)
		here := on(t, a, &Directory{NetworkKey: networkKey(1)})
		r := named(t, time.Now(), "ann")
		if err := here.Publish(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		for range 2 {
			there := on(t, a, &Directory{NetworkKey: networkKey(1)})
			if id, err := there.Resolve(t.Context(), "ann"); err != nil || id != r.ID {
				t.Fatalf("Resolve: %v, %v", id, err)
			}
			got, err := there.Lookup(t.Context(), r.ID)
			if err != nil || !got.Equal(r) {
				t.Fatalf("Lookup: %+v, %v", got, err)
			}
			time.Sleep(time.Minute + time.Second)
			before := a.count()
			for range 2 { // the second has no need to ask
				if _, err := there.Lookup(t.Context(), r.ID); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
			}
			if got := a.count() - before; got != 2 {
				t.Errorf("%d packets, want a question and its answer", got)
			}
			here.Close() // what was heard is still known
			if got, err := there.Lookup(t.Context(), r.ID); err != nil || !got.Equal(r) {
				t.Fatalf("Lookup: %+v, %v", got, err)
			}
			here = there
			if err := here.Publish(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// What could not be sent does not keep anybody waiting who asks when it can be.
func TestNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &air{down: true}
		here, there := on(t, a, new(Directory)), on(t, a, new(Directory))
		r := registrytest.Signed(t, registrytest.Key(t), time.Now())
		if err := here.Publish(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		a.set(func() { a.down = false })
		// The second announcement is due in a second, as the answer would be.
		ctx, cancel := context.WithTimeout(t.Context(), patience/2)
		defer cancel()
		if got, err := there.Lookup(ctx, r.ID); err != nil || !got.Equal(r) {
			t.Errorf("Lookup: %+v, %v", got, err)
		}
	})
}

// Nobody answers: Lookup and Resolve give up after a while, or when ctx ends, or at Close.
func TestNobodyAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := new(air)
		d := on(t, a, new(Directory))
		on(t, a, &Directory{NetworkKey: networkKey(1)})
		id := registrytest.Key(t).ID()
		start := time.Now()
		if r, err := d.Lookup(t.Context(), id); !errors.Is(err, registry.ErrNotFound) || time.Since(start) != patience {
			t.Errorf("Lookup: %+v, %v after %v", r, err, time.Since(start))
		}
		if a.count() != 3 {
			t.Errorf("%d packets, want 3 questions", a.count())
		}
		start = time.Now()
		if r, err := d.Resolve(t.Context(), "ann"); !errors.Is(err, registry.ErrNotFound) || time.Since(start) != patience {
			t.Errorf("Resolve: %+v, %v after %v", r, err, time.Since(start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience/2)
		defer cancel()
		if r, err := d.Lookup(ctx, id); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Lookup: %+v, %v", r, err)
		}
		asked := a.count()
		for _, name := range []string{"", "Ann", "a.b", strings.Repeat("a", 99)} { // what can be nobody's is not asked for
			if _, err := d.Resolve(t.Context(), name); !errors.Is(err, registry.ErrNotFound) {
				t.Errorf("Resolve %q: %v", name, err)
			}
		}
		if a.count() != asked {
			t.Error("asked for no name")
		}
		waits := make(chan error)
		go func() { // ends with the Lookup, which Close ends
			_, err := d.Lookup(t.Context(), id)
			waits <- err
		}()
		synctest.Wait()
		start = time.Now()
		d.Close()
		if err := <-waits; !errors.Is(err, net.ErrClosed) || time.Since(start) != 0 {
			t.Errorf("Lookup: %v", err)
		}
	})
}

// What was not asked for is not reported as missing.
func TestTooManyQuestions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := on(t, new(air), new(Directory))
		d.mu.Lock()
		for i := range maxQuestions {
			d.machine.ask(time.Now(), ofName(strings.Repeat("x", i)))
		}
		d.mu.Unlock()
		if _, err := d.Lookup(t.Context(), registrytest.Key(t).ID()); !errors.Is(err, errBusy) || errors.Is(err, registry.ErrNotFound) {
			t.Errorf("Lookup: %v", err)
		}
		if _, err := d.Resolve(t.Context(), "ann"); !errors.Is(err, errBusy) {
			t.Errorf("Resolve: %v", err)
		}
	})
}

func TestClosed(t *testing.T) {
	r := registrytest.Signed(t, registrytest.Key(t), time.Now())
	started := &Directory{network: new(air)}
	if err := started.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := started.Start(t.Context()); err != nil {
		t.Errorf("second Start: %v", err)
	}
	for what, d := range map[string]*Directory{"started": started, "never started": {network: new(air)}} {
		for range 2 {
			if err := d.Close(); err != nil {
				t.Errorf("%s: Close: %v", what, err)
			}
		}
		_, lookup := d.Lookup(t.Context(), r.ID)
		_, resolve := d.Resolve(t.Context(), "ann")
		for method, err := range map[string]error{"Start": d.Start(t.Context()), "Publish": d.Publish(t.Context(), r), "Lookup": lookup, "Resolve": resolve} {
			if !errors.Is(err, net.ErrClosed) {
				t.Errorf("%s: %s: %v", what, method, err)
			}
		}
	}
}

// Close may come at any moment, also while Start runs.
func TestCloseAtAnyMoment(t *testing.T) {
	for range 50 {
		d := &Directory{network: new(air)}
		r := registrytest.Signed(t, registrytest.Key(t), time.Now())
		var wg sync.WaitGroup
		for _, f := range []func() error{
			func() error { return d.Start(t.Context()) },
			func() error { return d.Publish(t.Context(), r) },
			func() error { _, err := d.Lookup(t.Context(), r.ID); return err },
			d.Close,
			d.Close,
		} {
			wg.Go(func() { // ends with f, which Close ends
				if err := f(); err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, registry.ErrNotFound) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
}

func TestStartRefuses(t *testing.T) {
	broken := errors.New("broken")
	done, cancel := context.WithCancel(t.Context())
	cancel()
	for what, tc := range map[string]struct {
		d    *Directory
		ctx  context.Context
		want error
	}{
		"a key of zeros":      {&Directory{NetworkKey: new([32]byte), network: new(air)}, t.Context(), nil},
		"interfaces unlisted": {&Directory{network: &air{listFail: broken}}, t.Context(), broken},
		"none can be opened":  {&Directory{network: &air{openFail: broken}}, t.Context(), broken},
		"context done":        {&Directory{network: new(air)}, done, context.Canceled},
	} {
		if err := tc.d.Start(tc.ctx); err == nil || tc.want != nil && !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", what, err)
		}
		tc.d.Close()
	}
}

// Before Start, and without an interface, nobody is waited for. What was published before is announced once there is one.
func TestInterfacesComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &air{none: true}
		var log strings.Builder
		d := &Directory{network: a, Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
		r := registrytest.Signed(t, registrytest.Key(t), time.Now())
		nobody := func() {
			t.Helper()
			start := time.Now()
			if _, err := d.Lookup(t.Context(), registrytest.Key(t).ID()); !errors.Is(err, registry.ErrNotFound) || time.Since(start) != 0 {
				t.Fatalf("Lookup: %v after %v", err, time.Since(start))
			}
		}
		if err := d.Publish(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		nobody()
		on(t, a, d)
		nobody()
		synctest.Wait()
		a.set(func() { a.none = false })
		time.Sleep(relistEvery + 2*time.Second)
		if got := a.count(); got != announced {
			t.Errorf("announced %d times on a new interface", got)
		}
		a.set(func() { // one fails that is there still, and can't be opened for a while
			a.openFail = errors.New("broken")
			for s := range a.ports {
				close(s.closed)
				s.once.Do(func() {})
				delete(a.ports, s)
			}
		})
		synctest.Wait()
		nobody()
		time.Sleep(relistEvery)
		nobody()
		a.set(func() { a.openFail = nil })
		time.Sleep(relistEvery + 2*time.Second)
		if got := a.count(); got != 2*announced {
			t.Errorf("announced %d times on an interface that came back", got)
		}
		a.set(func() { a.none = true })
		time.Sleep(relistEvery)
		nobody()
		a.set(func() { a.listFail = errors.New("unlisted") })
		time.Sleep(relistEvery)
		d.Close()
		for _, want := range []string{"broken", "unlisted"} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("the log doesn't say %q:\n%s", want, log.String())
			}
		}
	})
}
