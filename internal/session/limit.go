package session

import "sync/atomic"

// A Limit bounds what many sessions keep together that came out of order or belongs
// to incomplete blocks. While more is kept, a session that would keep more than
// limitShare ends: so many hostile peers can't take a node's memory, and who keeps
// little is not disturbed.
type Limit struct {
	most int64
	kept atomic.Int64
}

// limitShare is what any session may keep, in bytes: what a path or two have under way.
const limitShare = 256 << 10

// NewLimit returns a Limit of so many bytes.
func NewLimit(bytes int64) *Limit { return &Limit{most: bytes} }

// Kept is what the sessions keep at present, in bytes.
func (x *Limit) Kept() int64 { return x.kept.Load() }

// add counts n bytes more, or less, and reports whether that is too much. A nil
// Limit has no bound.
func (x *Limit) add(n int64) (over bool) {
	return x != nil && x.kept.Add(n) > x.most
}
