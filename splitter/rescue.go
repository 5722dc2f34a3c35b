package splitter

import "time"

// Late describes the oldest segment of a lane that is not acknowledged.
type Late struct {
	// On is the index of its path among the paths, -1 if that is gone.
	On int
	// Sent is when the path was given the segment, Size how long it is.
	Sent time.Time
	Size int
}

// AckDelay is how long a receiver may keep an acknowledgement back.
const AckDelay = 5 * time.Millisecond

// Rescue returns the index of a path that should be given a copy of the segment
// for which all others wait, or -1 when it is better to wait too.
//
// A segment is late when it is not acknowledged within SRTT + 4·RTTVar + AckDelay,
// the time after which TCP would send it again (RFC 6298). How late it will be
// nobody knows, so the copy is sent once the segment has been late, beyond SRTT,
// for as long as a copy would take and a quarter more: at worst it is received
// in little more than twice the time that foresight would have taken.
func Rescue(now time.Time, head Late, paths []Path) int {
	var v view
	v.look(head.Size, paths)
	overdue := time.Duration(1<<63 - 1)
	if head.On >= 0 && head.On < len(v.paths) {
		on := &v.paths[head.On]
		if on.SRTT <= 0 {
			return -1 // it may be what measures the path
		}
		overdue = now.Sub(head.Sent) - on.SRTT
		if overdue <= 4*on.RTTVar+AckDelay {
			return -1
		}
	}
	best := -1
	for i := range v.paths {
		if i != head.On && v.paths[i].Open(head.Size) && (best < 0 || v.done[i] < v.done[best]) {
			best = i
		}
	}
	if best < 0 || v.done[best]+v.done[best]/4 > overdue {
		return -1
	}
	return best
}

// Limits of a Redundancy.
const (
	redundancyShare = 0.03
	redundancyStart = 256 << 10
)

// A Redundancy keeps the bytes that are sent again without need within 3 % of
// those sent, above the first 256 KiB. The zero value is ready.
type Redundancy struct {
	sent, resent uint64
}

// Sent records that n bytes were sent for the first time.
func (r *Redundancy) Sent(n int) { r.sent += uint64(n) }

// Resent records that n bytes were sent again.
func (r *Redundancy) Resent(n int) { r.resent += uint64(n) }

// Allow reports whether n bytes may be sent again.
func (r *Redundancy) Allow(n int) bool {
	return float64(r.resent)+float64(n) <= redundancyStart+redundancyShare*float64(r.sent)
}
