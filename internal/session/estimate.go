package session

import "time"

// Bounds of a path's window, in bytes.
const (
	minWindow = 256 << 10
	maxWindow = 16 << 20
)

// Spans over which the estimator's extremes live.
const (
	minRTTSpan = 10 * time.Second
	rateRounds = 8 // smoothed round trips
)

// An estimator learns from acknowledgements how long a path's round trip is, how
// many bytes a second it delivers, and so how many bytes are worth having in
// flight: twice what the path was proven to hold, plus minWindow to probe for
// more. It is pure; the window grows by half as much again each round trip
// while it is what limits the sender. (Cf. BBR, draft-ietf-ccwg-bbr, §4.1.)
type estimator struct {
	srtt      time.Duration
	minRTT    extreme
	rate      extreme // bytes a second
	delivered uint64  // payload bytes acknowledged so far
	changed   time.Time
}

// An extreme keeps the least or the greatest of the recent samples: those of the
// present span and the one before.
type extreme struct {
	value, older float64
	since        time.Time
}

func (e *extreme) add(now time.Time, span time.Duration, v float64, better func(a, b float64) bool) {
	switch {
	case e.since.IsZero():
		*e = extreme{v, v, now}
	case now.Sub(e.since) >= span:
		e.older, e.value, e.since = e.value, v, now
	case better(v, e.value):
		e.value = v
	}
}

func (e *extreme) best(better func(a, b float64) bool) float64 {
	if better(e.older, e.value) {
		return e.older
	}
	return e.value
}

func less(a, b float64) bool    { return a < b }
func greater(a, b float64) bool { return a > b }

// acked takes one acknowledgement: rtt without the peer's delay, and n payload
// bytes delivered now since deliveredThen at sentAt. limited says that the sender
// had too little to send to prove anything about the rate.
func (e *estimator) acked(now time.Time, rtt time.Duration, n int, deliveredThen uint64, sentAt time.Time, limited bool) {
	rtt = max(rtt, time.Microsecond)
	if e.srtt == 0 {
		e.srtt = rtt
	} else {
		e.srtt += (rtt - e.srtt) / 8
	}
	e.minRTT.add(now, minRTTSpan, float64(rtt), less)
	e.delivered += uint64(n)
	e.changed = now
	took := now.Sub(sentAt)
	if took <= 0 {
		return
	}
	rate := float64(e.delivered-deliveredThen) / took.Seconds()
	if !limited || rate > e.rate.best(greater) {
		e.rate.add(now, rateRounds*e.srtt, rate, greater)
	}
}

// bytesPerSecond is the delivery rate that the path has proven, 0 until known.
func (e *estimator) bytesPerSecond() float64 { return e.rate.best(greater) }

// window is the number of bytes worth having in flight.
func (e *estimator) window() int {
	proven := e.rate.best(greater) * e.minRTT.best(less) / float64(time.Second)
	return int(min(minWindow+2*proven, maxWindow))
}
