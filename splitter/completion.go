package splitter

import "time"

// EarliestCompletion gives each segment to the path that will have delivered it
// first, and waits for that path rather than send the next byte over one that
// would bring it late. A slower path is given, meanwhile, bytes from further back
// in the backlog: those whose turn comes about when that path delivers them. So
// small traffic stays on the fast paths, a backlog fills all of them and arrives
// nearly in order, and a slow path never holds up a fast one. It is the default.
//
// A path is taken for a pipe of rate Rate and round trip MinRTT: with f bytes in
// flight, a segment of s bytes given now is there after
//
//	MinRTT/2 + max(0, f − Rate·MinRTT)/Rate + s/Rate.
//
// Paths that would complete within a tolerance of each other count as equal, and
// the one that has carried the least of late takes the segment: equal paths
// get equal shares, however little there is to send.
//
// To wait for the earliest completion is ECF's idea (Lim et al., "ECF: An MPTCP
// Path Scheduler to Manage Heterogeneous Paths", CoNEXT 2017), in whose place
// BLEST (Ferlin et al., IFIP Networking 2016) and STTF (Hurtig et al., IEEE/ACM
// ToN 2019) estimate blocking and transfer times; to send out of order so that
// bytes arrive in order is that of DAPS (Kuhn et al., IEEE ICC 2014) and OTIAS
// (Yang et al., IEEE ICC 2014).
type EarliestCompletion struct{}

// Completions that differ by less than a tenth and half a millisecond are equal, or
// by what the later path's round trips vary, if that is no more than tieDoubt: a
// first sample says little of a fast path.
const (
	tieShare = 10 // one in
	tieFloor = 500 * time.Microsecond
	tieDoubt = 2 * time.Millisecond
)

// Guesses for what no path of the session has shown yet.
const (
	guessedRTT  = 20 * time.Millisecond
	guessedRate = 10e6
)

// maxPaths is how many paths a scheduler looks at; more than a session keeps.
const maxPaths = 16

// Next implements Scheduler. It only waits for a path that has bytes in flight,
// so that an acknowledgement ends the wait, or when all paths are barred.
func (EarliestCompletion) Next(_ time.Time, j Job, paths []Path) (path, ahead int) {
	var v view
	v.look(j.Size, paths)
	best := -1
	for i := range v.paths {
		if !v.paths[i].Barred && (best < 0 || v.done[i] < v.done[best]) {
			best = i
		}
	}
	if best < 0 {
		return -1, 0
	}
	limit := v.done[best] + v.done[best]/tieShare + tieFloor
	path = -1
	for i := range v.paths {
		if v.done[i] <= limit+min(v.paths[i].RTTVar, tieDoubt) && v.paths[i].Open(j.Size) && (path < 0 || v.paths[i].Carried < v.paths[path].Carried) {
			path = i
		}
	}
	if path >= 0 {
		return path, 0
	}
	return v.later(j)
}

// A view is what the model makes of the paths.
type view struct {
	paths []Path
	rate  [maxPaths]float64
	done  [maxPaths]time.Duration // after which a segment given now is there
}

// look fills the view for a segment of size bytes.
func (v *view) look(size int, paths []Path) {
	v.paths = paths[:min(len(paths), maxPaths)]
	rtt, rate := v.typical()
	for i := range v.paths {
		p := &v.paths[i]
		m, r := p.MinRTT, p.Rate
		if m <= 0 {
			m = rtt
		}
		if r <= 0 {
			// As fast as the others, as far as its window lets it, which may
			// double: so it gets bytes to show what it can, and few.
			r = min(rate, 2*float64(max(p.Window, size))/m.Seconds())
		}
		queued := max(0, float64(p.InFlight)-r*m.Seconds())
		v.rate[i] = r
		v.done[i] = m/2 + time.Duration((queued+float64(size))/r*float64(time.Second))
	}
}

// typical returns the medians of the round trips and rates that are known.
func (v *view) typical() (time.Duration, float64) {
	var rtts, rates [maxPaths]float64
	n, k := 0, 0
	for i := range v.paths {
		if m := v.paths[i].MinRTT; m > 0 {
			n = insert(&rtts, n, float64(m))
		}
		if r := v.paths[i].Rate; r > 0 {
			k = insert(&rates, k, r)
		}
	}
	rtt, rate := guessedRTT, guessedRate
	if n > 0 {
		rtt = time.Duration(rtts[n/2])
	}
	if k > 0 {
		rate = rates[k/2]
	}
	return rtt, rate
}

// insert puts x into the sorted first n of a, and returns their new number.
func insert(a *[maxPaths]float64, n int, x float64) int {
	i := n
	for ; i > 0 && a[i-1] > x; i-- {
		a[i] = a[i-1]
	}
	a[i] = x
	return n + 1
}

// later finds an open path for bytes from further back, the earliest path being
// full: the first byte that the paths which complete earlier will not have
// delivered when this one does. What varies about the path's round trip is taken
// to its disadvantage: a segment that is early waits in a buffer, one that is
// late stops the stream.
func (v *view) later(j Job) (path, ahead int) {
	path = -1
	for i := range v.paths {
		if !v.paths[i].Open(j.Size) || path >= 0 && v.done[i] >= v.done[path] {
			continue
		}
		if n := v.before(i); n+j.Size <= j.Backlog {
			path, ahead = i, n
		}
	}
	return path, ahead
}

// before counts the bytes that paths earlier than i will have delivered, of those
// they are given from now on, when i delivers a segment given now.
func (v *view) before(i int) int {
	// A path's own queue varies its round trips too, and what was measured may
	// be of long ago: hence no more than a part of the way.
	due := v.done[i] + min(v.paths[i].RTTVar, v.paths[i].MinRTT/8)
	n := 0.0
	for k := range v.paths {
		if k != i && !v.paths[k].Barred && v.done[k] < v.done[i] {
			n += (due - v.done[k]).Seconds() * v.rate[k]
		}
	}
	return int(min(n, 1<<30))
}
