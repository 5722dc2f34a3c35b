package mux

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/hashicorp/yamux"

	"github.com/splitmesh/splitmesh/internal/buf"
)

// serve runs e over conn until conn is closed; the returned function waits.
func serve(e *end, conn net.Conn) (wait func()) {
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() {
		e.lane.pump(done, func(b *buf.Buf) error {
			_, err := conn.Write(b.B)
			return err
		})
	})
	wg.Go(func() {
		defer close(done)
		for {
			b := buf.Get(36 << 10)
			n, err := conn.Read(b.B)
			if err == nil {
				err = e.Input(b.B[:n], b)
			}
			b.Release()
			if err != nil {
				e.Close(err)
				return
			}
		}
	})
	return wg.Wait
}

func tcpPipe(t *testing.T) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err = net.Dial("tcp", l.Addr().String())
	if err == nil {
		b, err = l.Accept()
	}
	if err != nil {
		t.Fatal(err)
	}
	return a, b
}

// interop runs f with each of the two as client, over two kinds of pipe.
func interop(t *testing.T, cfg Config, f func(t *testing.T, ours *end, theirs *yamux.Session)) {
	for _, tt := range []struct {
		name   string
		client bool
		pipe   func(*testing.T) (a, b net.Conn)
	}{
		{"client over TCP", true, tcpPipe},
		{"server over TCP", false, tcpPipe},
		{"client over net.Pipe", true, func(*testing.T) (a, b net.Conn) { return net.Pipe() }},
		{"server over net.Pipe", false, func(*testing.T) (a, b net.Conn) { return net.Pipe() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c1, c2 := tt.pipe(t)
			ours := cfg
			ours.Client = tt.client
			e := newEnd(ours)
			theirs := yamux.DefaultConfig()
			theirs.LogOutput = io.Discard
			makeTheirs := yamux.Client
			if tt.client {
				makeTheirs = yamux.Server
			}
			wait := serve(e, c1)
			y, err := makeTheirs(c2, theirs)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				y.Close()
				c1.Close()
				wait()
			}()
			f(t, e, y)
		})
	}
}

func send(t *testing.T, c io.WriteCloser, p []byte) {
	if n, err := c.Write(p); n != len(p) || err != nil {
		t.Errorf("%T.Write: %d, %v", c, n, err)
	}
	var err error
	if s, ok := c.(*Stream); ok {
		err = s.CloseWrite()
	} else {
		err = c.Close() // a half-close, in hashicorp's
	}
	if err != nil {
		t.Errorf("%T.Close: %v", c, err)
	}
}

func receive(t *testing.T, c io.Reader, want []byte) {
	got := make([]byte, len(want))
	_, err := io.ReadFull(c, got)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%T: what was read differs from what was sent (%v)", c, err)
	}
	if n, err := c.Read(got[:1]); n != 0 || err != io.EOF {
		t.Errorf("%T.Read at the end: %d, %v", c, n, err)
	}
}

func TestInteropTransfer(t *testing.T) {
	want := pattern(16 << 20)
	interop(t, Config{}, func(t *testing.T, ours *end, theirs *yamux.Session) {
		for i := range 2 {
			var s *Stream
			var y *yamux.Stream
			var err error
			if i == 0 {
				y, err = theirs.OpenStream()
				s = <-ours.accepted
			} else {
				s, _ = ours.Open()
				y, err = theirs.AcceptStream()
			}
			if err != nil || s.ID() != y.StreamID() {
				t.Fatalf("stream %d is %d there (%v)", s.ID(), y.StreamID(), err)
			}
			var wg sync.WaitGroup
			wg.Go(func() { send(t, s, want) })
			wg.Go(func() { send(t, y, want) })
			wg.Go(func() { receive(t, s, want) })
			wg.Go(func() { receive(t, y, want) })
			wg.Wait()
			s.Close()
		}
		if n := ours.NumStreams(); n != 0 {
			t.Errorf("%d streams live", n)
		}
	})
}

// Either end may finish first and go on reading.
func TestInteropHalfClose(t *testing.T) {
	interop(t, Config{}, func(t *testing.T, ours *end, theirs *yamux.Session) {
		question, answer := pattern(1000), pattern(2<<20)
		s, _ := ours.Open()
		y, err := theirs.AcceptStream()
		if err != nil {
			t.Fatal(err)
		}
		send(t, s, question)
		receive(t, y, question)
		var wg sync.WaitGroup
		wg.Go(func() { send(t, y, answer) })
		receive(t, s, answer)
		wg.Wait()

		if y, err = theirs.OpenStream(); err != nil {
			t.Fatal(err)
		}
		s = <-ours.accepted
		send(t, y, question)
		receive(t, s, question)
		wg.Go(func() { send(t, s, answer) })
		receive(t, y, answer)
		wg.Wait()
	})
}

func TestInteropControl(t *testing.T) {
	interop(t, Config{MaxIncoming: 1}, func(t *testing.T, ours *end, theirs *yamux.Session) {
		if _, err := theirs.Ping(); err != nil {
			t.Errorf("Ping: %v", err)
		}
		y1, err := theirs.OpenStream()
		if err != nil {
			t.Fatal(err)
		}
		s := <-ours.accepted
		y2, err := theirs.OpenStream() // one too many
		if err != nil {
			t.Fatal(err)
		}
		if _, err := y2.Read(make([]byte, 1)); !errors.Is(err, yamux.ErrConnectionReset) {
			t.Errorf("Read of a refused stream: %v", err)
		}
		s.Reset()
		if _, err := y1.Read(make([]byte, 1)); !errors.Is(err, yamux.ErrConnectionReset) {
			t.Errorf("Read of a reset stream: %v", err)
		}
		// A writer that nobody will read again is not left waiting for window.
		if y1, err = theirs.OpenStream(); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			var err error
			for err == nil {
				_, err = y1.Write(make([]byte, 1<<20))
			}
			if !errors.Is(err, yamux.ErrConnectionReset) {
				t.Errorf("Write to a closed stream: %v", err)
			}
		})
		s = <-ours.accepted
		_, _ = s.Read(make([]byte, 1))
		s.Close()
		wg.Wait()

		ours.GoAway()
		for !errors.Is(err, yamux.ErrRemoteGoAway) { // once it has heard
			if y1, err = theirs.OpenStream(); err == nil {
				y1.Close()
			}
		}
		if err := theirs.GoAway(); err != nil {
			t.Fatal(err)
		}
		for err = nil; err != ErrGoAway; {
			if s, err = ours.Open(); err == nil {
				s.Close()
			}
		}
	})
}
