package mux

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/splitmesh/splitmesh/internal/buf"
)

var (
	never time.Time
	past  = time.Unix(1, 0)
)

// sent empties the lane and returns how much data was in it.
func (r *raw) sent() (n int) {
	for _, b := range r.lane.take() {
		if b.B[1] == typeData {
			n += len(b.B) - HeaderSize
		}
		b.Release()
	}
	return n
}

func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRaw(t, Config{Client: true})
		s, _ := r.Open()
		start := time.Now()
		p := make([]byte, 8)

		// One that comes while Read waits, one that is moved meanwhile, one past.
		_ = s.SetReadDeadline(start.Add(time.Second))
		if _, err := s.Read(p); err != os.ErrDeadlineExceeded || time.Since(start) != time.Second {
			t.Errorf("Read: %v after %v", err, time.Since(start))
		}
		_ = s.SetDeadline(start.Add(time.Hour))
		time.AfterFunc(time.Second, func() { _ = s.SetDeadline(start.Add(5 * time.Second)) })
		if _, err := s.Read(p); err != os.ErrDeadlineExceeded || time.Since(start) != 5*time.Second {
			t.Errorf("Read: %v after %v", err, time.Since(start))
		}
		if _, err := s.Write(p); err != os.ErrDeadlineExceeded {
			t.Errorf("Write: %v", err)
		}
		r.in(data(1, flagACK, 2), "ab")
		if _, err := s.Read(p); err != os.ErrDeadlineExceeded {
			t.Errorf("Read with data: %v", err)
		}
		if _, err := s.Read(nil); err != os.ErrDeadlineExceeded {
			t.Errorf("empty Read: %v", err)
		}
		if _, err := s.Write(nil); err != os.ErrDeadlineExceeded {
			t.Errorf("empty Write: %v", err)
		}

		// Without one, data; and again a wait with the timer used before.
		_ = s.SetDeadline(never)
		if n, err := s.Read(p); n != 2 || err != nil {
			t.Errorf("Read: %d, %v", n, err)
		}
		if n, err := s.Read(nil); n != 0 || err != nil {
			t.Errorf("empty Read: %d, %v", n, err)
		}
		if n, err := s.Write(nil); n != 0 || err != nil {
			t.Errorf("empty Write: %d, %v", n, err)
		}
		_ = s.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := s.Read(p); err != os.ErrDeadlineExceeded {
			t.Errorf("Read: %v", err)
		}

		// A Write that the window stops tells how much went.
		_ = s.SetWriteDeadline(time.Now().Add(time.Second))
		r.lane.limit = 1000
		n, err := s.Write(make([]byte, InitialWindow+1))
		if got := r.sent(); n != InitialWindow || got != n || err != os.ErrDeadlineExceeded {
			t.Errorf("Write: %d, %v; %d went", n, err, got)
		}
		// One that the output stops, too.
		r.in(window(1, 0, 3*InitialWindow))
		_ = s.SetWriteDeadline(time.Now().Add(time.Second))
		r.lane.limit = 3
		n, err = s.Write(make([]byte, 2*InitialWindow))
		if got := r.sent(); n != 3*ChunkSize || got != n || err != os.ErrDeadlineExceeded {
			t.Errorf("Write: %d, %v; %d went", n, err, got)
		}
		if st := s.Stats(); st.Sent != uint64(InitialWindow+n) || s.sendWindow != int64(3*InitialWindow-n) {
			t.Errorf("%+v, window %d", st, s.sendWindow)
		}
		s.Close()
		r.sent()
		if s.r.armed || s.w.armed {
			t.Error("a closed stream has a timer")
		}
	})
}

// Close wakes a Read, a Write and a Write behind it; so does Mux.Close.
func TestCloseWakes(t *testing.T) {
	broken := errors.New("broken")
	for _, tt := range []struct {
		name  string
		close func(*Mux, *Stream)
		want  error
	}{
		{"Close", func(_ *Mux, s *Stream) { s.Close() }, net.ErrClosed},
		{"Reset", func(_ *Mux, s *Stream) { s.Reset() }, net.ErrClosed},
		{"Mux.Close", func(m *Mux, _ *Stream) { m.Close(broken); m.Close(nil) }, broken},
		{"Mux.Close(nil)", func(m *Mux, _ *Stream) { m.Close(nil) }, net.ErrClosed},
		{"peer", func(m *Mux, _ *Stream) { _ = m.Input(encode(window(1, flagRST, 0)), nil) }, ErrReset},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRaw(t, Config{Client: true})
				s, _ := r.Open()
				r.lane.limit = 1
				var wg sync.WaitGroup
				wg.Go(func() {
					if _, err := s.Read(make([]byte, 1)); err != tt.want {
						t.Errorf("Read: %v", err)
					}
				})
				for range 2 {
					wg.Go(func() {
						if n, err := s.Write(make([]byte, 2*ChunkSize)); n%ChunkSize != 0 || err != tt.want {
							t.Errorf("Write: %d, %v", n, err)
						}
					})
				}
				synctest.Wait()
				tt.close(r.Mux, s)
				wg.Wait()
				if n := r.NumStreams(); n != 0 && tt.name != "Close" {
					t.Errorf("%d streams live", n)
				}
			})
		})
	}
}

func TestMuxClose(t *testing.T) {
	broken := errors.New("broken")
	r := newRaw(t, Config{})
	r.in(data(1, flagSYN, 3), "abc", data(3, flagSYN|flagFIN, 3), "abc", data(5, flagSYN, 3), "a")
	s, fin := r.accept(), r.accept()
	r.Close(broken)
	if got, err := io.ReadAll(s); string(got) != "abc" || err != broken {
		t.Errorf("read %q, %v", got, err)
	}
	if got, err := io.ReadAll(fin); string(got) != "abc" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
	if _, err := s.Write([]byte("x")); err != broken {
		t.Errorf("Write: %v", err)
	}
	if _, err := r.Open(); err != broken {
		t.Errorf("Open: %v", err)
	}
	_ = r.Input([]byte("bc"), nil)
	for _, f := range []header{window(3, 0, 1), {kind: typePing, flags: flagSYN}, window(7, flagSYN, 0)} {
		r.in2(f)
	}
	if err := r.Input(encode(window(1, 0, 1)), nil); err != broken {
		t.Errorf("Input: %v", err)
	}
	if err := s.CloseWrite(); err != broken {
		t.Errorf("CloseWrite: %v", err)
	}
	r.GoAway()
	s.Close()
	r.Writable()
	r.out()
}

// in2 is in for a closed Mux: it parses f anew and ignores the error.
func (r *raw) in2(f header) {
	r.Mux.in.err = nil
	_ = r.Input(encode(f), nil)
}

func TestOutputRefuses(t *testing.T) {
	refusal := errors.New("too few disjoint relays")
	r := newRaw(t, Config{Client: true})
	s, _ := r.Open()
	r.lane.refusal = refusal
	if n, err := s.Write([]byte("abc")); n != 0 || err != refusal {
		t.Errorf("Write: %d, %v", n, err)
	}
	r.lane.refusal = nil // the refusal was that call's
	if n, err := s.Write([]byte("abc")); n != 3 || err != nil {
		t.Errorf("Write: %d, %v", n, err)
	}
	r.out(data(1, flagSYN, 3), "abc")
	if s.sendWindow != InitialWindow-3 {
		t.Errorf("the window is %d", s.sendWindow)
	}
}

func TestChunks(t *testing.T) {
	r := newRaw(t, Config{Client: true})
	s, _ := r.Open()
	s.sendWindow = 1 << 20
	r.lane.limit = 100
	for _, tt := range []struct {
		n    int
		want []any
	}{
		{1, []any{data(1, flagSYN, 1), 1}},
		{ChunkSize, []any{data(1, 0, ChunkSize), ChunkSize}},
		{MaxFrame, []any{data(1, 0, MaxFrame), MaxFrame}},
		{MaxFrame + 1, []any{data(1, 0, ChunkSize), ChunkSize, data(1, 0, MaxFrame+1-ChunkSize), MaxFrame + 1 - ChunkSize}},
		{ChunkSize + MaxFrame, []any{data(1, 0, ChunkSize), ChunkSize, data(1, 0, MaxFrame), MaxFrame}},
	} {
		if n, err := s.Write(make([]byte, tt.n)); n != tt.n || err != nil {
			t.Fatalf("Write: %d, %v", n, err)
		}
		r.out(tt.want...)
	}
}

func TestExhausted(t *testing.T) {
	for _, client := range []bool{true, false} {
		m := New(Config{Client: client, Output: newLane()})
		m.nextID += 1<<32 - 4
		for range 2 {
			s, err := m.Open()
			if err != nil {
				t.Fatal(err)
			}
			if s.ID()&1 == 1 != client {
				t.Errorf("id %d", s.ID())
			}
			if m.nextID > 1<<32-1 {
				break
			}
		}
		if _, err := m.Open(); err != ErrExhausted {
			t.Errorf("Open: %v", err)
		}
	}
}

func TestAddrs(t *testing.T) {
	s, _ := newRaw(t, Config{Client: true}).Open()
	if a := s.RemoteAddr(); a.Network() != "mux" || a.String() != "stream-1" {
		t.Errorf("%s %s", a.Network(), a)
	}
	local, remote := &net.UnixAddr{Name: "l"}, &net.UnixAddr{Name: "r"}
	s.SetAddrs(local, remote)
	if s.LocalAddr() != local || s.RemoteAddr() != remote {
		t.Errorf("%v, %v", s.LocalAddr(), s.RemoteAddr())
	}
}

// An update comes when half the window was read, not before. A window grows
// when it is read full within 4 RTT, as far as budget and maximum allow.
func TestWindowGrowth(t *testing.T) {
	const mib = 1 << 20
	for _, tt := range []struct {
		name   string
		rtt    time.Duration
		pace   time.Duration // for half a window
		max    int
		budget *Budget
		want   int
	}{
		{"fast", 50 * time.Millisecond, 99 * time.Millisecond, 4 * mib, nil, 4 * mib},
		{"slow", 50 * time.Millisecond, 101 * time.Millisecond, 4 * mib, nil, InitialWindow},
		{"unknown, fast", 0, 49 * time.Millisecond, 0, nil, DefaultMaxWindow},
		{"unknown, slow", 0, 51 * time.Millisecond, 0, nil, InitialWindow},
		{"budget", time.Second, 0, 0, NewBudget(mib), mib},
		{"odd maximum", time.Second, 0, 700_000, NewBudget(mib), 700_000},
		{"small maximum", time.Second, 0, 1, NewBudget(mib), InitialWindow},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRaw(t, Config{MaxWindow: tt.max, Budget: tt.budget, RTT: func() time.Duration { return tt.rtt }})
				r.in(window(1, flagSYN, 0))
				s := r.accept()
				r.out(window(1, flagACK, 0))
				peers := InitialWindow  // what the peer thinks that it may send
				<-time.After(time.Hour) // being idle first makes no difference
				for range 20 {
					half := s.window.size / 2
					r.in(data(1, 0, half), half)
					peers -= half
					if _, err := io.ReadFull(s, make([]byte, half-1)); err != nil {
						t.Fatal(err)
					}
					r.out()
					<-time.After(tt.pace)
					_, _ = s.Read(make([]byte, 1))
					f := parseHeader(r.AppendControl(nil, HeaderSize))
					if peers += int(f.length); peers != s.window.size || f.kind != typeWindowUpdate {
						t.Fatalf("update %+v: the peer's window is %d, want %d", f, peers, s.window.size)
					}
				}
				if s.window.size != tt.want {
					t.Errorf("the window is %d, want %d", s.window.size, tt.want)
				}
				if u := tt.budget.Used(); tt.budget != nil && u != int64(tt.want-InitialWindow) {
					t.Errorf("%d bytes are reserved", u)
				}
				// The reservation lasts until the data is read, not until the end.
				r.in(data(1, flagFIN, 1), 1)
				if u := tt.budget.Used(); tt.budget != nil && u != int64(tt.want-InitialWindow) {
					t.Errorf("%d bytes are reserved with data unread", u)
				}
				if _, err := io.ReadAll(s); err != nil || tt.budget.Used() != 0 {
					t.Errorf("%d bytes are reserved after the end (%v)", tt.budget.Used(), err)
				}
				s.Close()
			})
		})
	}
}

// Close returns a stream's part of the budget, whatever waits in it.
func TestBudgetReturned(t *testing.T) {
	for name, end := range map[string]func(*raw, *Stream){
		"Close": func(_ *raw, s *Stream) { s.Close() },
		"Reset": func(_ *raw, s *Stream) { s.Reset() },
		"peer":  func(r *raw, s *Stream) { r.in(window(1, flagRST, 0)); _, _ = io.ReadAll(s) },
		"mux":   func(r *raw, s *Stream) { r.Close(nil); _, _ = io.ReadAll(s) },
	} {
		b := NewBudget(1 << 20)
		r := newRaw(t, Config{Budget: b, RTT: func() time.Duration { return time.Hour }})
		r.in(window(1, flagSYN, 0))
		s := r.accept()
		for range 4 {
			r.in(data(1, 0, InitialWindow/2), InitialWindow/2)
			_, _ = io.ReadFull(s, make([]byte, InitialWindow/2))
		}
		r.in(data(1, 0, 10), 10)
		if b.Used() == 0 {
			t.Fatal("the window did not grow")
		}
		end(r, s)
		if b.Used() != 0 {
			t.Errorf("%s: %d bytes are reserved", name, b.Used())
		}
		s.Close()
		s.Reset()
		if b.Used() != 0 {
			t.Errorf("%s, Close: %d bytes are reserved", name, b.Used())
		}
	}
}

// The rest of a frame that has begun is not granted again.
func TestFrameInPieces(t *testing.T) {
	r := newRaw(t, Config{})
	r.in(data(1, flagSYN, InitialWindow))
	s := r.accept()
	r.out(window(1, flagACK, 0))
	for range 10 {
		r.in(1)
		_, _ = s.Read(make([]byte, 1))
	}
	r.out()
	r.in(InitialWindow - 10)
	if _, err := io.ReadFull(s, make([]byte, InitialWindow-10)); err != nil {
		t.Fatal(err)
	}
	r.out(window(1, 0, InitialWindow))
	s.Close()
}

// ReadBuf hands over the memory that the data came in, or a copy, and obeys
// deadlines as Read does.
func TestReadBuf(t *testing.T) {
	r := newRaw(t, Config{})
	rec := buf.Get(33000)
	copy(rec.B, encode(data(1, flagSYN, 32000)))
	if err := r.Input(rec.B[:HeaderSize+32000], rec); err != nil {
		t.Fatal(err)
	}
	r.in(data(1, 0, 3), "abc")
	s := r.accept()
	rec.Release()
	p, owner, err := s.ReadBuf()
	if err != nil || owner != rec || len(p) != 32000 || &p[0] != &rec.B[HeaderSize] || !owner.Around(p, HeaderSize) {
		t.Errorf("ReadBuf: %d bytes of %p, %v; want those of %p", len(p), owner, err, rec)
	}
	owner.Release()
	p, owner, err = s.ReadBuf()
	if err != nil || string(p) != "abc" || s.Stats().Buffered != 0 {
		t.Errorf("ReadBuf: %q, %v; %+v", p, err, s.Stats())
	}
	owner.Release()
	_ = s.SetReadDeadline(past)
	if _, _, err := s.ReadBuf(); err != os.ErrDeadlineExceeded {
		t.Errorf("ReadBuf: %v", err)
	}
	s.Close()
	if _, _, err := s.ReadBuf(); err != net.ErrClosed {
		t.Errorf("ReadBuf: %v", err)
	}
}

// WriteBuf sends what it is given: in the very memory where one frame and the
// window hold it, in pieces otherwise, and all of it in order among Writes.
func TestWriteBuf(t *testing.T) {
	for _, tt := range []struct {
		name         string
		size, window int
		frames       int
		same         bool
	}{
		{"one byte", 1, 0, 1, true},
		{"a record", ChunkSize + 100, 0, 1, true},
		{"nothing", 0, 0, 0, false},
		{"more than a frame holds", 60000, 0, 2, false},
		{"more than the window holds", 1000, InitialWindow - 300, 2, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x, y := newPair(t, Config{}, Config{}, nil)
			s, peer := open(t, x, y)
			var wg sync.WaitGroup
			want := pattern(tt.window + tt.size)
			_, _ = s.Write(want[:tt.window])
			before := s.m.cfg.Output
			frames, same := 0, false
			b := buf.Get(s.Headroom() + tt.size)
			copy(b.B[s.Headroom():], want[tt.window:])
			first := make(chan struct{})
			s.m.cfg.Output = spy{before, func(c *buf.Buf) {
				if frames++; frames == 1 {
					close(first)
				}
				same = c == b
			}}
			wg.Go(func() {
				if err := s.WriteBuf(b, false); err != nil {
					t.Errorf("WriteBuf: %v", err)
				}
				_ = s.CloseWrite()
			})
			if tt.frames > 0 {
				<-first // before the window is given back
			}
			var got bytes.Buffer
			if err := readBufs(peer, &got); err != io.EOF || !bytes.Equal(got.Bytes(), want) {
				t.Errorf("%v: received %d bytes, which differ from the %d sent", err, got.Len(), len(want))
			}
			wg.Wait()
			if frames != tt.frames || same != tt.same {
				t.Errorf("%d frames, want %d; in place %v, want %v", frames, tt.frames, same, tt.same)
			}
			b = buf.Get(s.Headroom() + 1)
			if err := s.WriteBuf(b, false); err != net.ErrClosed {
				t.Errorf("after CloseWrite: %v", err)
			}
		})
	}
}

// A spy is an Output that tells of the frames that were taken.
type spy struct {
	Output
	taken func(*buf.Buf)
}

func (o spy) TryWrite(b *buf.Buf, inline, more bool) (bool, error) {
	ok, err := o.Output.TryWrite(b, inline, more)
	if ok {
		o.taken(b)
	}
	return ok, err
}

func TestIdleStreamIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(Stream{}); n > 640 {
		t.Errorf("a Stream has %d bytes", n)
	}
	a, b := newRaw(t, Config{Client: true}), newRaw(t, Config{})
	const n = 4000
	goroutines := runtime.NumGoroutine()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	streams := make([]*Stream, n)
	for i := range streams {
		streams[i], _ = a.Open()
		_, _ = streams[i].Write([]byte("hello"))
		for _, rec := range a.lane.take() {
			if err := b.Input(rec.B, rec); err != nil {
				t.Fatal(err)
			}
			rec.Release()
		}
		s := b.accept()
		_, _ = s.Read(make([]byte, 8))
		b.sent()
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	per := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / (2 * n)
	// Fewer goroutines are those of other tests, which have ended meanwhile.
	if per > 1024 || runtime.NumGoroutine() > goroutines {
		t.Errorf("an idle stream takes %d bytes; %d goroutines more", per, runtime.NumGoroutine()-goroutines)
	}
	t.Logf("%d bytes an idle stream, of which the struct is %d", per, unsafe.Sizeof(Stream{}))
	runtime.KeepAlive(streams)
	runtime.KeepAlive(a)
	runtime.KeepAlive(b)
}

// TestFailedStreamHasNoTimer: what a Mux that was closed leaves behind is not kept in
// memory until the deadline of somebody who waited.
func TestFailedStreamHasNoTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(Config{Client: true, Output: hook(func(header, []byte, bool) (bool, error) { return true, nil })})
		s, _ := m.Open()
		_ = s.SetDeadline(time.Now().Add(time.Hour))
		read := make(chan error)
		go func() { // ends with the Mux
			_, err := s.Read(make([]byte, 1))
			read <- err
		}()
		synctest.Wait()
		failed := errors.New("failed")
		m.Close(failed)
		if err := <-read; err != failed {
			t.Errorf("Read: %v", err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.r.armed || s.w.armed {
			t.Error("a timer runs")
		}
	})
}
