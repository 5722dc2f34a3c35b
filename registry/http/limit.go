package httpregistry

import (
	"sync"
	"time"
)

// A cache keeps what was used last: the last limit keys at least, and twice as many at most.
type cache[K comparable, V any] struct {
	limit int // 0 means defaultLimit
	// young is what was used since it was last full, and old what was in it then.
	young, old map[K]V
}

const defaultLimit = 1024

func (c *cache[K, V]) get(k K) (v V, ok bool) {
	if v, ok = c.young[k]; ok {
		return v, true
	}
	if v, ok = c.old[k]; ok {
		c.put(k, v)
	}
	return v, ok
}

func (c *cache[K, V]) put(k K, v V) {
	limit := c.limit
	if limit == 0 {
		limit = defaultLimit
	}
	if _, ok := c.young[k]; !ok && len(c.young) >= limit || c.young == nil {
		c.young, c.old = make(map[K]V), c.young
	}
	c.young[k] = v
}

// A Rate is what a token bucket allows: Burst requests at once, and then one more each time Every has passed.
type Rate struct {
	Every time.Duration
	Burst int
}

// maxBuckets bounds the buckets of one kind that are remembered for sure. To have its own forgotten, which refills it,
// somebody needs that many addresses.
const maxBuckets = 16384

// buckets are the token buckets of a kind, one for each key.
type buckets[K comparable] struct {
	rate Rate

	mu sync.Mutex
	// full is when each bucket will be full again.
	full cache[K, time.Time]
}

func newBuckets[K comparable](rate Rate) *buckets[K] {
	return &buckets[K]{rate: rate, full: cache[K, time.Time]{limit: maxBuckets}}
}

// take takes a token out of k's bucket. When there is none it returns how long until there is.
func (b *buckets[K]) take(k K, now time.Time) (wait time.Duration) {
	room := b.rate.Every * time.Duration(b.rate.Burst)
	b.mu.Lock()
	defer b.mu.Unlock()
	at, _ := b.full.get(k)
	if at.Before(now) || at.Sub(now) > room { // or the clock was set back
		at = now
	}
	at = at.Add(b.rate.Every)
	if wait = at.Sub(now) - room; wait > 0 {
		return wait
	}
	b.full.put(k, at)
	return 0
}

// giveBack puts back into k's bucket a token that was taken for nothing.
func (b *buckets[K]) giveBack(k K) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if at, ok := b.full.get(k); ok {
		b.full.put(k, at.Add(-b.rate.Every))
	}
}
