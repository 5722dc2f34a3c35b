package main

import (
	"math/rand/v2"
	"time"

	"github.com/splitmesh/splitmesh/splitter"
	"github.com/splitmesh/splitmesh/splitter/padding"
)

// A sight is a frame as a relay sees it.
type sight struct {
	at   time.Duration
	size int32 // bytes; below 0 towards the client
}

// A defence says how a page is carried.
type defence struct {
	name   string
	relays int
	// cell is the wire size of every frame; 0 is frames as long as what they carry.
	cell int
	// k of relays shards suffice for a block; 0 sends each byte once.
	k         int
	scheduler func(rand.Source) splitter.Scheduler
	machines  func() []padding.Machine
	// An acknowledgement goes on the path it is for, after ackBytes or ackDelay.
	ackBytes int
	ackDelay time.Duration
}

// What a frame takes beside the bytes that it carries (SPEC, "Frames").
const (
	frameOverhead = 24 // header and tag
	innerOverhead = 10 // type, lane and offset, at most
	ackInner      = 24 // an acknowledgement in a frame that has room
	segmentBytes  = 32 << 10
	shardOverhead = 48 // the key's share, block, index, k, n and length
	window        = 256 << 10
	parallel      = 6 // requests that a client makes at once
)

// load carries one visit of page over the defence's relays in virtual time, and
// returns what each relay saw. It is the only place that knows how: captures of
// real sessions can take its place.
func load(d *defence, page []object, seed uint64) [][]sight {
	s := &sim{d: d, page: page, chance: rand.New(rand.NewPCG(seed, 1)), seen: make([][]sight, d.relays)}
	for i := range d.relays {
		// The same relays for all visits, near and far: first hops are pinned.
		// Load on them differs.
		delay := time.Duration(20+15*i) * time.Millisecond
		rate := 2.5e6 * logNormal(s.chance, 1, 0.15)
		s.links = append(s.links, link{delay: time.Duration(float64(delay) * logNormal(s.chance, 1, 0.05)), rate: rate})
	}
	for e := range s.ends {
		s.ends[e] = newEnd(d, s.links, rand.NewPCG(seed, uint64(2+e)), rand.NewPCG(seed, uint64(4+e)))
	}
	s.browse()
	return s.seen
}

// A link is a path by way of one relay, half its delay on either side.
type link struct {
	delay time.Duration
	rate  float64      // bytes a second
	busy  [2]time.Time // until when, by the sending end
}

// browse is the client's side of the page: requests as their parents come, a few
// at once, and responses as they are served.
func (s *sim) browse() {
	s.now = time.Unix(1e9, 0)
	s.began = s.now
	for i, o := range s.page {
		if o.parent < 0 {
			s.after(o.think, event{kind: wish, n: i})
		}
	}
	for s.next() {
	}
}

// wished makes requests while the client may.
func (s *sim) wished() {
	for len(s.wishes) > 0 && s.open < parallel {
		i := s.wishes[0]
		s.wishes = s.wishes[1:]
		s.open++
		s.write(client, i, s.page[i].request)
	}
}

// arrived is called when the last byte of object i is there, at end e.
func (s *sim) arrived(e, i int) {
	if e == server {
		s.after(s.page[i].serve, event{kind: served, n: i})
		return
	}
	s.open--
	for j, o := range s.page {
		if o.parent == i {
			s.after(o.think, event{kind: wish, n: j})
		}
	}
	s.wished()
}
