package kad

import (
	"net/netip"
	"slices"

	"github.com/splitmesh/splitmesh/identity"
)

// What a lookup does unless it is told otherwise.
const (
	Paths = 8 // disjoint ones at once
	Alpha = 3 // queries at once on each
	// maxAsked bounds the nodes that one way asks: who lies can name ever closer ones, that it made for this.
	maxAsked = 5 * K
)

// Rules says how a lookup is done. Zero fields mean the defaults.
type Rules struct {
	Paths, Alpha int
	// Enough is how many answers with what is looked for end the lookup, on as many ways if there are; 0: none does,
	// for who wants the nodes that are closest. Who looks for something does not ask the node at the target itself: where
	// that is may be what is looked for, and whoever is to dial it would wait for this lookup.
	Enough int
}

// A Lookup approaches a key by asking ever closer contacts. It goes several ways at once that have no node in common,
// so that a node that lies leads astray one of them, and those that lie together as many as there are ways to them. A
// node belongs to the way on which it was named first, so that those who name each other are on one way; but a way that
// has no other left asks those that it named too and that nobody has asked: else who lies could name the honest, and behind
// others that do not answer they would wait. On each way a network has at most [MaxGroup] nodes that count.
//
// Whoever runs it asks those whom Next returns, and tells the outcome of each with Answered or Failed, until Done. It is
// not safe for concurrent use.
type Lookup struct {
	target Key
	rules  Rules
	paths  []path
	known  map[identity.ID]*candidate
	found  int
	stats  LookupStats
}

// LookupStats says what a lookup took.
type LookupStats struct {
	Asked, Answered, Failed int
	// Hops is how many nodes were asked one after the other until the first answer with what is looked for, or, when
	// there is none, until the closest node.
	Hops int
	// Without is how many of the nodes that ought to keep what was found, by how close they are, answered without it.
	Without int
}

// A path is one way. Its candidates are sorted, the closest first.
type path struct {
	candidates []*candidate // that were named on it, some of them on others before
	asking     int
	asked      int
	found      bool
	over       bool
}

type state uint8

const (
	fresh state = iota
	asking
	answered
	failed
)

type candidate struct {
	*Contact
	owner *path // on which it was named first
	path  *path // that asked it, nil while none did
	hops  int   // from whoever named it first
	state state
	has   bool // it answered with what is looked for
}

// NewLookup begins with the contacts that are known, the more the better; the ways begin with the closest of them.
func NewLookup(target Key, known []*Contact, rules Rules) *Lookup {
	if rules.Paths == 0 {
		rules.Paths = Paths
	}
	if rules.Alpha == 0 {
		rules.Alpha = Alpha
	}
	l := &Lookup{target: target, rules: rules, known: make(map[identity.ID]*candidate)}
	l.paths = make([]path, rules.Paths)
	sorted := slices.Clone(known)
	Sort(target, sorted)
	for i, c := range sorted {
		l.add(c, &l.paths[i%rules.Paths], 1)
	}
	return l
}

func (l *Lookup) add(c *Contact, way *path, hops int) {
	if c.Key == l.target && l.rules.Enough > 0 {
		return
	}
	n := l.known[c.ID]
	if n == nil {
		n = &candidate{Contact: c, owner: way, hops: hops}
		l.known[c.ID] = n
	}
	i, named := slices.BinarySearchFunc(way.candidates, n, func(a, b *candidate) int { return l.target.Compare(a.Key, b.Key) })
	if named || n.state != fresh {
		return
	}
	way.candidates = slices.Insert(way.candidates, i, n)
	way.over = false
}

// Next returns the contacts to ask now.
func (l *Lookup) Next() (ask []*Contact) {
	if l.enough() {
		return nil
	}
	for i := range l.paths {
		p := &l.paths[i]
		for p.asking < l.rules.Alpha {
			c := p.next()
			if c == nil {
				break
			}
			c.state, c.path = asking, p
			p.asking++
			p.asked++
			l.stats.Asked++
			ask = append(ask, c.Contact)
		}
	}
	return ask
}

// next returns whom the way asks next; nil when there is nobody now.
func (p *path) next() *candidate {
	if p.over || p.asked == maxAsked {
		return nil
	}
	c := p.closest(func(c *candidate) bool { return c.owner == p || c.path == p })
	if c == nil && p.asking == 0 {
		c = p.closest(func(*candidate) bool { return true })
		p.over = c == nil
	}
	return c
}

// closest returns the closest candidate that was not asked, among the K closest of those that count; nil when there is
// none.
func (p *path) closest(counts func(*candidate) bool) *candidate {
	var groups [K]netip.Prefix
	n := 0
	for _, c := range p.candidates {
		switch {
		case c.state == failed || c.path != nil && c.path != p || !counts(c) || times(groups[:n], c.Group) == MaxGroup:
			continue
		case c.state == fresh:
			return c
		}
		groups[n] = c.Group
		if n++; n == K {
			return nil
		}
	}
	return nil
}

// times returns how often g is in groups, which are few.
func times(groups []netip.Prefix, g netip.Prefix) (n int) {
	for _, other := range groups {
		if other == g {
			n++
		}
	}
	return n
}

// enough reports whether enough was found: were it on one way, those that lie together there could end the lookup with
// what is old.
func (l *Lookup) enough() bool {
	if l.rules.Enough == 0 || l.found < l.rules.Enough {
		return false
	}
	ways, found := 0, 0
	for i := range l.paths {
		switch p := &l.paths[i]; {
		case p.found:
			found++
			ways++
		case !p.ended():
			ways++
		}
	}
	return found >= min(l.rules.Enough, ways)
}

// Ended returns how many of the ways on which anybody was asked have nobody left to ask, and how many there are.
func (l *Lookup) Ended() (ended, of int) {
	for i := range l.paths {
		if p := &l.paths[i]; p.asked > 0 {
			of++
			if p.ended() {
				ended++
			}
		}
	}
	return ended, of
}

// Done reports whether the lookup is over: enough was found, or nobody is left to ask and nobody is being asked.
func (l *Lookup) Done() bool {
	if l.enough() {
		return true
	}
	for i := range l.paths {
		if !l.paths[i].ended() {
			return false
		}
	}
	return true
}

// ended reports whether nobody is being asked, nor left to ask.
func (p *path) ended() bool { return p.asking == 0 && p.next() == nil }

// settle ends the asking of c, and returns nil for one who was not asked.
func (l *Lookup) settle(id identity.ID, s state) *candidate {
	c := l.known[id]
	if c == nil || c.state != asking {
		return nil
	}
	c.state = s
	c.path.asking--
	return c
}

// Answered tells that c answered with the contacts that are closest to the target to its knowledge, of which no more
// than the first K count, and whether it has what is looked for.
func (l *Lookup) Answered(c *Contact, closer []*Contact, has bool) {
	n := l.settle(c.ID, answered)
	if n == nil {
		return
	}
	l.stats.Answered++
	if has {
		n.has, n.path.found = true, true
		if l.found++; l.found == 1 {
			l.stats.Hops = n.hops
		}
	}
	for _, other := range closer[:min(K, len(closer))] {
		l.add(other, n.path, n.hops+1)
	}
}

// Failed tells that c did not answer.
func (l *Lookup) Failed(c *Contact) {
	if l.settle(c.ID, failed) != nil {
		l.stats.Failed++
	}
}

// Closest returns the n contacts closest to the target of all that answered, of one network at most [MaxGroup].
func (l *Lookup) Closest(n int) []*Contact {
	var all []*Contact
	for _, c := range l.known {
		if c.state == answered {
			all = append(all, c.Contact)
		}
	}
	Sort(l.target, all)
	return Spread(all, n)
}

// Stats returns what the lookup took so far.
func (l *Lookup) Stats() LookupStats {
	s := l.stats
	for i, c := range l.Closest(K) {
		n := l.known[c.ID]
		if i == 0 && l.found == 0 {
			s.Hops = n.hops
		}
		if l.found > 0 && !n.has {
			s.Without++
		}
	}
	return s
}

// Found reports whether any answer had what is looked for.
func (l *Lookup) Found() bool { return l.found > 0 }
