package main

import (
	"math/rand/v2"
	"time"

	"github.com/splitmesh/splitmesh/splitter"
	"github.com/splitmesh/splitmesh/splitter/padding"
)

// cellBytes is a cell on the wire: 512 bytes sealed.
const cellBytes = 512 + frameOverhead

// plain is how a session without cells carries a page.
func plain(name string, relays, k int) *defence {
	return &defence{
		name: name, relays: relays, k: k, scheduler: func(rand.Source) splitter.Scheduler { return splitter.EarliestCompletion{} },
		ackBytes: 64 << 10, ackDelay: 5 * time.Millisecond,
	}
}

// cells is how Unlinkability carries it, with the scheduler's settings changed.
func cells(name string, b splitter.Batched, machines func() []padding.Machine) *defence {
	return &defence{
		name: name, relays: splitter.MinUnlinkable, cell: cellBytes, machines: machines,
		scheduler: func(source rand.Source) splitter.Scheduler {
			return &splitter.Batched{
				MinBatch: b.MinBatch, MaxBatch: b.MaxBatch, Concentration: b.Concentration, Source: source,
			}
		},
		// A cell that acknowledges costs as much as any, so there are fewer.
		ackBytes: 32 << 10, ackDelay: 25 * time.Millisecond,
	}
}

func undefended() *defence { return plain("undefended", 1, 0) }
func striped() *defence    { return plain("striped", 5, 0) }
func secrecy() *defence    { return plain("secrecy", 3, 2) }

// split is Unlinkability without padding, which is TrafficSliver's defence.
func split() *defence { return cells("split", splitter.Batched{}, nil) }

func unlinkability() *defence {
	return cells("unlinkability", splitter.Batched{}, padding.Unlinkability)
}

// alternatives are settings of Unlinkability that were not chosen.
func alternatives() []*defence {
	return []*defence{
		cells("concentration 0.3", splitter.Batched{Concentration: 0.3}, padding.Unlinkability),
		cells("concentration 0.5", splitter.Batched{Concentration: 0.5}, padding.Unlinkability),
		cells("concentration 2", splitter.Batched{Concentration: 2}, padding.Unlinkability),
		cells("concentration 8", splitter.Batched{Concentration: 8}, padding.Unlinkability),
		cells("batches of 1", splitter.Batched{MinBatch: 1, MaxBatch: 1}, padding.Unlinkability),
		cells("batches of 20 to 30", splitter.Batched{MinBatch: 20, MaxBatch: 30}, padding.Unlinkability),
		cells("batches of 100 to 140", splitter.Batched{MinBatch: 100, MaxBatch: 140}, padding.Unlinkability),
	}
}
