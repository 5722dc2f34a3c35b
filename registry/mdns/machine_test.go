package mdns

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/registry/registrytest"
)

// Those who are there when a record is published hear of it; those who come later ask.
func TestAnnouncedAndAsked(t *testing.T) {
	n := newLAN(t)
	a, b := n.join(networkKey(1)), n.join(networkKey(1))
	r := n.publish(a, registrytest.Key(t))
	n.run(2 * time.Second)
	if got := len(n.answers(noon)); got != announced {
		t.Errorf("announced %d times, want %d", got, announced)
	}
	heard := len(n.said)
	n.finds(b, r)
	if len(n.said) != heard {
		t.Error("asked for what was heard")
	}
	n.finds(n.join(networkKey(1)), r)
	n.findsNothing(b, registrytest.Key(t).ID())
}

// Who asks just after all others were told is answered a second later, and waits for that.
func TestAskedJustAfter(t *testing.T) {
	n := newLAN(t)
	a := n.join(nil)
	r := n.publish(a, registrytest.Key(t))
	n.run(0)
	b := n.join(nil)
	n.flying = nil
	n.finds(b, r)
	if got := n.answers(noon); len(got) != announced || got[1].at.Sub(got[0].at) < again {
		t.Errorf("%d answers", len(got))
	}
}

// Half of all packets lost, and as many doubled, delay everybody and keep nobody from anybody.
func TestLossAndDuplicates(t *testing.T) {
	n := newLAN(t)
	n.loss, n.dup = 0.5, 0.5
	var records []*registry.Record
	for range 5 {
		records = append(records, n.publish(n.join(networkKey(1)), registrytest.Key(t)))
	}
	n.join(networkKey(1))
	for i, m := range n.nodes {
		for _, r := range records {
			tries := 0
			for ; ; tries++ {
				if got, err := n.find(m, r.ID); err == nil && got.Equal(r) {
					break
				}
				if tries > 50 {
					t.Fatalf("%d never found %v", i, r.ID)
				}
			}
		}
	}
}

// Three networks on one link: nobody sees anything of another's, or makes it say anything.
func TestNetworksAreStrangers(t *testing.T) {
	n := newLAN(t)
	var records []*registry.Record
	for i := range byte(3) {
		records = append(records, n.publish(n.join(networkKey(i)), registrytest.Key(t)))
	}
	n.run(3 * time.Second)
	for i, m := range n.nodes {
		for j, r := range records {
			since := n.now
			if i == j {
				n.finds(m, r)
				continue
			}
			for range 3 {
				n.findsNothing(m, r.ID)
			}
			if got := n.answers(since); len(got) > 0 {
				t.Errorf("%d made %d answer", i, got[0].by)
			}
		}
		if len(m.cache.overheard)+len(m.cache.kept) != 1 {
			t.Errorf("%d holds what is not its own", i)
		}
	}
}

// An observer without the key finds nothing that he knows in anything that is said, and nothing said twice.
func TestNothingShows(t *testing.T) {
	n := newLAN(t)
	a, b := n.join(networkKey(1)), n.join(networkKey(1))
	r := named(t, n.now, "ann-of-green-gables")
	n.must(a.publish(n.now, r))
	stranger := registrytest.Key(t).ID()
	for range 20 {
		b.ask(n.now, ofID(stranger))
		b.ask(n.now, ofName(r.Name))
		b.ask(n.now, ofID(r.ID))
		n.run(5 * time.Second)
	}
	if len(n.said) < 100 {
		t.Fatalf("only %d packets", len(n.said))
	}
	parts := map[string]bool{}
	for _, s := range n.said {
		m, err := decode(s.bytes)
		if err != nil {
			t.Fatal(err)
		}
		all := append(bytes.Clone(m.label[:]), m.sealed...)
		for _, secret := range [][]byte{r.ID[:8], stranger[:8], []byte("ann-of"), r.Marshal()[len(r.Marshal())-8:], networkKey(1)[:]} {
			if bytes.Contains(all, secret) || bytes.Contains(s.bytes, secret) {
				t.Fatalf("%x shows in %x", secret, s.bytes)
			}
		}
		// The label of an answer is that of its question; otherwise no 8 bytes ever come again.
		fresh := [][]byte{m.label[:8], m.label[saltSize : saltSize+8]}
		if m.sealed != nil {
			fresh = [][]byte{m.sealed[:8], m.sealed[nonceSize : nonceSize+8]}
		}
		for _, f := range fresh {
			if parts[string(f)] {
				t.Fatalf("%x comes again", f)
			}
			parts[string(f)] = true
		}
	}
}

// A question recorded is good for 20 minutes at most, and so is an answer.
func TestReplay(t *testing.T) {
	n := newLAN(t)
	a, b := n.join(networkKey(1)), n.join(networkKey(1))
	r := n.publish(a, registrytest.Key(t))
	b.ask(n.now, ofID(r.ID))
	n.run(5 * time.Second)
	recorded := n.said
	n.now = n.now.Add(2 * slotLength)
	victim := n.join(networkKey(1))
	since := n.now
	for _, s := range recorded {
		if n.inject(a, s.bytes) || n.inject(victim, s.bytes) {
			t.Errorf("%x has an effect 20 minutes later", s.bytes)
		}
	}
	n.run(time.Second)
	if got := n.answers(since); len(got) > 0 {
		t.Error("answered")
	}
}

// However often it is asked for, a record is sent once a second on a link; on each link by itself.
func TestOnceASecond(t *testing.T) {
	n := newLAN(t)
	a := n.join(nil)
	r := n.publish(a, registrytest.Key(t))
	n.run(10 * time.Second)
	since := n.now
	for range 1000 {
		n.inject(a, n.asking(a.keys, ofID(r.ID)))
		n.run(5 * time.Millisecond)
	}
	n.run(2 * time.Second)
	got := n.answers(since)
	for i, s := range got[1:] {
		if d := s.at.Sub(got[i].at); d < again {
			t.Errorf("sent again after %v", d)
		}
	}
	if len(got) != 6 {
		t.Errorf("%d answers in 5 seconds of questions", len(got))
	}
	// A newer one waits its turn too.
	n.now = n.now.Add(time.Minute)
	since = n.now
	k := registrytest.Key(t)
	for range 40 {
		n.publish(a, k)
		n.run(20 * time.Millisecond)
	}
	if got := n.answers(since); len(got) != 1 {
		t.Errorf("%d announcements within a second", len(got))
	}
	other := link{2, true}
	a.setLinks(n.now, []link{theLink, other})
	out, _ := a.poll(n.now)
	seen := map[link]int{}
	for _, p := range out {
		seen[p.link]++
	}
	if seen[other] != 2 || seen[theLink] > 1 {
		t.Errorf("on the new link %d were announced, on the old %d", seen[other], seen[theLink])
	}
}

// All answers together keep within their budget, and none is forgotten for it.
func TestAnswerBudget(t *testing.T) {
	n := newLAN(t)
	a, b := n.join(nil), n.join(nil)
	var records []*registry.Record
	for range 100 {
		records = append(records, n.publish(a, registrytest.Key(t)))
	}
	const seconds = 15
	n.run(seconds * time.Second)
	got := n.answers(noon)
	if len(got) != announced*len(records) {
		t.Errorf("%d answers, want %d", len(got), announced*len(records))
	}
	for i := range got {
		if j := i + 2*answersPerSecond; j < len(got) && got[j].at.Sub(got[i].at) < time.Second-noBudget {
			t.Fatalf("%d answers in %v", 2*answersPerSecond, got[j].at.Sub(got[i].at))
		}
	}
	for _, r := range records {
		n.finds(b, r)
	}
}

// A question is put three times within a second, further apart each time; whoever else waits for the same shares it.
func TestBackoff(t *testing.T) {
	n := newLAN(t)
	a := n.join(nil)
	a.ask(n.now, ofName("nobody"))
	a.ask(n.now, ofName("nobody"))
	n.run(3 * time.Second)
	var at []time.Duration
	for _, s := range n.said {
		at = append(at, s.at.Sub(noon))
	}
	if len(at) != 3 || at[0] != 0 || at[1] != firstWait || at[2] != 3*firstWait {
		t.Errorf("asked at %v", at)
	}
	if len(a.asked) != 0 {
		t.Error("the question is kept")
	}
	for i := range 2 * maxQuestions {
		if got := a.ask(n.now, ofName(strings.Repeat("x", i))); got != (i < maxQuestions) {
			t.Fatalf("question %d: %v", i, got)
		}
	}
	since := len(n.said)
	n.run(time.Second)
	if got := len(n.said) - since; got > 2*questionsPerSecond {
		t.Errorf("%d questions in a second", got)
	}
	a.setLinks(n.now, nil)
	if a.ask(n.now, ofName("nobody")) {
		t.Error("asks where nobody is")
	}
}

// Floods of strangers: of noise, of foreign DNS, of questions and answers that look like ours.
func TestFloodOfStrangers(t *testing.T) {
	n := newLAN(t)
	a, b := n.join(networkKey(1)), n.join(networkKey(1))
	r := n.publish(a, registrytest.Key(t))
	n.run(10 * time.Second)
	since := n.now
	stranger := newKeys(networkKey(2))
	chance := rand.New(rand.NewPCG(3, 4))
	late := n.join(networkKey(1))
	late.ask(n.now, ofID(r.ID))
	for range 2000 {
		noise := make([]byte, chance.IntN(200))
		for i := range noise {
			noise[i] = byte(chance.Uint32())
		}
		copy(noise, []*[12]byte{(*[12]byte)(questionHeader), (*[12]byte)(answerHeader)}[chance.IntN(2)][:])
		for _, m := range n.nodes {
			for _, p := range [][]byte{noise, n.asking(stranger, ofID(r.ID)), n.answering(stranger, r)} {
				if n.inject(m, p) {
					t.Fatalf("%x has an effect", p)
				}
			}
		}
		n.run(time.Millisecond)
	}
	if got := n.answers(since); len(got) != 1 {
		t.Errorf("%d answers, want the one to the question", len(got))
	}
	n.finds(late, r)
	for _, m := range []*machine{b, late} {
		if len(m.cache.overheard)+len(m.cache.kept) != 1 {
			t.Error("something of the flood was kept")
		}
	}
}

// A flooder with the key makes up peers. They take the places of each other, not of those who are wanted.
func TestFloodOfPeers(t *testing.T) {
	n := newLAN(t)
	a, b := n.join(nil), n.join(nil)
	k := registrytest.Key(t)
	old := n.publish(a, k)
	n.run(time.Second)
	r := n.publish(a, k)
	n.run(2 * time.Second)
	n.finds(b, r)
	for i := range maxOverheard + 50 {
		name := ""
		if i%2 == 0 {
			name = "n" + strings.Repeat("x", i%20) + "-" + string(rune('a'+i%26))
		}
		n.inject(b, n.answering(b.keys, named(t, n.now, name)))
		n.now = n.now.Add(10 * time.Millisecond)
	}
	if len(b.cache.overheard) != maxOverheard || len(b.cache.kept) != 1 || len(b.cache.names) > maxOverheard {
		t.Errorf("%d overheard, %d kept, %d names", len(b.cache.overheard), len(b.cache.kept), len(b.cache.names))
	}
	for name, id := range b.cache.names {
		if e := b.cache.find(id); e == nil || e.record.Name != name {
			t.Fatalf("%q is nobody's", name)
		}
	}
	if n.inject(b, n.answering(b.keys, old)) {
		t.Error("rolled back after a flood")
	}
	n.finds(b, r)
	// What is parsed has a budget.
	opened := 0
	for range opensPerSecond + 50 {
		if n.inject(b, n.answering(b.keys, r)) {
			opened++
		}
	}
	if opened > opensPerSecond {
		t.Errorf("%d records parsed at once", opened)
	}
}

// What others' questions cost has a budget, by how much there is to compare with.
func TestCheckBudget(t *testing.T) {
	n := newLAN(t)
	a := n.join(nil)
	for range maxOwn {
		n.publish(a, registrytest.Key(t))
	}
	if err := a.publish(n.now, registrytest.Signed(t, registrytest.Key(t), n.now)); !errors.Is(err, registry.ErrFull) {
		t.Errorf("one more: %v", err)
	}
	before := a.checks.TokensAt(n.now)
	for range 100 {
		n.inject(a, n.asking(a.keys, ofName("nobody")))
	}
	if left := a.checks.TokensAt(n.now); before-left < checksPerSecond-maxOwn || left < 0 {
		t.Errorf("%v checks left of %v after 100 questions", left, before)
	}
}

// The newest record wins, in whatever order they are heard; a revocation ends it; what is no record changes nothing.
func TestHeardRecords(t *testing.T) {
	n := newLAN(t)
	a := n.join(nil)
	k, skew := registrytest.Key(t), registry.MaxSkew
	at := func(d time.Duration) *registry.Record { return registrytest.Signed(t, k, n.now.Add(d)) }
	expired := registrytest.Signed(t, k, n.now.Add(-24*time.Hour))
	revocation := registrytest.Revocation(t, k, n.now.Add(-time.Hour))
	holds := func(want *registry.Record) {
		t.Helper()
		if got, _, err := a.lookup(n.now, k.ID()); err != nil || !got.Equal(want) {
			t.Fatalf("holds %+v, %v; want %+v", got, err, want)
		}
	}
	first, second, third := at(0), at(time.Second), at(2*time.Second)
	for _, tc := range []struct {
		what   string
		heard  *registry.Record
		counts bool
		then   *registry.Record
	}{
		{"second", second, true, second},
		{"first", first, false, second},
		{"second again", second, true, second},
		{"third", third, true, third},
		{"expired", expired, false, third},
		{"from the future", at(skew + time.Minute), false, third},
		{"revocation", revocation, true, revocation},
		{"later", at(time.Minute), false, revocation},
		{"revocation again", revocation, true, revocation},
	} {
		if got := n.inject(a, n.answering(a.keys, tc.heard)); got != tc.counts {
			t.Errorf("%s: counts %v", tc.what, got)
		}
		holds(tc.then)
	}
	// The key makes no record.
	l := random()
	for _, junk := range [][]byte{nil, {1}, first.Marshal()[1:], append(third.Marshal(), 0)} {
		m := message{l, a.keys.seal(slotOf(n.now), [nonceSize]byte{}, l, junk)}
		if n.inject(a, m.encode()) {
			t.Errorf("%x counts", junk)
		}
	}
	forged := first.Marshal()
	forged[len(forged)-1] ^= 1
	if n.inject(a, message{l, a.keys.seal(slotOf(n.now), [nonceSize]byte{}, l, forged)}.encode()) {
		t.Error("a forged record counts")
	}
	if a.hear(n.now, link{9, false}, n.answering(a.keys, named(t, n.now, ""))) {
		t.Error("heard on a link that is not there")
	}
}

// Nobody answers with a record that has expired, or that its peer has replaced elsewhere.
func TestNoLongerAnswered(t *testing.T) {
	n := newLAN(t)
	a, b := n.join(nil), n.join(nil)
	k, other := registrytest.Key(t), registrytest.Key(t)
	n.publish(a, k)
	n.run(2 * time.Second)
	newer := n.publish(b, k)
	n.run(2 * time.Second)
	if len(a.own) != 0 {
		t.Error("the older is still answered with")
	}
	n.finds(n.join(nil), newer)
	n.publish(a, other)
	n.now = n.now.Add(24 * time.Hour)
	since := n.now
	n.inject(a, n.asking(a.keys, ofID(other.ID())))
	n.run(3 * time.Second)
	if got := n.answers(since); len(got) != 0 || len(a.own)+len(b.own) != 0 {
		t.Errorf("%d answers with what has expired", len(got))
	}
}

// What was heard long ago is looked at again, beside being used: its peer may have moved.
func TestStale(t *testing.T) {
	n := newLAN(t)
	a, b := n.join(nil), n.join(nil)
	k := registrytest.Key(t)
	r := n.publish(a, k)
	n.run(2 * time.Second)
	for _, tc := range []struct {
		m    *machine
		at   time.Duration
		want bool
	}{{b, 0, false}, {b, stale - 2*time.Second, false}, {b, stale + 2*time.Second, true}, {a, time.Hour, false}} {
		if got, old, err := tc.m.lookup(n.now.Add(tc.at), r.ID); err != nil || old != tc.want || !got.Equal(r) {
			t.Errorf("after %v: %v, %v", tc.at, old, err)
		}
	}
	n.now = n.now.Add(time.Hour)
	b.ask(n.now, ofID(r.ID))
	n.run(time.Second)
	if _, old, err := b.lookup(n.now, r.ID); old || err != nil {
		t.Errorf("heard again: %v, %v", old, err)
	}
}

// A name is found on the link. It is the first's who was heard with it; the others are found by their IDs all the same.
func TestNames(t *testing.T) {
	n := newLAN(t)
	a, b := n.join(nil), n.join(nil)
	ann, squatter := named(t, n.now, "ann"), named(t, n.now, "ann")
	n.must(a.publish(n.now, ann))
	n.run(2 * time.Second)
	c := n.join(nil)
	if !c.ask(n.now, ofName("ann")) {
		t.Fatal("doesn't ask")
	}
	n.run(patience)
	for _, m := range []*machine{a, b, c} {
		n.inject(m, n.answering(m.keys, squatter))
		if id, err := m.resolve(n.now, "ann"); err != nil || id != ann.ID {
			t.Errorf("ann is %v, %v", id, err)
		}
		n.finds(m, squatter)
	}
	if err := b.publish(n.now, named(t, n.now, "ann")); !errors.Is(err, registry.ErrNameTaken) {
		t.Errorf("a name of the link's is published: %v", err)
	}
	if _, err := b.resolve(n.now, "bob"); !errors.Is(err, registry.ErrNotFound) {
		t.Error(err)
	}
}

// Kept records give way to nobody, until they must have expired.
func TestKeptIsBounded(t *testing.T) {
	c, now := newCache(), noon
	var first *registry.Record
	for i := range maxKept {
		r := &registry.Record{ID: identity.ID{byte(i), byte(i >> 8), 1}, Sequence: now.UnixMilli(), Name: "x"}
		if err := c.keep(now, r); err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = r
		}
		if i == 0 {
			now = now.Add(time.Hour)
		}
	}
	one := registrytest.Signed(t, registrytest.Key(t), now)
	if err := c.keep(now, one); !errors.Is(err, registry.ErrFull) || len(c.kept) != maxKept {
		t.Fatalf("one more: %v", err)
	}
	if err := c.overhear(now, one); err != nil {
		t.Fatal(err)
	}
	if c.want(now, one.ID); c.kept[one.ID] != nil || c.find(one.ID) == nil {
		t.Error("wanted where there is no room")
	}
	now = noon.Add(registry.MaxLife)
	if c.want(now, one.ID); c.kept[one.ID] == nil || c.kept[first.ID] != nil || len(c.kept) != maxKept || len(c.overheard) != 0 {
		t.Error("the first, which has expired for good, has not made room")
	}
}
