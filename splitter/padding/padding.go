// Package padding decides when to send cells that carry nothing, so that what a
// relay counts and times says less of what was really sent.
//
// It is shaped like Maybenot (Pulls and Witwer, "Maybenot: A Framework for
// Traffic Analysis Defenses", WPES 2023): [Machine]s are state machines with
// transitions taken by chance and time-outs drawn from distributions. A
// [Framework] runs them. It is pure: events and the time go in, actions come out,
// and the caller keeps one timer for each machine:
//
//	f, err := padding.New(padding.Config{Machines: padding.Unlinkability()})
//	actions = f.Handle(now, padding.Event{Kind: padding.NormalSent, Path: p, Bytes: n}, paths, actions[:0])
//	// Schedule: at a.At send a cell of padding over a.Path, and tell PaddingSent.
//	// Cancel: stop the machine's timer.
//
// The package promises that padding scheduled or sent never exceeds its budget,
// a fraction of the normal bytes so far and an allowance, whatever the events
// (a machine that the budget stops begins again in its first state); that an event makes at most one action for each machine; and that the same
// source of chance and the same events make the same actions.
package padding

import (
	crand "crypto/rand"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// An Event is something that happened on one path, at this end.
type Event struct {
	Kind Kind
	// Path is where it happened.
	Path uint32
	// Bytes is how many bytes it took on the wire: for NormalSent and
	// NormalReceived.
	Bytes int
	// Machine says whose padding was sent: for PaddingSent.
	Machine int
}

// A Kind is the kind of an event.
type Kind uint8

// The events. PaddingSent and LimitReached are for the machine whose padding it
// was; all machines get the others.
const (
	// NormalSent and NormalReceived: a cell that carries something.
	NormalSent Kind = iota
	NormalReceived
	// PaddingSent: a scheduled cell of padding was sent.
	PaddingSent
	// PaddingReceived: a cell of the other end's padding.
	PaddingReceived
	// BlockingBegan and BlockingEnded: the path of a batch was full, so that
	// sending waited, and it no longer does.
	BlockingBegan
	BlockingEnded
	// LimitReached comes from the framework itself: the machine has sent as
	// much padding as its state allows.
	LimitReached

	kinds
)

// An Action is what a machine wants done.
type Action struct {
	// Kind is Schedule or Cancel. Either takes the place of what the machine
	// had scheduled before.
	Kind ActionKind
	// Machine is the machine's index in Config.Machines.
	Machine int
	// Path, At and Bytes say what to send, where and when: for Schedule.
	Path  uint32
	At    time.Time
	Bytes int
}

// An ActionKind is the kind of an action.
type ActionKind uint8

// The actions.
const (
	Schedule ActionKind = iota
	Cancel
)

// Config is what a Framework runs.
type Config struct {
	// Machines are run side by side. They are not copied.
	Machines []Machine
	// CellBytes is what a cell of padding takes on the wire. 0 means 536.
	CellBytes int
	// MaxFraction bounds padding to a fraction of the normal bytes that this
	// end has sent and received: at most 1. 0 means DefaultMaxFraction.
	MaxFraction float64
	// Allowance is how many bytes of padding may be sent beyond that, so that
	// the first cells may have company. 0 means DefaultAllowance, less than 0
	// none.
	Allowance int
	// Source is where chance comes from. nil means ChaCha8 with a key from
	// crypto/rand; anything weaker is for experiments that must repeat.
	Source rand.Source
}

// The defaults of Config. Both ends count the bytes of both directions: a
// twentieth at each is a tenth in all. What cells themselves take more than
// long frames do (docs/adr/0012-unlinkability.md) comes on top.
const (
	DefaultMaxFraction = 0.05
	DefaultAllowance   = 16 << 10
	defaultCellBytes   = 536
)

// A Framework runs machines. One goroutine at a time may use it.
type Framework struct {
	cfg    Config
	chance *rand.Rand
	run    []runtime

	normal, padded, reserved int64
}

// A runtime is where a machine is.
type runtime struct {
	state   int
	path    uint32 // where the state pads
	limit   int    // cells that the state may still send
	pending bool   // a cell is scheduled, and reserved in the budget
}

// New returns a framework whose machines stand in their first states. The error
// wraps ErrMachine, or tells which field of c is out of range.
func New(c Config) (*Framework, error) {
	if c.CellBytes == 0 {
		c.CellBytes = defaultCellBytes
	}
	if c.MaxFraction == 0 {
		c.MaxFraction = DefaultMaxFraction
	}
	if c.Allowance == 0 {
		c.Allowance = DefaultAllowance
	}
	c.Allowance = max(c.Allowance, 0)
	if c.CellBytes < 0 || c.CellBytes > maxCellBytes {
		return nil, fmt.Errorf("padding: CellBytes is %d, want at most %d", c.CellBytes, maxCellBytes)
	}
	if !(c.MaxFraction > 0 && c.MaxFraction <= 1) {
		return nil, fmt.Errorf("padding: MaxFraction is %v, want above 0 and at most 1", c.MaxFraction)
	}
	if len(c.Machines) > MaxMachines {
		return nil, fmt.Errorf("padding: %d machines, want at most %d", len(c.Machines), MaxMachines)
	}
	for i := range c.Machines {
		if err := c.Machines[i].Check(); err != nil {
			return nil, fmt.Errorf("padding: machine %d: %w", i, err)
		}
	}
	f := &Framework{cfg: c, run: make([]runtime, len(c.Machines))}
	if c.Source == nil {
		var key [32]byte
		crand.Read(key[:]) // never fails
		c.Source = rand.NewChaCha8(key)
	}
	f.chance = rand.New(c.Source)
	return f, nil
}

// Padded is how many bytes of padding have been sent.
func (f *Framework) Padded() int64 { return f.padded }

// Handle takes an event and appends to out what the machines want done: at most
// one action for each. paths are the live paths that padding may use now. What
// a machine had scheduled on any other path is cancelled.
func (f *Framework) Handle(now time.Time, ev Event, paths []uint32, out []Action) []Action {
	switch ev.Kind {
	case NormalSent, NormalReceived:
		f.normal += int64(max(ev.Bytes, 0))
	case PaddingSent:
		if ev.Machine < 0 || ev.Machine >= len(f.run) || !f.run[ev.Machine].pending {
			return out // a timer that was cancelled too late, and not heeded
		}
		f.settle(&f.run[ev.Machine])
	case PaddingReceived, BlockingBegan, BlockingEnded:
	default:
		return out
	}
	for m := range f.run {
		if ev.Kind != PaddingSent || ev.Machine == m {
			out = f.step(now, m, ev, paths, out)
		}
	}
	return out
}

// settle turns a reservation into padding sent.
func (f *Framework) settle(r *runtime) {
	r.pending = false
	r.limit--
	f.reserved -= int64(f.cfg.CellBytes)
	f.padded += int64(f.cfg.CellBytes)
}

// release gives a reservation back.
func (f *Framework) release(r *runtime) {
	r.pending = false
	f.reserved -= int64(f.cfg.CellBytes)
}

// step moves one machine on.
func (f *Framework) step(now time.Time, m int, ev Event, paths []uint32, out []Action) []Action {
	r := &f.run[m]
	had := r.pending
	lost := had && !slices.Contains(paths, r.path)
	entered := f.transit(r, m, ev, paths)
	if ev.Kind == PaddingSent && r.limit <= 0 {
		// It sends nothing, so that there is no second round.
		entered = f.transit(r, m, Event{Kind: LimitReached, Path: ev.Path}, paths) || entered
	}
	if !entered && !lost {
		return out
	}
	if r.pending {
		f.release(r)
	}
	if entered {
		a, err := f.schedule(now, r, m, paths)
		if err == nil && r.pending {
			return append(out, a)
		}
		lost = err != nil
	}
	if lost && r.state != end {
		*r = runtime{} // back to where it began, to try again another time
	}
	if had {
		out = append(out, Action{Kind: Cancel, Machine: m})
	}
	return out
}

// transit takes the transition that chance picks for the event, if any. A state
// entered from another one draws its path and its limit; one that is entered
// again from itself keeps them.
func (f *Framework) transit(r *runtime, m int, ev Event, paths []uint32) bool {
	if r.state == end {
		return false
	}
	machine := &f.cfg.Machines[m]
	left := f.chance.Float64()
	for _, t := range machine.States[r.state].On[ev.Kind] {
		if left -= t.Probability; left >= 0 {
			continue
		}
		if t.To != r.state || ev.Kind == LimitReached {
			r.state = t.To
			f.enter(r, machine, ev.Path, paths)
		}
		return true
	}
	return false
}

func (f *Framework) enter(r *runtime, machine *Machine, path uint32, paths []uint32) {
	r.limit = 0
	if r.state == end || machine.States[r.state].Pad == nil {
		return
	}
	pad := machine.States[r.state].Pad
	r.limit = max(1, int(pad.Cells.sample(f.chance)))
	if pad.Target == SamePath {
		r.path = path
	} else if len(paths) > 0 {
		r.path = paths[f.chance.IntN(len(paths))]
	}
}

// Why a state that pads can't.
var (
	errPath   = errors.New("the path is gone")
	errBudget = errors.New("the budget is spent")
)

// schedule reserves a cell and says when to send it, where the state pads and is
// below its limit.
func (f *Framework) schedule(now time.Time, r *runtime, m int, paths []uint32) (Action, error) {
	if r.state == end || r.limit <= 0 {
		return Action{}, nil
	}
	if !slices.Contains(paths, r.path) {
		return Action{}, errPath
	}
	size := int64(f.cfg.CellBytes)
	if float64(f.padded+f.reserved+size) > f.cfg.MaxFraction*float64(f.normal)+float64(f.cfg.Allowance) {
		return Action{}, errBudget
	}
	after := f.cfg.Machines[m].States[r.state].Pad.Timeout.sample(f.chance)
	f.reserved += size
	r.pending = true
	return Action{
		Kind: Schedule, Machine: m, Path: r.path, Bytes: f.cfg.CellBytes,
		At: now.Add(time.Duration(after * float64(time.Second))),
	}, nil
}
