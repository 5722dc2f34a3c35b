package dht

import (
	"context"
	"sync"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
)

// calling holds the nodes that are being asked, with the records that say where they are.
type calling struct {
	mu     sync.Mutex
	nodes  map[identity.ID]*called
	awaits map[chan *registry.Record]identity.ID
}

type called struct {
	record *registry.Record
	n      int
	places chan struct{} // one for each query under way
}

// enter waits for a place among the queries to id, which is being asked, until leave is called. One that was not answered
// keeps its place for a while: the node may still count it, or think that we flood it.
func (c *calling) enter(ctx context.Context, id identity.ID) (leave func(answered bool), err error) {
	c.mu.Lock()
	places := c.nodes[id].places
	c.mu.Unlock()
	select {
	case places <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return func(answered bool) {
		if answered {
			<-places
		} else {
			time.AfterFunc(maxPause, func() { <-places })
		}
	}, nil
}

// add notes that id is being asked, until release is called.
func (c *calling) add(id identity.ID, r *registry.Record) (release func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.nodes == nil {
		c.nodes = make(map[identity.ID]*called)
	}
	n := c.nodes[id]
	if n == nil {
		n = &called{places: make(chan struct{}, maxServedOf)}
		c.nodes[id] = n
	}
	n.n++
	if r != nil && r.Newer(n.record) {
		n.record = r
	}
	for waiter, of := range c.awaits {
		if of == id {
			select {
			case waiter <- n.record:
			default: // it has one already
			}
		}
	}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if n.n--; n.n == 0 {
			delete(c.nodes, id)
		}
	}
}

// await returns what gets the record by which id is asked, nil for none, once it is, until stop is called.
func (c *calling) await(id identity.ID) (r <-chan *registry.Record, stop func()) {
	asked := make(chan *registry.Record, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.awaits == nil {
		c.awaits = make(map[chan *registry.Record]identity.ID)
	}
	c.awaits[asked] = id
	if n := c.nodes[id]; n != nil {
		asked <- n.record
	}
	return asked, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.awaits, asked)
	}
}

// get returns the record of a node that is being asked, nil for none, and whether it is.
func (c *calling) get(id identity.ID) (r *registry.Record, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.nodes[id]
	if n == nil {
		return nil, false
	}
	return n.record, true
}
