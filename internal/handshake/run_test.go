package handshake

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splitmesh/splitmesh/frame"
)

type outcome struct {
	res *Result
	err error
}

// runBoth runs both ends over a pipe and returns its ends and the outcomes.
func runBoth(t *testing.T, s setting, a Answer) (dc, rc net.Conn, d, r outcome) {
	t.Helper()
	dialler, responder := s.start(t)
	dc, rc = net.Pipe()
	done := make(chan outcome)
	go func() { // ends with Run, which is received below
		res, err := responder.Run(t.Context(), rc, a)
		done <- outcome{res, err}
	}()
	d.res, d.err = dialler.Run(t.Context(), dc)
	r = <-done
	dialler.wantOver(t)
	responder.wantOver(t)
	return dc, rc, d, r
}

func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dc, rc, d, r := runBoth(t, setting{join: &join}, Answer{PathID: 7, JoinSecret: &join.Secret})
		if d.err != nil || r.err != nil || d.res.Send != r.res.Recv || r.res.PathID != 7 || !r.res.Joined {
			t.Fatalf("got %v and %v", d, r)
		}
		// Long after, the path is alive, and has carried nothing but the handshake.
		<-time.After(2 * Timeout) // on the bubble's clock
		sealer, err := frame.NewSealer(d.res.Suite, &d.res.Send, 0)
		if err != nil {
			t.Fatal(err)
		}
		wire, err := sealer.Seal(nil, []byte("first data"))
		if err != nil {
			t.Fatal(err)
		}
		go dc.Write(wire) // ends when all is read, below
		b := make([]byte, len(wire))
		if _, err := io.ReadFull(rc, b); err != nil {
			t.Fatal(err)
		}
		opener, err := frame.NewOpener(r.res.Suite, &r.res.Recv, 0)
		if err != nil {
			t.Fatal(err)
		}
		if p, err := opener.Open(b); err != nil || string(p) != "first data" {
			t.Errorf("%q, %v", p, err)
		}
		dc.Close()
		rc.Close()
	})
}

func TestRunRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dc, rc, d, r := runBoth(t, setting{join: &join}, Answer{Refuse: true})
		wantError(t, d.err, "message 2", ErrUnknownToken)
		wantError(t, r.err, "message 3", ErrUnknownToken)
		wantClosed(t, dc)
		wantClosed(t, rc)
	})
}

// wantClosed checks that our end of a pipe was closed.
func wantClosed(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := c.Write([]byte{0}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("the connection is open: %v", err)
	}
}

// Peers that stall, at each point where one can.
func TestStall(t *testing.T) {
	silent := func(net.Conn, []byte) {}
	half := func(c net.Conn, msg []byte) { _, _ = c.Write(msg[:len(msg)/2]) }
	whole := func(c net.Conn, msg []byte) { _, _ = c.Write(msg) }
	take := func(c net.Conn, _ []byte) { _, _ = ReadMessage(c) }
	takeThenHalf := func(c net.Conn, msg []byte) { take(c, nil); half(c, msg) }
	msgs, _ := messages(t)
	for name, tt := range map[string]struct {
		responder bool
		peer      func(net.Conn, []byte)
		stage     string
	}{
		"no message 2":        {false, silent, "message 2"},
		"half of message 2":   {false, half, "message 2"},
		"message 3 not taken": {false, whole, "message 2"},
		"message 2 not taken": {true, silent, "message 3"},
		"no message 3":        {true, take, "message 3"},
		"half of message 3":   {true, takeThenHalf, "message 3"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, r := setting{}.start(t)
				ours, theirs := net.Pipe()
				done := make(chan outcome)
				go func() { // ends with Run, which is received below
					var o outcome
					if tt.responder {
						o.res, o.err = r.Run(t.Context(), ours, Answer{PathID: 1})
					} else {
						o.res, o.err = d.Run(t.Context(), ours)
					}
					done <- o
				}()
				start := time.Now() // on the bubble's clock
				if tt.responder {
					tt.peer(theirs, msgs[2])
				} else {
					tt.peer(theirs, msgs[1])
				}
				o := <-done
				wantError(t, o.err, tt.stage, ErrTimeout)
				var e *Error
				if errors.As(o.err, &e) && !e.Timeout() {
					t.Error("Timeout() is false")
				}
				if o.res != nil || time.Since(start) != Timeout {
					t.Errorf("result %v after %v", o.res, time.Since(start))
				}
				wantClosed(t, ours)
				if tt.responder {
					r.wantOver(t)
				} else {
					d.wantOver(t)
				}
			})
		})
	}
}

func TestRunContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		why := errors.New("why")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(why)
		d, _ := setting{}.start(t)
		ours, _ := net.Pipe()
		_, err := d.Run(ctx, ours)
		wantError(t, err, "message 2", why)
		var e *Error
		if errors.As(err, &e) && e.Timeout() {
			t.Error("cancelled, but Timeout() is true")
		}
		wantClosed(t, ours)

		short, stop := context.WithTimeout(t.Context(), Timeout/2)
		defer stop()
		_, r := setting{}.start(t)
		ours, _ = net.Pipe()
		_, err = r.Run(short, ours, Answer{})
		wantError(t, err, "message 3", context.DeadlineExceeded)
		if errors.As(err, &e) && !e.Timeout() {
			t.Error("the deadline passed, but Timeout() is false")
		}
		wantClosed(t, ours)
	})
}

// Connections that bring an error, or bring what is no handshake.
func TestRunErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		msgs, _ := messages(t)
		for name, tt := range map[string]struct {
			peer func(net.Conn)
			want error
		}{
			"hangs up":          {func(net.Conn) {}, io.EOF},
			"hangs up half way": {func(c net.Conn) { _, _ = c.Write(msgs[1][:100]) }, io.ErrUnexpectedEOF},
			"speaks HTTP":       {func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1") }, frame.ErrVersion},
			"is too long":       {func(c net.Conn) { _, _ = c.Write([]byte{0x11, 0, 0xff, 0xff, 0, 0, 0, 2}) }, frame.ErrLength},
			"takes no more":     {func(c net.Conn) { _, _ = c.Write(msgs[1]) }, io.ErrClosedPipe},
		} {
			d, _ := setting{}.start(t)
			ours, theirs := net.Pipe()
			go func() { // ends when Run has read, or has closed its end
				tt.peer(theirs)
				theirs.Close()
			}()
			_, err := d.Run(t.Context(), ours)
			if wantError(t, err, "message 2", tt.want); t.Failed() {
				t.Fatal(name)
			}
			d.wantOver(t)
			_, err = d.Run(t.Context(), ours)
			wantError(t, err, "message 2", ErrState)
		}
		for name, peer := range map[string]func(net.Conn){
			"hangs up":                 func(net.Conn) {},
			"hangs up after message 2": func(c net.Conn) { _, _ = ReadMessage(c) },
		} {
			_, r := setting{}.start(t)
			ours, theirs := net.Pipe()
			go func() { // ends when Run has written, or has closed its end
				peer(theirs)
				theirs.Close()
			}()
			if _, err := r.Run(t.Context(), ours, Answer{}); err == nil {
				t.Error(name)
			}
			r.wantOver(t)
			_, err := r.Run(t.Context(), ours, Answer{})
			wantError(t, err, "message 2", ErrState)
		}
	})
}

// What a dialler that has proven nothing can make us hold.
func TestPendingMemory(t *testing.T) {
	const n, limit = 200, 64 << 10
	rc := &Config{Identity: testKey(2)}
	openings := make([][]byte, n)
	for i := range openings {
		d, err := NewDialler(&Config{Identity: testKey(1)}, rc.Identity.ID(), nil)
		if err != nil {
			t.Fatal(err)
		}
		openings[i] = d.Opening()
	}
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	seen := new(ReplayCache)
	before := heap()
	held := make([]*Responder, n)
	for i, o := range openings {
		r, err := NewResponder(rc, seen, o)
		if err != nil {
			t.Fatal(err)
		}
		held[i] = r
	}
	opened := (heap() - before) / n
	messages := make([][]byte, n)
	for i, r := range held {
		messages[i] = answer(t, r, Answer{})
	}
	answered := (heap() - before) / n
	runtime.KeepAlive(held)
	runtime.KeepAlive(messages)
	t.Logf("%d bytes once opened, %d once answered", opened, answered)
	if opened > limit || answered > limit {
		t.Errorf("a pending handshake holds %d, then %d bytes, want ≤ %d", opened, answered, limit)
	}
}
