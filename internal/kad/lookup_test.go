package kad

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/splitmesh/splitmesh/identity"
)

// A net of contacts, each of whom knows some of the others.
type net struct {
	rng    *rand.Rand
	nodes  []*Contact
	tables map[identity.ID]*Table
	dead   map[identity.ID]bool
	has    map[identity.ID]bool
}

func newNet(n int) *net {
	w := &net{rng: rand.New(rand.NewPCG(3, 4)), tables: make(map[identity.ID]*Table), dead: make(map[identity.ID]bool), has: make(map[identity.ID]bool)}
	for i := range n {
		c := made(w.rng, anyKey(w.rng), i)
		w.nodes = append(w.nodes, c)
		w.tables[c.ID] = NewTable(c.Key)
	}
	for _, c := range w.nodes {
		for _, i := range w.rng.Perm(n) {
			w.tables[c.ID].Answered(w.nodes[i], noon)
		}
	}
	return w
}

// run asks in turn, and returns whom it asked.
func (w *net) run(t *testing.T, l *Lookup) (asked []*Contact) {
	t.Helper()
	for !l.Done() {
		ask := l.Next()
		if len(ask) == 0 {
			t.Fatal("nobody to ask, and not done")
		}
		for _, c := range ask {
			asked = append(asked, c)
			if w.dead[c.ID] {
				l.Failed(c)
			} else {
				l.Answered(c, w.tables[c.ID].Closest(l.target, 3*K), w.has[c.ID])
			}
		}
	}
	if l.Next() != nil && l.rules.Enough > 0 {
		t.Error("goes on when it is over")
	}
	return asked
}

func TestLookupFindsTheClosest(t *testing.T) {
	w := newNet(800)
	for i := range 300 {
		w.dead[w.nodes[i].ID] = i%3 == 0
	}
	for range 20 {
		target := anyKey(w.rng)
		var want []*Contact
		for _, c := range w.nodes {
			if !w.dead[c.ID] {
				want = append(want, c)
			}
		}
		Sort(target, want)
		l := NewLookup(target, w.tables[w.nodes[w.rng.IntN(800)].ID].Closest(target, 2*K), Rules{})
		asked := w.run(t, l)
		if got := l.Closest(K); !slices.Equal(got, want[:K]) {
			t.Errorf("found others than the %d closest", K)
		}
		s := l.Stats()
		if s.Asked != len(asked) || s.Answered+s.Failed != s.Asked || s.Hops < 1 || s.Hops > 6 || s.Without != 0 || l.Found() {
			t.Errorf("%+v for %d asked", s, len(asked))
		}
		seen := make(map[identity.ID]bool)
		for _, c := range asked {
			if seen[c.ID] {
				t.Fatal("somebody was asked twice")
			}
			seen[c.ID] = true
		}
	}
}

func TestLookupStopsWithEnough(t *testing.T) {
	w := newNet(500)
	target := anyKey(w.rng)
	keep := closestOf(w.nodes, target, K)
	for _, c := range keep[:15] {
		w.has[c.ID] = true
	}
	for _, enough := range []int{1, 3} {
		l := NewLookup(target, w.nodes[:5], Rules{Enough: enough})
		w.run(t, l)
		if l.found < enough || !l.Found() || l.Stats().Hops < 1 {
			t.Errorf("found %d of %d, %+v", l.found, enough, l.Stats())
		}
	}
	// All of the closest that have nothing are told of.
	l := NewLookup(target, w.nodes[:5], Rules{Enough: 1000})
	w.run(t, l)
	if s := l.Stats(); s.Without != 5 {
		t.Errorf("%d answered without, of 5", s.Without)
	}
}

func closestOf(all []*Contact, target Key, n int) []*Contact {
	all = slices.Clone(all)
	Sort(target, all)
	return all[:n]
}

// A liar names others that lie, and they each other: they are on one way, or on as many as they are begun with.
func TestLookupPathsAreDisjoint(t *testing.T) {
	w := newNet(400)
	target := anyKey(w.rng)
	var liars []*Contact
	for i := range K {
		liars = append(liars, made(w.rng, within(target, 60, anyKey(w.rng)), 5000+i))
	}
	true1 := closestOf(w.nodes, target, 1)[0]
	w.has[true1.ID] = true
	for _, paths := range []int{1, Paths} {
		seeds := closestOf(w.nodes, anyKey(w.rng), Paths)
		seeds = seeds[:min(len(seeds), max(paths, 2))]
		l := NewLookup(target, seeds, Rules{Paths: paths, Enough: 1})
		first := true
		for !l.Done() {
			for _, c := range l.Next() {
				lies := slices.Contains(liars, c) || first && slices.Contains(seeds, c)
				first = false
				if lies {
					l.Answered(c, liars, false)
				} else {
					l.Answered(c, w.tables[c.ID].Closest(target, K), w.has[c.ID])
				}
			}
		}
		if l.Found() != (paths > 1) {
			t.Errorf("%d paths: found is %v", paths, l.Found())
		}
	}
}

// Those that lie together on one way do not end a lookup with what they say to have.
func TestLookupEnoughIsOfSeveralWays(t *testing.T) {
	w := newNet(400)
	target := anyKey(w.rng)
	var liars []*Contact
	for i := range K {
		liars = append(liars, made(w.rng, within(target, 60, anyKey(w.rng)), 5000+i))
	}
	for _, c := range closestOf(w.nodes, target, K) {
		w.has[c.ID] = true
	}
	l := NewLookup(target, append(closestOf(w.nodes, anyKey(w.rng), Paths-1), liars[0]), Rules{Enough: 3})
	var slow []*Contact
	for ask := l.Next(); len(ask) > 0; ask = l.Next() {
		for _, c := range ask {
			if slices.Contains(liars, c) {
				l.Answered(c, liars, true)
			} else {
				slow = append(slow, c)
			}
		}
	}
	if l.Done() {
		t.Fatal("liars of one way end it")
	}
	honest := 0
	for ask := slow; len(ask) > 0; ask = l.Next() {
		for _, c := range ask {
			l.Answered(c, w.tables[c.ID].Closest(target, K), w.has[c.ID])
			if w.has[c.ID] {
				honest++
			}
		}
	}
	if honest < 2 {
		t.Errorf("%d of the honest were heard", honest)
	}
}

// Who names the honest, and others that do not answer, keeps nobody from asking the honest.
func TestLookupNamesBindNobody(t *testing.T) {
	w := newNet(400)
	target := anyKey(w.rng)
	honest := closestOf(w.nodes, target, K/2)
	var names []*Contact
	for i := range K / 2 {
		names = append(names, made(w.rng, within(target, 60, anyKey(w.rng)), 5000+i))
	}
	silent := slices.Clone(names)
	names = append(names, honest...)
	liar := made(w.rng, within(target, 50, anyKey(w.rng)), 6000)
	l := NewLookup(target, append(closestOf(w.nodes, anyKey(w.rng), Paths-1), liar), Rules{})
	ask := l.Next()
	l.Answered(liar, names, false)
	for asked := make(map[*Contact]bool); ; {
		for _, c := range ask {
			if asked[c] = true; c != liar && !slices.Contains(silent, c) {
				l.Answered(c, w.tables[c.ID].Closest(target, K), false)
			}
		}
		if ask = l.Next(); len(ask) > 0 {
			continue
		}
		for _, c := range honest {
			if !asked[c] {
				t.Errorf("an honest node waits for those that do not answer")
			}
		}
		break
	}
	if ended, of := l.Ended(); ended != of-1 || l.Done() {
		t.Errorf("%d of %d ways have ended", ended, of)
	}
}

// However many ever closer nodes there are, on a way so many are asked.
func TestLookupIsBounded(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	target := anyKey(rng)
	l := NewLookup(target, []*Contact{made(rng, anyKey(rng), 0)}, Rules{})
	n := 0
	for !l.Done() {
		for _, c := range l.Next() {
			n++
			l.Answered(c, []*Contact{made(rng, within(target, min(n, 250), anyKey(rng)), n)}, false)
		}
	}
	if n != maxAsked {
		t.Errorf("%d were asked; want %d", n, maxAsked)
	}
}

// However many of one network say to be close, two count on each way, and two keep a record.
func TestLookupOfOneNetwork(t *testing.T) {
	w := newNet(300)
	target := anyKey(w.rng)
	var sybils []*Contact
	for range 100 {
		sybils = append(sybils, made(w.rng, within(target, 80, anyKey(w.rng)), 9999))
	}
	l := NewLookup(target, w.nodes[:Paths], Rules{})
	asked := 0
	for !l.Done() {
		for _, c := range l.Next() {
			switch {
			case slices.Contains(sybils, c):
				asked++
				l.Answered(c, sybils, false)
			default:
				named := append(slices.Clone(sybils[:K/2]), w.tables[c.ID].Closest(target, K/2)...)
				l.Answered(c, named, false)
			}
		}
	}
	if asked > Paths*MaxGroup*2 {
		t.Errorf("%d of one network were asked", asked)
	}
	in := 0
	for _, c := range l.Closest(K) {
		if c.Group == sybils[0].Group {
			in++
		}
	}
	if in > MaxGroup {
		t.Errorf("%d of one network are to keep the record", in)
	}
}

// Answers that nobody waits for change nothing.
func TestLookupStrays(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	known := []*Contact{made(rng, anyKey(rng), 1), made(rng, anyKey(rng), 2)}
	l := NewLookup(anyKey(rng), known, Rules{Enough: 1})
	stranger := made(rng, anyKey(rng), 3)
	l.Answered(stranger, known, true)
	l.Failed(stranger)
	l.Answered(known[0], nil, true) // not asked yet
	if l.Found() || l.Stats().Answered != 0 {
		t.Error("an answer without a question counts")
	}
	ask := l.Next()
	l.Failed(ask[0])
	l.Answered(ask[0], []*Contact{stranger}, true)
	if l.Found() || l.Stats().Failed != 1 {
		t.Error("two outcomes of one question count")
	}
	if empty := NewLookup(anyKey(rng), nil, Rules{}); !empty.Done() || empty.Next() != nil || len(empty.Closest(K)) != 0 {
		t.Error("a lookup from nowhere is not over")
	}
}
