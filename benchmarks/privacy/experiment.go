package main

import (
	"math/rand/v2"
	"slices"
)

// A scale is how large the experiment is.
type scale struct {
	classes, visits, trees int
	seed                   uint64
}

var (
	full  = scale{classes: 100, visits: 90, trees: 100, seed: 1}
	quick = scale{classes: 20, visits: 15, trees: 30, seed: 1}
)

// A trial is a defence with all visits carried by it: what each relay saw.
type trial struct {
	sc      scale
	defence *defence
	visits  []visit
	bytes   float64 // on the wire, all together
	seconds float64 // that a visit took, the mean
}

// A visit is what was seen of it.
type visit struct {
	relays []sample // by each relay
	first  []sample // by the first 1, 2, … relays together
	most   int      // the relay that saw the most frames
	bytes  float64
	last   float64 // seconds until the last frame
}

// carry makes the sites, and loads each of them visits times by way of d. All
// defences carry the same visits.
func carry(d *defence, sc scale) *trial {
	sites := make([]site, sc.classes)
	for c := range sites {
		sites[c] = newSite(rand.New(rand.NewPCG(sc.seed, uint64(c))))
	}
	t := &trial{sc: sc, defence: d, visits: make([]visit, sc.classes*sc.visits)}
	parallelFor(len(t.visits), func(i int) {
		class := i / sc.visits
		page := sites[class].visit(rand.New(rand.NewPCG(sc.seed+1, uint64(i))))
		t.visits[i] = look(load(d, page, sc.seed<<32+uint64(i)), class)
	})
	for i := range t.visits {
		t.bytes += t.visits[i].bytes
		t.seconds += t.visits[i].last / float64(len(t.visits))
	}
	return t
}

// look keeps of a visit what attacks want of it.
func look(relays [][]sight, class int) visit {
	var v visit
	var together []sight
	most := 0
	for i, seen := range relays {
		// One end's frames were written down as they left, the other's as well.
		slices.SortStableFunc(seen, func(a, b sight) int { return int(a.at - b.at) })
		v.relays = append(v.relays, sample{features(seen), class})
		for _, s := range seen {
			v.bytes += float64(max(s.size, -s.size))
			v.last = max(v.last, s.at.Seconds())
		}
		if len(seen) > most {
			v.most, most = i, len(seen)
		}
		together = append(together, seen...)
		slices.SortStableFunc(together, func(a, b sight) int { return int(a.at - b.at) })
		v.first = append(v.first, sample{features(together), class})
	}
	return v
}

// sides divides the visits: two thirds of each class are to learn from, the rest
// is to be told.
func (t *trial) sides(of func(*visit) sample) (learn, test []sample) {
	for i := range t.visits {
		if i%t.sc.visits*3 < t.sc.visits*2 {
			learn = append(learn, of(&t.visits[i]))
		} else {
			test = append(test, of(&t.visits[i]))
		}
	}
	return learn, test
}

// relays attacks as each relay in turn, which learns from what it saw itself. It
// returns the mean accuracy, which is that of one malicious relay drawn at
// random, and that of whichever relay saw the most of each visit.
func (t *trial) relays() (mean, most float64) {
	n := t.defence.relays
	for relay := range n {
		learn, test := t.sides(func(v *visit) sample { return v.relays[relay] })
		f := train(learn, t.sc.classes, t.sc.trees, t.sc.seed)
		mean += f.accuracy(test) / float64(n)

		_, largest := t.sides(func(v *visit) sample {
			if v.most == relay {
				return v.relays[relay]
			}
			return sample{}
		})
		seen := slices.DeleteFunc(largest, func(s sample) bool { return s.features == nil })
		most += f.accuracy(seen) * float64(len(seen)) / float64(len(test))
	}
	return mean, most
}

// pooled attacks as one relay that learns from what all of them saw.
func (t *trial) pooled() float64 {
	var all []sample
	var tests [][]sample
	for relay := range t.defence.relays {
		learn, test := t.sides(func(v *visit) sample { return v.relays[relay] })
		all = append(all, learn...)
		tests = append(tests, test)
	}
	return train(all, t.sc.classes, t.sc.trees, t.sc.seed).accuracy(slices.Concat(tests...))
}

// together attacks as the first n relays, which lay what they see side by side.
func (t *trial) together(n int) float64 {
	learn, test := t.sides(func(v *visit) sample { return v.first[n-1] })
	return train(learn, t.sc.classes, t.sc.trees, t.sc.seed).accuracy(test)
}
