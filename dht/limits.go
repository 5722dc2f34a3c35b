package dht

import (
	"context"
	"sync"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
)

const (
	// DefaultRate is how many queries a second are answered for one peer, and a quarter of how many at once. As many
	// more are told that it is too much; they wait until that is true no longer, for a second at most. Beyond that conns
	// are closed, and of dropRate times as many its sender is blocked.
	DefaultRate = 50
	dropRate    = 10
	// maxPause is how long who asks too much waits at the most.
	maxPause = time.Second
	// maxPeers bounds the peers whose queries are counted.
	maxPeers = 4096
)

// limits bounds the queries that are answered.
type limits struct {
	rate float64 // of one peer's queries, a second

	mu    sync.Mutex
	busy  int
	peers map[identity.ID]*allowance
}

// An allowance is what a peer may still ask: token buckets, of what is answered, of what is answered with vBusy, which may
// be in debt, and of what is not answered.
type allowance struct {
	tokens, refusals, drops float64
	at                      time.Time
	busy                    int
}

// A ruling says what becomes of a query.
type ruling int

const (
	served  ruling = iota
	refused        // answered with vBusy
	dropped        // not answered
	banned         // nor is anything else of the peer's
)

// enter counts a query of the peer's, and returns what becomes of it, and after which wait. After one that is to be
// answered, leave must follow.
func (l *limits) enter(id identity.ID, now time.Time) (r ruling, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.peers[id]
	if p == nil {
		if len(l.peers) >= maxPeers && !l.forget(now) {
			return dropped, 0
		}
		if l.peers == nil {
			l.peers = make(map[identity.ID]*allowance)
		}
		p = &allowance{at: now}
		p.add(4, l.rate)
		l.peers[id] = p
	}
	p.fill(now, l.rate)
	switch {
	case p.tokens >= 1 && p.busy < maxServedOf && l.busy < maxServed:
		p.tokens--
	case p.refusals >= 1-l.rate && p.busy < 2*maxServedOf && l.busy < 2*maxServed:
		p.refusals--
		r = refused
		if p.refusals < 0 {
			wait = time.Duration(-p.refusals / l.rate * float64(time.Second))
		}
	case p.drops >= 1:
		p.drops--
		return dropped, 0
	default:
		p.drops = dropRate * l.rate // of one flood, once
		return banned, 0
	}
	p.busy++
	l.busy++
	return r, wait
}

func (p *allowance) fill(now time.Time, rate float64) {
	if d := now.Sub(p.at).Seconds(); d > 0 {
		p.add(d, rate)
	}
	p.at = now
}

// add adds what so many seconds bring.
func (p *allowance) add(seconds, rate float64) {
	p.tokens = min(4*rate, p.tokens+rate*seconds)
	p.refusals = min(4*rate, p.refusals+rate*seconds)
	p.drops = min(4*dropRate*rate, p.drops+dropRate*rate*seconds)
}

func (l *limits) leave(id identity.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy--
	l.peers[id].busy--
}

// forget drops those who have asked nothing for as long as it takes to have the full allowance again, or else the one who
// is closest to that: however many strangers there are, they keep no newcomer out. It reports whether there were any.
func (l *limits) forget(now time.Time) bool {
	var fullest identity.ID
	n, most := len(l.peers), -1.0
	for id, p := range l.peers {
		if p.fill(now, l.rate); p.busy > 0 {
			continue
		}
		if left := p.tokens + p.refusals + p.drops; left == (8+4*dropRate)*l.rate {
			delete(l.peers, id)
		} else if left > most {
			fullest, most = id, left
		}
	}
	if len(l.peers) == n && most >= 0 {
		delete(l.peers, fullest)
	}
	return len(l.peers) < n
}

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
