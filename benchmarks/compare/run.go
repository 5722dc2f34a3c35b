package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"
)

// A run takes the samples.
type run struct {
	pairings []pairing
	rounds   int
	quick    bool
	profile  string
	progress io.Writer
	// take takes a sample; wait passes time until others may have finished.
	take func(ctx context.Context, o order, env []string) sample
	wait func(ctx context.Context, d time.Duration)

	// retakes is the time for samples that are taken anew: the same share of it
	// for each, and what is left for those that come later. again is how much of it
	// may be spent now.
	retakes, again time.Duration
	samples        []sample
}

const (
	// tries is how often a sample is taken until it is quiet.
	tries = 4
	// breath is how long to wait between two of them.
	breath = 300 * time.Millisecond
)

// all takes every sample of every round, or as many as ctx allows.
func (r *run) all(ctx context.Context) {
	total := 0
	for round := range r.rounds {
		total += len(r.inRound(round))
	}
	n := 0
	for round := range r.rounds {
		for _, p := range r.inRound(round) {
			if ctx.Err() != nil {
				return
			}
			n++
			r.again += r.retakes / time.Duration(total)
			start := time.Now()
			s, retaken := r.quiet(ctx, p)
			if ctx.Err() != nil {
				return // what was interrupted is no sample
			}
			s.Round = round
			r.samples = append(r.samples, s)
			fmt.Fprintf(r.progress, "[%d/%d] round %d, %v: %s%s (%.1f s)\n",
				n, total, round+1, p, s.result(p.kase), retaken, time.Since(start).Seconds())
		}
	}
}

// secondThoughts samples what fell through its floor again, twice: a machine has
// bad moments, and code that broke stays broken.
func (r *run) secondThoughts(ctx context.Context, under floors, some bool) {
	for i := range 2 {
		r.again += r.retakes
		_, fallen := under.broken(summarise(r.samples), some)
		if len(fallen) == 0 || ctx.Err() != nil {
			return
		}
		for _, p := range r.pairings {
			if ctx.Err() == nil && slices.ContainsFunc(fallen, func(b *bar) bool { return b.needs(p) }) {
				s, retaken := r.quiet(ctx, p)
				if ctx.Err() != nil {
					return
				}
				s.Round = r.rounds + i
				r.samples = append(r.samples, s)
				fmt.Fprintf(r.progress, "[again] %v: %s%s\n", p, s.result(p.kase), retaken)
			}
		}
	}
}

// inRound is what the round samples: case by case, and the systems of each in
// an order that alternates.
func (r *run) inRound(round int) (ps []pairing) {
	for i := 0; i < len(r.pairings); {
		k := r.pairings[i].kase
		j := i
		for j < len(r.pairings) && r.pairings[j].kase == k {
			j++
		}
		if k.rounds == 0 || round < k.rounds && !(r.quick && round > 0) {
			of := slices.Clone(r.pairings[i:j])
			if round%2 == 1 {
				slices.Reverse(of)
			}
			ps = append(ps, of...)
		}
		i = j
	}
	return ps
}

// quiet samples p until others leave the machine alone, or patience ends.
func (r *run) quiet(ctx context.Context, p pairing) (s sample, retaken string) {
	o := order{Case: p.kase.name, System: p.system.name, Quick: r.quick, Profile: r.profile}
	for try := 1; ; try++ {
		start := time.Now()
		s = r.take(ctx, o, p.system.env)
		s.Noisy = s.Error == "" && s.Others > tooMuch && !p.kase.quiet
		if try > 1 {
			retaken = fmt.Sprintf(", taken %d times", try)
		}
		if !s.Noisy || try == tries || r.again <= 0 || ctx.Err() != nil {
			return s, retaken
		}
		r.wait(ctx, breath)
		r.again -= time.Since(start)
	}
}

// result is the sample in a few words.
func (s *sample) result(k *kase) string {
	if s.Error != "" {
		return "FAILED: " + s.Error
	}
	text := fmt.Sprintf("%s %s", number(s.Figures[k.unit]), k.unit)
	if s.Noisy {
		text += fmt.Sprintf(", NOISY: others used %.0f %% of the machine", 100*s.Others)
	}
	return text
}

// pause waits, less long when ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
