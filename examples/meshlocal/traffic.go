package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/splitmesh/splitmesh/mesh"
)

// patience is how long a peer waits for another's answer.
const patience = 20 * time.Second

// answer echoes what others send, until the node is closed.
func (w *world) answer(m *member, l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		m.mu.Lock()
		m.echoes++
		m.mu.Unlock()
		w.wg.Go(func() { // ends with the conn, whose peer has no more patience than patience
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(patience))
			_, _ = io.Copy(c, io.LimitReader(c, 1<<10)) // what goes wrong is the other end's to tell
		})
	}
}

// talk has a peer dial another now and then, by its ID alone.
func (w *world) talk(ctx context.Context, m *member) {
	for sleep(ctx, w.s.Every/2+time.Duration(rand.Int64N(int64(w.s.Every)))) {
		others := w.members[w.s.Relays:]
		to := others[rand.IntN(len(others))]
		n, _ := m.alive()
		if to == m || n == nil {
			continue
		}
		start := time.Now()
		paths, err := greet(ctx, n, to)
		if ctx.Err() == nil {
			w.tally.talked(time.Since(start), paths, err)
		}
	}
}

// greet dials a peer, says something, and hears it back.
func greet(ctx context.Context, n *mesh.Node, to *member) ([]mesh.Path, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := n.Dial(ctx, to.key.ID().String()+":"+service)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	said := fmt.Sprintf("greetings at %d", time.Now().UnixNano())
	if _, err := io.WriteString(conn, said); err != nil {
		return nil, err
	}
	heard := make([]byte, len(said))
	if _, err := io.ReadFull(conn, heard); err != nil {
		return nil, err
	}
	if string(heard) != said {
		return nil, errors.New("another answer than what was said")
	}
	return conn.(*mesh.Conn).Paths(), nil
}

// maxRecent bounds the latencies and errors that are kept.
const (
	maxRecent = 1000
	maxErrors = 3
)

// A tally counts what happened.
type tally struct {
	mu       sync.Mutex // guards the rest
	talks    int
	failed   int
	direct   int
	split    int // over two relays or more
	deaths   int
	recent   []time.Duration
	problems []string
}

func (t *tally) died() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.deaths++
}

func (t *tally) talked(took time.Duration, paths []mesh.Path, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.talks++
	if err != nil {
		t.failed++
		t.problems = append(t.problems, time.Now().Format(time.TimeOnly)+" "+err.Error())
		t.problems = t.problems[max(0, len(t.problems)-maxErrors):]
		return
	}
	relays := 0
	for i := range paths {
		if !paths[i].Relay.IsZero() {
			relays++
		}
	}
	switch {
	case relays < len(paths):
		t.direct++
	case relays > 1:
		t.split++
	}
	t.recent = append(t.recent, took)
	t.recent = t.recent[max(0, len(t.recent)-maxRecent):]
}

// figures are what there is to be shown.
type figures struct {
	talks, failed, direct, split, deaths int
	median, slowest                      time.Duration // of the last maxRecent; slowest of a hundred
	problems                             []string
}

func (t *tally) figures() figures {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := figures{talks: t.talks, failed: t.failed, direct: t.direct, split: t.split, deaths: t.deaths, problems: slices.Clone(t.problems)}
	if n := len(t.recent); n > 0 {
		sorted := slices.Sorted(slices.Values(t.recent))
		f.median, f.slowest = sorted[n/2], sorted[n*99/100]
	}
	return f
}
