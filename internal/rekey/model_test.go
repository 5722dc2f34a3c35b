package rekey

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/splitmesh/splitmesh/frame"
)

// The model is two ends with real sealers and openers. What one sends lies in
// queues: one for the control lane and one for each path, in each direction.
// Every queue keeps its order, as lanes and paths do, but which queue moves next
// is chance: so messages and frames overtake each other in every possible way.
type model struct {
	choose func(n int) int // in [0, n)
	now    time.Time
	ends   [2]*end // the session dialler, the responder
	lastID uint32

	secrets map[[32]byte]string // all that there ever were → whose they are
	opened  int
	crossed int // wishes that met a proposal
	silent  int // deaths that the peer was not told of
}

type end struct {
	m       *model
	state   *State
	paths   map[uint32]*modelPath
	control []message // to this end, not yet delivered
	wire    map[uint32][]wireItem
	given   map[Key]bool // every key that this end was told to open or seal with
}

type modelPath struct {
	sealer *frame.Sealer
	opener *frame.Opener
	epochs [2]uint32 // of sealer and opener
	coming uint32    // the epoch that the opener was given last
}

// A message of the control lane.
type message struct {
	kind string // "propose", "accept", "wish", "abandon"
	body []byte
}

// A wireItem is what a path delivers: its beginning, or a frame.
type wireItem struct {
	begins bool // the peer now knows of the path
	frame  []byte
}

var start = time.Unix(1_700_000_000, 0)

func newModel(choose func(int) int) *model {
	m := &model{choose: choose, now: start, secrets: map[[32]byte]string{}}
	first := exporterOfPath(1)
	for i := range m.ends {
		m.ends[i] = &end{
			m: m, paths: map[uint32]*modelPath{}, wire: map[uint32][]wireItem{}, given: map[Key]bool{},
			state: New(i == 0, &first, Limits{Age: time.Minute, Bytes: 2000, Frames: 12}, start),
		}
	}
	return m
}

// All of a path's first secrets differ, as those of handshakes do.
func exporterOfPath(id uint32) [32]byte { return expand(&[32]byte{1}, fmt.Sprint("exporter ", id)) }
func handshakeSecret(id uint32, by int) [32]byte {
	return expand(&[32]byte{1}, fmt.Sprint("traffic ", id, by))
}

func (e *end) number() int { return slices.Index(e.m.ends[:], e) }
func (e *end) peer() *end  { return e.m.ends[1-e.number()] }

// begin makes a path alive at e.
func (e *end) begin(id uint32) error {
	exporter, send, recv := exporterOfPath(id), handshakeSecret(id, e.number()), handshakeSecret(id, 1-e.number())
	suite := frame.Suite(1 + id%2)
	sealer, err := frame.NewSealer(suite, &send, 0)
	if err != nil {
		return err
	}
	opener, err := frame.NewOpener(suite, &recv, 0)
	if err != nil {
		return err
	}
	e.paths[id] = &modelPath{sealer: sealer, opener: opener}
	return e.state.Join(id, &exporter)
}

// join begins a path at the dialler; the responder learns of it by the path's
// first bytes, as from message 3 of the handshake.
func (m *model) join() error {
	d := m.ends[0]
	if len(d.paths) == MaxPaths {
		return nil
	}
	m.lastID++
	d.peer().wire[m.lastID] = []wireItem{{begins: true}}
	return d.begin(m.lastID)
}

// kill ends a path at e, which tells the peer if it can. What is on the wire is
// lost.
func (e *end) kill(id uint32) {
	if e.paths[id] != nil {
		delete(e.paths, id)
		e.state.Leave(id)
		e.abandon(id)
	}
}

// abandon cuts a path and says so. Without another path nobody does: the peer
// finds out by itself, at some time.
func (e *end) abandon(id uint32) {
	delete(e.wire, id)
	delete(e.peer().wire, id)
	if len(e.paths) == 0 {
		e.m.silent++
		return
	}
	e.peer().control = append(e.peer().control, message{"abandon", binary.BigEndian.AppendUint32(nil, id)})
}

// send seals a frame whose content says in which epoch.
func (e *end) send(id uint32) error {
	p := e.paths[id]
	if p == nil {
		return nil
	}
	b, err := p.sealer.Seal(nil, binary.BigEndian.AppendUint32(make([]byte, e.m.choose(300)), p.epochs[0]))
	if err != nil {
		return err
	}
	e.state.Sealed(id, 1, len(b))
	if q := e.peer().wire; q[id] != nil || e.peer().paths[id] != nil {
		q[id] = append(q[id], wireItem{frame: b})
	}
	return nil
}

// deliver hands the next item of a path to e.
func (e *end) deliver(id uint32) error {
	item := e.wire[id][0]
	e.wire[id] = e.wire[id][1:]
	if item.begins && len(e.paths) == MaxPaths { // it has not heard yet of the death that made room
		e.abandon(id)
		return nil
	}
	if item.begins {
		return e.begin(id)
	}
	p := e.paths[id]
	plain, err := p.opener.Open(item.frame)
	if err != nil {
		return fmt.Errorf("end %d, path %d: %w", e.number(), id, err)
	}
	e.m.opened++
	epoch := binary.BigEndian.Uint32(plain[len(plain)-4:])
	if epoch == p.epochs[1] {
		return nil
	}
	if epoch != p.coming {
		return fmt.Errorf("end %d, path %d: epoch %d opened, given were %v and %d", e.number(), id, epoch, p.epochs[1], p.coming)
	}
	p.epochs[1] = epoch
	if seal, ok := e.state.Opened(id, epoch); ok {
		if err := e.seal(seal); err != nil {
			return err
		}
		return e.send(id) // the pong
	}
	return nil
}

// open and seal apply keys, and check that no two are the same.
func (e *end) open(k Key) error {
	e.paths[k.Path].coming = k.Epoch
	if err := e.unique(k, 1-e.number()); err != nil {
		return err
	}
	return e.paths[k.Path].opener.Next(&k.Secret, k.Epoch)
}

func (e *end) seal(k Key) error {
	e.paths[k.Path].epochs[0] = k.Epoch
	if err := e.unique(k, e.number()); err != nil {
		return err
	}
	return e.paths[k.Path].sealer.Rekey(&k.Secret, k.Epoch)
}

func (e *end) unique(k Key, sealedBy int) error {
	if e.given[k] {
		return fmt.Errorf("end %d was given the %v twice", e.number(), k)
	}
	e.given[k] = true
	name := fmt.Sprint(k.Path, k.Epoch, sealedBy)
	if other, there := e.m.secrets[k.Secret]; there && other != name {
		return fmt.Errorf("%s and %s have the same secret", name, other)
	}
	e.m.secrets[k.Secret] = name
	return nil
}

// hear takes the next message of the control lane.
func (e *end) hear() error {
	msg := e.control[0]
	e.control = e.control[1:]
	say := func(kind string, body []byte) {
		e.peer().control = append(e.peer().control, message{kind, body})
	}
	switch msg.kind {
	case "abandon":
		e.kill(binary.BigEndian.Uint32(msg.body))
	case "wish":
		if e.state.proposal != nil {
			e.m.crossed++
		}
		return e.state.HandleWish()
	case "propose":
		answer, open, err := e.state.handlePropose(e.m.now, msg.body)
		if err != nil {
			return err
		}
		for _, k := range open {
			if err := e.open(k); err != nil {
				return err
			}
		}
		say("accept", answer)
	case "accept":
		open, seal, err := e.state.handleAccept(e.m.now, msg.body)
		if err != nil {
			return err
		}
		for i, k := range open {
			if err := errors.Join(e.open(k), e.seal(seal[i]), e.send(k.Path)); err != nil {
				return err
			}
		}
	}
	return nil
}

// wishOrPropose does what is due at e.
func (e *end) wishOrPropose() error {
	if !e.state.Due(e.m.now) {
		return nil
	}
	msg := message{kind: "wish"}
	if e.number() == 0 {
		body, err := e.state.proposeNew()
		if err != nil {
			return err
		}
		msg = message{"propose", body}
	} else {
		e.state.Wish()
	}
	e.peer().control = append(e.peer().control, msg)
	return nil
}

// step does one thing by chance.
func (m *model) step() error {
	e := m.ends[m.choose(2)]
	pick := func(ids []uint32) uint32 { return ids[m.choose(len(ids))] }
	alive := slices.Sorted(maps.Keys(e.paths))
	switch n := m.choose(100); {
	case n < 2 || len(m.ends[0].paths) == 0:
		return m.join()
	case n < 3:
		for all := m.choose(8) == 0; len(alive) > 0; {
			e.kill(pick(alive))
			if alive = slices.Sorted(maps.Keys(e.paths)); !all {
				break
			}
		}
	case n < 4:
		m.now = m.now.Add(time.Duration(m.choose(30)) * time.Second)
	case n < 25:
		if len(e.control) > 0 {
			return e.hear()
		}
	case n < 45:
		if len(alive) > 0 {
			return e.send(pick(alive))
		}
	case n < 90:
		var waiting []uint32
		for _, id := range slices.Sorted(maps.Keys(e.wire)) {
			if len(e.wire[id]) > 0 {
				waiting = append(waiting, id)
			}
		}
		if len(waiting) > 0 {
			return e.deliver(pick(waiting))
		}
	default:
		return e.wishOrPropose()
	}
	return nil
}

// A thousand commits under random joins, deaths, delays and overtaking: every
// frame opens, no key comes twice, and the two ends agree.
func TestThousandCommits(t *testing.T) {
	seed := rand.Uint64()
	t.Log("seed", seed)
	m := newModel(rand.New(rand.NewPCG(seed, 0)).IntN)
	for steps := 0; m.ends[0].state.Commits() < 1000; steps++ {
		if err := m.step(); err != nil {
			t.Fatalf("step %d, commit %d: %v", steps, m.ends[0].state.Commits(), err)
		}
		if steps == 2_000_000 {
			t.Fatalf("stuck after commit %d: %v %v", m.ends[0].state.Commits(), m.ends[0].state, m.ends[1].state)
		}
	}
	a, b := m.ends[0].state, m.ends[1].state
	if a.number == b.number && a.root != b.root {
		t.Error("the ends disagree")
	}
	if m.crossed == 0 || m.opened < 10_000 || m.lastID < 20 || m.silent == 0 {
		t.Errorf("too little happened: %d wishes crossed, %d frames, %d paths, %d silent deaths", m.crossed, m.opened, m.lastID, m.silent)
	}
	t.Logf("%d frames opened, %d paths, %d secrets, %d wishes crossed, %d silent deaths", m.opened, m.lastID, len(m.secrets), m.crossed, m.silent)
}

// The same under schedules of a fuzzer's choice.
func FuzzSchedule(f *testing.F) {
	for seed := range uint64(4) {
		r := rand.New(rand.NewPCG(seed, 1))
		plan := make([]byte, 3000)
		for i := range plan {
			plan[i] = byte(r.Uint32())
		}
		f.Add(plan)
	}
	f.Fuzz(func(t *testing.T, plan []byte) {
		plan = plan[:min(len(plan), 20_000)]
		m := newModel(func(n int) int {
			if len(plan) == 0 {
				return 0
			}
			c := int(plan[0])
			plan = plan[1:]
			return c % n
		})
		for len(plan) > 0 {
			if err := m.step(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
