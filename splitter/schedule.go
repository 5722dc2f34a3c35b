package splitter

import "time"

// A Path is what a Scheduler sees of a live path.
type Path struct {
	ID uint32
	// InFlight counts the bytes given to the path and not yet acknowledged,
	// Window the bytes it may have in flight.
	InFlight, Window int
	// Carried counts the lane's last ShareSpan bytes that went by the path's
	// relay, or directly.
	Carried int
	// SRTT is the smoothed round-trip time, RTTVar its mean deviation (RFC
	// 6298), MinRTT the least of late, Rate the bytes a second that the path
	// delivered when it was full; all are 0 until measured.
	SRTT, RTTVar, MinRTT time.Duration
	Rate                 float64
	// Barred says that the policy forbids the path to carry this segment.
	Barred bool
}

// Open reports whether the path may take size bytes now. A path with nothing in
// flight may always take one segment.
func (p *Path) Open(size int) bool {
	return !p.Barred && (p.InFlight == 0 || p.InFlight+size <= p.Window)
}

// A Job is what a lane has to send.
type Job struct {
	// Size is that of the next segment, in bytes, headers included.
	Size int
	// Backlog counts the lane's bytes that no path has been given yet, the next
	// segment's included.
	Backlog int
}

// A Scheduler picks the path of the next segment. It must be a pure function of
// its arguments.
type Scheduler interface {
	// Next returns the index in paths of the one that should be given a segment
	// now, or -1 when waiting is better. It must only return a path that is Open.
	//
	// ahead says which segment: the first that has at least ahead bytes of the
	// backlog before it. 0 is the next one. A path that is slower than others
	// may so be given bytes whose turn comes when it delivers them.
	Next(now time.Time, j Job, paths []Path) (path, ahead int)
}

// ShortestQueue gives each segment to the open path with the fewest bytes in
// flight and, among equals, to the one that has carried the least of late. Equal
// paths get equal shares, however little there is to send; a path that delivers
// faster empties its queue sooner and so carries more.
type ShortestQueue struct{}

// Next implements Scheduler.
func (ShortestQueue) Next(_ time.Time, j Job, paths []Path) (path, ahead int) {
	best := -1
	for i := range paths {
		if paths[i].Open(j.Size) && (best < 0 || paths[i].shorter(&paths[best])) {
			best = i
		}
	}
	return best, 0
}

func (p *Path) shorter(q *Path) bool {
	if p.InFlight != q.InFlight {
		return p.InFlight < q.InFlight
	}
	return p.Carried < q.Carried
}
