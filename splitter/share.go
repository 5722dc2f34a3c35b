package splitter

// ShareSpan is the length, in bytes sent, of the window over which a MaxShare holds.
const ShareSpan = 1 << 20

// A ShareWindow remembers who carried the last ShareSpan bytes of a lane.
// Carriers are small non-negative numbers that the caller gives to relays. The
// zero value is empty and ready.
type ShareWindow struct {
	runs  []shareRun // oldest first; runs[head:] are in the window
	head  int
	total int
	bytes map[int]int
}

type shareRun struct{ carrier, n int }

// Allows reports whether carrier may carry n more bytes without holding more
// than maxShare of any ShareSpan consecutive bytes.
//
// The window after the bytes are sent loses its oldest n; that the oldest may be
// the carrier's own is not counted in its favour beyond what really leaves.
func (w *ShareWindow) Allows(carrier, n int, maxShare float64) bool {
	if maxShare >= 1 {
		return true
	}
	held := w.bytes[carrier] - w.leaving(carrier, w.total+n-ShareSpan)
	return float64(held+n) <= maxShare*ShareSpan
}

// leaving counts carrier's bytes among the oldest n.
func (w *ShareWindow) leaving(carrier, n int) int {
	gone := 0
	for i := w.head; i < len(w.runs) && n > 0; i++ {
		k := min(n, w.runs[i].n)
		if w.runs[i].carrier == carrier {
			gone += k
		}
		n -= k
	}
	return gone
}

// Held is how many of the last ShareSpan bytes carrier has carried.
func (w *ShareWindow) Held(carrier int) int { return w.bytes[carrier] }

// Sent records that carrier carried the next n bytes.
func (w *ShareWindow) Sent(carrier, n int) {
	if w.bytes == nil {
		w.bytes = make(map[int]int)
	}
	if last := len(w.runs) - 1; last >= w.head && w.runs[last].carrier == carrier {
		w.runs[last].n += n
	} else {
		w.runs = append(w.runs, shareRun{carrier, n})
	}
	w.bytes[carrier] += n
	w.total += n
	for w.total > ShareSpan {
		r := &w.runs[w.head]
		k := min(w.total-ShareSpan, r.n)
		r.n -= k
		w.total -= k
		w.bytes[r.carrier] -= k
		if w.bytes[r.carrier] == 0 {
			delete(w.bytes, r.carrier)
		}
		if r.n == 0 {
			w.head++
		}
	}
	if w.head > 64 && w.head > len(w.runs)/2 {
		w.runs = append(w.runs[:0], w.runs[w.head:]...)
		w.head = 0
	}
}

// Merge counts what from has carried as into's: they turned out to be one.
func (w *ShareWindow) Merge(from, into int) {
	for i := w.head; i < len(w.runs); i++ {
		if w.runs[i].carrier == from {
			w.runs[i].carrier = into
		}
	}
	if n := w.bytes[from]; n > 0 {
		w.bytes[into] += n
		delete(w.bytes, from)
	}
}
