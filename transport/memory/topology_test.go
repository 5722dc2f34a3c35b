package memory_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splitmesh/splitmesh/transport/link"
	"github.com/splitmesh/splitmesh/transport/memory"
)

func mustBeSilent(t *testing.T, from, to net.Conn) {
	t.Helper()
	if _, err := from.Write([]byte("held")); err != nil {
		t.Fatal(err)
	}
	to.SetReadDeadline(time.Now().Add(time.Hour))
	defer to.SetReadDeadline(time.Time{})
	if n, err := to.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Fatalf("read %d bytes, %v over a partition", n, err)
	}
}

func mustBeReset(t *testing.T, conns ...net.Conn) {
	t.Helper()
	for i, c := range conns {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("end %d: Read: %v, want ECONNRESET", i, err)
		}
		if _, err := c.Write([]byte{1}); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("end %d: Write: %v, want ECONNRESET", i, err)
		}
	}
}

func TestKill(t *testing.T) {
	network := memory.NewNetwork(memory.Options{})
	admit, conns := queue(1)
	bob := listen(t, network, "bob", admit)
	a, b := connect(t, network, "alice", "bob")
	b2, c := connect(t, network, "bob", "carol")
	a2, c2 := connect(t, network, "alice", "carol")
	if got := network.Conns(); len(got) != 3 || got[1].From != "bob" || got[1].To != "carol" {
		t.Errorf("Conns = %v", got)
	}
	network.Kill("bob")
	mustBeReset(t, a, b, b2, c)
	mustReach(t, a2, c2)
	if got := network.Conns(); len(got) != 1 || got[0].From != "alice" || got[0].To != "carol" || !got[0].Pipe.Live() {
		t.Errorf("Conns after Kill = %v", got)
	}
	if _, err := network.Host("alice").Dial(t.Context(), bob.Multiaddr(), nil); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("Dial: %v, want ECONNREFUSED", err)
	}
	// It comes back at the same address.
	again, err := network.Host("bob").Listen(t.Context(), bob.Multiaddr(), admit)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	d, err := network.Host("dave").Dial(t.Context(), bob.Multiaddr(), nil)
	if err != nil {
		t.Fatal(err)
	}
	mustReach(t, d, <-conns)

	for range 2 {
		if err := network.Close(); err != nil {
			t.Error(err)
		}
	}
	mustBeReset(t, d, a2, c2)
	if _, err := network.Host("x").Dial(t.Context(), bob.Multiaddr(), nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Dial after Close: %v, want ErrClosed", err)
	}
	if _, err := network.Host("x").Listen(t.Context(), anywhere, nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Listen after Close: %v, want ErrClosed", err)
	}
}

func TestPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memory.NewNetwork(memory.Options{})
		defer network.Close()
		admit, conns := queue(1)
		l := listen(t, network, "bob", admit)
		a, b := connect(t, network, "alice", "bob")
		c, d := connect(t, network, "carol", "dave")
		b2, c2 := connect(t, network, "bob", "carol")
		mustReach(t, a, b)

		network.Partition()
		network.Partition("alice", "bob")
		network.Partition("bob", "alice", "nobody")
		mustReach(t, a, b)
		mustReach(t, c, d)
		mustBeSilent(t, b2, c2)
		mustBeSilent(t, c2, b2)

		// Dials across wait: one for longer than it may, one until Heal.
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := network.Host("carol").Dial(ctx, l.Multiaddr(), nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Dial across: %v, want DeadlineExceeded", err)
		}
		dialled := make(chan net.Conn)
		go func() {
			c, err := network.Host("carol").Dial(t.Context(), l.Multiaddr(), nil)
			if err != nil {
				t.Error(err)
			}
			dialled <- c
		}()
		synctest.Wait()
		network.Heal()
		mustReach(t, <-dialled, <-conns)
		for _, to := range []net.Conn{b2, c2} {
			if got := make([]byte, 4); true {
				if _, err := io.ReadFull(to, got); err != nil || string(got) != "held" {
					t.Errorf("after Heal read %q, %v", got, err)
				}
			}
		}
		mustReach(t, b2, c2)
		again, err := network.Host("dave").Dial(t.Context(), l.Multiaddr(), nil)
		if err != nil {
			t.Fatal(err)
		}
		mustReach(t, again, <-conns)
		if got := len(network.Conns()); got != 5 {
			t.Errorf("%d connections, want 5: a dial that failed left one", got)
		}
	})
}

// Connections that share a Link share its rate, and Kill spares the others' on it.
func TestSharedLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		uplink := link.New(link.Config{Up: link.Shape{Rate: 100_000}})
		network := memory.NewNetwork(memory.Options{Shape: func(string, string) *link.Link { return uplink }})
		defer network.Close()
		start := time.Now()
		var wg sync.WaitGroup
		ends := make(map[string]net.Conn)
		for i := range 4 {
			name := fmt.Sprint(i)
			a, b := connect(t, network, name, "relay")
			ends[name] = a
			wg.Go(func() {
				if _, err := a.Write(make([]byte, 100_000)); err != nil {
					t.Error(err)
				}
			})
			wg.Go(func() {
				if _, err := io.ReadFull(b, make([]byte, 100_000)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(start); took < 4*time.Second || took > 4*time.Second+10*time.Millisecond {
			t.Errorf("4 × 100 kB at 100 kB/s took %v", took)
		}
		if uplink.Live() != 4 {
			t.Errorf("%d live connections, want 4", uplink.Live())
		}
		network.Kill("2")
		mustBeReset(t, ends["2"])
		if _, err := ends["1"].Write([]byte("still there")); err != nil {
			t.Error(err)
		}
	})
}
