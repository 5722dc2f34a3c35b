package link

import (
	"bytes"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// A Write that waits for room keeps its place before one that comes later.
func TestWritesDontInterleave(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := New(Config{Up: Shape{Buffer: 12}}).Pipe(nil, nil)
		defer closeBoth(p)
		a, b := p.Conns()
		long := bytes.Repeat([]byte("a"), 22)
		for range 100 {
			go a.Write(long)
			synctest.Wait()
			mustRead(t, b, long[:12]) // there is room for the rest and one more
			mustWrite(t, a, []byte("b"))
			mustRead(t, b, append(long[:10:10], 'b'))
		}
	})
}

// Small writes share memory.
func TestSmallWritesArePacked(t *testing.T) {
	p := new(Link).Pipe(nil, nil)
	defer closeBoth(p)
	a, _ := p.Conns()
	for range 10_000 {
		mustWrite(t, a, []byte{1})
	}
	if n := p.flows[up].chunks.len(); n > 10_000/512+1 {
		t.Errorf("10000 bytes take %d chunks", n)
	}
}

func TestCut(t *testing.T) {
	for name, c := range map[string]Config{"plain": {}, "shaped": {Up: Shape{Rate: 1000, Delay: time.Hour}}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				l := New(c)
				p, idle := l.Pipe(nil, nil), l.Pipe(nil, nil)
				defer closeBoth(idle)
				a, b := p.Conns()
				mustWrite(t, a, []byte("lost"))
				start := time.Now()
				errs := make(chan error, 3)
				go func() { _, err := idle.conns[0].Read(make([]byte, 1)); errs <- err }()
				for range 2 { // one at work, one waiting for its turn
					go func() { _, err := b.Write(make([]byte, 8<<20)); errs <- err }()
				}
				synctest.Wait()
				l.Cut()
				for range 3 {
					if err := <-errs; !errors.Is(err, syscall.ECONNRESET) {
						t.Errorf("pending call: %v, want ECONNRESET", err)
					}
				}
				for name, call := range map[string]func() error{
					"a.Read":       func() error { _, err := a.Read(make([]byte, 1)); return err },
					"b.Read":       func() error { _, err := b.Read(make([]byte, 1)); return err },
					"a.Write":      func() error { _, err := a.Write([]byte{1}); return err },
					"b.CloseWrite": b.CloseWrite,
				} {
					if err := call(); !errors.Is(err, syscall.ECONNRESET) {
						t.Errorf("%s = %v, want ECONNRESET", name, err)
					}
				}
				if time.Since(start) != 0 {
					t.Errorf("the cut took %v", time.Since(start))
				}
				if p.Live() || l.Live() != 0 {
					t.Error("live after the cut")
				}
				l.Cut() // again, of nothing
				p.Cut()
				closeBoth(p)
				later := l.Pipe(nil, nil)
				defer closeBoth(later)
				a, _ = later.Conns()
				mustWrite(t, a, []byte("a later connection works"))
			})
		})
	}
}

// After Close every method fails with net.ErrClosed, and Close is idempotent.
func TestClosed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := new(Link).Pipe(nil, nil)
		a, b := p.Conns()
		defer b.Close()
		errs := make(chan error, 3)
		go func() { _, err := a.Read(make([]byte, 1)); errs <- err }()
		for range 2 {
			go func() { _, err := a.Write(make([]byte, 8<<20)); errs <- err }()
		}
		synctest.Wait()
		for range 2 {
			if err := a.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		}
		for range 3 {
			if err := <-errs; !errors.Is(err, net.ErrClosed) {
				t.Errorf("pending call: %v, want ErrClosed", err)
			}
		}
		for name, call := range map[string]func() error{
			"Read":             func() error { _, err := a.Read(nil); return err },
			"Write":            func() error { _, err := a.Write(nil); return err },
			"CloseWrite":       a.CloseWrite,
			"SetDeadline":      func() error { return a.SetDeadline(time.Time{}) },
			"SetReadDeadline":  func() error { return a.SetReadDeadline(time.Time{}) },
			"SetWriteDeadline": func() error { return a.SetWriteDeadline(time.Time{}) },
		} {
			if err := call(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("%s = %v, want ErrClosed", name, err)
			}
		}
	})
}

// The end follows the bytes, and a writer learns that its reader has gone only
// when the news has travelled.
func TestEnds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := New(Config{Up: Shape{Delay: time.Second, Rate: 1000}, Down: Shape{Delay: time.Minute}}).Pipe(nil, nil)
		a, b := p.Conns()
		defer closeBoth(p)
		start := time.Now()
		mustWrite(t, a, random(500))
		for range 2 {
			if err := a.CloseWrite(); err != nil {
				t.Fatalf("CloseWrite: %v", err)
			}
		}
		if _, err := a.Write([]byte{1}); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("Write after CloseWrite: %v, want EPIPE", err)
		}
		if got, err := io.ReadAll(b); !bytes.Equal(got, random(500)) || err != nil || time.Since(start) != 1500*time.Millisecond {
			t.Errorf("read %d bytes, %v after %v, want 500 after 1.5s", len(got), err, time.Since(start))
		}
		a.Close()
		// b fills the link, and is not told otherwise until the news is there.
		n, err := b.Write(make([]byte, 8<<20))
		if !errors.Is(err, syscall.EPIPE) || n < DefaultBuffer || time.Since(start) != 2500*time.Millisecond {
			t.Errorf("Write = %d, %v after %v, want EPIPE after 2.5s", n, err, time.Since(start))
		}
	})
}

// What arrives for a closed end makes room, though nobody reads it.
func TestClosedEndDrains(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := New(Config{Up: Shape{Delay: time.Second, Buffer: 1000}, Down: Shape{Delay: time.Hour}}).Pipe(nil, nil)
		a, b := p.Conns()
		defer a.Close()
		b.Close()
		start := time.Now()
		mustWrite(t, a, make([]byte, 10_000))
		if took := time.Since(start); took != 9*time.Second {
			t.Errorf("10 windows of 1s took %v to write, want 9s", took)
		}
		if up, _ := p.Carried(); up != 9000 {
			t.Errorf("carried %d bytes, want 9000", up)
		}
	})
}

func TestDeadlineMoves(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := new(Link).Pipe(nil, nil)
		defer closeBoth(p)
		a, _ := p.Conns()
		start := time.Now()
		a.SetReadDeadline(start.Add(time.Second))
		go func() {
			time.Sleep(500 * time.Millisecond) // virtual
			a.SetReadDeadline(start.Add(time.Minute))
		}()
		_, err := a.Read(make([]byte, 1))
		if ne, ok := errors.AsType[net.Error](err); !ok || !ne.Timeout() || time.Since(start) != time.Minute {
			t.Errorf("Read = %v after %v, want a timeout after a minute", err, time.Since(start))
		}
	})
}

func TestErrorsNameTheEnds(t *testing.T) {
	p := new(Link).Pipe(&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 2), Port: 2})
	a, b := p.Conns()
	p.Cut()
	_, err := b.Write([]byte{1})
	if got, want := err.Error(), "write tcp 192.0.2.2:2->192.0.2.1:1: "+syscall.ECONNRESET.Error(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	closeBoth(p)
	if p := new(Link).Pipe(nil, nil); p.conns[0].LocalAddr().String() != "link" || p.conns[0].RemoteAddr().Network() != "link" {
		t.Error("an end without an address has no name")
	}
	if a.pipe.Link() != p.Link() {
		t.Error("Link")
	}
}
