package main

import (
	"math"
	"net/netip"
	"runtime"
	"slices"
	"time"

	"github.com/splitmesh/splitmesh/internal/kad"
)

// tally sums up lookups.
type tally struct {
	tried, found int
	hops         []int
	asked        int
}

func (t *tally) add(found bool, s kad.LookupStats) {
	t.tried++
	t.asked += s.Asked
	if found {
		t.found++
		t.hops = append(t.hops, s.Hops)
	}
}

func (t *tally) success() float64 { return float64(t.found) / float64(max(t.tried, 1)) }

func (t *tally) point(x float64) point {
	slices.Sort(t.hops)
	p := point{x: x, success: t.success()}
	for _, h := range t.hops {
		p.hops += float64(h) / float64(len(t.hops))
	}
	if len(t.hops) > 0 {
		p.hops99 = float64(t.hops[(len(t.hops)*99+99)/100-1])
	}
	return p
}

// measure has as many records published, and each looked up by somebody.
func (l *lab) measure(w *world) *tally {
	t := new(tally)
	for range l.lookups {
		of := w.honest()
		w.publish(of)
		t.add(w.resolve(w.other(of), of))
	}
	return t
}

// growth: hops, success and memory as the network grows.
func growth(l *lab) {
	var last point
	var kib float64
	for n := 100; n <= l.nodes; n = next(n) {
		if l.ctx.Err() != nil {
			return
		}
		before := heap()
		w := newWorld(l.seed, kad.Rules{})
		w.grow(l.ctx, n, 0)
		t := l.measure(w)
		kib = (heap() - before) / float64(n) / 1024
		runtime.KeepAlive(w)
		last = t.point(float64(n))
		l.say("growth: %d nodes: %.2f hops, %.0f at p99, success %.4f, %.0f asked, %.0f KiB a node", n, last.hops, last.hops99, last.success, float64(t.asked)/float64(t.tried), kib)
		l.curves["n"] = append(l.curves["n"], last)
	}
	l.show(
		atMost("SIM_HOPS_MEAN", last.hops, 4, "until the first answer with the record"),
		atMost("SIM_HOPS_P99", last.hops99, 7, ""),
		told("SIM_SUCCESS", last.success, "without liars"),
		atMost("SIM_KIB_A_NODE", kib, 100, "of heap: table, store, key, record"),
	)
}

// next is the next size: 100, 300, 1,000 and so on, in a quick run up to 500.
func next(n int) int {
	if s := float64(n) / math.Pow10(int(math.Log10(float64(n)))); s < 2 {
		return 3 * n
	}
	return n / 3 * 10
}

func heap() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// liars: some of the nodes, who know each other, name only each other and deny what they keep, from the first join on.
func liars(l *lab) {
	success := make(map[int]float64) // by percent
	var single, wide float64
	for _, percent := range []int{0, 10, 20, 30, 40} {
		if l.ctx.Err() != nil {
			return
		}
		w := newWorld(l.seed+uint64(percent), kad.Rules{})
		w.grow(l.ctx, l.nodes, float64(percent)/100)
		x := float64(percent)
		p := l.measure(w).point(x)
		success[percent] = p.success
		l.curves["f"] = append(l.curves["f"], p)
		w.rules.Paths = 1
		one := l.measure(w).point(x)
		l.curves["f1"] = append(l.curves["f1"], one)
		w.rules.Paths, w.wide = 0, true
		many := l.measure(w).point(x)
		l.curves["fw"] = append(l.curves["fw"], many)
		if percent == 20 {
			single, wide = one.success, many.success
		}
		l.say("liars: %d %%: success %.4f with %d paths, %.4f with one; %.4f when they name ever others", percent, p.success, kad.Paths, one.success, many.success)
	}
	l.show(
		atLeast("SIM_LIARS_20", success[20], 0.99, "success with 20 % of liars"),
		atLeast("SIM_LIARS_30", success[30], 0.97, "with 30 %"),
		told("SIM_LIARS_40", success[40], "with 40 %"),
		atMost("SIM_LIARS_20_ONE_PATH", single, success[20]-0.02, "with 20 %, and d = 1 for storing and looking up: this must be worse"),
		told("SIM_LIARS_20_WIDE", wide, "with 20 % that name, each time, others of the nearest 200 of them"),
	)
}

// churn: half of the nodes leave without a word in an hour, and as many come.
func churn(l *lab) {
	const (
		hours     = 2
		republish = 60 // minutes
	)
	w := newWorld(l.seed, kad.Rules{})
	w.grow(l.ctx, l.nodes, 0)
	leave := 1 - math.Pow(0.5, 1.0/60)
	published := make(map[*node]int) // at which minute of each hour
	t := new(tally)
	late := new(tally)
	for minute := range hours * 60 {
		if l.ctx.Err() != nil {
			return
		}
		w.now = w.now.Add(time.Minute)
		// Who publishes does so for the first time in the first hour, and is not chosen for living long.
		for range max(1, l.lookups/4/(hours*60)) {
			n := w.honest()
			if _, ok := published[n]; !ok {
				published[n] = minute % republish
			}
		}
		gone := 0
		for _, n := range w.nodes {
			if n.alive && w.rng.Float64() < leave {
				n.alive = false
				n.table, n.store = nil, nil
				gone++
			}
		}
		for range gone {
			added := w.add(false)
			w.join(added, w.other(added))
		}
		for _, n := range w.nodes {
			if n.alive {
				w.upkeep(n)
			}
		}
		var living []*node
		for _, n := range w.nodes {
			if at, ok := published[n]; ok && n.alive {
				if at == minute%republish {
					w.publish(n)
				}
				living = append(living, n)
			}
		}
		for range max(1, l.lookups/(hours*60)) {
			if len(living) == 0 {
				break
			}
			of := living[w.rng.IntN(len(living))]
			found, s := w.resolve(w.other(of), of)
			t.add(found, s)
			if minute >= 60 {
				late.add(found, s)
			}
		}
		if minute%20 == 19 {
			l.say("churn: minute %d: success %.4f so far, %.1f hops", minute+1, t.success(), t.point(0).hops)
		}
	}
	l.show(
		atLeast("SIM_CHURN", t.success(), 0.99, "over two hours, in each of which half of the nodes leave"),
		told("SIM_CHURN_SECOND_HOUR", late.success(), ""),
	)
}

// upkeep is what a node does each minute: see package dht.
func (w *world) upkeep(n *node) {
	for _, c := range n.table.Questionable(w.now, 16) {
		w.call(n, w.at[c.ID])
	}
	if target, ok := n.table.Refresh(w.now, time.Hour, w.key()); ok {
		w.lookup(n, target, nil)
	}
}

func (w *world) key() (k kad.Key) {
	for i := range k {
		k[i] = byte(w.rng.Uint32())
	}
	return k
}

// eclipse: 40 Sybils of 4 networks, nearer to a key than anybody, make themselves known around it before its record is
// published.
func eclipse(l *lab) {
	const (
		sybils   = 40
		networks = 4
		targets  = 100
		each     = 20
	)
	w := newWorld(l.seed, kad.Rules{})
	w.grow(l.ctx, l.nodes, 0)
	t := new(tally)
	honest := len(w.nodes)
	var taken, kept int
	for range min(targets, l.lookups/10) {
		if l.ctx.Err() != nil {
			return
		}
		of := w.honest()
		near := closest(contacts(w.nodes[:honest]), of.Key, 200)
		for i := range sybils {
			ip := netip.AddrFrom4([4]byte{203, 0, byte(i % networks), byte(1 + i)})
			s := w.nearTo(of.Key, ip)
			for _, c := range near {
				w.call(s, w.at[c.ID])
			}
		}
		w.publish(of)
		for _, c := range w.lookup(of, of.Key, nil).Closest(kad.K) {
			kept++
			if w.at[c.ID].evil {
				taken++
			}
		}
		for range each {
			t.add(w.resolve(w.other(of), of))
		}
		for _, c := range w.evil {
			w.at[c.ID].alive = false
		}
		w.evil = nil
	}
	l.say("eclipse: Sybils are %.1f %% of the nodes that a record is stored with", 100*float64(taken)/float64(kept))
	l.show(atLeast("SIM_ECLIPSE", t.success(), 0.95, "retrieval of a record that 40 Sybils of 4 networks surround"))
}

func contacts(nodes []*node) (out []*kad.Contact) {
	for _, n := range nodes {
		if n.alive {
			out = append(out, n.Contact)
		}
	}
	return out
}

// nearTo adds a liar that has 40 bits in common with k, which a real attacker would have to search for.
func (w *world) nearTo(k kad.Key, ip netip.Addr) *node {
	n := w.make(true, ip)
	c := *n.Contact
	c.Key = w.key()
	copy(c.Key[:5], k[:5])
	n.Contact = &c
	n.table = kad.NewTable(c.Key)
	w.enter(n)
	return n
}

// other is an honest node that is not n.
func (w *world) other(n *node) *node {
	for {
		if o := w.honest(); o != n {
			return o
		}
	}
}
