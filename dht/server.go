package dht

import (
	"context"
	"errors"
	"net"
	"strings"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/internal/kad"
	"github.com/splitmesh/splitmesh/registry"
)

const (
	// maxServed bounds the queries that are being answered, maxServedOf those of one peer; as many more are told that it
	// is too much.
	maxServed   = 1024
	maxServedOf = 32
	// banTime is for how long a peer is blocked that floods us.
	banTime = time.Minute
	// maxChecking bounds the askers that are being asked back.
	maxChecking = 16
)

// serve answers those who connect, until l is closed.
func (d *DHT) serve(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		from, err := peerOf(conn)
		if err != nil {
			conn.Close()
			continue
		}
		r, wait := d.limits.enter(from, time.Now())
		if r != served {
			d.count(func(s *Stats) { s.Refused++ })
		}
		switch r {
		case banned:
			conn.Close()
			d.block(from)
			continue
		case dropped:
			conn.Close()
			continue
		}
		d.wg.Go(func() { // ends within a second and queryTimeout; Accept's own count is held meanwhile
			defer d.limits.leave(from)
			defer conn.Close()
			if !d.pause(wait) {
				return
			}
			_ = conn.SetDeadline(time.Now().Add(queryTimeout))
			if err := d.answer(conn, from, r); err != nil {
				d.log.Debug("query not answered", "peer", from.Short(), "err", err)
			}
		})
	}
}

// pause waits, and reports whether it was not in vain.
func (d *DHT) pause(wait time.Duration) bool {
	if wait == 0 {
		return true
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-d.ctx.Done():
		return false
	}
}

// block has the Network block a peer that floods us, if it can.
func (d *DHT) block(peer identity.ID) {
	d.mu.Lock()
	n, ok := d.net.(blocker)
	d.mu.Unlock()
	if ok {
		d.log.Warn("a peer floods us with queries, and is blocked", "peer", peer.Short(), "for", banTime)
		n.Block(peer, banTime)
	}
}

func (d *DHT) count(f func(*Stats)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f(&d.stats)
}

// peerOf returns who is at the other end, which the Network has proven.
func peerOf(conn net.Conn) (identity.ID, error) {
	peer, _, _ := strings.Cut(conn.RemoteAddr().String(), ":")
	return identity.ParseID(peer)
}

// answer reads a query and answers it, as asked unless it is refused.
func (d *DHT) answer(conn net.Conn, from identity.ID, r ruling) error {
	var q query
	err := read(conn, &q)
	if err == nil {
		err = q.check()
	}
	if err != nil {
		return err
	}
	a := &answer{Verdict: vBusy}
	if r == served {
		a = d.handle(&q, from)
		a.fit()
	}
	b, err := encode(a)
	if err != nil {
		return err
	}
	_, err = conn.Write(b)
	return err
}

// handle answers a query that was checked.
func (d *DHT) handle(q *query, from identity.ID) *answer {
	d.welcome(q.Self, from)
	a := new(answer)
	if q.Op == opStore {
		r, _, err := d.parse(q.Record)
		if err != nil {
			return &answer{Verdict: vInvalid}
		}
		a.Verdict = d.keep(r, kad.Key(q.Key), from)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stats.Served++
	if d.self != nil {
		a.Self = d.self.Marshal()
	}
	if q.Op == opFind || a.Verdict == vRollback {
		a.Records = marshal(d.own(kad.Key(q.Key)))
	}
	if q.Op == opFind {
		for _, c := range d.table.Closest(kad.Key(q.Key), kad.K) {
			a.Closer = append(a.Closer, c.Record.Marshal())
		}
	}
	return a
}

// keep stores a record for others.
func (d *DHT) keep(r *registry.Record, under kad.Key, from identity.ID) verdict {
	if d.cfg.Client {
		return vFar
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.store.Put(r, under, from, d.table.Closer(under), d.cfg.Now())
	switch {
	case err == nil:
		return vOK
	case errors.Is(err, registry.ErrRollback):
		return vRollback
	case errors.Is(err, kad.ErrFar):
		return vFar
	case errors.Is(err, kad.ErrFull), errors.Is(err, kad.ErrShare):
		return vFull
	}
	return vInvalid
}

// welcome asks an asker back that says to answer queries itself: only who answers comes into the table.
func (d *DHT) welcome(self []byte, from identity.ID) {
	if len(self) == 0 {
		return
	}
	r, newest, err := d.parse(self)
	if err != nil || !newest || r.ID != from {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	// Where the asker is we do not know: a stranger may reach us by a relay. Only who is local has local neighbours.
	us := d.self
	if us == nil {
		us = new(registry.Record)
	}
	if d.closed || !d.named(r, us) {
		return
	}
	c := d.contact(r)
	if _, ok := d.checking[from]; ok || c == nil || len(d.checking) == maxChecking || !d.table.Wants(c) {
		return
	}
	d.checking[from] = struct{}{}
	d.wg.Go(func() { // ends within reachTimeout; the caller's own count is held meanwhile
		ctx, cancel := context.WithTimeout(d.ctx, reachTimeout)
		defer cancel()
		_, _ = d.call(ctx, from, r, &query{Op: opPing})
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.checking, from)
	})
}
