package mux

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splitmesh/splitmesh/internal/buf"
)

// A hook is an Output that is a function.
type hook func(header header, payload []byte, inline bool) (bool, error)

func (h hook) Headroom() int { return 0 }

func (h hook) TryWrite(b *buf.Buf, inline, _ bool) (bool, error) {
	ok, err := h(parseHeader(b.B), b.B[HeaderSize:], inline)
	if ok {
		b.Release()
	}
	return ok, err
}
func (hook) Wake() {}

// Room that comes between the refusal and its return is not missed.
func TestRoomWhileRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m *Mux
		tries := 0
		m = New(Config{Client: true, Output: hook(func(header, []byte, bool) (bool, error) {
			tries++
			if tries < 3 {
				m.Writable()
			}
			return tries == 3, nil
		})})
		s, _ := m.Open()
		if n, err := s.Write([]byte("abc")); n != 3 || err != nil || tries != 3 {
			t.Errorf("Write: %d, %v after %d tries", n, err, tries)
		}
	})
}

// What ends the stream while the output takes a frame is sent after the frame.
func TestEndsAfterFrame(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(*Mux, *Stream)
		want uint16
		err  error
	}{
		{"CloseWrite", func(_ *Mux, s *Stream) { _ = s.CloseWrite() }, flagFIN, net.ErrClosed},
		{"Close", func(_ *Mux, s *Stream) { s.Close() }, flagFIN, net.ErrClosed},
		{"Close and unwanted data", func(m *Mux, s *Stream) {
			s.Close()
			_ = m.Input(encode(data(s.ID(), 0, 1), "x"), nil)
		}, flagFIN | flagRST, net.ErrClosed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var m *Mux
			var s *Stream
			m = New(Config{Client: true, Output: hook(func(h header, _ []byte, _ bool) (bool, error) {
				if h.flags == flagSYN {
					return true, nil
				}
				tt.end(m, s)
				if early := m.AppendControl(nil, 1000); len(early) != 0 {
					t.Errorf("sent %x before the frame", early)
				}
				return true, nil
			})})
			s, _ = m.Open()
			if n, err := s.Write(make([]byte, 3*ChunkSize)); n != 2*ChunkSize || err != tt.err {
				t.Errorf("Write: %d, %v", n, err)
			}
			if got := m.AppendControl(nil, 1000); !bytes.Equal(got, encode(window(1, tt.want, 0))) {
				t.Errorf("sent %x, want flags %#x", got, tt.want)
			}
		})
	}
}

// A Write with a deadline must not be caught in a socket.
func TestInline(t *testing.T) {
	var got []bool
	m := New(Config{Output: hook(func(_ header, _ []byte, inline bool) (bool, error) {
		got = append(got, inline)
		return true, nil
	})})
	s, _ := m.Open()
	for _, d := range []time.Time{never, time.Now().Add(time.Hour)} {
		_ = s.SetWriteDeadline(d)
		if _, err := s.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if !got[0] || got[1] {
		t.Errorf("inline: %v", got)
	}
}

// What concurrent Writes send is not mixed.
func TestWritesAreAtomic(t *testing.T) {
	a, b := newPair(t, Config{}, Config{}, nil)
	a.lane.limit = 1
	s, peer := open(t, a, b)
	const size = 3*ChunkSize + 1000
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if _, err := s.Write(bytes.Repeat([]byte{byte(i)}, size)); err != nil {
				t.Errorf("Write: %v", err)
			}
		})
	}
	got := make([]byte, size)
	for range 8 {
		if _, err := io.ReadFull(peer, got); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, bytes.Repeat(got[:1], size)) {
			t.Error("two Writes are mixed")
		}
	}
	wg.Wait()
	s.Close()
	peer.Close()
	if _, err := s.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Write after Close: %v", err)
	}
}

// A promising Output notes which frames were to wait for others, and how often it was woken since.
type promising struct {
	more  []bool
	wakes int
}

func (*promising) Headroom() int { return 0 }

func (o *promising) TryWrite(b *buf.Buf, _, more bool) (bool, error) {
	b.Release()
	o.more, o.wakes = append(o.more, more), 0
	return true, nil
}

func (o *promising) Wake() { o.wakes++ }

// A frame waits for another only while there is window for that, and goes alone when that ends in an error.
func TestPromises(t *testing.T) {
	room := func(s *Stream) *buf.Buf { return buf.Get(s.Headroom() + ChunkSize) }
	var o promising
	s, _ := New(Config{Output: &o}).Open()
	for range InitialWindow / ChunkSize {
		if err := s.WriteBuf(room(s), true); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(o.more); n != InitialWindow/ChunkSize || !o.more[n-2] || o.more[n-1] {
		t.Errorf("promised: %v", o.more)
	}
	for name, end := range map[string]func(*Stream){
		"deadline": func(s *Stream) { _ = s.SetWriteDeadline(time.Unix(1, 0)) },
		"reset":    func(s *Stream) { s.fail(ErrReset) },
	} {
		s, _ := New(Config{Output: &o}).Open()
		if err := s.WriteBuf(room(s), true); err != nil {
			t.Fatal(err)
		}
		end(s)
		if err := s.WriteBuf(room(s), false); err == nil || o.wakes == 0 {
			t.Errorf("%s: %v, and what was promised company waits", name, err)
		}
	}
}

// The end of a stream's data is owed, also when a reset is to follow it.
func TestOwesEnd(t *testing.T) {
	for _, unwanted := range []bool{false, true} {
		m := New(Config{Output: &promising{}})
		s, _ := m.Open()
		if _, err := s.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if m.OwesEnd() {
			t.Error("an end is owed before there is one")
		}
		s.Close()
		if unwanted {
			_, _ = s.admit(1)
		}
		if !m.OwesEnd() {
			t.Errorf("unwanted data %v: the end that waits is not owed", unwanted)
		}
		m.AppendControl(nil, 1000)
		if m.OwesEnd() {
			t.Error("an end that went is owed")
		}
	}
}
