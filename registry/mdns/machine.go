package mdns

import (
	"crypto/rand"
	"fmt"
	"time"

	"golang.org/x/time/rate"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
)

const (
	again     = time.Second            // between two answers with one peer's record on one link (RFC 6762 §6)
	firstWait = 250 * time.Millisecond // until a question is put again; then twice as long each time
	patience  = again + firstWait      // how long an answer is waited for, which may have to wait for its turn itself
	noBudget  = 50 * time.Millisecond  // until what found a budget spent is tried again
	announced = 2                      // times that a new record is sent without being asked for (RFC 6762 §8.3)
	stale     = time.Minute            // after which what was heard is asked for anew, beside being used

	maxOwn       = 256 // records published here
	maxQuestions = 256 // subjects asked for at once
)

// Budgets, each for all links together: so many in a second, and as many at once when there was quiet.
const (
	answersPerSecond   = 20
	questionsPerSecond = 100
	// checksPerSecond bounds the labels of others' questions that are held against our own records, at some 10 µs each.
	checksPerSecond = 10_000
	// opensPerSecond bounds the records that are parsed, at some 100 µs each: those only that were sealed under our key.
	opensPerSecond = 500
)

// A link is an interface, by one of the two versions of IP.
type link struct {
	index int // of the interface, as the system counts them
	v6    bool
}

// A packet is what is to be sent on a link.
type packet struct {
	link  link
	bytes []byte
	turn  *turn // of an answer
}

// A machine decides what to say on the links of one node, and what to believe of what is heard there. It does no I/O:
// now and packets go in, packets come out. It is not safe for concurrent use.
type machine struct {
	keys  *keys
	cache cache
	links map[link]bool
	own   map[identity.ID]*publication
	asked map[subject]*question

	answers, questions, checks, opens *rate.Limiter
}

// A publication is a record that was published here.
type publication struct {
	record   *registry.Record
	subjects []subject // that it is the answer to
	turns    map[link]*turn
}

// A turn is when a publication is sent on a link.
type turn struct {
	last      time.Time
	due       time.Time // zero: nobody wants it
	label     label     // of the question that it answers
	announces int       // times that it is still to be sent unasked
}

// A question is a subject that somebody here waits for.
type question struct {
	due   time.Time
	wait  time.Duration // after the next time
	until time.Time
}

func newMachine(k *keys) *machine {
	budget := func(perSecond int) *rate.Limiter { return rate.NewLimiter(rate.Limit(perSecond), perSecond) }
	return &machine{
		keys:      k,
		cache:     newCache(),
		links:     make(map[link]bool),
		own:       make(map[identity.ID]*publication),
		asked:     make(map[subject]*question),
		answers:   budget(answersPerSecond),
		questions: budget(questionsPerSecond),
		checks:    budget(checksPerSecond),
		opens:     budget(opensPerSecond),
	}
}

// setLinks says which links there are. On a new one all that was published is announced.
func (m *machine) setLinks(now time.Time, links []link) {
	before := m.links
	m.links = make(map[link]bool, len(links))
	for _, l := range links {
		m.links[l] = true
	}
	for _, p := range m.own {
		for l := range before {
			if !m.links[l] {
				delete(p.turns, l)
			}
		}
		for l := range m.links {
			if !before[l] {
				p.announce(now, l)
			}
		}
	}
}

// publish makes r, which nobody changes any more, the record that is answered with for its peer.
func (m *machine) publish(now time.Time, r *registry.Record) error {
	if err := r.Check(now); err != nil {
		return err
	}
	if holder, ok := m.cache.holder(now, r.Name); ok && holder != r.ID {
		return fmt.Errorf("%w: %q is %s's", registry.ErrNameTaken, r.Name, holder)
	}
	p := m.own[r.ID]
	if p == nil && len(m.own) >= maxOwn {
		return fmt.Errorf("%w (it answers for %d peers)", registry.ErrFull, len(m.own))
	}
	if err := m.cache.keep(now, r); err != nil {
		return err
	}
	switch {
	case p == nil:
		p = &publication{turns: make(map[link]*turn)}
		m.own[r.ID] = p
	case r.Equal(p.record):
		return nil
	}
	p.record, p.subjects = r, []subject{ofID(r.ID)}
	if r.Name != "" {
		p.subjects = append(p.subjects, ofName(r.Name))
	}
	for l := range m.links {
		p.announce(now, l)
	}
	return nil
}

func (p *publication) announce(now time.Time, l link) {
	p.answer(now, l, random())
	p.turns[l].announces = announced
}

// answer has p sent on l as soon as may be, unless it is to be by then anyway.
func (p *publication) answer(now time.Time, l link, to label) {
	t := p.turns[l]
	if t == nil {
		t = new(turn)
		p.turns[l] = t
	}
	when := now
	if next := t.last.Add(again); next.After(now) {
		when = next
	}
	if t.due.IsZero() || when.Before(t.due) {
		t.label, t.due = to, when
	}
}

func random() (l label) {
	rand.Read(l[:]) // never fails
	return l
}

// lookup returns the record of id, which nobody may change, and whether it was heard so long ago that it is as well to ask.
func (m *machine) lookup(now time.Time, id identity.ID) (r *registry.Record, old bool, err error) {
	m.cache.want(now, id)
	e := m.cache.find(id)
	if e == nil {
		return nil, false, registry.ErrNotFound
	}
	if err := e.record.Check(now); err != nil {
		return nil, false, fmt.Errorf("%w: %w", registry.ErrNotFound, err)
	}
	return e.record, m.own[id] == nil && now.Sub(e.at) > stale, nil
}

// resolve returns who was first heard with the name.
func (m *machine) resolve(now time.Time, name string) (identity.ID, error) {
	id, ok := m.cache.holder(now, name)
	if !ok {
		return identity.ID{}, fmt.Errorf("%w: nobody is called %.40q here", registry.ErrNotFound, name)
	}
	m.cache.want(now, id)
	return id, nil
}

// ask asks for s until it is heard of, or patience is over. It reports whether there is anybody to ask.
func (m *machine) ask(now time.Time, s subject) bool {
	if len(m.links) == 0 {
		return false
	}
	q := m.asked[s]
	if q == nil {
		if len(m.asked) >= maxQuestions {
			return false
		}
		q = &question{due: now, wait: firstWait}
		m.asked[s] = q
	}
	q.until = now.Add(patience)
	return true
}

// hear takes a packet that came in on l. It reports whether poll has something to do, or more is known than before.
func (m *machine) hear(now time.Time, l link, b []byte) bool {
	msg, err := decode(b)
	if err != nil || !m.links[l] {
		return false
	}
	if msg.sealed == nil {
		return m.hearQuestion(now, l, msg.label)
	}
	return m.hearAnswer(now, msg)
}

func (m *machine) hearQuestion(now time.Time, l link, asked label) bool {
	if len(m.own) == 0 || !m.checks.AllowN(now, len(m.own)) {
		return false
	}
	for _, p := range m.own {
		for _, s := range p.subjects {
			if m.keys.asks(now, asked, s) {
				p.answer(now, l, asked)
				return true
			}
		}
	}
	return false
}

func (m *machine) hearAnswer(now time.Time, msg message) bool {
	b := m.keys.open(now, msg)
	if b == nil || !m.opens.AllowN(now, 1) {
		return false
	}
	r, err := registry.Parse(b)
	if err != nil || r.Check(now) != nil {
		return false
	}
	if err := m.cache.overhear(now, r); err != nil {
		return false
	}
	delete(m.asked, ofID(r.ID))
	delete(m.asked, ofName(r.Name))
	if p := m.own[r.ID]; p != nil && r.Newer(p.record) {
		delete(m.own, r.ID) // its peer has published elsewhere since, or was revoked
	}
	return true
}

// poll returns what is to be sent now, and when to call it next at the latest; zero is not before something happens.
func (m *machine) poll(now time.Time) (out []packet, next time.Time) {
	later := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	for id, p := range m.own {
		if !p.record.Revoked && p.record.Expires <= now.UnixMilli() {
			delete(m.own, id)
			continue
		}
		for l, t := range p.turns {
			if !t.due.IsZero() && !t.due.After(now) {
				out = m.send(now, out, l, p.record, t)
			}
			if !t.due.IsZero() {
				later(t.due)
			}
		}
	}
	for s, q := range m.asked {
		if !now.Before(q.until) {
			delete(m.asked, s)
			continue
		}
		if !q.due.After(now) {
			out = m.put(now, out, s, q)
		}
		later(q.due)
	}
	return out, next
}

// send appends the record, for which the turn has come, or puts it off when too much was sent lately.
func (m *machine) send(now time.Time, out []packet, l link, r *registry.Record, t *turn) []packet {
	if !m.answers.AllowN(now, 1) {
		t.due = now.Add(noBudget)
		return out
	}
	var nonce [nonceSize]byte
	rand.Read(nonce[:]) // never fails
	sealed := m.keys.seal(slotOf(now), nonce, t.label, r.Marshal())
	out = append(out, packet{l, message{t.label, sealed}.encode(), t})
	t.last, t.due = now, time.Time{}
	if t.announces > 0 {
		t.announces--
	}
	if t.announces > 0 {
		t.due, t.label = now.Add(again), random()
	}
	return out
}

// unsent says that p, of the last poll, was not sent, as happens on a link that has just come up: whoever asks need not
// wait.
func (m *machine) unsent(p packet) {
	if p.turn != nil {
		p.turn.last = time.Time{}
	}
}

// put appends the question to go out on every link, each time with a salt of its own, or puts it off.
func (m *machine) put(now time.Time, out []packet, s subject, q *question) []packet {
	if !m.questions.AllowN(now, len(m.links)) {
		q.due = now.Add(noBudget)
		return out
	}
	for l := range m.links {
		var salt [saltSize]byte
		rand.Read(salt[:]) // never fails
		out = append(out, packet{l, message{label: m.keys.ask(slotOf(now), salt, s)}.encode(), nil})
	}
	q.due, q.wait = now.Add(q.wait), 2*q.wait
	return out
}
