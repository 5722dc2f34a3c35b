package splitter_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/splitmesh/splitmesh/splitter"
)

func relays(n int) []splitter.Path {
	paths := make([]splitter.Path, n)
	for i := range paths {
		paths[i] = splitter.Path{ID: uint32(i + 1), Window: 1 << 20}
	}
	return paths
}

func seeded(seed byte) rand.Source { return rand.NewChaCha8([32]byte{seed}) }

var cell = splitter.Job{Size: 536, Backlog: 1 << 20}

var start = time.Unix(1e9, 0)

// Every run of cells on one path is a whole number of batches long.
func TestBatchedSendsInBatches(t *testing.T) {
	b := &splitter.Batched{MinBatch: 50, MaxBatch: 70, Source: seeded(1)}
	paths := relays(5)
	last, run, runs := -1, 0, 0
	carried := make([]int, len(paths))
	for range 20_000 {
		i, ahead := b.Next(start, cell, paths)
		if i < 0 || ahead != 0 {
			t.Fatalf("got path %d, %d ahead, with every path open", i, ahead)
		}
		if i != last && last >= 0 {
			// n batches of 50 to 70 make 50n to 70n cells.
			if n := (run + 69) / 70; run < 50*n {
				t.Fatalf("%d cells in turn on one path are no batches of 50 to 70", run)
			}
			run = 0
			runs++
		}
		carried[i]++
		last = i
		run++
	}
	if runs < 50 {
		t.Fatalf("20,000 cells changed path %d times", runs)
	}
	for i, n := range carried {
		if n == 0 {
			t.Errorf("path %d carried nothing", i)
		}
	}
}

// How much of a burst a path carries is as the Dirichlet distribution has it.
func TestBatchedWeightsPerBurst(t *testing.T) {
	for _, concentration := range []float64{0.3, 1, 4} {
		b := &splitter.Batched{MinBatch: 1, MaxBatch: 1, Concentration: concentration, Source: seeded(2)}
		paths := relays(5)
		now := start
		const bursts, cells = 1500, 400
		var sum, squares float64
		for range bursts {
			n := 0
			for range cells {
				if i, _ := b.Next(now, cell, paths); i == 0 {
					n++
				}
				now = now.Add(999 * time.Millisecond) // never idle
			}
			share := float64(n) / cells
			sum += share
			squares += share * share
			now = now.Add(time.Second)
		}
		mean := sum / bursts
		sd := math.Sqrt(squares/bursts - mean*mean)
		want := math.Sqrt(0.2 * 0.8 / (5*concentration + 1))
		if math.Abs(mean-0.2) > 0.03 || math.Abs(sd-want) > 0.1*want {
			t.Errorf("concentration %v: shares of %.3f ± %.3f, want 0.2 ± %.3f", concentration, mean, sd, want)
		}
	}
}

func TestBatchedWaitsForItsPath(t *testing.T) {
	b := &splitter.Batched{Source: seeded(3)}
	paths := relays(5)
	first, _ := b.Next(start, cell, paths)

	for name, shut := range map[string]func(*splitter.Path){
		"full":   func(p *splitter.Path) { p.InFlight = p.Window },
		"barred": func(p *splitter.Path) { p.Barred = true },
	} {
		open := paths[first]
		shut(&paths[first])
		now := start
		for range 200 { // longer than a burst's pause, but never idle
			now = now.Add(10 * time.Millisecond)
			if i, _ := b.Next(now, cell, paths); i != -1 {
				t.Fatalf("%s: went over to path %d", name, i)
			}
		}
		paths[first] = open
		if i, _ := b.Next(now, cell, paths); i != first {
			t.Fatalf("%s: path %d carried on the batch of path %d", name, i, first)
		}
	}

	// Paths are told apart by their ids, wherever they stand.
	paths[0], paths[first] = paths[first], paths[0]
	paths[4], paths[0] = paths[0], paths[4]
	at := 4
	if i, _ := b.Next(start.Add(2*time.Second), cell, paths); i != at {
		t.Fatalf("went over to path %d when the paths changed places", i)
	}
	if i, _ := b.Next(start.Add(2*time.Second), cell, paths[:4]); i < 0 {
		t.Fatal("waits for a path that is gone")
	}
}

func TestBatchedNeverDrawsABarredPath(t *testing.T) {
	b := &splitter.Batched{MinBatch: 1, MaxBatch: 1, Concentration: 0.001, Source: seeded(4)}
	paths := relays(5)
	paths[2].Barred = true
	now := start
	for range 2000 {
		if i, _ := b.Next(now, cell, paths); i < 0 || i == 2 {
			t.Fatalf("got path %d", i)
		}
		now = now.Add(time.Second)
	}
	for i := range paths {
		paths[i].Barred = true
	}
	if i, _ := b.Next(now.Add(time.Hour), cell, paths); i != -1 {
		t.Fatalf("got path %d of none", i)
	}
	if i, _ := b.Next(now.Add(2*time.Hour), cell, nil); i != -1 {
		t.Fatalf("got path %d of none at all", i)
	}
}

// The same source gives the same paths; without one, two lanes differ.
func TestBatchedChance(t *testing.T) {
	draw := func(s rand.Source) (got [200]int) {
		b := &splitter.Batched{MinBatch: 1, MaxBatch: 1, Source: s}
		for i := range got {
			got[i], _ = b.Next(start, cell, relays(5))
		}
		return got
	}
	one, again, lane, other := draw(seeded(5)), draw(seeded(5)), draw(nil), draw(nil)
	if one != again {
		t.Fatal("one seed, two sequences")
	}
	if lane == other {
		t.Fatal("two lanes draw the same paths")
	}
}
