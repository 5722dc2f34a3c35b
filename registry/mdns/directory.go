// Package mdns finds peers on the local network, without a server, by multicast DNS (RFC 6762). It is opt-in: nothing is
// said or heard before Start.
//
// The smallest program answers for its own record, and finds those of others:
//
//	directory := &mdns.Directory{NetworkKey: networkKey}
//	if err := directory.Start(ctx); err != nil {
//		return err
//	}
//	defer directory.Close()
//	node := &mesh.Node{Directory: directory, NetworkKey: networkKey}
//
// Everybody on the link sees which machines say and ask something of the service _splitmesh._udp.local, when, and how
// long an answer is, to one of four sizes. What the package promises beyond that, to those who share a network key:
//
//   - Without the key nobody learns what is asked for or answered, ID or name, nor whether two questions are about the
//     same; and nobody makes a node answer, except with a question recorded in the 20 minutes before.
//   - Networks with different keys share a link without ever seeing each other.
//   - A record proves itself ([registry.Parse]); of a peer that was published or asked for here no older record takes
//     the place of a newer, and a revocation is final. Of others, who were only overheard, the same holds until some
//     other peer overheard takes the place.
//   - A node answers only by multicast, to packets from its own link, at most once a second with one record and
//     20 times a second in all. What it keeps and computes for others is bounded, whatever they send.
//
// Without a network key all is sealed under a key that everybody can derive: then anyone on the link can read and ask,
// and the package hides nothing.
//
// What it does not promise: whoever floods a link can use up the budgets of nodes, so that they don't find each other
// meanwhile. A name is only told, and belongs to who was first heard with it, so whoever has the key can take it; an ID is
// proven. Clocks on a link must agree to 10 minutes. Tunnels and other point-to-point interfaces are not used.
package mdns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
)

// relistEvery is how often the interfaces are looked at.
const relistEvery = 30 * time.Second

var errBusy = errors.New("too much is looked for on this link: try again in a second")

// A Directory implements [registry.Namer]. Its zero value is ready for use: until Start it speaks to nobody. It must not
// be copied, and its exported fields are read-only after the first method call.
type Directory struct {
	// NetworkKey is what keeps others on the link from seeing anything. nil: the open network of all who have none.
	NetworkKey *[32]byte
	// Interfaces are the names of those to use. nil means all; of either those that are up and can multicast.
	Interfaces []string
	// Logger gets what goes wrong with interfaces. nil: nobody.
	Logger *slog.Logger
	// Now is the clock. nil means time.Now.
	Now func() time.Time

	once sync.Once
	// Set by init, then read-only.
	network  network
	patience time.Duration
	done     chan struct{} // closed by Close
	wake     chan struct{} // holds one when run is to poll
	log      *slog.Logger

	running sync.WaitGroup // run, and read for each port; Add under mu while not closed

	mu      sync.Mutex // guards all below
	started bool
	closed  bool
	machine *machine
	ports   map[link]port
	heard   chan struct{} // closed and replaced when something was heard
}

func (d *Directory) init() {
	d.once.Do(func() {
		if d.network == nil {
			d.network = sockets{d.Interfaces}
		}
		if d.patience == 0 {
			d.patience = patience
		}
		d.done, d.wake, d.heard = make(chan struct{}), make(chan struct{}, 1), make(chan struct{})
		d.machine = newMachine(newKeys(d.NetworkKey))
		d.ports = make(map[link]port)
		if d.log = d.Logger; d.log == nil {
			d.log = slog.New(slog.DiscardHandler)
		}
	})
}

func (d *Directory) now() time.Time {
	if d.Now == nil {
		return time.Now()
	}
	return d.Now()
}

// Start begins to speak and to listen, until Close. It fails when there are interfaces and none can be used; when there
// are none yet, it waits for them. Once it has succeeded it does nothing.
func (d *Directory) Start(ctx context.Context) error {
	d.init()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("mdns: start: %w", err)
	}
	if d.NetworkKey != nil && *d.NetworkKey == [32]byte{} {
		return errors.New("mdns: start: the network key is all zeros; nil means none")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return fmt.Errorf("mdns: start: %w", net.ErrClosed)
	}
	if d.started {
		return nil
	}
	if err := d.relist(slog.LevelWarn); err != nil {
		return fmt.Errorf("mdns: start: %w", err)
	}
	d.started = true
	d.running.Go(d.run) // ends with Close
	return nil
}

// Close ends all that Start began, and every method that waits. It returns nil.
func (d *Directory) Close() error {
	d.init()
	d.mu.Lock()
	if !d.closed {
		d.closed = true
		close(d.done)
		for _, p := range d.ports {
			p.Close()
		}
	}
	d.mu.Unlock()
	d.running.Wait()
	return nil
}

// Publish implements [registry.Directory]. From then on the record is the answer to whoever asks for its peer or its
// name on the link, until it expires or a newer one is heard. It returns before the link has heard of it.
func (d *Directory) Publish(ctx context.Context, r *registry.Record) error {
	d.init()
	err := ctx.Err()
	if err == nil {
		mine := r.Clone()
		d.mu.Lock()
		if err = net.ErrClosed; !d.closed {
			err = d.machine.publish(d.now(), mine)
		}
		d.mu.Unlock()
	}
	if err != nil {
		return &registry.RecordError{Op: "publish", ID: r.ID, Err: err}
	}
	d.poke()
	return nil
}

// Lookup implements [registry.Directory]. Of a peer that it has not heard of it asks the link, and waits 1.25 s for the
// answer: most come at once, some a second after the answer to somebody else. What it heard more than a minute ago it
// returns and asks for anew, for the next Lookup.
func (d *Directory) Lookup(ctx context.Context, id identity.ID) (*registry.Record, error) {
	var found *registry.Record
	err := d.find(ctx, ofID(id), !id.IsZero(), func(now time.Time) (old bool, err error) {
		found, old, err = d.machine.lookup(now, id)
		return old, err
	})
	if err != nil {
		return nil, &registry.RecordError{Op: "lookup", ID: id, Err: err}
	}
	return found.Clone(), nil
}

// Resolve implements [registry.Namer]. A name that it has not heard it asks the link for, as Lookup does.
func (d *Directory) Resolve(ctx context.Context, name string) (identity.ID, error) {
	var found identity.ID
	err := d.find(ctx, ofName(name), registry.ValidName(name), func(now time.Time) (old bool, err error) {
		found, err = d.machine.resolve(now, name)
		return false, err
	})
	if err != nil {
		return identity.ID{}, &registry.RecordError{Op: "lookup", Field: "name", Err: err}
	}
	return found, nil
}

// find calls known, with d.mu held, until it returns no error. While it does, find asks for s if that makes sense.
func (d *Directory) find(ctx context.Context, s subject, sensible bool, known func(now time.Time) (old bool, err error)) error {
	d.init()
	var over <-chan time.Time // ends the wait; nil until there is one
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		d.mu.Lock()
		if d.closed {
			d.mu.Unlock()
			return net.ErrClosed
		}
		now := d.now()
		old, err := known(now)
		asks := false
		if (err != nil || old) && over == nil && sensible {
			asks = d.machine.ask(now, s)
			if !asks && err != nil && len(d.machine.links) > 0 {
				err = errBusy // and not that there is nothing, which nobody was asked
			}
		}
		heard := d.heard
		d.mu.Unlock()
		if asks {
			d.poke()
		}
		if err == nil {
			return nil
		}
		if over == nil {
			if !asks {
				return err
			}
			timer := time.NewTimer(d.patience)
			defer timer.Stop()
			over = timer.C
		}
		select {
		case <-heard:
		case <-over:
			return err
		case <-ctx.Done():
		case <-d.done:
		}
	}
}

// poke makes run look at what there is to send.
func (d *Directory) poke() {
	select {
	case d.wake <- struct{}{}:
	default: // it will
	}
}

// run sends what the machine wants sent, and notices interfaces that come and go.
func (d *Directory) run() {
	relist := time.NewTicker(relistEvery)
	defer relist.Stop()
	due := time.NewTimer(0)
	defer due.Stop()
	for {
		select {
		case <-d.done:
			return
		case <-relist.C:
			d.mu.Lock()
			if !d.closed {
				_ = d.relist(slog.LevelDebug) // it was logged, and is tried again
			}
			d.mu.Unlock()
		case <-d.wake:
		case <-due.C:
		}
		d.mu.Lock()
		now := d.now()
		out, next := d.machine.poll(now)
		ports := maps.Clone(d.ports)
		d.mu.Unlock()
		for _, p := range out {
			port := ports[p.link]
			if port == nil {
				continue // it has failed since
			}
			if err := port.send(p.bytes); err != nil {
				d.log.Debug("mdns: not sent", "interface", p.link.index, "err", err)
				d.mu.Lock()
				d.machine.unsent(p)
				d.mu.Unlock()
			}
		}
		if next.IsZero() {
			due.Stop()
		} else {
			due.Reset(next.Sub(now))
		}
	}
}

// relist opens the links that have come and closes those that are gone. It fails when there are some and none can be
// opened. d.mu is held, and d is not closed.
func (d *Directory) relist(level slog.Level) error {
	listed, err := d.network.list()
	if err != nil {
		d.log.Log(context.Background(), level, "mdns: listing the interfaces", "err", err)
		return fmt.Errorf("listing the interfaces: %w", err)
	}
	for l, p := range d.ports {
		if _, ok := listed[l]; !ok {
			delete(d.ports, l)
			p.Close()
		}
	}
	var errs []error
	for l, prefixes := range listed {
		p := d.ports[l]
		if p == nil {
			if p, err = d.network.open(l); err != nil {
				d.log.Log(context.Background(), level, "mdns: interface not used", "interface", l.index, "err", err)
				errs = append(errs, err)
				continue
			}
			d.ports[l] = p
			d.running.Go(func() { d.read(l, p) }) // ends when p is closed, here or by Close, or fails
		}
		p.allow(prefixes)
	}
	d.machine.setLinks(d.now(), slices.Collect(maps.Keys(d.ports)))
	if len(d.ports) == 0 {
		return errors.Join(errs...)
	}
	return nil
}

// read hears what comes in on a link. When its port fails, which that of an interface does that is gone, the link is
// left to relist.
func (d *Directory) read(l link, p port) {
	buf := make([]byte, maxDatagram)
	for {
		n, err := p.receive(buf)
		d.mu.Lock()
		if err != nil || d.closed {
			if d.ports[l] == p && !d.closed {
				delete(d.ports, l)
				d.machine.setLinks(d.now(), slices.Collect(maps.Keys(d.ports)))
			}
			d.mu.Unlock()
			p.Close()
			return
		}
		came := d.machine.hear(d.now(), l, buf[:n])
		if came {
			close(d.heard)
			d.heard = make(chan struct{})
		}
		d.mu.Unlock()
		if came {
			d.poke()
		}
	}
}
