package session

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// A link is a path simulated in virtual time: a FIFO of rate bytes a second and
// round trip rtt, with a receiver that acknowledges as ours does, fed by a
// sender that keeps to an estimator's window.
type simLink struct {
	rate   float64
	rtt    time.Duration
	jitter time.Duration                // of acknowledgements, at most
	wants  func(now time.Duration) bool // whether there is more to send; nil: always
	rng    *rand.Rand

	est  estimator
	now  time.Duration
	free time.Duration // when the FIFO runs empty

	sent                 []sentFrame
	arrived, told, known int // counts of frames: there, acknowledged, and known to be
	tellAt               time.Duration
	acks                 []linkAck
	inFlight             int

	typeAt  time.Duration // of the next keystroke, 0: nobody types
	echoes  []time.Duration
	windows []int
}

type sentFrame struct {
	at, arrives time.Duration
	delivered   uint64
	limited     bool
}

type linkAck struct {
	at, delay time.Duration
	to        int
}

const (
	linkFrame = 32<<10 + 64
	typing    = 7 * time.Millisecond
	never     = time.Duration(1<<63 - 1)
)

var linkEpoch = time.Unix(1e9, 0)

// put gives the FIFO n bytes and returns when they arrive.
func (l *simLink) put(n int) time.Duration {
	l.free = max(l.free, l.now) + time.Duration(float64(n)/l.rate*1e9)
	return l.free + l.rtt/2
}

func (l *simLink) send() {
	for l.wants == nil || l.wants(l.now) {
		w := l.est.window()
		if l.inFlight > 0 && l.inFlight+linkFrame > w {
			return
		}
		l.inFlight += linkFrame
		l.sent = append(l.sent, sentFrame{l.now, l.put(linkFrame), l.est.delivered, l.inFlight < w/2})
	}
}

// run lets d pass and returns how many bytes a second were acknowledged.
func (l *simLink) run(d time.Duration) float64 {
	before, end := l.est.delivered, l.now+d
	for {
		l.send()
		arrival, tell, ack, key := never, never, never, never
		if l.arrived < len(l.sent) {
			arrival = l.sent[l.arrived].arrives
		}
		if l.arrived > l.told {
			tell = l.tellAt
		}
		if len(l.acks) > 0 {
			ack = l.acks[0].at
		}
		if l.typeAt > 0 {
			key = l.typeAt
		}
		at := min(arrival, tell, ack, key, l.now+time.Millisecond)
		if at > end {
			l.now = end
			return float64(l.est.delivered-before) / d.Seconds()
		}
		l.now = at
		switch at {
		case arrival:
			if l.arrived == l.told {
				l.tellAt = l.now + ackDelay
			}
			if l.arrived++; (l.arrived-l.told)*linkFrame >= ackBytes {
				l.tell()
			}
		case tell:
			l.tell()
		case ack:
			l.heard(l.acks[0])
			l.acks = l.acks[1:]
		case key:
			l.echoes = append(l.echoes, l.put(100)+l.rtt/2-l.now)
			l.typeAt = l.now + typing
		}
	}
}

func (l *simLink) tell() {
	at := l.now + l.rtt/2
	if l.jitter > 0 {
		at += time.Duration(l.rng.Int64N(int64(l.jitter)))
	}
	if n := len(l.acks); n > 0 {
		at = max(at, l.acks[n-1].at)
	}
	l.told = l.arrived
	l.acks = append(l.acks, linkAck{at, l.now - l.sent[l.told-1].arrives, l.told})
}

func (l *simLink) heard(a linkAck) {
	n := (a.to - l.known) * linkFrame
	last := l.sent[a.to-1]
	l.known, l.inFlight = a.to, l.inFlight-n
	l.est.acked(linkEpoch.Add(l.now), l.now-last.at-a.delay, n, last.delivered, linkEpoch.Add(last.at), last.limited)
	l.windows = append(l.windows, l.est.window())
}

func newSimLink(mbit float64, rtt time.Duration) *simLink {
	return &simLink{rate: mbit * 1e6 / 8, rtt: rtt, rng: rand.New(rand.NewPCG(1, 2))}
}

func percentile(d []time.Duration, p float64) time.Duration {
	d = slices.Sorted(slices.Values(d))
	return d[int(float64(len(d)-1)*p)]
}

// TestEstimatorFillsThePipeAndLittleMore: over links of every kind the window
// keeps the pipe full, and what is typed meanwhile waits little.
func TestEstimatorFillsThePipeAndLittleMore(t *testing.T) {
	tests := []struct {
		mbit         float64
		rtt, jitter  time.Duration
		echo50, echo float64 // most of an echo's time alone, median and 95th percentile; 0: no matter
	}{
		{mbit: 100, rtt: 20 * time.Millisecond, echo50: 1.4, echo: 1.7},
		{mbit: 100, rtt: 20 * time.Millisecond, jitter: 3 * time.Millisecond, echo50: 1.5, echo: 1.7},
		{mbit: 100, rtt: 100 * time.Millisecond, echo50: 1.2, echo: 1.35},
		{mbit: 10, rtt: 100 * time.Millisecond},
		{mbit: 10, rtt: 10 * time.Millisecond},
		{mbit: 50, rtt: 10 * time.Millisecond},
		{mbit: 1000, rtt: 5 * time.Millisecond},
		{mbit: 1000, rtt: 80 * time.Millisecond},
		{mbit: 10_000, rtt: 50 * time.Microsecond},
	}
	for _, test := range tests {
		l := newSimLink(test.mbit, test.rtt)
		l.jitter = test.jitter
		l.run(3 * time.Second)
		l.typeAt = l.now + typing
		goodput := l.run(20*time.Second) / l.rate
		alone := l.rtt + time.Duration(100/l.rate*1e9)
		p50 := float64(percentile(l.echoes, 0.5)) / float64(alone)
		p95 := float64(percentile(l.echoes, 0.95)) / float64(alone)
		t.Logf("%v Mbit/s, %v ±%v: %.3f of the link, echo %.2f × alone, p95 %.2f, rate %.3f, least %v, window %d KiB",
			test.mbit, test.rtt, test.jitter, goodput, p50, p95, l.est.bytesPerSecond()/l.rate, l.est.minRTT(), l.est.window()>>10)
		if goodput < 0.97 {
			t.Errorf("%v Mbit/s, %v: %.3f of the link is used, want 0.97", test.mbit, test.rtt, goodput)
		}
		if r := l.est.bytesPerSecond() / l.rate; r < 0.9 || r > 1.08 {
			t.Errorf("%v Mbit/s, %v: the rate is taken for %.3f of what it is", test.mbit, test.rtt, r)
		}
		if test.echo > 0 && (p50 > test.echo50 || p95 > test.echo) {
			t.Errorf("%v Mbit/s, %v: an echo takes %.2f × what it takes alone, p95 %.2f; want %v and %v",
				test.mbit, test.rtt, p50, p95, test.echo50, test.echo)
		}
	}
}

// TestEstimatorStarts: within twenty round trips the window fills the pipe, and
// on the way there it never holds more than a few times what the pipe does.
func TestEstimatorStarts(t *testing.T) {
	l := newSimLink(100, 20*time.Millisecond)
	if w := l.est.window(); w != initialWindow {
		t.Fatalf("first window %d, want %d", w, initialWindow)
	}
	l.run(20 * l.rtt)
	if !l.est.full {
		t.Error("the start isn't over after twenty round trips")
	}
	bdp := l.rate * l.rtt.Seconds()
	if w := slices.Max(l.windows); float64(w) > 4*bdp {
		t.Errorf("the start opened the window to %.1f × the pipe", float64(w)/bdp)
	}
	if got := l.run(time.Second) / l.rate; got < 0.97 {
		t.Errorf("%.3f of the link is used after the start", got)
	}
}

// TestEstimatorFollowsTheLink: a longer way is learnt within 10 s, a shorter one
// and another rate within rounds.
func TestEstimatorFollowsTheLink(t *testing.T) {
	tests := []struct {
		name     string
		mbit     float64
		rtt      time.Duration
		within   time.Duration
		standing time.Duration // the most that may then stand in the queue
	}{
		{"longer way", 100, 60 * time.Millisecond, 10 * time.Second, 15 * time.Millisecond},
		{"shorter way", 100, 5 * time.Millisecond, time.Second, 15 * time.Millisecond},
		{"slower", 20, 20 * time.Millisecond, 5 * time.Second, 60 * time.Millisecond},
		{"faster", 400, 20 * time.Millisecond, 8 * time.Second, 10 * time.Millisecond},
	}
	for _, test := range tests {
		l := newSimLink(100, 20*time.Millisecond)
		l.run(3 * time.Second)
		l.rate, l.rtt = test.mbit*1e6/8, test.rtt
		l.run(test.within)
		if m := l.est.minRTT(); m < test.rtt || m > test.rtt+test.standing/2 {
			t.Errorf("%s: least round trip %v, want %v", test.name, m, test.rtt)
		}
		l.typeAt = l.now + typing
		goodput := l.run(3*time.Second) / l.rate
		if goodput < 0.96 {
			t.Errorf("%s: %.3f of the link is used", test.name, goodput)
		}
		if q := percentile(l.echoes, 0.5) - l.rtt; q > test.standing {
			t.Errorf("%s: %v stand in the queue, want at most %v", test.name, q, test.standing)
		}
	}
}

// TestTrickleProvesNothing: one frame now and then, and later less than the link
// carries, say nothing about the rate.
func TestTrickleProvesNothing(t *testing.T) {
	l := newSimLink(100, 20*time.Millisecond)
	l.wants = func(now time.Duration) bool { return len(l.sent) < int(now/(30*time.Millisecond)) }
	l.run(2 * time.Second)
	if r := l.est.bytesPerSecond(); r != 0 {
		t.Errorf("a trickle proved %.0f bytes a second", r)
	}
	if w := l.est.window(); w != initialWindow {
		t.Errorf("window %d after a trickle, want %d", w, initialWindow)
	}
	l.wants = nil
	l.run(2 * time.Second)
	before := l.est.bytesPerSecond()
	first, from := len(l.sent), l.now
	l.wants = func(now time.Duration) bool { return len(l.sent)-first < int((now-from)/(20*time.Millisecond)) }
	l.run(5 * time.Second)
	if r := l.est.bytesPerSecond(); r < 0.98*before {
		t.Errorf("what there was little to prove by lowered the rate from %.0f to %.0f", before, r)
	}
	if m := l.est.minRTT(); m > 24*time.Millisecond {
		t.Errorf("least round trip %v", m)
	}
}

// TestTogetherAcknowledgedIsNoRate: acknowledgements that the way back holds up
// and then delivers at once don't raise the rate.
func TestTogetherAcknowledgedIsNoRate(t *testing.T) {
	var e estimator
	now := linkEpoch
	const n, rtt = 64 << 10, 20 * time.Millisecond
	for range 40 { // four frames leave 5 ms apart and are acknowledged in one instant
		then := e.delivered
		at := now
		now = now.Add(4 * 5 * time.Millisecond)
		for i := range 4 {
			sentAt := at.Add(time.Duration(i) * 5 * time.Millisecond)
			e.acked(now, rtt, n, then, sentAt, false)
		}
	}
	if r, real := e.bytesPerSecond(), 4*n/0.020; r > 1.05*real {
		t.Errorf("rate %.0f, sent at %.0f bytes a second", r, real)
	}
}

func TestEstimatorRTO(t *testing.T) {
	tests := []struct {
		srtt, rttvar, want time.Duration
	}{
		{0, 0, maxRTO},
		{time.Millisecond, time.Millisecond, minRTO},
		{100 * time.Millisecond, 20 * time.Millisecond, 185 * time.Millisecond},
		{2 * time.Second, 0, maxRTO},
	}
	for _, test := range tests {
		e := estimator{srtt: test.srtt, rttvar: test.rttvar}
		if got := e.rto(); got != test.want {
			t.Errorf("srtt %v ± %v: %v, want %v", test.srtt, test.rttvar, got, test.want)
		}
	}
}

func TestEstimatorWindowBounds(t *testing.T) {
	tests := []struct {
		name string
		e    estimator
		want int
	}{
		{"new", estimator{}, initialWindow},
		{"tiny", estimator{full: true, phase: 2, rate: [2]float64{1e3}, least: time.Millisecond}, minWindow},
		{"huge", estimator{full: true, phase: 2, rate: [2]float64{1e9}, least: time.Second}, maxWindow},
		{"fast, empty pipe", estimator{full: true, seeking: 1, rate: [2]float64{2e8}, least: 50 * time.Microsecond}, fastWindow},
	}
	for _, test := range tests {
		if got := test.e.window(); got != test.want {
			t.Errorf("%s: %d, want %d", test.name, got, test.want)
		}
	}
}
