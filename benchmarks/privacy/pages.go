package main

import (
	"math"
	"math/rand/v2"
	"time"
)

// An object is a part of a page: a request, and what answers it.
type object struct {
	request, response int           // bytes
	parent            int           // the object that must have come before, -1 is none
	think             time.Duration // from the parent's arrival to the wish for it
	serve             time.Duration // from the request's arrival to the response
	dynamic           bool          // its size differs from visit to visit
}

// A site is a class: the page that all visits to it load, each with its noise.
type site struct{ objects []object }

// newSite makes a page with figures as web pages have them: some tens of objects
// of log-normal size, hundreds of kilobytes to a few megabytes in all, found one
// in another.
func newSite(r *rand.Rand) site {
	n := int(min(max(logNormal(r, 40, 0.5), 10), 120))
	scale := logNormal(r, 20_000, 0.4) // what a typical object of the site weighs
	s := site{objects: make([]object, n)}
	for i := range s.objects {
		o := &s.objects[i]
		o.request = int(min(logNormal(r, 550, 0.35), 3000))
		o.response = int(min(max(logNormal(r, scale, 1.1), 200), 600_000))
		o.parent = -1
		if i == 0 {
			o.response = int(min(logNormal(r, 40_000, 0.7), 300_000))
		} else if r.Float64() < 0.55 {
			o.parent = 0
		} else {
			o.parent = r.IntN(i)
		}
		o.think = time.Duration(logNormal(r, 15e6, 0.9))
		o.serve = time.Duration(logNormal(r, 40e6, 0.7))
		o.dynamic = r.Float64() < 0.2
	}
	return s
}

// visit is the site as one client finds it: some objects cached or gone, sizes
// and times varied, some advertisements that belong to no site.
func (s site) visit(r *rand.Rand) []object {
	at := make([]int, len(s.objects)) // where the site's objects came to stand
	var page []object
	for i, o := range s.objects {
		if o.parent >= 0 && at[o.parent] < 0 || i > 0 && r.Float64() < 0.03 {
			at[i] = -1
			continue
		}
		if o.parent >= 0 {
			o.parent = at[o.parent]
		}
		spread := 0.01
		if o.dynamic {
			spread = 0.2
		}
		o.response = int(float64(o.response) * logNormal(r, 1, spread))
		o.request = int(float64(o.request) * logNormal(r, 1, 0.02))
		o.think = time.Duration(float64(o.think) * logNormal(r, 1, 0.25))
		o.serve = time.Duration(float64(o.serve) * logNormal(r, 1, 0.3))
		at[i] = len(page)
		page = append(page, o)
	}
	for range r.IntN(4) {
		page = append(page, object{
			request: int(logNormal(r, 700, 0.3)), response: int(min(logNormal(r, 15_000, 1), 200_000)),
			parent: r.IntN(len(page)), think: time.Duration(logNormal(r, 50e6, 0.8)), serve: time.Duration(logNormal(r, 80e6, 0.6)),
		})
	}
	return page
}

// logNormal draws a number whose logarithm is normal, around median.
func logNormal(r *rand.Rand, median, sigma float64) float64 {
	return median * math.Exp(sigma*r.NormFloat64())
}
