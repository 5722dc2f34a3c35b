package dht

import (
	"sync"
	"time"

	"github.com/splitmesh/splitmesh/identity"
)

const (
	// DefaultRate is how many queries a second are answered for one peer, and a quarter of how many at once. As many
	// more are told that it is too much; they wait until that is true no longer, for a second at most. Beyond that conns
	// are closed, and of dropRate times as many its sender is blocked.
	DefaultRate = 50
	dropRate    = 10
	// maxPause is how long who asks too much waits at the most.
	maxPause = time.Second
	// maxPeers bounds the peers whose queries are counted.
	maxPeers = 4096
)

// limits bounds the queries that are answered.
type limits struct {
	rate float64 // of one peer's queries, a second

	mu    sync.Mutex
	busy  int
	peers map[identity.ID]*allowance
}

// An allowance is what a peer may still ask: token buckets, of what is answered, of what is answered with vBusy, which may
// be in debt, and of what is not answered.
type allowance struct {
	tokens, refusals, drops float64
	at                      time.Time
	busy                    int
}

// A ruling says what becomes of a query.
type ruling int

const (
	served  ruling = iota
	refused        // answered with vBusy
	dropped        // not answered
	banned         // nor is anything else of the peer's
)

// enter counts a query of the peer's, and returns what becomes of it, and after which wait. After one that is to be
// answered, leave must follow.
func (l *limits) enter(id identity.ID, now time.Time) (r ruling, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.peers[id]
	if p == nil {
		if len(l.peers) >= maxPeers && !l.forget(now) {
			return dropped, 0
		}
		if l.peers == nil {
			l.peers = make(map[identity.ID]*allowance)
		}
		p = &allowance{at: now}
		p.add(4, l.rate)
		l.peers[id] = p
	}
	p.fill(now, l.rate)
	switch {
	case p.tokens >= 1 && p.busy < maxServedOf && l.busy < maxServed:
		p.tokens--
	case p.refusals >= 1-l.rate && p.busy < 2*maxServedOf && l.busy < 2*maxServed:
		p.refusals--
		r = refused
		if p.refusals < 0 {
			wait = time.Duration(-p.refusals / l.rate * float64(time.Second))
		}
	case p.drops >= 1:
		p.drops--
		return dropped, 0
	default:
		p.drops = dropRate * l.rate // of one flood, once
		return banned, 0
	}
	p.busy++
	l.busy++
	return r, wait
}

func (p *allowance) fill(now time.Time, rate float64) {
	if d := now.Sub(p.at).Seconds(); d > 0 {
		p.add(d, rate)
	}
	p.at = now
}

// add adds what so many seconds bring.
func (p *allowance) add(seconds, rate float64) {
	p.tokens = min(4*rate, p.tokens+rate*seconds)
	p.refusals = min(4*rate, p.refusals+rate*seconds)
	p.drops = min(4*dropRate*rate, p.drops+dropRate*rate*seconds)
}

func (l *limits) leave(id identity.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy--
	l.peers[id].busy--
}

// forget drops those who have asked nothing for as long as it takes to have the full allowance again, or else the one who
// is closest to that: however many strangers there are, they keep no newcomer out. It reports whether there were any.
func (l *limits) forget(now time.Time) bool {
	var fullest identity.ID
	n, most := len(l.peers), -1.0
	for id, p := range l.peers {
		if p.fill(now, l.rate); p.busy > 0 {
			continue
		}
		if left := p.tokens + p.refusals + p.drops; left == (8+4*dropRate)*l.rate {
			delete(l.peers, id)
		} else if left > most {
			fullest, most = id, left
		}
	}
	if len(l.peers) == n && most >= 0 {
		delete(l.peers, fullest)
	}
	return len(l.peers) < n
}
