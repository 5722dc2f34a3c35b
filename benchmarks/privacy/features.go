package main

import (
	"math"
	"slices"
)

// features are k-fingerprinting's (Hayes and Danezis, USENIX Security 2016,
// section 4) of what a relay saw, whose order is that of time, and sums of bytes
// for where frames differ in size. A relay's clock begins with what it sees first.
func features(seen []sight) []float64 {
	v := newView(seen)
	f := make(vector, 0, 192)
	f.add(len(v.all), len(v.in), len(v.out))
	f.addf(ratio(len(v.in), len(v.all)), ratio(len(v.out), len(v.all)))
	f.stats(v.inOrder)
	f.stats(v.outOrder)

	concentration := chunks(v.outbound, 20)
	f.stats(concentration)
	f.addf(regroup(concentration, 20)...)
	f.ends(v.outbound)

	perSecond := v.perSecond()
	f.stats(perSecond)
	f.addf(regroup(perSecond, 20)...)

	for _, times := range [][]float64{v.in, v.out, v.all} {
		gaps := gaps(times)
		f.stats(gaps)
		f.addf(percentile(gaps, 75))
		f.addf(percentile(times, 25), percentile(times, 50), percentile(times, 75), percentile(times, 100))
	}
	f.bursts(v.outbound, true)
	f.bursts(v.outbound, false)
	f.stats(v.inSizes)
	f.stats(v.outSizes)
	for k := range 10 { // sizes of the first frames each way
		f.addf(at(v.inSizes, k), at(v.outSizes, k))
	}
	return f
}

// A view is a relay's, taken apart.
type view struct {
	all, in, out      []float64 // seconds
	inOrder, outOrder []float64 // how many frames came before each
	inSizes, outSizes []float64
	outbound          []bool // of each frame
}

func newView(seen []sight) *view {
	v := &view{}
	if len(seen) == 0 {
		return v
	}
	start := seen[0].at
	for i, s := range seen {
		t := (s.at - start).Seconds()
		v.all = append(v.all, t)
		v.outbound = append(v.outbound, s.size > 0)
		if s.size > 0 {
			v.out = append(v.out, t)
			v.outOrder = append(v.outOrder, float64(i))
			v.outSizes = append(v.outSizes, float64(s.size))
		} else {
			v.in = append(v.in, t)
			v.inOrder = append(v.inOrder, float64(i))
			v.inSizes = append(v.inSizes, float64(-s.size))
		}
	}
	return v
}

func (v *view) perSecond() []float64 {
	var n []float64
	for _, t := range v.all {
		for len(n) <= int(t) {
			n = append(n, 0)
		}
		n[int(t)]++
	}
	return n
}

type vector []float64

func (f *vector) add(n ...int) {
	for _, n := range n {
		*f = append(*f, float64(n))
	}
}

func (f *vector) addf(x ...float64) { *f = append(*f, x...) }

// stats adds the mean, deviation, median, least, most and sum.
func (f *vector) stats(x []float64) {
	if len(x) == 0 {
		f.addf(-1, -1, -1, -1, -1, 0)
		return
	}
	sum, squares := 0.0, 0.0
	for _, x := range x {
		sum += x
		squares += x * x
	}
	mean := sum / float64(len(x))
	deviation := math.Sqrt(max(0, squares/float64(len(x))-mean*mean))
	f.addf(mean, deviation, percentile(x, 50), slices.Min(x), slices.Max(x), sum)
}

// ends adds how many of the first and of the last 30 frames go out and come in.
func (f *vector) ends(outbound []bool) {
	n := min(30, len(outbound))
	for _, part := range [][]bool{outbound[:n], outbound[len(outbound)-n:]} {
		out := 0
		for _, o := range part {
			if o {
				out++
			}
		}
		f.add(out, len(part)-out)
	}
}

// bursts adds figures of the runs of frames in one direction.
func (f *vector) bursts(outbound []bool, out bool) {
	var runs []float64
	run := 0
	for i, o := range outbound {
		if o == out {
			run++
		}
		if run > 0 && (o != out || i == len(outbound)-1) {
			runs = append(runs, float64(run))
			run = 0
		}
	}
	f.stats(runs)
	long := [...]int{2: 0, 5: 0, 10: 0, 15: 0, 50: 0}
	for _, r := range runs {
		for _, than := range []int{2, 5, 10, 15, 50} {
			if int(r) > than {
				long[than]++
			}
		}
	}
	f.add(len(runs), long[2], long[5], long[10], long[15], long[50])
	for k := range 5 {
		f.addf(at(runs, k))
	}
}

// chunks counts the outbound of every n frames.
func chunks(outbound []bool, n int) []float64 {
	var c []float64
	for i, o := range outbound {
		if i%n == 0 {
			c = append(c, 0)
		}
		if o {
			c[len(c)-1]++
		}
	}
	return c
}

// regroup sums x in n parts as even as can be.
func regroup(x []float64, n int) []float64 {
	parts := make([]float64, n)
	for i, v := range x {
		parts[i*n/len(x)] += v
	}
	return parts
}

func gaps(times []float64) []float64 {
	var g []float64
	for i := 1; i < len(times); i++ {
		g = append(g, times[i]-times[i-1])
	}
	return g
}

func percentile(x []float64, p int) float64 {
	if len(x) == 0 {
		return -1
	}
	sorted := x
	if !slices.IsSorted(x) {
		sorted = slices.Sorted(slices.Values(x))
	}
	return sorted[(len(sorted)-1)*p/100]
}

func at(x []float64, k int) float64 {
	if k < len(x) {
		return x[k]
	}
	return -1
}

func ratio(a, b int) float64 {
	if b == 0 {
		return -1
	}
	return float64(a) / float64(b)
}
