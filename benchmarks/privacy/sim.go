package main

import (
	"container/heap"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/splitmesh/splitmesh/splitter"
	"github.com/splitmesh/splitmesh/splitter/padding"
)

// The ends.
const (
	client = 0
	server = 1
)

// sim is one visit in virtual time. Splitting and padding are the library's own;
// links and the session's acknowledgements are modelled.
type sim struct {
	d      *defence
	page   []object
	chance *rand.Rand
	now    time.Time
	began  time.Time
	queue  events
	order  int
	links  []link
	ends   [2]*end
	seen   [][]sight
	wishes []int
	open   int
}

// An end is what one end of the session knows.
type end struct {
	scheduler splitter.Scheduler
	pads      *padding.Framework
	timers    []int // per machine, the generation of its timer
	actions   []padding.Action
	paths     []splitter.Path
	ids       []uint32
	owed      []int  // bytes received on each path and not acknowledged
	ackArmed  []bool // whether a timer will acknowledge
	backlog   int
	unsent    []span    // what the backlog is, in order
	messages  []message // written and not wholly arrived, in order
	segments  []segment
	shares    splitter.ShareWindow
	ahead     []span // of the other end, arrived before its turn; in order
	inOrder   int    // bytes of theirs
	written   int
}

// A message is a request or a response: it ends at offset end of the lane.
type message struct{ object, end int }

// A span is bytes of the lane.
type span struct{ at, n int }

// A segment is what one cell, one frame or one block carries. It is there when
// so many shards of it are.
type segment struct {
	span
	shards int
}

func newEnd(d *defence, links []link, splits, pads rand.Source) *end {
	e := &end{
		scheduler: d.scheduler(splits), owed: make([]int, d.relays), ackArmed: make([]bool, d.relays),
	}
	for i := range d.relays {
		rtt := 2 * links[i].delay
		e.paths = append(e.paths, splitter.Path{ID: uint32(i), Window: window, SRTT: rtt, MinRTT: rtt, Rate: links[i].rate})
		e.ids = append(e.ids, uint32(i))
	}
	if d.machines != nil {
		f, err := padding.New(padding.Config{
			Machines: d.machines(), CellBytes: d.cell, Source: pads,
		})
		if err != nil {
			panic(err) // the experiment's own machines are wrong
		}
		e.pads, e.timers = f, make([]int, padding.MaxMachines)
	}
	return e
}

type kind uint8

const (
	wish   kind = iota // the client wants object n
	served             // the server answers request n
	frame              // a frame arrives at end e
	ackDue             // end e acknowledges path n at the latest
	pad                // machine n of end e sends a cell
)

// An event is what happens at a time.
type event struct {
	kind    kind
	e, n    int
	path    int
	size    int
	segment int // -1: it carries none
	padding bool
	acks    int // bytes that it acknowledges of the path
	gen     int

	at    time.Time
	order int
}

type events []event

func (q events) Len() int { return len(q) }
func (q events) Less(i, j int) bool {
	if !q[i].at.Equal(q[j].at) {
		return q[i].at.Before(q[j].at)
	}
	return q[i].order < q[j].order
}
func (q events) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *events) Push(x any)   { *q = append(*q, x.(event)) }
func (q *events) Pop() any {
	last := len(*q) - 1
	x := (*q)[last]
	*q = (*q)[:last]
	return x
}

func (s *sim) after(d time.Duration, ev event) {
	ev.at, ev.order = s.now.Add(d), s.order
	s.order++
	heap.Push(&s.queue, ev)
}

// next lets the next thing happen.
func (s *sim) next() bool {
	if len(s.queue) == 0 {
		return false
	}
	ev := heap.Pop(&s.queue).(event)
	s.now = ev.at
	switch ev.kind {
	case wish:
		s.wishes = append(s.wishes, ev.n)
		s.wished()
	case served:
		s.write(server, ev.n, s.page[ev.n].response)
	case frame:
		s.receive(ev)
	case ackDue:
		s.ends[ev.e].ackArmed[ev.n] = false
		if s.ends[ev.e].owed[ev.n] > 0 {
			s.send(ev.e, ev.n, s.frameSize(ackInner), event{segment: -1})
		}
	case pad:
		end := s.ends[ev.e]
		if end.timers[ev.n] == ev.gen {
			s.send(ev.e, ev.path, s.d.cell, event{segment: -1, padding: true})
			s.tell(ev.e, padding.Event{Kind: padding.PaddingSent, Path: uint32(ev.path), Machine: ev.n})
		}
	}
	return true
}

// frameSize is what a frame with n bytes inside takes.
func (s *sim) frameSize(n int) int {
	if s.d.cell > 0 {
		return s.d.cell
	}
	return n + frameOverhead
}

func (s *sim) write(e, object, n int) {
	end := s.ends[e]
	end.backlog += n
	end.unsent = append(end.unsent, span{end.written, n})
	end.written += n
	end.messages = append(end.messages, message{object, end.written})
	s.schedule(e)
}

// schedule gives segments to paths while the scheduler finds one.
func (s *sim) schedule(e int) {
	end := s.ends[e]
	for end.backlog > 0 {
		most := segmentBytes
		if s.d.cell > 0 {
			most = s.d.cell - frameOverhead - innerOverhead
		}
		if s.d.k > 0 {
			if !s.block(e, most) {
				return
			}
			continue
		}
		size := s.frameSize(min(most, end.backlog) + innerOverhead)
		if s.d.cell == 0 { // Batched doesn't ask for it
			for i := range end.paths {
				end.paths[i].Carried = end.shares.Held(i)
			}
		}
		i, ahead := end.scheduler.Next(s.now, splitter.Job{Size: size, Backlog: end.backlog}, end.paths)
		if i < 0 {
			return
		}
		cut := end.take(ahead, most)
		size = s.frameSize(cut.n + innerOverhead)
		end.segments = append(end.segments, segment{span: cut, shards: 1})
		end.shares.Sent(i, size)
		end.paths[i].InFlight += size
		s.send(e, i, size, event{segment: len(end.segments) - 1, n: most - cut.n})
	}
}

// take cuts at most so many bytes from the backlog, ahead bytes into it.
func (e *end) take(ahead, most int) span {
	i := 0
	for ; i < len(e.unsent)-1 && ahead >= e.unsent[i].n; i++ {
		ahead -= e.unsent[i].n
	}
	whole := e.unsent[i]
	ahead = min(ahead, whole.n-1)
	cut := span{whole.at + ahead, min(most, whole.n-ahead)}
	if i == 0 && ahead == 0 { // a cell may take the end of one message and the start of the next
		for e.unsent = e.unsent[1:]; cut.n < most && len(e.unsent) > 0 && e.unsent[0].at == whole.at+whole.n; e.unsent = e.unsent[1:] {
			whole.n += e.unsent[0].n
			cut.n = min(most, whole.n)
		}
		if cut.n < whole.n {
			e.unsent = slices.Insert(e.unsent, 0, span{cut.at + cut.n, whole.n - cut.n})
		}
	} else {
		rest := []span{{whole.at, ahead}, {cut.at + cut.n, whole.n - ahead - cut.n}}
		rest = slices.DeleteFunc(rest, func(s span) bool { return s.n == 0 })
		e.unsent = slices.Replace(e.unsent, i, i+1, rest...)
	}
	e.backlog -= cut.n
	return cut
}

// block sends a shard of a block by every path, once all of them have room.
func (s *sim) block(e, most int) bool {
	end := s.ends[e]
	size := (min(most, end.backlog)+s.d.k-1)/s.d.k + shardOverhead + innerOverhead + frameOverhead
	for i := range end.paths {
		if !end.paths[i].Open(size) {
			return false
		}
	}
	end.segments = append(end.segments, segment{span: end.take(0, most), shards: s.d.k})
	for i := range end.paths {
		end.paths[i].InFlight += size
		s.send(e, i, size, event{segment: len(end.segments) - 1})
	}
	return true
}

// send puts a frame on a path. It takes along what the end owes the path, where
// it has room or is sent for that.
func (s *sim) send(e, i, size int, ev event) {
	end := s.ends[e]
	if ev.segment < 0 || ev.n >= ackInner || s.d.cell == 0 {
		ev.acks, end.owed[i] = end.owed[i], 0
	}
	l := &s.links[i]
	leaves := s.now
	if l.busy[e].After(leaves) {
		leaves = l.busy[e]
	}
	leaves = leaves.Add(time.Duration(float64(size) / l.rate * 1e9))
	l.busy[e] = leaves
	seen := sight{at: leaves.Add(l.delay / 2).Sub(s.began), size: int32(size)}
	if e == server {
		seen.size = -seen.size
	}
	s.seen[i] = append(s.seen[i], seen)
	ev.kind, ev.e, ev.path, ev.size = frame, 1-e, i, size
	s.after(leaves.Add(l.delay).Sub(s.now), ev)
	if ev.segment >= 0 {
		s.tell(e, padding.Event{Kind: padding.NormalSent, Path: uint32(i), Bytes: size})
	}
}

func (s *sim) receive(ev event) {
	end, peer := s.ends[ev.e], s.ends[1-ev.e]
	if ev.acks > 0 {
		p := &end.paths[ev.path]
		p.InFlight = max(0, p.InFlight-ev.acks)
		s.schedule(ev.e)
	}
	if ev.segment < 0 {
		if ev.padding {
			s.tell(ev.e, padding.Event{Kind: padding.PaddingReceived, Path: uint32(ev.path)})
		}
		return
	}
	s.owe(ev.e, ev.path, ev.size)
	s.tell(ev.e, padding.Event{Kind: padding.NormalReceived, Path: uint32(ev.path), Bytes: ev.size})
	g := &peer.segments[ev.segment]
	if g.shards--; g.shards == 0 {
		i, _ := slices.BinarySearchFunc(end.ahead, g.at, func(s span, at int) int { return s.at - at })
		end.ahead = slices.Insert(end.ahead, i, g.span)
	}
	for len(end.ahead) > 0 && end.ahead[0].at == end.inOrder {
		end.inOrder += end.ahead[0].n
		end.ahead = end.ahead[1:]
	}
	for len(peer.messages) > 0 && peer.messages[0].end <= end.inOrder {
		m := peer.messages[0]
		peer.messages = peer.messages[1:]
		s.arrived(ev.e, m.object)
	}
}

// owe notes bytes to acknowledge.
func (s *sim) owe(e, i, n int) {
	end := s.ends[e]
	end.owed[i] += n
	if end.owed[i] >= s.d.ackBytes {
		s.send(e, i, s.frameSize(ackInner), event{segment: -1})
	} else if !end.ackArmed[i] {
		end.ackArmed[i] = true
		s.after(s.d.ackDelay, event{kind: ackDue, e: e, n: i})
	}
}

// tell lets the padding machines of an end know, and does what they want.
func (s *sim) tell(e int, ev padding.Event) {
	end := s.ends[e]
	if end.pads == nil {
		return
	}
	end.actions = end.pads.Handle(s.now, ev, end.ids, end.actions[:0])
	for _, a := range end.actions {
		end.timers[a.Machine]++
		if a.Kind == padding.Schedule {
			s.after(a.At.Sub(s.now), event{kind: pad, e: e, n: a.Machine, path: int(a.Path), gen: end.timers[a.Machine]})
		}
	}
}
