package splitter

import (
	crand "crypto/rand"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// Batched is the scheduler of Unlinkability: batched weighted-random splitting,
// after De la Cadena et al., "TrafficSliver", CCS 2020, section 5. Consecutive
// cells go in batches, each by a path drawn at random; the paths' weights are
// drawn anew for every burst, so that how much of a visit one relay carries says
// little of how long the visit was. A burst ends when nothing was to be sent
// for Idle.
//
// Unlike other schedulers it has state: each lane, and each end of it, needs one
// of its own, used by one goroutine at a time. Each path that Next returns counts
// as one cell sent. When the path of the batch is full or barred Next waits: a
// cell that went elsewhere would tell the other relays of it. Only when that
// path is gone does another batch begin.
//
// The zero value is ready, with the defaults, and must not be copied after its
// first use.
type Batched struct {
	// MinBatch and MaxBatch bound the cells of a batch, each length as likely
	// as another. 0 means DefaultMinBatch and DefaultMaxBatch.
	MinBatch, MaxBatch int
	// Concentration is the parameter of the symmetric Dirichlet distribution
	// that weights are drawn from: 1 makes all weights equally likely, less
	// makes them more unequal. 0 means DefaultConcentration.
	Concentration float64
	// Idle is the least pause in sending that ends a burst. 0 means DefaultIdle.
	Idle time.Duration
	// Source is where chance comes from. nil means ChaCha8 with a key from
	// crypto/rand; anything weaker is for experiments that must repeat.
	Source rand.Source

	chance  *rand.Rand
	weights []weight
	current uint32 // the path of the batch, while left > 0
	left    int
	last    time.Time
}

// The defaults of Batched: TrafficSliver's, which the experiment in
// benchmarks/privacy compares with others (docs/adr/0012-unlinkability.md).
const (
	DefaultMinBatch      = 50
	DefaultMaxBatch      = 70
	DefaultConcentration = 1.0
	DefaultIdle          = time.Second
)

// A weight is a path's part in the burst. Weights are not normalised: gamma
// variates over their sum are a Dirichlet draw, and stay one when a path goes.
type weight struct {
	id uint32
	w  float64
}

// leastWeight keeps a draw of a small Concentration above the 0 that a
// floating-point number would make of it.
const leastWeight = 1e-300

// Next implements Scheduler.
func (b *Batched) Next(now time.Time, j Job, paths []Path) (path, ahead int) {
	if b.chance == nil {
		b.chance = rand.New(b.source())
	}
	if now.Sub(b.last) >= positive(b.Idle, DefaultIdle) {
		b.weights, b.left = b.weights[:0], 0
	}
	b.last = now
	b.weigh(paths)

	at := -1
	if b.left > 0 {
		at = slices.IndexFunc(paths, func(p Path) bool { return p.ID == b.current })
	}
	if at < 0 {
		if at = b.draw(paths); at < 0 {
			return -1, 0
		}
		least := positive(b.MinBatch, DefaultMinBatch)
		most := max(least, positive(b.MaxBatch, DefaultMaxBatch))
		b.current, b.left = paths[at].ID, least+b.chance.IntN(most-least+1)
	}
	if !paths[at].Open(j.Size) {
		return -1, 0
	}
	b.left--
	return at, 0
}

// weigh forgets the paths that are gone and gives each new one a weight.
func (b *Batched) weigh(paths []Path) {
	b.weights = slices.DeleteFunc(b.weights, func(w weight) bool {
		return !slices.ContainsFunc(paths, func(p Path) bool { return p.ID == w.id })
	})
	for i := range paths {
		if b.weightOf(paths[i].ID) == 0 {
			w := gamma(b.chance, positive(b.Concentration, DefaultConcentration))
			b.weights = append(b.weights, weight{paths[i].ID, max(w, leastWeight)})
		}
	}
}

func (b *Batched) weightOf(id uint32) float64 {
	for _, w := range b.weights {
		if w.id == id {
			return w.w
		}
	}
	return 0
}

// draw picks the path of the next batch by weight among those that are not
// barred, full ones included; -1 means that all are barred.
func (b *Batched) draw(paths []Path) int {
	sum := 0.0
	for i := range paths {
		if !paths[i].Barred {
			sum += b.weightOf(paths[i].ID)
		}
	}
	at, left := -1, sum*b.chance.Float64()
	for i := range paths {
		if paths[i].Barred {
			continue
		}
		at = i
		if left -= b.weightOf(paths[i].ID); left < 0 {
			break
		}
	}
	return at
}

func (b *Batched) source() rand.Source {
	if b.Source != nil {
		return b.Source
	}
	var key [32]byte
	crand.Read(key[:]) // never fails
	return rand.NewChaCha8(key)
}

// gamma draws from the gamma distribution of shape a and scale 1: Marsaglia and
// Tsang, "A Simple Method for Generating Gamma Variables", TOMS 2000, with its
// boost for shapes below 1.
func gamma(r *rand.Rand, a float64) float64 {
	if a < 1 {
		return gamma(r, a+1) * math.Pow(1-r.Float64(), 1/a)
	}
	d := a - 1.0/3
	c := 1 / math.Sqrt(9*d)
	for {
		x := r.NormFloat64()
		v := 1 + c*x
		if v <= 0 {
			continue
		}
		v = v * v * v
		if math.Log(1-r.Float64()) < x*x/2+d-d*v+d*math.Log(v) {
			return d * v
		}
	}
}

// positive returns v, or def when v is not above 0 or not a number.
func positive[T int | float64 | time.Duration](v, def T) T {
	if v > 0 {
		return v
	}
	return def
}
