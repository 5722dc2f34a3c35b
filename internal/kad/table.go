package kad

import (
	"net/netip"
	"slices"
	"time"

	"github.com/splitmesh/splitmesh/identity"
)

const (
	// spares is how many a full bucket remembers besides.
	spares = 8
	// questionable is after how long without a word a contact is asked whether it lives.
	questionable = 15 * time.Minute
	// maxFails is how many queries in a row go unanswered before a contact is dropped.
	maxFails = 2
)

// A Table holds the contacts of a node: many that are near to it and some of everywhere. Who is in it and answers stays,
// however many newcomers there are: old nodes tend to live on, and an attacker's are new. It is not safe for concurrent
// use.
type Table struct {
	self    Key
	buckets []bucket // by the bits in common with self
	groups  map[netip.Prefix]int
	n       int
}

type bucket struct {
	entries []entry // the longest known first
	spare   []entry // likewise: known to have answered, and not in the table for want of room
	looked  time.Time
}

type entry struct {
	*Contact
	seen  time.Time // when it last answered
	fails int       // queries since without an answer
}

// NewTable returns an empty table for the node at self.
func NewTable(self Key) *Table { return &Table{self: self, groups: make(map[netip.Prefix]int)} }

// Len returns how many contacts are in the table.
func (t *Table) Len() int { return t.n }

func (t *Table) bucketOf(k Key) *bucket {
	i := Common(t.self, k)
	if i == 8*len(k) {
		return nil // self
	}
	for len(t.buckets) <= i {
		t.buckets = append(t.buckets, bucket{})
	}
	return &t.buckets[i]
}

func find(es []entry, id identity.ID) int {
	return slices.IndexFunc(es, func(e entry) bool { return e.ID == id })
}

// Answered notes that c answered a query of ours: only such contacts are taken in. It reports whether c is in the table
// now.
func (t *Table) Answered(c *Contact, now time.Time) bool {
	b := t.bucketOf(c.Key)
	if b == nil {
		return false
	}
	if i := find(b.entries, c.ID); i >= 0 {
		return t.refresh(b, i, c, now)
	}
	if i := find(b.spare, c.ID); i >= 0 {
		b.spare = slices.Delete(b.spare, i, i+1)
	}
	e := entry{Contact: c, seen: now}
	if t.put(b, e) {
		return true
	}
	// The oldest of its own network goes first, or else one network would have all places.
	same := slices.DeleteFunc(slices.Clone(b.spare), func(s entry) bool { return s.Group != c.Group })
	switch {
	case len(same) == MaxGroup:
		i := find(b.spare, same[0].ID)
		b.spare = slices.Delete(b.spare, i, i+1)
	case len(b.spare) == spares:
		b.spare = slices.Delete(b.spare, 0, 1)
	}
	b.spare = append(b.spare, e)
	return false
}

// Has reports whether the contact at k is in the table.
func (t *Table) Has(k Key) bool {
	b := t.bucketOf(k)
	return b != nil && slices.ContainsFunc(b.entries, func(e entry) bool { return e.Key == k })
}

// Wants reports whether c, if it answered, would be taken in or remembered.
func (t *Table) Wants(c *Contact) bool {
	b := t.bucketOf(c.Key)
	return b != nil && find(b.entries, c.ID) < 0 && find(b.spare, c.ID) < 0 && (len(b.entries) < K || len(b.spare) < spares)
}

// refresh notes that the i-th of b has answered, with a record that may be newer, and of another network.
func (t *Table) refresh(b *bucket, i int, c *Contact, now time.Time) bool {
	e := &b.entries[i]
	e.seen, e.fails = now, 0
	if !c.Record.Newer(e.Record) {
		return true
	}
	if c.Group == e.Group {
		e.Contact = c
		return true
	}
	moved := entry{Contact: c, seen: now}
	t.take(b, i)
	return t.put(b, moved)
}

// put appends e to b if there is room, for it and for its network.
func (t *Table) put(b *bucket, e entry) bool {
	if len(b.entries) == K || t.groups[e.Group] == MaxGroupTable || b.times(e.Group) == MaxGroup {
		return false
	}
	b.entries = append(b.entries, e)
	t.groups[e.Group]++
	t.n++
	return true
}

// times returns how many of b are of the network.
func (b *bucket) times(g netip.Prefix) (n int) {
	for _, e := range b.entries {
		if e.Group == g {
			n++
		}
	}
	return n
}

// take removes the i-th of b.
func (t *Table) take(b *bucket, i int) {
	g := b.entries[i].Group
	b.entries = slices.Delete(b.entries, i, i+1)
	t.n--
	if t.groups[g]--; t.groups[g] == 0 {
		delete(t.groups, g)
	}
}

// Failed notes that a query to the contact was not answered. After some of these in a row another that is known takes
// its place, the one that answered last.
func (t *Table) Failed(c *Contact) {
	b := t.bucketOf(c.Key)
	if b == nil {
		return
	}
	if i := find(b.spare, c.ID); i >= 0 {
		b.spare = slices.Delete(b.spare, i, i+1)
	}
	i := find(b.entries, c.ID)
	if i < 0 {
		return
	}
	if b.entries[i].fails++; b.entries[i].fails < maxFails {
		return
	}
	t.replace(b, i)
}

// Remove drops the contact at k, which answers no queries any more.
func (t *Table) Remove(k Key) {
	b := t.bucketOf(k)
	if b == nil {
		return
	}
	is := func(e entry) bool { return e.Key == k }
	b.spare = slices.DeleteFunc(b.spare, is)
	if i := slices.IndexFunc(b.entries, is); i >= 0 {
		t.replace(b, i)
	}
}

// Expire drops the contacts whose records have expired.
func (t *Table) Expire(now time.Time) {
	for i := range t.buckets {
		b := &t.buckets[i]
		for _, e := range slices.Concat(b.spare, b.entries) {
			if e.Record.Expires <= now.UnixMilli() {
				t.Remove(e.Key)
			}
		}
	}
}

// replace removes the i-th of b, and puts another that is known in its place, the one that answered last.
func (t *Table) replace(b *bucket, i int) {
	t.take(b, i)
	for j := len(b.spare) - 1; j >= 0; j-- {
		if e := b.spare[j]; t.put(b, e) {
			b.spare = slices.Delete(b.spare, j, j+1)
			return
		}
	}
}

// Closest returns the n contacts that are closest to target, the closest first.
func (t *Table) Closest(target Key, n int) []*Contact {
	// Those in target's own bucket are closer to it than any other; then come those in the buckets of which all share
	// as much with target as self does; then, bucket by bucket, those that share less.
	own := Common(t.self, target)
	out := make([]*Contact, 0, n+K)
	add := func(from, to int) (enough bool) {
		at := len(out)
		for i := max(from, 0); i < min(to, len(t.buckets)); i++ {
			for _, e := range t.buckets[i].entries {
				out = append(out, e.Contact)
			}
		}
		Sort(target, out[at:])
		return len(out) >= n
	}
	enough := add(own, own+1) || add(own+1, len(t.buckets))
	for i := own - 1; i >= 0 && !enough; i-- {
		enough = add(i, i+1)
	}
	return out[:min(n, len(out))]
}

// Closer returns how many contacts are closer to target than self, of one network at most [MaxGroup]: from few networks
// nobody makes a node believe that a record is not its own to keep.
func (t *Table) Closer(target Key) (n int) {
	// They share with target the first bit in which self differs, at least.
	groups := make(map[netip.Prefix]int)
	for i := min(Common(t.self, target), len(t.buckets)); i < len(t.buckets); i++ {
		for _, e := range t.buckets[i].entries {
			if target.Compare(e.Key, t.self) < 0 && groups[e.Group] < MaxGroup {
				groups[e.Group]++
				n++
			}
		}
	}
	return n
}

// Questionable returns at most n contacts from which nothing was heard for long, those first that were silent longest.
func (t *Table) Questionable(now time.Time, n int) []*Contact {
	var due []entry
	for i := range t.buckets {
		for _, e := range t.buckets[i].entries {
			if now.Sub(e.seen) >= questionable {
				due = append(due, e)
			}
		}
	}
	slices.SortFunc(due, func(a, b entry) int { return a.seen.Compare(b.seen) })
	var out []*Contact
	for _, e := range due[:min(n, len(due))] {
		out = append(out, e.Contact)
	}
	return out
}

// Refresh returns a key of one bucket in which nothing was looked up for the time given, if there is one: a lookup
// of it brings that bucket up to date. random chooses the key. Of the buckets that are too near to self to have
// contacts only one counts, and a lookup of self does it.
func (t *Table) Refresh(now time.Time, every time.Duration, random Key) (target Key, ok bool) {
	for i := range t.buckets {
		if b := &t.buckets[i]; now.Sub(b.looked) >= every {
			b.looked = now
			return within(t.self, i, random), true
		}
	}
	return Key{}, false
}

// Looked notes that target was looked up.
func (t *Table) Looked(target Key, now time.Time) {
	if i := Common(t.self, target); i < len(t.buckets) {
		t.buckets[i].looked = now
	}
}

// Contacts returns all contacts, the longest known of each bucket first, for who writes them down.
func (t *Table) Contacts() []*Contact {
	out := make([]*Contact, 0, t.n)
	for i := range t.buckets {
		for _, e := range t.buckets[i].entries {
			out = append(out, e.Contact)
		}
	}
	return out
}

// Groups returns how many contacts there are of each network.
func (t *Table) Groups() map[netip.Prefix]int {
	out := make(map[netip.Prefix]int, len(t.groups))
	for g, n := range t.groups {
		out[g] = n
	}
	return out
}
