package splitter

import (
	"errors"
	"fmt"
)

// A Purpose names what the splitting of a lane is for; its scheme follows.
type Purpose uint8

// The purposes. 0 stands for Throughput wherever a Policy is filled in.
const (
	// Throughput stripes: each byte travels on one path, and the paths'
	// bandwidth adds up. It is the default.
	Throughput Purpose = 1 + iota
	// Resilience sends K-of-N coded blocks over different relays: any K paths
	// suffice, without a wait when one is lost.
	Resilience
	// Secrecy shares each block K of N: fewer than K relays together hold
	// nothing that helps, even with the session's keys.
	Secrecy
	// Unlinkability sends cells of one size over at least MinUnlinkable relays
	// by weighted chance, with padding: what one of them sees says little of
	// what was sent.
	Unlinkability
)

// MinUnlinkable is the least MinPaths of an Unlinkability policy.
const MinUnlinkable = 5

func (p Purpose) String() string {
	switch p {
	case Throughput:
		return "throughput"
	case Resilience:
		return "resilience"
	case Secrecy:
		return "secrecy"
	case Unlinkability:
		return "unlinkability"
	}
	return fmt.Sprintf("purpose %d", uint8(p))
}

// Private reports whether the purpose allows no direct path, and fails rather
// than use too few relays.
func (p Purpose) Private() bool { return p == Secrecy || p == Unlinkability }

// Coded reports whether the purpose sends shards of blocks in place of bytes.
func (p Purpose) Coded() bool { return p == Resilience || p == Secrecy }

// A Policy says how a conn's bytes may be divided. The zero value is the default.
type Policy struct {
	// Purpose is what the division is for. 0 means Throughput.
	Purpose Purpose
	// K and N say that any K of a block's N shards suffice: for Resilience and
	// Secrecy only. 0 means 2 of 3. K = 1 of N replicates, for Resilience;
	// Secrecy wants K ≥ 2. N is at most MaxMinPaths.
	K, N int
	// MinPaths is the number of paths over different relays (a direct path
	// counts as one) below which nothing is sent. 0 means 1, or 2 when only
	// relays may be used, K for coded purposes, and MinUnlinkable for
	// Unlinkability; the last two are also the least.
	MinPaths int
	// MaxShare is the most that one relay may carry of any ShareSpan
	// consecutive bytes sent, re-sent ones included: a fraction in (0, 1].
	// 0 means 1, or 0.6 for Throughput when only relays may be used. The other
	// purposes divide by rules of their own, and want 0 or 1.
	MaxShare float64
	// FailFast makes Write fail with *TooFewPathsError when there are fewer
	// than MinPaths paths, and Dial when no more can be had, where they would
	// otherwise wait for more.
	FailFast bool
}

// MaxMinPaths is the largest MinPaths, and the largest N, that a Policy may ask for.
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
// each could not carry the whole, which takes a few hundredths more than
// 1/MinPaths. relayedOnly says that no direct path is allowed.
func (p Policy) WithDefaults(relayedOnly bool) (Policy, error) {
	if p.Purpose == 0 {
		p.Purpose = Throughput
	}
	if p.Purpose > Unlinkability {
		return p, fmt.Errorf("%w: %v is not a purpose that this version knows; use 0 for the default", ErrPolicy, p.Purpose)
	}
	if p.Purpose.Coded() && p.K == 0 && p.N == 0 {
		p.K, p.N = 2, 3
	}
	least := p.leastPaths()
	if p.MinPaths == 0 {
		p.MinPaths = least
		if relayedOnly {
			p.MinPaths = max(2, least)
		}
	}
	if p.MaxShare == 0 {
		p.MaxShare = 1
		if relayedOnly && p.MinPaths > 1 && p.Purpose == Throughput {
			p.MaxShare = 0.6
		}
	}
	return p, p.check(least)
}

// leastPaths is the least MinPaths that the purpose allows.
func (p *Policy) leastPaths() int {
	switch {
	case p.Purpose.Coded():
		return max(p.K, 1)
	case p.Purpose == Unlinkability:
		return MinUnlinkable
	}
	return 1
}

func (p *Policy) check(leastPaths int) error {
	leastK := 1
	if p.Purpose == Secrecy {
		leastK = 2
	}
	switch {
	case p.Purpose.Coded() && (p.K < leastK || p.N < p.K || p.N > MaxMinPaths):
		return fmt.Errorf("%w: K of N is %d of %d, want %d ≤ K ≤ N ≤ %d, or 0 of 0 for 2 of 3", ErrPolicy, p.K, p.N, leastK, MaxMinPaths)
	case !p.Purpose.Coded() && (p.K != 0 || p.N != 0):
		return fmt.Errorf("%w: %v has no shards, so K and N must be 0", ErrPolicy, p.Purpose)
	case p.MinPaths < leastPaths || p.MinPaths > MaxMinPaths:
		return fmt.Errorf("%w: MinPaths is %d, want %d to %d, or 0 for the default", ErrPolicy, p.MinPaths, leastPaths, MaxMinPaths)
	case !(p.MaxShare >= 0.05 && p.MaxShare <= 1):
		return fmt.Errorf("%w: MaxShare is %v, want 0.05 to 1, or 0 for the default", ErrPolicy, p.MaxShare)
	case p.MaxShare != 1 && p.Purpose != Throughput:
		return fmt.Errorf("%w: MaxShare is for throughput; %v divides by rules of its own", ErrPolicy, p.Purpose)
	case p.MaxShare < leastShare(p.MinPaths):
		return fmt.Errorf("%w: %d paths can't carry the whole when each may carry only %v; raise MaxShare to %.4f, or MinPaths",
			ErrPolicy, p.MinPaths, p.MaxShare, leastShare(p.MinPaths)+0.00005)
	}
	return nil
}

// A TooFewPathsError reports that a policy forbids sending over the paths there are:
// Have of them lead over different relays, and it wants Want, its MinPaths.
type TooFewPathsError struct{ Have, Want int }

func (e *TooFewPathsError) Error() string {
	return fmt.Sprintf("%d of the %d paths over different relays that the policy asks for are up: give both ends more relays, of different operators, or choose a policy that asks for fewer", e.Have, e.Want)
}

// SameScheme reports whether p and q cut bytes in the same way, so that one end
// can read what the other sends.
func (p Policy) SameScheme(q Policy) bool {
	return p.Purpose == q.Purpose && p.K == q.K && p.N == q.N
}

// Stricter returns p with the larger MinPaths and the smaller MaxShare of both,
// where q says anything about p's purpose.
func (p Policy) Stricter(q Policy) Policy {
	p.MinPaths = max(p.MinPaths, q.MinPaths)
	if p.Purpose == Throughput && q.Purpose == Throughput {
		p.MaxShare = min(p.MaxShare, q.MaxShare)
	}
	return p
}
