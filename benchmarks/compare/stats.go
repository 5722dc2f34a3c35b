package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// quantile is that of a sorted list, between its neighbours for numbers that can
// be; the zero value of an empty one.
func quantile[N ~int64 | ~float64](sorted []N, q float64) N {
	if len(sorted) == 0 {
		return 0
	}
	at := q * float64(len(sorted)-1)
	i := int(at)
	if i+1 == len(sorted) {
		return sorted[i]
	}
	return sorted[i] + N((at-float64(i))*float64(sorted[i+1]-sorted[i]))
}

// A spread is a median, and what lies around it.
type spread struct {
	Min    float64 `json:"min"`
	Median float64 `json:"median"`
	Max    float64 `json:"max"`
	N      int     `json:"n"`
	Noisy  bool    `json:"noisy,omitempty"` // there were no samples but noisy ones
}

// spreadOf sums up one figure of samples.
func spreadOf(values []float64) (s spread) {
	if len(values) == 0 {
		return spread{}
	}
	sorted := slices.Sorted(slices.Values(values))
	return spread{Min: sorted[0], Median: quantile(sorted, 0.5), Max: sorted[len(sorted)-1], N: len(sorted)}
}

// A subject is a figure of a case of a system.
type subject struct{ kase, system, unit string }

// summary has the spread of all figures that were sampled.
type summary map[subject]spread

// summarise leaves noisy samples out, but where there are no others.
func summarise(samples []sample) summary {
	quiet, noisy := make(map[subject][]float64), make(map[subject][]float64)
	for _, s := range samples {
		into := quiet
		if s.Noisy {
			into = noisy
		}
		for unit, v := range s.Figures {
			of := subject{s.Case, s.System, unit}
			into[of] = append(into[of], v)
		}
	}
	sum := make(summary, len(quiet))
	for of, v := range quiet {
		sum[of] = spreadOf(v)
	}
	for of, v := range noisy {
		if _, ok := quiet[of]; !ok {
			s := spreadOf(v)
			s.Noisy = true
			sum[of] = s
		}
	}
	return sum
}

// number prints with three digits that count.
func number(v float64) string {
	switch a := math.Abs(v); {
	case a == 0:
		return "0"
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a >= 0.1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

func byName[T any](m map[string]T) []string {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	slices.SortFunc(names, cmp.Compare[string])
	return names
}
