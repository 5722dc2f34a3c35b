package mesh

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/splitmesh/splitmesh/identity"
)

// inOrder returns the routes in the order in which to try them: direct ones first,
// then relays, each as unlike those used and those before it as can be. With
// pinned, the node's first hops go before all other relays.
func (n *Node) inOrder(used, routes []route, pinned bool) []route {
	var direct, relayed []route
	for _, r := range routes {
		if r.direct() {
			direct = append(direct, r)
		} else {
			relayed = append(relayed, r)
		}
	}
	direct = interleaved(direct)
	if !pinned {
		return append(direct, diverse(used, relayed, rand.IntN)...)
	}
	var first, rest []route
	for _, r := range relayed {
		if n.firstHops.has(r.relay, time.Now()) {
			first = append(first, r)
		} else {
			rest = append(rest, r)
		}
	}
	first = diverse(used, first, rand.IntN)
	rest = diverse(append(append([]route(nil), used...), first...), rest, rand.IntN)
	return append(append(direct, first...), rest...)
}

// interleaved has the addresses of IPv6 and IPv4 take turns, the family of the first
// first, so that a family that does not work here costs one stagger (RFC 8305, section
// 4). Names, which stand for both, keep their place among those of the first.
func interleaved(direct []route) []route {
	var turns [2][]route
	first := false // whether the first is of IPv6
	for i, r := range direct {
		host, ok := hostOf(r.addr)
		six := ok && host.Unmap().Is6()
		if i == 0 || !ok {
			if i == 0 {
				first = six
			}
			turns[0] = append(turns[0], r)
			continue
		}
		turn := 0
		if six != first {
			turn = 1
		}
		turns[turn] = append(turns[turn], r)
	}
	out := make([]route, 0, len(direct))
	for i := range direct {
		for _, t := range turns {
			if i < len(t) {
				out = append(out, t[i])
			}
		}
	}
	return out
}

// diverse orders candidates so that each, in its turn, shares as little as can be
// with those used and those before it: another operator first, then another
// network. Of those that are equal in this, a network is drawn first and then one
// of its relays, so that a swarm of relays in one network is worth no more than
// one. intN draws from [0, n).
func diverse(used, candidates []route, intN func(n int) int) []route {
	operators, groups := make(map[string]int), make(map[string]int)
	take := func(r *route) {
		if r.operator != "" {
			operators[r.operator]++
		}
		if r.group != "" {
			groups[r.group]++
		}
	}
	for i := range used {
		take(&used[i])
	}
	left := append([]route(nil), candidates...)
	out := make([]route, 0, len(left))
	for len(left) > 0 {
		best := cheapest(left, func(r *route) [2]int { return [2]int{operators[r.operator], groups[r.group]} })
		i := drawByGroup(left, best, intN)
		take(&left[i])
		out = append(out, left[i])
		left[i] = left[len(left)-1]
		left = left[:len(left)-1]
	}
	return out
}

// cheapest returns the indices of the routes of least cost, the first number of
// which weighs more than any of the second.
func cheapest(routes []route, cost func(*route) [2]int) (best []int) {
	var least [2]int
	for i := range routes {
		c := cost(&routes[i])
		switch {
		case len(best) == 0 || c[0] < least[0] || c[0] == least[0] && c[1] < least[1]:
			best, least = append(best[:0], i), c
		case c == least:
			best = append(best, i)
		}
	}
	return best
}

// drawByGroup draws one of the indices: a network first, then one of it. Routes of
// no known network are one together.
func drawByGroup(routes []route, from []int, intN func(n int) int) int {
	var names []string
	members := make(map[string][]int)
	for _, i := range from {
		g := routes[i].group
		if members[g] == nil {
			names = append(names, g)
		}
		members[g] = append(members[g], i)
	}
	group := members[names[intN(len(names))]]
	return group[intN(len(group))]
}

const (
	// operatorLife is how long the operator in a relay's record is believed,
	// operatorRetry how long it is left at that there is none.
	operatorLife  = 10 * time.Minute
	operatorRetry = time.Minute
	maxOperators  = 4096
	lookupTimeout = 5 * time.Second
)

// operators remembers who runs which relay, as far as their records tell.
type operators struct {
	mu    sync.Mutex // guards the rest
	known map[identity.ID]operator
}

type operator struct {
	name  string
	until time.Time
}

// operatorSoon begins to look up who runs a relay. What it returns waits for that,
// a little; a later path over the relay finds it remembered.
func (n *Node) operatorSoon(relay identity.ID) func() string {
	r := []route{{relay: relay}}
	if n.Directory == nil || relay.IsZero() {
		return func() string { return "" }
	}
	found := make(chan string, 1)
	n.goRun(func() { // ends within stagger
		n.fillOperators(n.ctx, r, stagger)
		found <- r[0].operator
	})
	return func() string {
		select {
		case name := <-found:
			return name
		case <-n.ctx.Done():
			return ""
		}
	}
}

// fillOperators notes who runs the relays of routes, as far as that is known after some
// patience. What comes later is remembered for the next time.
func (n *Node) fillOperators(ctx context.Context, routes []route, patience time.Duration) {
	if n.Directory == nil {
		return
	}
	type found struct {
		i    int
		name string
	}
	answers := make(chan found, len(routes))
	asked := 0
	for i := range routes {
		r := &routes[i]
		name, fresh := n.operators.remembered(r.relay, time.Now())
		r.operator = name
		if fresh {
			continue
		}
		asking := n.goRun(func() { // ends within lookupTimeout
			ctx, cancel := context.WithTimeout(n.ctx, lookupTimeout)
			defer cancel()
			answers <- found{i, n.operators.of(ctx, n, r.relay)}
		})
		if asking {
			asked++
		}
	}
	if asked == 0 || patience <= 0 {
		return
	}
	late := time.NewTimer(patience)
	defer late.Stop()
	for range asked {
		select {
		case f := <-answers:
			routes[f.i].operator = f.name
		case <-late.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// remembered returns the operator of a relay as far as it is known already, and whether
// that is fresh enough.
func (o *operators) remembered(relay identity.ID, now time.Time) (name string, fresh bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	op := o.known[relay]
	return op.name, now.Before(op.until)
}

// of asks the node's directory who runs a relay; "" when that is not known.
func (o *operators) of(ctx context.Context, n *Node, relay identity.ID) string {
	rec, err := n.lookup(ctx, relay)
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	op := o.known[relay]
	if err == nil {
		op = operator{rec.Operator, now.Add(operatorLife)}
	} else {
		op.until = now.Add(operatorRetry) // and what it was before still holds
	}
	if o.known == nil {
		o.known = make(map[identity.ID]operator)
	}
	for id := range o.known { // room for one: any other may go
		if len(o.known) < maxOperators {
			break
		}
		delete(o.known, id)
	}
	o.known[relay] = op
	return op.name
}
