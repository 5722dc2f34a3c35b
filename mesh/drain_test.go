package mesh_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/splitmesh/splitmesh/mesh"
	directory "github.com/splitmesh/splitmesh/registry/memory"
	"github.com/splitmesh/splitmesh/splitter"
)

// TestDrain: while bytes flow, the relays at which they flow are drained one after the
// other. Their circuits move before they end, and no path is lost meanwhile.
func TestDrain(t *testing.T) {
	dir := directory.New()
	relays := operated(t, dir, "a", "b", "c", "d", "e")
	server := start(t, &mesh.Node{Identity: key(t, 1), Directory: dir})
	l := listen(t, server, "x", 3)
	until(t, "its record names its relays", func() bool {
		r, err := dir.Lookup(t.Context(), server.ID())
		return err == nil && len(r.Addrs) >= 3
	})
	client := start(t, &mesh.Node{Identity: key(t, 2), Directory: dir})
	dialled, accepted := connect(t, &mesh.Dialer{Node: client, RelayedOnly: true, Split: splitter.Policy{MinPaths: 2}, Paths: 2}, l)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	var sent int
	wg.Go(func() { // ends with stop
		piece := bytes.Repeat([]byte("drain"), 4<<10)
		for {
			select {
			case <-stop:
				dialled.CloseWrite()
				return
			default:
			}
			n, err := dialled.Write(piece)
			sent += n
			if err != nil {
				t.Error(err)
				return
			}
		}
	})
	received := make(chan int64, 1)
	wg.Go(func() {
		n, err := io.Copy(io.Discard, accepted)
		if err != nil {
			t.Error(err)
		}
		received <- n
	})
	for range 2 { // there remain three
		paths := dialled.Paths()
		i := slices.IndexFunc(paths, func(p mesh.Path) bool { return !p.Relay.IsZero() && p.Sent > 0 })
		if i < 0 {
			t.Fatal("nothing flows")
		}
		relay := relays[paths[i].Relay]
		if err := relay.Drain(within(t)); err != nil {
			t.Fatal(err)
		}
		if c := relay.Stats().Relay.Circuits; c != 0 {
			t.Errorf("%d circuits are left", c)
		}
		if rec, err := relay.Record(); err != nil || slices.Contains(rec.Capabilities, "relay") {
			t.Error(rec.Capabilities, err)
		}
		until(t, "the server is reserved elsewhere", func() bool {
			at := server.Stats().Reservations
			return len(at) >= 3 && !slices.Contains(at, relay.ID())
		})
		until(t, "there are two paths", func() bool { return len(dialled.Paths()) == 2 })
		relay.Close()
	}
	for _, c := range dialled.Carried() {
		if c.ReSent > 1<<20 {
			t.Errorf("relay %s: %d bytes were sent again", c.Relay.Short(), c.ReSent)
		}
	}
	close(stop)
	wg.Wait()
	if got := <-received; got != int64(sent) {
		t.Errorf("%d bytes of %d", got, sent)
	}
}

// TestDrainOfTheOnlyRelay: its circuits have nowhere to go and stay until it ends; it
// takes no new ones.
func TestDrainOfTheOnlyRelay(t *testing.T) {
	nodes, boot := relays(t, 1, overTCP, mesh.RelayConfig{})
	server := start(t, &mesh.Node{Identity: key(t, 1), Bootstrap: boot})
	l := listen(t, server, "x", 1)
	client := start(t, &mesh.Node{Identity: key(t, 2), Bootstrap: boot})
	dialled, accepted := connect(t, &mesh.Dialer{Node: client}, l)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := nodes[0].Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if _, err := dialled.Write([]byte("still there")); err != nil {
		t.Error(err)
	}
	got := make([]byte, 11)
	if _, err := io.ReadFull(accepted, got); err != nil || string(got) != "still there" {
		t.Errorf("%q, %v", got, err)
	}
	other := start(t, &mesh.Node{Identity: key(t, 3), Bootstrap: boot})
	if _, err := other.Dial(within(t), server.ID().String()+":x"); !errors.Is(err, mesh.ErrRelayLeaving) {
		t.Errorf("a new circuit: %v", err)
	}
	plain := start(t, &mesh.Node{Identity: key(t, 4)})
	if err := plain.Drain(within(t)); err != nil {
		t.Error(err)
	}
}

// TestDrainOfOneOfTwo: the paths move to the only relay that is left, though more are wanted than there are; and none ends
// before that relay's works.
func TestDrainOfOneOfTwo(t *testing.T) {
	for _, paths := range []int{0, 1} {
		t.Run(fmt.Sprint(paths), func(t *testing.T) {
			nodes, boot := relays(t, 2, overTCP, mesh.RelayConfig{})
			server := start(t, &mesh.Node{Identity: key(t, 1), Bootstrap: boot})
			l := listen(t, server, "x", 2)
			var mu sync.Mutex
			var order []mesh.PathEvent
			client := start(t, &mesh.Node{Identity: key(t, 2), Bootstrap: boot, OnPath: func(e mesh.PathEvent) {
				if e.Peer == server.ID() {
					mu.Lock()
					order = append(order, e)
					mu.Unlock()
				}
			}})
			go echo(l)
			c, err := (&mesh.Dialer{Node: client, Paths: paths, Split: splitter.Policy{MinPaths: 1}}).Dial(within(t), l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			dialled := c.(*mesh.Conn)
			until(t, "the paths are there", func() bool { return len(dialled.Paths()) == 2-paths })
			i := slices.IndexFunc(nodes, func(n *mesh.Node) bool { return n.ID() == dialled.Paths()[0].Relay })
			if err := nodes[i].Drain(within(t)); err != nil {
				t.Fatal(err)
			}
			other := nodes[1-i].ID()
			until(t, "one path is left", func() bool { p := dialled.Paths(); return len(p) == 1 && p[0].Relay == other })
			var works, ends int
			until(t, "both are told of", func() bool { // which may take a moment
				mu.Lock()
				defer mu.Unlock()
				works = slices.IndexFunc(order, func(e mesh.PathEvent) bool { return e.Relay == other && e.State == mesh.PathActive })
				ends = slices.IndexFunc(order, func(e mesh.PathEvent) bool { return e.Relay != other && e.State >= mesh.PathDead })
				return works >= 0 && ends >= 0
			})
			if ends < works {
				mu.Lock()
				defer mu.Unlock()
				t.Errorf("the other works at event %d, and the drained one ends at %d: %+v", works, ends, order)
			}
		})
	}
}
