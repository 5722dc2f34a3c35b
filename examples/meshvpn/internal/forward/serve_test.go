package forward_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/forward"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
)

// TestFlood: over the limit conns are closed at once, and those that were there work on.
func TestFlood(t *testing.T) {
	l := tcp(t)
	var told bytes.Buffer
	t.Cleanup(func() { // after all has ended
		if n := strings.Count(told.String(), "too many conns"); n != 1 {
			t.Errorf("it is told %d times: %s", n, &told)
		}
	})
	background(t, func(ctx context.Context) error {
		return forward.Serve(ctx, l, 3, slog.New(slog.NewTextHandler(&told, nil)), func(ctx context.Context, c net.Conn) {
			stop := context.AfterFunc(ctx, func() { c.Close() })
			defer stop()
			defer c.Close()
			_, _ = io.Copy(c, c)
		})
	})
	echo := func(c net.Conn) error {
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		if _, err := c.Write([]byte("x")); err != nil {
			return err
		}
		_, err := io.ReadFull(c, make([]byte, 1))
		return err
	}
	served := func() bool {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			return false // it may be reset as soon as that
		}
		defer c.Close()
		return echo(c) == nil
	}
	var kept []*net.TCPConn
	for range 3 {
		c := dial(t, l.Addr().String())
		if err := echo(c); err != nil {
			t.Fatal(err)
		}
		kept = append(kept, c)
	}
	for range 100 {
		if served() {
			t.Fatal("one too many is served")
		}
	}
	for _, c := range kept {
		if err := echo(c); err != nil {
			t.Error(err)
		}
	}
	kept[0].Close()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for ctx := within(t); !served(); <-again.C {
		if ctx.Err() != nil {
			t.Fatal("no place gets free")
		}
	}
}

// A handed listener accepts what it is handed, which comes from a peer.
type handed struct {
	net.Listener
	conns chan net.Conn
}

type from struct {
	net.Conn
	peer identity.ID
}

func (f from) RemoteAddr() net.Addr { return mesh.Addr{ID: f.peer} }

func (h *handed) Accept() (net.Conn, error) {
	if c, ok := <-h.conns; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

// TestShares: one peer does not have all conns, and has again what it gave up.
func TestShares(t *testing.T) {
	l := &handed{tcp(t), make(chan net.Conn)}
	served := make(chan net.Conn, 8)
	ended := make(chan error)
	go func() {
		ended <- forward.Serve(context.Background(), l, 4, quiet, func(_ context.Context, c net.Conn) {
			served <- c
			_, _ = c.Read(make([]byte, 1))
			c.Close()
		})
	}()
	is := func(peer byte) (far net.Conn, ok bool) {
		near, far := net.Pipe()
		l.conns <- from{near, identity.ID{peer}}
		closed := make(chan struct{})
		go func() { // ends when either end is closed
			defer close(closed)
			_, _ = far.Read(make([]byte, 1))
		}()
		select {
		case <-served:
			return far, true
		case <-closed:
			return far, false
		}
	}
	var all []net.Conn
	for i, want := range []bool{true, true, true, false, false} {
		c, ok := is(1)
		if ok != want {
			t.Errorf("conn %d of one peer: %v", i, ok)
		}
		all = append(all, c)
	}
	other, ok := is(2)
	if !ok {
		t.Error("there is no room for another")
	}
	if _, ok := is(3); ok {
		t.Error("one too many")
	}
	for _, c := range append(all, other) {
		c.Close()
	}
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for ctx := within(t); ; <-again.C {
		c, ok := is(1)
		if c.Close(); ok {
			break
		}
		if ctx.Err() != nil {
			t.Fatal("no place gets free")
		}
	}
	close(l.conns)
	if err := <-ended; err == nil {
		t.Error("the listener has failed")
	}
}

// TestLimit is TestFlood for a listener that others accept from.
func TestLimit(t *testing.T) {
	l := forward.Limit(tcp(t).(*net.TCPListener), 2, quiet)
	accepted := make(chan net.Conn)
	go func() { // ends with the listener
		defer close(accepted)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	first := dial(t, l.Addr().String())
	place := <-accepted
	dial(t, l.Addr().String())
	defer (<-accepted).Close()
	for range 50 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			continue // it may be reset as soon as that
		}
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("one too many is kept:", err)
		}
		c.Close()
	}
	for range 2 { // it gives up its place once
		place.Close()
	}
	first.Close()
	dial(t, l.Addr().String())
	defer (<-accepted).Close()
	l.Close()
}
