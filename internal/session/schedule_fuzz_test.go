package session

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
	"testing/synctest"
	"time"

	emulation "github.com/splitmesh/splitmesh/transport/link"
)

var (
	schedules     = flag.Int("schedules", 150, "how many random schedules to play over emulated links")
	realSchedules = flag.Int("realschedules", 5, "how many random schedules to play over loopback sockets")
	firstSchedule = flag.Uint64("firstschedule", 1, "the seed of the first schedule; the others follow it")
)

// TestSchedules plays random schedules of cuts, heals, joins, black holes, restarts
// and rekeys: every byte arrives once and in order, and nothing is stuck.
func TestSchedules(t *testing.T) {
	var sum tally
	for i := range *schedules {
		seed := *firstSchedule + uint64(i)
		synctest.Test(t, func(t *testing.T) { playSchedule(t, &emulated{}, randomSteps(seed), &sum) })
		if t.Failed() {
			t.Fatalf("the schedule of seed %d: go test -run TestSchedules -schedules 1 -firstschedule %[1]d", seed)
		}
	}
	sum.print(t, "SESSION_SCHEDULES", *schedules)
}

// TestSchedulesOnSockets is TestSchedules over TCP, in real time.
func TestSchedulesOnSockets(t *testing.T) {
	var sum tally
	for i := range *realSchedules {
		seed := *firstSchedule + uint64(i)
		playSchedule(t, sockets{}, randomSteps(seed), &sum)
		if t.Failed() {
			t.Fatalf("the schedule of seed %d", seed)
		}
	}
	sum.print(t, "SESSION_REAL_SCHEDULES", *realSchedules)
}

// FuzzSchedules plays the schedules that the fuzzer thinks of.
func FuzzSchedules(f *testing.F) {
	f.Add([]byte("a few writes"))
	f.Add([]byte{1, 6, 1, 6, 2, 6, 3, 0, 40, 9, 0, 0, 250, 9, 1, 0, 250, 10, 0, 0, 100})
	f.Add([]byte{2, 6, 1, 6, 2, 0, 99, 11, 0, 0, 200, 5, 0, 12, 1, 13, 2, 15, 0, 6, 1, 0, 200, 11, 1, 6, 3})
	for seed := range uint64(4) {
		f.Add(randomSteps(seed))
	}
	f.Fuzz(func(t *testing.T, steps []byte) {
		var sum tally
		synctest.Test(t, func(t *testing.T) { playSchedule(t, &emulated{}, steps, &sum) })
	})
}

// randomSteps is the script of a seed; see playSchedule.
func randomSteps(seed uint64) []byte {
	rng := rand.New(rand.NewPCG(seed, 77))
	steps := make([]byte, 1+2*(8+rng.IntN(32)))
	for i := range steps {
		steps[i] = byte(rng.Uint32())
	}
	return steps
}

// print is the experiment's line.
func (y *tally) print(t *testing.T, name string, n int) {
	seeds := fmt.Sprintf("seeds %d to %d", *firstSchedule, *firstSchedule+uint64(n)-1)
	show(name+"_WRONG", y.lost+y.doubled, 0, "bytes lost or doubled in %d schedules, %s: %d bytes by %d paths, of which %d died, %d commits, %d restarts, %d times without a path",
		n, seeds, y.bytes, y.paths, y.died, y.commits, y.restarts, y.pathless)
	show(name+"_STUCK", y.stuck, 0, "of %d schedules, %s", n, seeds)
	if n >= 50 && (y.died == 0 || y.commits == 0 || y.restarts == 0 || y.pathless == 0) {
		t.Errorf("%+v: the schedules show too little", *y)
	}
}

// A stage is where a schedule is played: emulated, or on sockets.
type stage interface {
	// connect makes a connection and what breaks it.
	connect(t *testing.T, seed uint64) (a, b net.Conn, l breaker)
	// pause lets some time pass, as long as done is open.
	pause(y *act, d time.Duration)
	// patience is how long the end may take.
	patience() time.Duration
	deadAfter() time.Duration
}

type breaker interface {
	Cut()
	BlackHole()
	Heal()
}

// emulated are pipes of random shapes, in the virtual time of a bubble.
type emulated struct{}

func (*emulated) connect(_ *testing.T, seed uint64) (net.Conn, net.Conn, breaker) {
	rng := rand.New(rand.NewPCG(seed, 5))
	shape := func() emulation.Shape {
		rates := []int64{0, 40e3, 250e3, 1e6, 8e6}
		return emulation.Shape{
			Rate: rates[rng.IntN(len(rates))], Delay: time.Duration(rng.IntN(80)) * time.Millisecond,
			Jitter: time.Duration(rng.IntN(10)) * time.Millisecond,
			Buffer: 32 << 20, // no write waits: its lock would hold up virtual time
		}
	}
	p := emulation.New(emulation.Config{Up: shape(), Down: shape(), Seed: seed}).Pipe(nil, nil)
	a, b := p.Conns()
	return a, b, p
}

func (*emulated) pause(_ *act, d time.Duration) { time.Sleep(d) } // virtual
func (*emulated) patience() time.Duration       { return 10 * time.Minute }
func (*emulated) deadAfter() time.Duration      { return 0 }

// sockets are TCP's, behind links that hold and cut.
type sockets struct{}

func (sockets) connect(t *testing.T, _ uint64) (net.Conn, net.Conn, breaker) {
	a, b := tcpPipe(t)
	l := emulation.New(emulation.Config{})
	return emulation.Wrap(a, l), b, l
}

// pause waits for the paths to die or the bytes to move on, whichever is first.
func (sockets) pause(y *act, d time.Duration) {
	watchdog := time.After(d / 40)
	for range 1 + int(d/(100*time.Millisecond)) {
		select {
		case <-y.moved:
		case <-watchdog:
			return
		}
	}
}

func (sockets) patience() time.Duration  { return 2 * time.Minute }
func (sockets) deadAfter() time.Duration { return time.Second }
