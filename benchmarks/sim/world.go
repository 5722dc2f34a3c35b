package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/internal/kad"
	"github.com/splitmesh/splitmesh/registry"
)

// A node is one of the network's: what it knows and keeps is the library's own.
type node struct {
	*kad.Contact
	key   *identity.Key
	table *kad.Table
	store *kad.Store
	evil  bool
	alive bool
}

// A world is a network of nodes that call one another's methods. Its time is its own.
type world struct {
	rng   *rand.Rand
	now   time.Time
	rules kad.Rules
	nodes []*node
	at    map[identity.ID]*node
	evil  []*kad.Contact
	// wide has those who lie name others for each answer, and not always the closest.
	wide    bool
	queries int
}

func newWorld(seed uint64, rules kad.Rules) *world {
	return &world{
		rng: rand.New(rand.NewPCG(seed, 0)), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		rules: rules, at: make(map[identity.ID]*node),
	}
}

// address gives each node one of its own /24, but for an attacker's.
func (w *world) address(n int) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], 11<<24+uint32(n)<<8+1)
	return netip.AddrFrom4(b)
}

// add makes a node that is not yet in the network.
func (w *world) add(evil bool) *node {
	n := w.make(evil, w.address(len(w.nodes)))
	w.enter(n)
	return n
}

// make makes a node that nobody knows.
func (w *world) make(evil bool, ip netip.Addr) *node {
	var seed [32]byte
	for i := range seed {
		seed[i] = byte(w.rng.Uint32())
	}
	key, err := identity.NewKeyFromSeed(seed[:])
	must(err)
	n := &node{key: key, evil: evil, alive: true, store: kad.NewStore()}
	addr, err := multiaddr.NewMultiaddr(fmt.Sprintf("/ip4/%s/tcp/443/wss", ip))
	must(err)
	n.Contact = w.contact(n, addr)
	n.table = kad.NewTable(n.Key)
	return n
}

func (w *world) enter(n *node) {
	w.nodes = append(w.nodes, n)
	w.at[n.ID] = n
	if n.evil {
		w.evil = append(w.evil, n.Contact)
	}
}

func (w *world) contact(n *node, addr multiaddr.Multiaddr) *kad.Contact {
	r := &registry.Record{
		Sequence: w.now.UnixMilli(), Expires: w.now.Add(24 * time.Hour).UnixMilli(),
		Addrs: []multiaddr.Multiaddr{addr}, Capabilities: []string{registry.CapDHTServer},
	}
	must(r.Sign(n.key))
	c, err := kad.NewContact(r)
	must(err)
	return c
}

// join brings n into the network by one that is in it, as a node does that starts: it looks itself up, and then a key
// in each bucket that it knows of.
func (w *world) join(n *node, by *node) {
	w.call(n, by)
	w.lookup(n, n.Key, nil)
	w.refresh(n)
}

func (w *world) refresh(n *node) {
	for {
		target, ok := n.table.Refresh(w.now, time.Hour, w.key())
		if !ok {
			return
		}
		w.lookup(n, target, nil)
	}
}

// call has from ask to whether it is there, which makes each known to the other.
func (w *world) call(from, to *node) bool {
	w.queries++
	if !to.alive {
		from.table.Failed(to.Contact)
		return false
	}
	from.table.Answered(to.Contact, w.now)
	to.table.Answered(from.Contact, w.now) // it asks back
	return true
}

// lookup looks target up from n; has says whether a node's answer is what is looked for.
func (w *world) lookup(n *node, target kad.Key, has func(*node) bool) *kad.Lookup {
	rules := w.rules
	if has != nil {
		rules.Enough = 1
	}
	l := kad.NewLookup(target, n.table.Closest(target, 2*kad.K), rules)
	n.table.Looked(target, w.now)
	// As all answers take the same time, they come in the order of the questions.
	var queue []*kad.Contact
	for {
		queue = append(queue, l.Next()...)
		if len(queue) == 0 {
			return l
		}
		c := queue[0]
		queue = queue[1:]
		to := w.at[c.ID]
		if !w.call(n, to) {
			l.Failed(c)
			continue
		}
		l.Answered(c, w.answer(to, target), has != nil && !to.evil && has(to))
	}
}

// answer is whom a node names as closest to target: one that lies names others that do.
func (w *world) answer(n *node, target kad.Key) []*kad.Contact {
	if !n.evil {
		return n.table.Closest(target, kad.K)
	}
	return w.lies(target)
}

// lies are those of the evil that are closest to target; if they name many, a choice of the closest ten times as many.
func (w *world) lies(target kad.Key) []*kad.Contact {
	most := kad.K
	if w.wide {
		most *= 10
	}
	near := closest(w.evil, target, most)
	if w.wide {
		w.rng.Shuffle(len(near), func(i, j int) { near[i], near[j] = near[j], near[i] })
	}
	return near[:min(kad.K, len(near))]
}

// closest returns the n of all that are closest to target, in order.
func closest(all []*kad.Contact, target kad.Key, n int) []*kad.Contact {
	var near []*kad.Contact
	for _, c := range all {
		if len(near) == n && target.Compare(c.Key, near[n-1].Key) >= 0 {
			continue
		}
		i := len(near)
		for i > 0 && target.Compare(c.Key, near[i-1].Key) < 0 {
			i--
		}
		if len(near) < n {
			near = append(near, nil)
		}
		copy(near[i+1:], near[i:])
		near[i] = c
	}
	return near
}

// publish stores n's record with those that a lookup says are closest to it.
func (w *world) publish(n *node) {
	l := w.lookup(n, n.Key, nil)
	for _, c := range l.Closest(kad.K) {
		if to := w.at[c.ID]; !to.evil && to.alive {
			// A refusal is the node's right.
			_ = to.store.Put(n.Record, n.Key, n.ID, to.table.Closer(n.Key), w.now)
		}
	}
}

// resolve looks up the record of one node from another.
func (w *world) resolve(from, of *node) (found bool, s kad.LookupStats) {
	l := w.lookup(from, of.Key, func(n *node) bool { return n.store.Get(of.Key, w.now) != nil })
	s = l.Stats()
	return l.Found(), s
}

// honest returns a random node that lives and does not lie.
func (w *world) honest() *node {
	for {
		if n := w.nodes[w.rng.IntN(len(w.nodes))]; n.alive && !n.evil {
			return n
		}
	}
}

// grow makes a network of n nodes, of which a part lies, who join one after the other in a random order.
func (w *world) grow(ctx context.Context, n int, evil float64) {
	bad := int(evil*float64(n) + 0.5)
	for i, k := range w.rng.Perm(n) {
		added := w.add(k < bad && i > 0)
		if i > 0 && ctx.Err() == nil {
			w.join(added, w.other(added))
		}
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
