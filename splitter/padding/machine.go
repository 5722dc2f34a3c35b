package padding

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
)

// A Machine is a state machine that pads. It begins in its first state.
type Machine struct {
	States []State
}

// A State says what a machine does when it comes there, and when it goes on.
type State struct {
	// On holds, for each kind of event, where it leads. The probabilities of a
	// kind add up to at most 1; what is left to 1 is that nothing happens.
	On [kinds][]Transition
	// Pad is the padding that is sent here; nil is none. A transition into the
	// state schedules one cell. For a run of cells the state leads to itself on
	// PaddingSent; it keeps its path and its limit then.
	Pad *Pad
}

// A Transition leads to a state.
type Transition struct {
	To          int // an index of Machine.States, or End
	Probability float64
}

// End is the state that a machine never leaves.
const End = end

const end = -1

// Pad is the padding of a state.
type Pad struct {
	// Timeout is how long to wait before the next cell, in seconds.
	Timeout Dist
	// Cells is how many the state sends at most, each time that it is entered
	// from another state; then LimitReached comes.
	Cells Dist
	// Target is where they go.
	Target Target
}

// A Target picks the path of a state's padding.
type Target uint8

// The targets.
const (
	// SamePath is the path of the event that led to the state.
	SamePath Target = iota
	// DrawnPath is any of the live paths, each as likely as another.
	DrawnPath
)

// A Dist is a distribution of numbers ≥ 0.
type Dist struct {
	Kind DistKind
	// A and B are the parameters: the least and the most of Uniform; the mean
	// of Exponential, B unused; the mean and the standard deviation of the
	// logarithm of LogNormal.
	A, B float64
	// Max is the most that is ever drawn. It must be above 0, and at most
	// MaxSample.
	Max float64
}

// A DistKind is the kind of a distribution.
type DistKind uint8

// The distributions.
const (
	Uniform DistKind = iota
	Exponential
	LogNormal
)

// What is accepted of a machine.
const (
	MaxMachines    = 8
	MaxStates      = 64
	MaxTransitions = 16
	MaxSample      = 3600 // of a Dist: an hour, or 3600 cells
	maxCellBytes   = 64 << 10
)

// ErrMachine reports the definition of a machine that is malformed.
var ErrMachine = errors.New("malformed machine")

// Check returns nil, or an error wrapping ErrMachine that says what is wrong.
func (m *Machine) Check() error {
	if len(m.States) == 0 || len(m.States) > MaxStates {
		return fmt.Errorf("%w: %d states, want 1 to %d", ErrMachine, len(m.States), MaxStates)
	}
	for i := range m.States {
		if err := m.States[i].check(len(m.States)); err != nil {
			return fmt.Errorf("%w: state %d: %w", ErrMachine, i, err)
		}
	}
	return nil
}

func (s *State) check(states int) error {
	for kind, on := range s.On {
		if len(on) > MaxTransitions {
			return fmt.Errorf("event %d has %d transitions, want at most %d", kind, len(on), MaxTransitions)
		}
		sum := 0.0
		for _, t := range on {
			if t.To != End && (t.To < 0 || t.To >= states) {
				return fmt.Errorf("event %d leads to state %d of %d", kind, t.To, states)
			}
			if !(t.Probability > 0 && t.Probability <= 1) {
				return fmt.Errorf("event %d has a transition of probability %v", kind, t.Probability)
			}
			sum += t.Probability
		}
		if sum > 1+1e-9 {
			return fmt.Errorf("the probabilities of event %d add up to %v", kind, sum)
		}
	}
	if s.Pad == nil {
		return nil
	}
	if s.Pad.Target > DrawnPath {
		return fmt.Errorf("unknown target %d", s.Pad.Target)
	}
	if err := s.Pad.Timeout.check(); err != nil {
		return fmt.Errorf("timeout: %w", err)
	}
	if err := s.Pad.Cells.check(); err != nil {
		return fmt.Errorf("cells: %w", err)
	}
	return nil
}

func (d *Dist) check() error {
	finite := !math.IsNaN(d.A+d.B) && !math.IsInf(d.A+d.B, 0)
	switch {
	case !finite || !(d.Max > 0 && d.Max <= MaxSample):
		return fmt.Errorf("parameters %v, %v and %v, want finite ones, and a Max above 0 and at most %d", d.A, d.B, d.Max, MaxSample)
	case d.Kind == Uniform && (d.A < 0 || d.B < d.A):
		return fmt.Errorf("uniform from %v to %v", d.A, d.B)
	case d.Kind == Exponential && d.A <= 0:
		return fmt.Errorf("exponential of mean %v", d.A)
	case d.Kind == LogNormal && d.B < 0:
		return fmt.Errorf("log-normal of deviation %v", d.B)
	case d.Kind > LogNormal:
		return fmt.Errorf("unknown distribution %d", d.Kind)
	}
	return nil
}

func (d *Dist) sample(r *rand.Rand) float64 {
	v := 0.0
	switch d.Kind {
	case Uniform:
		v = d.A + (d.B-d.A)*r.Float64()
	case Exponential:
		v = d.A * r.ExpFloat64()
	case LogNormal:
		v = math.Exp(d.A + d.B*r.NormFloat64())
	}
	return min(v, d.Max)
}

// Unlinkability returns the machines that run beside splitter.Batched: now and
// then, a run of cells as long as a part of a batch goes over a path drawn
// apart from its weights, as fast as a batch would. They blur how many batches
// a path carried, and when the last of them was.
func Unlinkability() []Machine {
	return []Machine{{States: []State{
		{On: [kinds][]Transition{
			NormalSent:     {{To: 1, Probability: 1.0 / 30}},
			NormalReceived: {{To: 1, Probability: 1.0 / 200}},
		}},
		{
			Pad: &Pad{
				Timeout: Dist{Kind: Exponential, A: 0.004, Max: 0.1},
				Cells:   Dist{Kind: Uniform, A: 1, B: 20, Max: 20},
				Target:  DrawnPath,
			},
			On: [kinds][]Transition{
				PaddingSent:  {{To: 1, Probability: 1}},
				LimitReached: {{To: 0, Probability: 1}},
			},
		},
	}}}
}
