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
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"

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
	maxConns        = 1024
	maxStrangers    = 32             // of the conns
	strangerIdle    = time.Minute    // that a stranger may say nothing
	paceRate        = rate.Limit(20) // messages a second of one peer, after a queue's worth
	maxTransfers    = 16             // at once
	maxTransfersOf  = 4              // of one peer
	maxExtraAddrs   = 32             // of invitations
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
	conns    map[identity.ID]*incoming
	paces    map[identity.ID]*rate.Limiter
	spawn    spawn                  // nil: none
	services map[string]identity.ID // of files: who may use them
	moving   map[int64]*progress    // transfers that run
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
		conns: make(map[identity.ID]*incoming), paces: make(map[identity.ID]*rate.Limiter), services: make(map[string]identity.ID), moving: make(map[int64]*progress),
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
