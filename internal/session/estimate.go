package session

import "time"

// Bounds and steps of a path's window, in bytes.
const (
	// initialWindow is what a new path may have in flight, minWindow what any
	// path may: two segments, so that one can leave while the other arrives.
	initialWindow = 128 << 10
	minWindow     = 2 * segmentCost
	segmentCost   = 36 << 10
	maxWindow     = 16 << 20
	looseWindow   = 256 << 10
	// loneBytes is how many bytes an acknowledgement must be for, for its delay to
	// say something of the rate.
	loneBytes = 16 << 10
	// A path faster than fastRate is one host or a data centre, where late
	// goroutines cost more than a queue does: it gets at least fastWindow.
	fastRate   = 100e6
	fastWindow = 256 << 10
	// lateness is how late an end's goroutines may run without the pipe
	// running empty.
	lateness = 500 * time.Microsecond
)

// The model's rhythm.
const (
	// fullRounds without growth by growth end the start.
	fullRounds = 3
	growth     = 1.25
	// rateRounds is the span of each half of the rate's filter: more than a
	// cycle of gains, so that what the probing round found is not forgotten
	// before the next.
	rateRounds = 8
	// After leastSpan without a round trip as short as the least one known, the
	// pipe is let run empty for leastRounds: a longer way is so learnt within
	// 10 s.
	leastSpan   = 8 * time.Second
	leastRounds = 2
	drainGain   = 0.75
)

// cycle is the gain of each round in turn: one probes for more rate, the next
// drains the queue that the probe left, and the others keep to the model.
var cycle = [8]float64{1.2, 0.9, 1, 1, 1, 1, 1, 1}

// Bounds of the time after which bytes without an answer count as lost.
const (
	minRTO = 100 * time.Millisecond
	maxRTO = 900 * time.Millisecond
)

// An estimator learns from acknowledgements how long a path's round trip is, how
// many bytes a second it delivers, and so how many bytes are worth having in
// flight: what fills the pipe and the steps by which its ends work, and little
// more, for all above it is a queue that every later byte waits in.
//
// It is pure. It follows BBR (draft-ietf-ccwg-bbr): a maximum filter of the
// delivery rate over rounds (§5.5), a minimum filter of the round trip (§5.6),
// a start that doubles each round until the rate stops growing (§5.3.1), gains in
// cycles (§5.3.3) and a pause that shows the bare round trip again (§5.3.4). It
// does not pace: the path below is TCP, which does.
type estimator struct {
	// loose says that what is sent over the path has windows of its own, further
	// up: two that drain the same pipe in turn would leave it empty.
	loose bool

	srtt, rttvar time.Duration // RFC 6298
	delivered    uint64        // payload bytes acknowledged so far

	least      time.Duration // the shortest round trip of late
	leastAt    time.Time     // when it was last seen or sought
	seeking    int           // rounds left for which the pipe is let run empty
	sought     time.Duration // the shortest seen since that began
	rate       [2]float64    // greatest in the present span of rounds, and the one before
	rateCount  int           // rounds in the present span
	lone       float64       // see likelyRate
	round      mark
	roundFull  bool // the sender was never short of bytes in this round
	phase      int  // index in cycle
	full       bool // the start is over
	best       float64
	bestRounds int // rounds since best grew
	start      int // the window while the start lasts
}

// A mark is where a round began: at an acknowledgement, which had come at, and
// whose last byte had been sent.
type mark struct {
	delivered uint64
	at, sent  time.Time
}

// acked takes one acknowledgement: rtt without the peer's delay, and n payload
// bytes delivered now. The last of them was sent at sentAt, when deliveredThen
// bytes had been acknowledged; limited says that there was too little in flight
// then to prove anything about the rate.
func (e *estimator) acked(now time.Time, rtt time.Duration, n int, deliveredThen uint64, sentAt time.Time, limited bool) {
	e.measured(now, max(rtt, time.Microsecond))
	e.delivered += uint64(n)
	if queued := rtt - e.least; n >= loneBytes && queued > time.Millisecond {
		e.lone = float64(e.delivered-deliveredThen) / queued.Seconds()
	}
	if e.start == 0 {
		e.start = initialWindow
	}
	if !e.full && !limited {
		e.start = min(e.start+n, maxWindow)
	}
	e.roundFull = e.roundFull && !limited
	if deliveredThen >= e.round.delivered {
		e.endRound(now, sentAt)
		e.round = mark{e.delivered, now, sentAt}
		e.roundFull = true
	}
}

// measured takes one sample of the round trip.
func (e *estimator) measured(now time.Time, rtt time.Duration) {
	if e.srtt == 0 {
		e.srtt, e.rttvar = rtt, rtt/2
		e.least, e.leastAt = rtt, now
		return
	}
	e.rttvar += ((rtt - e.srtt).Abs() - e.rttvar) / 4
	e.srtt += (rtt - e.srtt) / 8
	if e.seeking > 0 {
		e.sought = min(e.sought, rtt)
	}
	if rtt <= e.least {
		e.least, e.leastAt, e.seeking = rtt, now, 0
	}
}

// endRound ends a round with the acknowledgement, at now, of the first bytes
// sent in it, at sentAt.
//
// The round's rate is over the longer of the spans in which its bytes were sent
// and were acknowledged. The latter runs from one acknowledgement to another, so
// that bytes which the receiver saves up for one do not count as sent in no time.
func (e *estimator) endRound(now, sentAt time.Time) {
	if took := max(now.Sub(e.round.at), sentAt.Sub(e.round.sent)); !e.round.at.IsZero() && took > 0 {
		e.delivers(float64(e.delivered-e.round.delivered)/took.Seconds(), !e.roundFull)
	}
	switch {
	case e.seeking > 1:
		e.seeking--
	case e.seeking == 1:
		e.least, e.leastAt, e.seeking = e.sought, now, 0
	case now.Sub(e.leastAt) < leastSpan:
	case e.loose:
		e.least, e.leastAt = e.srtt, now
	default:
		e.seeking, e.sought = leastRounds+1, time.Hour // the first is what is in flight already
	}
}

// delivers takes the delivery rate of a round. What a limited round delivers is
// what there was to send: it can raise what is known, and ages nothing.
func (e *estimator) delivers(rate float64, limited bool) {
	if limited {
		if e.rate[0] > 0 {
			e.rate[0] = max(e.rate[0], rate)
		}
		return
	}
	if e.rateCount++; e.rateCount > rateRounds {
		e.rate, e.rateCount = [2]float64{0, e.rate[0]}, 1
	}
	e.rate[0] = max(e.rate[0], rate)
	if e.full {
		e.phase = (e.phase + 1) % len(cycle)
		return
	}
	if rate >= e.best*growth {
		e.best, e.bestRounds = rate, 0
		return
	}
	if e.bestRounds++; e.bestRounds >= fullRounds {
		e.full, e.phase = true, 1 // what the start has queued is drained first
	}
}

// bytesPerSecond is the delivery rate that the path has proven, 0 until it was
// full for a round.
func (e *estimator) bytesPerSecond() float64 { return max(e.rate[0], e.rate[1]) }

// likelyRate is bytesPerSecond or, before that is known, the rate at which the last
// few segments seem to have been passed on: what they took longer than the bare
// round trip. 0 until either is known.
func (e *estimator) likelyRate() float64 {
	if r := e.bytesPerSecond(); r > 0 {
		return r
	}
	return e.lone
}

// minRTT is the bare round trip, 0 until known.
func (e *estimator) minRTT() time.Duration { return e.least }

// rto is how long bytes may go without an answer before they count as lost.
func (e *estimator) rto() time.Duration {
	if e.srtt == 0 {
		return maxRTO
	}
	return min(max(e.srtt+4*e.rttvar+ackDelay, minRTO), maxRTO)
}

// window is the number of bytes worth having in flight.
func (e *estimator) window() int {
	rate := e.bytesPerSecond()
	bdp := rate * e.least.Seconds()
	slack := steps(rate)
	var w float64
	switch {
	case e.loose:
		w = max(looseWindow, 2*bdp+2*slack)
	case e.seeking > 0:
		w = drainGain * bdp
	case !e.full:
		w = float64(max(e.start, initialWindow))
		if rate > 0 {
			w = min(w, max(initialWindow, 2*bdp+2*slack))
		}
	default:
		w = cycle[e.phase]*bdp + slack
	}
	if rate > fastRate {
		w = max(w, fastWindow)
	}
	return int(min(max(w, minWindow), maxWindow))
}

// steps is what keeps the pipe full above the product of rate and round trip:
// what the receiver saves up for one acknowledgement, a segment for which there
// is not quite room, and what flows while an end is late. (The segment that is
// partly there is in the round trip, which ends when all of it is.)
func steps(rate float64) float64 {
	return min(ackBytes, rate*ackDelay.Seconds()) + segmentCost + rate*lateness.Seconds()
}
