package chat

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/splitmesh/splitmesh/examples/internal/program"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/protocol"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/store"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/transport"
)

// Run has the chat take part in the mesh until ctx ends. When there can be no node at present, it tries again; it returns
// only an error of the first that time does not mend: a port that is taken, a privilege that is missing.
func (e *Engine) Run(ctx context.Context) error {
	for first := true; ; first = false {
		err := e.serve(ctx)
		e.mu.Lock()
		e.node, e.problem = nil, err
		e.mu.Unlock()
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was told to end, and has
		}
		if err == nil {
			continue // opened anew
		}
		if first && program.Status(err) != program.Failed {
			return err
		}
		e.Log.Error("the node did not start", "err", err)
		e.publish(Event{Kind: Noted, Text: "the node did not start: " + err.Error()})
		select {
		case <-ctx.Done():
			return nil
		case <-e.changed:
		case <-time.After(10 * time.Second):
		}
	}
}

// serve opens a node and has it work until ctx ends or the node is to be opened anew.
func (e *Engine) serve(ctx context.Context) (err error) {
	addrs, err := e.Extra(ctx)
	if err != nil {
		return err
	}
	n, err := e.Open(ctx, addrs, e.authorize)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer func() {
		cancel()
		e.mu.Lock()
		e.node, e.spawn = nil, nil
		clear(e.couriers)
		e.mu.Unlock()
		// What is under way is delivered by Close, or it is sent again when there is a node.
		err = errors.Join(err, n.Close())
		wg.Wait()
	}()
	l, err := n.Listen(protocol.Service)
	if err != nil {
		return err
	}
	e.mu.Lock()
	e.node, e.problem = n.Node, nil
	e.spawn = func(f func(context.Context)) context.CancelFunc {
		ctx, cancel := context.WithCancel(ctx)
		wg.Go(func() {
			defer cancel()
			f(ctx)
		})
		return cancel
	}
	e.mu.Unlock()
	wg.Go(func() { e.accept(ctx, l) })
	if err := e.refresh(ctx); err != nil {
		return err
	}
	if err := e.resume(ctx); err != nil {
		return err
	}
	e.publish(Event{Kind: People})
	select {
	case <-ctx.Done():
	case <-e.changed:
		e.Log.Info("opening the node anew, with other addresses")
	}
	return nil
}

// Extra are the addresses that invitations had, of some contacts as many as of others: where they may be found. Without
// direct paths those of the contacts themselves are not among them.
func (e *Engine) Extra(ctx context.Context) (out []string, err error) {
	people, err := e.Contacts(ctx)
	people = slices.DeleteFunc(people, func(c store.Contact) bool { return c.Standing != store.Friend })
	for i, more := 0, true; more; i++ {
		more = false
		for _, c := range people {
			if i >= len(c.Addrs) {
				continue
			}
			more = true
			a, err := transport.Parse(c.Addrs[i])
			if err != nil {
				continue
			}
			_, whose, _, err := transport.SplitPeer(a)
			if err != nil || e.Dialer.RelayedOnly && whose == c.ID || slices.Contains(out, c.Addrs[i]) || len(out) >= maxExtraAddrs {
				continue
			}
			out = append(out, c.Addrs[i])
		}
	}
	return out, err
}

// refresh starts couriers that are missing: one for each contact, and for whoever else something waits.
func (e *Engine) refresh(ctx context.Context) error {
	wanted := make(map[identity.ID]bool)
	blocked := make(map[identity.ID]bool)
	err := e.Store.View(ctx, func(tx *store.Tx) error {
		people, err := tx.Contacts()
		if err != nil {
			return err
		}
		for _, c := range people {
			wanted[c.ID] = c.Standing == store.Friend
			blocked[c.ID] = c.Standing == store.Blocked
		}
		rooms, err := tx.AllRooms() // who has forgotten one may still have to tell that he has left it
		if err != nil {
			return err
		}
		for _, r := range rooms {
			for _, m := range append(r.Members, r.Chat.Peer) {
				if n, err := tx.Queued(m); err != nil {
					return err
				} else if n > 0 {
					wanted[m] = true
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, c := range e.couriers {
		if !wanted[id] || blocked[id] {
			c.stop()
			delete(e.couriers, id)
		}
	}
	for id, c := range e.conns {
		if blocked[id] {
			c.stop()
		}
	}
	if e.spawn == nil {
		return nil
	}
	for id := range maps.Keys(wanted) {
		if wanted[id] && !blocked[id] && id != e.ID && e.couriers[id] == nil {
			c := newCourier(e, id)
			e.couriers[id] = c
			c.stop = e.spawn(c.run)
		}
	}
	return nil
}

// wake has the courier of a peer look at what waits; now has it dial at once.
func (e *Engine) wake(ctx context.Context, now bool, peers ...identity.ID) {
	if err := e.refresh(ctx); err != nil && ctx.Err() == nil {
		e.Log.Error("couriers", "err", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, id := range peers {
		if c := e.couriers[id]; c != nil {
			c.wake(now)
		}
	}
}

// Online reports whether there is a session with the peer.
func (e *Engine) Online() map[identity.ID]bool {
	out := make(map[identity.ID]bool)
	if n := e.Node(); n != nil {
		for _, p := range n.Peers() {
			if p.Up {
				out[p.ID] = true
			}
		}
	}
	return out
}

// authorize lets everyone chat who isn't blocked, and those send a file whose file was accepted.
func (e *Engine) authorize(ctx context.Context, peer identity.ID, service string) error {
	if strings.HasPrefix(service, protocol.FileService) {
		e.mu.Lock()
		wanted := e.services[service] == peer
		e.mu.Unlock()
		if !wanted {
			return fmt.Errorf("%s was not asked for this file", peer.Short())
		}
	}
	return e.Store.View(ctx, func(tx *store.Tx) error {
		c, err := tx.Contact(peer)
		if err == nil && c != nil && c.Standing == store.Blocked {
			err = fmt.Errorf("%s is blocked", peer.Short())
		}
		return err
	})
}
