package mdns

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/registry/registrytest"
)

var theLink = link{1, false}

// A lan is a link with machines on it, and a time that passes when it runs.
type lan struct {
	t         testing.TB
	now       time.Time
	nodes     []*machine
	loss, dup float64
	chance    *rand.Rand
	flying    []flight
	said      []said
}

type flight struct {
	at    time.Time
	to    *machine
	bytes []byte
}

// said is what an observer writes down.
type said struct {
	at    time.Time
	by    int
	bytes []byte
}

const latency = time.Millisecond

func newLAN(t testing.TB) *lan {
	return &lan{t: t, now: noon, chance: rand.New(rand.NewPCG(1, 2))}
}

func (n *lan) join(key *[32]byte) *machine {
	m := newMachine(newKeys(key))
	m.setLinks(n.now, []link{theLink})
	n.nodes = append(n.nodes, m)
	return m
}

// send has b reach everybody, who said it too, as far as nothing is lost.
func (n *lan) send(by int, b []byte) {
	n.said = append(n.said, said{n.now, by, b})
	for _, to := range n.nodes {
		for n.chance.Float64() >= n.loss {
			n.flying = append(n.flying, flight{n.now.Add(latency), to, b})
			if n.chance.Float64() >= n.dup {
				break
			}
		}
	}
}

// run has d pass.
func (n *lan) run(d time.Duration) {
	for end := n.now.Add(d); ; {
		next := end
		for i, m := range n.nodes {
			out, due := m.poll(n.now)
			for _, p := range out {
				if p.link != theLink {
					n.t.Fatalf("sends on %v", p.link)
				}
				n.send(i, p.bytes)
			}
			if !due.IsZero() && due.Before(next) {
				next = due
			}
		}
		waiting := n.flying[:0]
		var landed []flight
		for _, f := range n.flying {
			if f.at.After(n.now) {
				waiting = append(waiting, f)
				if f.at.Before(next) {
					next = f.at
				}
			} else {
				landed = append(landed, f)
			}
		}
		n.flying = waiting
		for _, f := range landed {
			f.to.hear(n.now, theLink, f.bytes)
		}
		if len(landed) > 0 {
			continue
		}
		if !n.now.Before(end) {
			return
		}
		if !next.After(n.now) {
			n.t.Fatal("a machine wants to be polled at once, again and again")
		}
		n.now = next
	}
}

// publish makes m the publisher of a new record of k, and returns that.
func (n *lan) publish(m *machine, k *identity.Key) *registry.Record {
	n.t.Helper()
	r := registrytest.Signed(n.t, k, n.now)
	n.must(m.publish(n.now, r))
	return r
}

func (n *lan) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

// find looks id up as Directory.Lookup does.
func (n *lan) find(m *machine, id identity.ID) (*registry.Record, error) {
	r, _, err := m.lookup(n.now, id)
	if err == nil {
		return r, nil
	}
	if m.ask(n.now, ofID(id)) {
		n.run(patience)
	}
	r, _, err = m.lookup(n.now, id)
	return r, err
}

func (n *lan) finds(m *machine, want *registry.Record) {
	n.t.Helper()
	if got, err := n.find(m, want.ID); err != nil || !got.Equal(want) {
		n.t.Fatalf("found %+v, %v; want %+v", got, err, want)
	}
}

func (n *lan) findsNothing(m *machine, id identity.ID) {
	n.t.Helper()
	if got, err := n.find(m, id); !errors.Is(err, registry.ErrNotFound) {
		n.t.Fatalf("found %+v, %v", got, err)
	}
}

// answers returns what has been said since, but for questions.
func (n *lan) answers(since time.Time) (out []said) {
	for _, s := range n.said {
		if m, err := decode(s.bytes); err == nil && m.sealed != nil && !s.at.Before(since) {
			out = append(out, s)
		}
	}
	return out
}

// inject has b arrive at m at once.
func (n *lan) inject(m *machine, b []byte) bool { return m.hear(n.now, theLink, b) }

// answering returns a packet with the record, as somebody with the keys would send it.
func (n *lan) answering(k *keys, r *registry.Record) []byte {
	l := random()
	return message{l, k.seal(slotOf(n.now), [nonceSize]byte(l[:]), l, r.Marshal())}.encode()
}

// asking returns a packet that asks for s, as somebody with the keys would send it.
func (n *lan) asking(k *keys, s subject) []byte {
	l := random()
	return message{label: k.ask(slotOf(n.now), [saltSize]byte(l[:]), s)}.encode()
}
