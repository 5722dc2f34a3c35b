// Package chat is meshchat without a screen: people, rooms and files over a mesh node, and what is kept of them. Every user
// interface is one over an Engine.
//
//	e := chat.New(chat.Options{Store: s, ID: key.ID(), Open: openNode})
//	err := e.Run(ctx)                   // until ctx ends
//	err = e.Send(ctx, chat, "hello")    // at any time, while it runs and while it doesn't
//
// What the package promises:
//
//   - A message for which Send returned nil is delivered once the peer and we run at the same time, whatever happens in
//     between, or the history says why not. It is delivered once, in the order in which its sender wrote.
//   - Who sent a message is who proved his key on the conn that brought it.
//   - Strangers leave at most MaxRequests requests of MaxHeld messages each.
package chat

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/splitmesh/splitmesh/examples/meshchat/internal/protocol"
	"github.com/splitmesh/splitmesh/examples/meshchat/internal/store"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
)

// Limits.
const (
	MaxRequests     = 32 // of strangers
	MaxHeld         = 8  // messages of each
	MaxRoomsOf      = 32 // of one creator
	maxConns        = 256
	maxTransfers    = 16 // at once
	maxExtraAddrs   = 32 // of invitations
	eventsBuffer    = 256
	helloTimeout    = 20 * time.Second
	answerTimeout   = 2 * time.Minute // longer than a mesh keeps a session without paths
	invitationLasts = 7 * 24 * time.Hour
)

// Options are what an Engine is made of.
type Options struct {
	Store *store.Store
	ID    identity.ID
	Nick  string
	// Dir is the directory of files that were received. AutoAccept is up to how many bytes a file of a contact is taken
	// without asking.
	Dir        string
	AutoAccept int64
	// Open makes a node that knows the addresses beside its own. The node has the key of ID, and asks authorize.
	Open func(ctx context.Context, addrs []string, authorize Authorize) (Node, error)
	// Dialer is how peers are dialled; Node is filled in.
	Dialer mesh.Dialer
	Log    *slog.Logger
}

// Authorize is mesh.Node's.
type Authorize = func(ctx context.Context, peer identity.ID, service string) error

// A Node is a mesh node, and what is to be closed with it.
type Node struct {
	*mesh.Node
	Close func() error
}

// An Engine is a chat. Its methods may be called from many goroutines.
type Engine struct {
	Options
	changed chan struct{} // addresses: the node is to be opened anew

	mu       sync.Mutex
	subs     map[chan Event]bool
	node     *mesh.Node // nil: none
	problem  error      // why there is none
	couriers map[identity.ID]*courier
	conns    map[identity.ID]net.Conn // that came in
	spawn    spawn                    // nil: none
	services map[string]identity.ID   // of files: who may use them
	moving   map[int64]*progress      // transfers that run
}

// A spawn starts a goroutine that ends with the node, or when it is cancelled. It is called with mu held.
type spawn func(func(context.Context)) context.CancelFunc

// An Event says that something changed. It is a hint: what is true now, the methods say.
type Event struct {
	Kind EventKind
	Chat protocol.Chat
	// Message is one that came or was sent, for Said.
	Message *store.Message
	// Transfer is what a file's event is about.
	Transfer *store.Transfer
	// Text is for people.
	Text string
}

// An EventKind is what happened.
type EventKind int

// The kinds.
const (
	Said   EventKind = iota // a message is in the history
	Marked                  // how far messages of ours got
	People                  // contacts, requests or rooms
	Filed                   // a transfer
	Noted                   // something else
)

// New makes an Engine.
func New(o Options) *Engine {
	return &Engine{
		Options: o, changed: make(chan struct{}, 1), subs: make(map[chan Event]bool), couriers: make(map[identity.ID]*courier),
		conns: make(map[identity.ID]net.Conn), services: make(map[string]identity.ID), moving: make(map[int64]*progress),
	}
}

// Subscribe returns a channel of events. Who does not keep up misses some.
func (e *Engine) Subscribe() (events <-chan Event, cancel func()) {
	c := make(chan Event, eventsBuffer)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.subs[c] = true
	return c, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.subs, c)
	}
}

func (e *Engine) publish(events ...Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, v := range events {
		for c := range e.subs {
			select {
			case c <- v:
			default:
			}
		}
	}
}

// Problem is why there is no node at present, or nil.
func (e *Engine) Problem() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.problem
}

// Node is the mesh node at present, or nil.
func (e *Engine) Node() *mesh.Node {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.node
}

// Run has the chat take part in the mesh until ctx ends. It returns the error of opening the first node.
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
		if first {
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
	addrs, err := e.addrs(ctx)
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

// addrs are those of invitations: where contacts may be found.
func (e *Engine) addrs(ctx context.Context) (out []string, err error) {
	err = e.Store.View(ctx, func(tx *store.Tx) error {
		people, err := tx.Contacts()
		for _, c := range people {
			for _, a := range c.Addrs {
				if c.Standing == store.Friend && !slices.Contains(out, a) && len(out) < maxExtraAddrs {
					out = append(out, a)
				}
			}
		}
		return err
	})
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
		rooms, err := tx.Rooms()
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
			c.Close()
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
		defer e.mu.Unlock()
		if e.services[service] != peer {
			return fmt.Errorf("%s was not asked for this file", peer.Short())
		}
		return nil
	}
	return e.Store.View(ctx, func(tx *store.Tx) error {
		c, err := tx.Contact(peer)
		if err == nil && c != nil && c.Standing == store.Blocked {
			err = fmt.Errorf("%s is blocked", peer.Short())
		}
		return err
	})
}
