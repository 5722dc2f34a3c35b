package splitter

import (
	"math"
	"slices"
	"time"
)

// Bottlenecks tells which paths share a bottleneck: those whose queues grow and
// shrink together. Paths of one group add no bandwidth to each other.
//
// It is a simplified form of RFC 8382 (shared bottleneck detection). As there
// (§3.1), delays are averaged over intervals of 350 ms and only paths that show
// queuing take part; the round trip stands for the one-way delay, for both ends
// of which it would take two clocks. In place of the RFC's three statistics,
// paths are grouped by the correlation of the averages' changes from interval to
// interval, which tells two queues that are merely alike from one that is the same.
// It takes some five seconds of samples.
//
// The zero value is ready. It remembers maxPaths paths, and of each the last
// half-minute's 90 averages.
type Bottlenecks struct {
	begin time.Time
	paths []delays
}

// Rhythm and thresholds of the detection.
const (
	sbdInterval = 350 * time.Millisecond
	sbdKept     = 90
	sbdLeast    = 12               // pairs of changes needed
	sbdQueue    = time.Millisecond // least deviation of a path that shows queuing
	sbdAlike    = 0.5              // least correlation
	sbdSure     = 3.3              // and least standard deviations of it above none
)

// delays are a path's average round trips by interval, in a ring.
type delays struct {
	id   uint32
	last int // the interval of the newest sample
	sum  [sbdKept]float64
	n    [sbdKept]int
	at   [sbdKept]int
}

// Add takes one round trip of the path, measured at now. Times that run backwards
// are counted to the interval of the newest.
func (b *Bottlenecks) Add(id uint32, now time.Time, rtt time.Duration) {
	if b.begin.IsZero() {
		b.begin = now
	}
	d := b.path(id)
	d.last = max(d.last, int(now.Sub(b.begin)/sbdInterval))
	i := d.last % sbdKept
	if d.n[i] == 0 || d.at[i] != d.last {
		d.sum[i], d.n[i], d.at[i] = 0, 0, d.last
	}
	d.sum[i] += rtt.Seconds()
	d.n[i]++
}

// path returns id's delays, in the place of those that were silent the longest
// if there are too many.
func (b *Bottlenecks) path(id uint32) *delays {
	oldest := 0
	for i := range b.paths {
		if b.paths[i].id == id {
			return &b.paths[i]
		}
		if b.paths[i].last < b.paths[oldest].last {
			oldest = i
		}
	}
	if len(b.paths) < maxPaths {
		b.paths = append(b.paths, delays{id: id})
		return &b.paths[len(b.paths)-1]
	}
	b.paths[oldest] = delays{id: id}
	return &b.paths[oldest]
}

// Forget drops what is known of the path.
func (b *Bottlenecks) Forget(id uint32) {
	b.paths = slices.DeleteFunc(b.paths, func(d delays) bool { return d.id == id })
}

// Groups returns the group of each path that was measured: equal numbers share a
// bottleneck. A path that shares none known is alone in its group. It takes some
// tens of microseconds, and is meant to be asked about once a second.
func (b *Bottlenecks) Groups() map[uint32]int {
	groups := make(map[uint32]int, len(b.paths))
	for i := range b.paths {
		groups[b.paths[i].id] = i
		for k := range b.paths[:i] {
			if b.paths[i].shares(&b.paths[k]) {
				groups[b.paths[i].id] = groups[b.paths[k].id]
				break
			}
		}
	}
	return groups
}

// change is by how much the average of an interval differs from the one before.
func (d *delays) change(interval int) (float64, bool) {
	now, before := interval%sbdKept, (interval-1)%sbdKept
	if d.n[now] == 0 || d.n[before] == 0 || d.at[now] != interval || d.at[before] != interval-1 {
		return 0, false
	}
	return d.sum[now]/float64(d.n[now]) - d.sum[before]/float64(d.n[before]), true
}

// shares reports whether the changes of two paths' delays are surely correlated.
// The intervals in which samples may still come are left out.
func (d *delays) shares(o *delays) bool {
	var n, x, y, xx, yy, xy float64
	end := min(d.last, o.last)
	for i := max(1, end-sbdKept+2); i < end; i++ {
		a, ok := d.change(i)
		c, too := o.change(i)
		if !ok || !too {
			continue
		}
		n, x, y, xx, yy, xy = n+1, x+a, y+c, xx+a*a, yy+c*c, xy+a*c
	}
	if n < sbdLeast {
		return false
	}
	varX, varY := xx/n-x/n*x/n, yy/n-y/n*y/n
	if least := math.Pow(sbdQueue.Seconds(), 2); varX < least || varY < least {
		return false
	}
	r := (xy/n - x/n*y/n) / math.Sqrt(varX*varY)
	// Fisher's transform of a correlation of n pairs has deviation 1/√(n−3).
	return r >= sbdAlike && math.Atanh(min(r, 0.999))*math.Sqrt(n-3) >= sbdSure
}
