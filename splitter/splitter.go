// Package splitter decides how one lane's bytes are divided over the paths of a
// session and puts them together again at the other end.
//
// It is pure: no I/O, no clock, no goroutine. A [Policy] says what the division
// is for. A [Scheduler] picks the path of each segment, a [ShareWindow] keeps any
// one relay from carrying too much, a [Reassembler] restores the order:
//
//	next := splitter.ShortestQueue{}.Next(now, size, paths) // -1: wait
//	err := reassembler.Insert(offset, payload, owner, deliver)
//
// The package promises that a byte inserted is delivered exactly once and in
// order, that what waits out of order never exceeds the credit given, and that a
// MaxShare holds over every sliding [ShareSpan] bytes, re-sent ones included.
package splitter

import (
	"errors"
	"fmt"
	"time"
)

// A Purpose names what the splitting of a lane is for; its scheme follows.
type Purpose uint8

// Throughput stripes: each byte travels on one path, and the paths' bandwidth
// adds up. It is the default.
const Throughput Purpose = 1

func (p Purpose) String() string {
	if p == Throughput {
		return "throughput"
	}
	return fmt.Sprintf("purpose %d", uint8(p))
}

// A Policy says how a conn's bytes may be divided. The zero value is the default.
type Policy struct {
	// Purpose is what the division is for. 0 means Throughput.
	Purpose Purpose
	// MinPaths is the number of paths over different relays (a direct path
	// counts as one) below which nothing is sent. 0 means 1, or 2 when only
	// relays may be used.
	MinPaths int
	// MaxShare is the most that one relay may carry of any ShareSpan
	// consecutive bytes sent, re-sent ones included: a fraction in (0, 1].
	// 0 means 1, or 0.6 when only relays may be used.
	MaxShare float64
	// FailFast makes Write fail with *TooFewPathsError when there are fewer
	// than MinPaths paths, where it would otherwise wait for more.
	FailFast bool
}

// MaxMinPaths is the largest MinPaths that a Policy may ask for.
const MaxMinPaths = 8

// ShareGrain is more than the largest segment, in bytes.
const ShareGrain = 36 << 10

// leastShare is the least MaxShare under which one of n paths may always take a
// segment: of the ShareSpan−ShareGrain bytes before it, some path has carried
// no more than the n-th part. A bare 1/n would end with every path a few bytes
// short of room for a whole segment.
func leastShare(n int) float64 {
	return (1-float64(ShareGrain)/ShareSpan)/float64(n) + float64(ShareGrain)/ShareSpan
}

// ErrPolicy reports a Policy that can't be satisfied by any set of paths.
var ErrPolicy = errors.New("impossible split policy")

// WithDefaults returns p with every zero field filled, and an error wrapping
// ErrPolicy when a field is out of its range or when MinPaths paths at MaxShare
// each could not carry the whole, which takes a few hundredths more than 1/MinPaths. relayedOnly says that no direct path is allowed.
func (p Policy) WithDefaults(relayedOnly bool) (Policy, error) {
	if p.Purpose == 0 {
		p.Purpose = Throughput
	}
	if p.MinPaths == 0 {
		p.MinPaths = 1
		if relayedOnly {
			p.MinPaths = 2
		}
	}
	if p.MaxShare == 0 {
		p.MaxShare = 1
		if relayedOnly && p.MinPaths > 1 {
			p.MaxShare = 0.6
		}
	}
	switch {
	case p.Purpose != Throughput:
		return p, fmt.Errorf("%w: %v is not a purpose that this version knows; use 0 for the default", ErrPolicy, p.Purpose)
	case p.MinPaths < 1 || p.MinPaths > MaxMinPaths:
		return p, fmt.Errorf("%w: MinPaths is %d, want 1 to %d, or 0 for the default", ErrPolicy, p.MinPaths, MaxMinPaths)
	case !(p.MaxShare >= 0.05 && p.MaxShare <= 1):
		return p, fmt.Errorf("%w: MaxShare is %v, want 0.05 to 1, or 0 for the default", ErrPolicy, p.MaxShare)
	case p.MaxShare < leastShare(p.MinPaths):
		return p, fmt.Errorf("%w: %d paths can't carry the whole when each may carry only %v; raise MaxShare to %.4f, or MinPaths",
			ErrPolicy, p.MinPaths, p.MaxShare, leastShare(p.MinPaths)+0.00005)
	}
	return p, nil
}

// A TooFewPathsError reports that a policy forbids sending over the paths there are.
type TooFewPathsError struct{ Have, Want int }

func (e *TooFewPathsError) Error() string {
	return fmt.Sprintf("%d of the %d paths over different relays that the policy asks for are up; the peer must be reached by more relays, or lower MinPaths", e.Have, e.Want)
}

// A Path is what a Scheduler sees of a live path.
type Path struct {
	ID uint32
	// InFlight counts the bytes given to the path and not yet acknowledged,
	// Window the bytes it may have in flight.
	InFlight, Window int
	// Carried counts the lane's last ShareSpan bytes that went by the path's
	// relay, or directly.
	Carried int
	// SRTT is the smoothed round-trip time, Rate the delivered bytes a second;
	// both are 0 until measured.
	SRTT time.Duration
	Rate float64
	// Barred says that the policy forbids the path to carry this segment.
	Barred bool
}

// Open reports whether the path may take size bytes now. A path with nothing in
// flight may always take one segment.
func (p *Path) Open(size int) bool {
	return !p.Barred && (p.InFlight == 0 || p.InFlight+size <= p.Window)
}

// A Scheduler picks the path of the next segment. It must be a pure function of
// its arguments.
type Scheduler interface {
	// Next returns the index in paths of the one that should carry size bytes
	// now, or -1 when waiting is better. It must only return a path that is Open.
	Next(now time.Time, size int, paths []Path) int
}

// ShortestQueue gives each segment to the open path with the fewest bytes in
// flight and, among equals, to the one that has carried the least of late. Equal
// paths get equal shares, however little there is to send; a path that delivers
// faster empties its queue sooner and so carries more.
type ShortestQueue struct{}

// Next implements Scheduler.
func (ShortestQueue) Next(_ time.Time, size int, paths []Path) int {
	best := -1
	for i := range paths {
		if paths[i].Open(size) && (best < 0 || paths[i].shorter(&paths[best])) {
			best = i
		}
	}
	return best
}

func (p *Path) shorter(q *Path) bool {
	if p.InFlight != q.InFlight {
		return p.InFlight < q.InFlight
	}
	return p.Carried < q.Carried
}
