package mux

import "slices"

const (
	// maxRefused bounds the control frames that a peer can make wait by opening
	// streams: 256 KiB of them. A peer that reads never comes near it.
	maxRefused = 256 << 10 / HeaderSize
	// maxPongs is how many pings are remembered for an answer. A peer that has
	// more than one under way is measuring nothing.
	maxPongs = 4
)

// control is what waits to be sent beside data. A stream has at most one frame
// waiting, into which everything that is due for it is merged.
type control struct {
	dirty    []*Stream // those with a frame waiting, in order
	incoming int       // how many of dirty the peer opened
	refused  []uint32  // ids of streams refused, to be reset
	pongs    []uint32  // values of pings to be answered
	goAway   bool
}

// queueLocked adds flags and window to what is due for s. m.mu is held.
func (m *Mux) queueLocked(s *Stream, flags uint16, window int) {
	if m.err != nil {
		return
	}
	s.dueFlags |= flags
	s.dueWindow += uint32(window)
	if !s.dirty {
		s.dirty = true
		m.ctl.dirty = append(m.ctl.dirty, s)
		if s.incoming {
			m.ctl.incoming++
		}
	}
	m.cfg.Output.Wake()
}

// OwesEnd reports whether the peer is yet to be told of the end of a stream's data.
func (m *Mux) OwesEnd() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.ContainsFunc(m.ctl.dirty, func(s *Stream) bool { return s.dueFlags&flagFIN != 0 })
}

func (m *Mux) queue(s *Stream, flags uint16, window int) {
	if flags == 0 && window == 0 {
		return // nothing is due: the common outcome of a Read
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.queueLocked(s, flags, window)
}

// cancel takes back what is due for s, except the flags in keep.
func (m *Mux) cancel(s *Stream, keep uint16) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s.dueFlags &= keep
	s.dueWindow = 0
}

// refuseLocked queues a reset of a stream that never lived here. m.mu is held.
func (m *Mux) refuseLocked(id uint32) {
	m.ctl.refused = append(m.ctl.refused, id)
	m.cfg.Output.Wake()
}

// pong queues the answer to a ping.
func (m *Mux) pong(value uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return
	}
	if len(m.ctl.pongs) == maxPongs {
		m.ctl.pongs = slices.Delete(m.ctl.pongs, 0, 1)
	}
	m.ctl.pongs = append(m.ctl.pongs, value)
	m.cfg.Output.Wake()
}

// AppendControl appends to dst the control frames that wait, whole, oldest
// first and at most max bytes of them, and returns the extended slice; what it
// appends waits no longer. Call it until it appends nothing, with max at least
// HeaderSize, unless the rest may wait.
//
// The frames must go out before data that is given to TryWrite after the call,
// and after data given before it.
func (m *Mux) AppendControl(dst []byte, max int) []byte {
	room := max / HeaderSize
	m.mu.Lock()
	defer m.mu.Unlock()
	c := &m.ctl
	if c.goAway && room > 0 {
		dst = header{kind: typeGoAway, length: goAwayNormal}.append(dst)
		c.goAway = false
		room--
	}
	n := min(room, len(c.pongs))
	for _, value := range c.pongs[:n] {
		dst = header{kind: typePing, flags: flagACK, length: value}.append(dst)
	}
	c.pongs = shift(c.pongs, n)
	room -= n
	n = min(room, len(c.refused))
	for _, id := range c.refused[:n] {
		dst = header{kind: typeWindowUpdate, flags: flagRST, stream: id}.append(dst)
	}
	c.refused = shift(c.refused, n)
	return m.appendDirtyLocked(dst, room-n)
}

func (m *Mux) appendDirtyLocked(dst []byte, room int) []byte {
	c := &m.ctl
	kept := 0 // streams whose writer carries their SYN: c.dirty[:kept]
	i := 0
	for ; i < len(c.dirty) && room > 0; i++ {
		s := c.dirty[i]
		if s.synClaimed {
			c.dirty[kept] = s
			kept++
			continue
		}
		if s.dueFlags != 0 || s.dueWindow != 0 {
			dst = header{kind: typeWindowUpdate, flags: s.dueFlags, stream: s.id, length: s.dueWindow}.append(dst)
			room--
		}
		s.dirty, s.dueFlags, s.dueWindow = false, 0, 0
		if s.incoming {
			c.incoming--
		}
	}
	if i > kept {
		c.dirty = slices.Delete(c.dirty, kept, i)
	}
	if len(c.dirty) == 0 && cap(c.dirty) > 64 {
		c.dirty = nil
	}
	return dst
}

// shift returns q without its first n elements, and without its memory when
// that was much and is no longer needed.
func shift(q []uint32, n int) []uint32 {
	q = slices.Delete(q, 0, n)
	if len(q) == 0 && cap(q) > 64 {
		return nil
	}
	return q
}
