package splitter

import (
	"math/rand/v2"
	"slices"
	"time"
)

// A sim is a sender, paths and a receiver in virtual time. Each path is a FIFO
// of a rate and a delay each way; the receiver acknowledges per path, each 64 KiB
// or 5 ms, and delivers in order; the sender's windows are those of the session.
type sim struct {
	sched  Scheduler
	paths  []*simPath
	rng    *rand.Rand
	wants  func(now time.Duration) int // bytes the application has written by now
	now    time.Duration
	shares ShareWindow
	most   float64 // MaxShare

	wrote   int         // segments
	backlog []simSeg    // no path was given
	there   map[int]int // out of order at the receiver: index → 1
	order   int         // segments delivered in order
	written []time.Duration
	latency []time.Duration // of blocks of two segments
	held    int             // most that was out of order
	idle    bool            // nothing in flight, a backlog, and the scheduler waits
}

type simSeg struct{ index int }

type simPath struct {
	rate   float64 // bytes a second
	delay  time.Duration
	jitter time.Duration // of each arrival, at most
	free   time.Duration

	flight               []simFrame
	arrived, told, known int
	tellAt               time.Duration
	acks                 []simAck
	inFlight, carried    int
	srtt, rttvar, least  time.Duration
}

type simFrame struct {
	index       int
	at, arrives time.Duration
}

type simAck struct {
	at, held time.Duration
	to       int
}

const (
	simSize  = 32 << 10
	simQueue = 1 << 20 // the lane's bound on what no path was given
	simNever = time.Duration(1<<63 - 1)
)

func mbit(rate float64, rtt time.Duration) *simPath {
	return &simPath{rate: rate * 1e6 / 8, delay: rtt / 2}
}

func newSim(s Scheduler, paths ...*simPath) *sim {
	return &sim{sched: s, paths: paths, rng: rand.New(rand.NewPCG(7, 7)), there: make(map[int]int), most: 1}
}

// window is the session's rule for a path whose rate is known.
func (p *simPath) window() int {
	if p.least == 0 {
		return 128 << 10
	}
	return max(72<<10, int(p.rate*p.least.Seconds()+min(64<<10, p.rate*0.005)+36<<10))
}

func (s *sim) write() {
	for len(s.backlog)*simSize < simQueue && (s.wants == nil || (s.wrote+1)*simSize <= s.wants(s.now)) {
		s.backlog = append(s.backlog, simSeg{s.wrote})
		s.written = append(s.written, s.now)
		s.wrote++
	}
}

// send gives away what the scheduler is willing to.
func (s *sim) send() {
	view := make([]Path, len(s.paths))
	for {
		s.write()
		if len(s.backlog) == 0 {
			return
		}
		flying := 0
		for i, p := range s.paths {
			view[i] = Path{
				ID: uint32(i), InFlight: p.inFlight, Window: p.window(), SRTT: p.srtt, RTTVar: p.rttvar, MinRTT: p.least,
				Carried: s.shares.Held(i), Barred: !s.shares.Allows(i, simSize, s.most),
			}
			if p.least > 0 {
				view[i].Rate = p.rate
			}
			flying += p.inFlight
		}
		i, ahead := s.sched.Next(time.Time{}, Job{Size: simSize, Backlog: len(s.backlog) * simSize}, view)
		if i < 0 {
			s.idle = s.idle || flying == 0
			return
		}
		at := min((ahead+simSize-1)/simSize, len(s.backlog)-1)
		g := s.backlog[at]
		s.backlog = slices.Delete(s.backlog, at, at+1)
		s.shares.Sent(i, simSize)
		s.paths[i].put(s, g.index)
	}
}

func (p *simPath) put(s *sim, index int) {
	p.free = max(p.free, s.now) + time.Duration(simSize/p.rate*1e9)
	at := p.free + p.delay
	if p.jitter > 0 {
		at += time.Duration(s.rng.Int64N(int64(p.jitter)))
	}
	if n := len(p.flight); n > 0 {
		at = max(at, p.flight[n-1].arrives)
	}
	p.inFlight += simSize
	p.carried += simSize
	p.flight = append(p.flight, simFrame{index, s.now, at})
}

// run lets d pass and returns the bytes a second that were delivered in order.
func (s *sim) run(d time.Duration) float64 {
	before, end := s.order, s.now+d
	for {
		s.send()
		next, on := s.now+time.Millisecond, -1
		for i, p := range s.paths {
			if at := p.next(); at < next {
				next, on = at, i
			}
		}
		if next > end {
			s.now = end
			return float64(s.order-before) * simSize / d.Seconds()
		}
		s.now = next
		if on >= 0 {
			s.paths[on].step(s)
		}
	}
}

// next is when something happens on the path.
func (p *simPath) next() time.Duration {
	at := simNever
	if p.arrived < len(p.flight) {
		at = p.flight[p.arrived].arrives
	}
	if p.arrived > p.told {
		at = min(at, p.tellAt)
	}
	if len(p.acks) > 0 {
		at = min(at, p.acks[0].at)
	}
	return at
}

func (p *simPath) step(s *sim) {
	switch {
	case len(p.acks) > 0 && p.acks[0].at <= s.now:
		a := p.acks[0]
		p.acks = p.acks[1:]
		p.inFlight -= (a.to - p.known) * simSize
		p.known = a.to
		p.measured(s.now - p.flight[a.to-1].at - a.held)
	case p.arrived < len(p.flight) && p.flight[p.arrived].arrives <= s.now:
		if p.arrived == p.told {
			p.tellAt = s.now + AckDelay
		}
		s.receive(p.flight[p.arrived].index)
		if p.arrived++; (p.arrived-p.told)*simSize >= 64<<10 {
			p.tell(s)
		}
	default:
		p.tell(s)
	}
}

func (p *simPath) tell(s *sim) {
	p.told = p.arrived
	p.acks = append(p.acks, simAck{s.now + p.delay, s.now - p.flight[p.told-1].arrives, p.told})
}

func (p *simPath) measured(rtt time.Duration) {
	if p.srtt == 0 {
		p.srtt, p.rttvar, p.least = rtt, rtt/2, rtt
		return
	}
	p.rttvar += ((rtt - p.srtt).Abs() - p.rttvar) / 4
	p.srtt += (rtt - p.srtt) / 8
	p.least = min(p.least, rtt)
}

func (s *sim) receive(index int) {
	s.there[index] = 1
	s.held = max(s.held, len(s.there)*simSize)
	for s.there[s.order] == 1 {
		delete(s.there, s.order)
		if s.order++; s.order%2 == 0 {
			s.latency = append(s.latency, s.now-s.written[s.order-2])
		}
	}
}

func (s *sim) p99() time.Duration {
	l := slices.Sorted(slices.Values(s.latency))
	return l[len(l)*99/100]
}
