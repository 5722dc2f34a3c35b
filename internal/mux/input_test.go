package mux

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/splitmesh/splitmesh/internal/buf"
)

// A raw is a Mux whose peer is the test: frames go in by hand and what would
// go out is looked at.
type raw struct {
	*end
	t *testing.T
}

func newRaw(t *testing.T, cfg Config) *raw { return &raw{newEnd(cfg), t} }

func encode(frames ...any) (p []byte) {
	for _, f := range frames {
		switch f := f.(type) {
		case header:
			p = f.append(p)
		case string:
			p = append(p, f...)
		case int:
			p = append(p, make([]byte, f)...)
		}
	}
	return p
}

func (r *raw) in(frames ...any) {
	r.t.Helper()
	if err := r.Input(encode(frames...), nil); err != nil {
		r.t.Fatalf("Input: %v", err)
	}
}

func (r *raw) accept() *Stream {
	r.t.Helper()
	select {
	case s := <-r.accepted:
		return s
	default:
		r.t.Fatal("no stream was accepted")
		return nil
	}
}

// out checks all that is sent, control and data alike, and empties the lane.
func (r *raw) out(want ...any) {
	r.t.Helper()
	var got []byte
	for _, b := range r.lane.take() {
		got = append(got, b.B...)
		b.Release()
	}
	if w := encode(want...); string(got) != string(w) {
		r.t.Fatalf("sent\n%x\nwant\n%x", got, w)
	}
}

func TestHeader(t *testing.T) {
	h := header{version: 1, kind: 2, flags: 0x0304, stream: 0x05060708, length: 0x090a0b0c}
	want := "\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c"
	if got := string(h.append(nil)); got != want {
		t.Errorf("encoded as %x, want %x", got, want)
	}
	if got := parseHeader([]byte(want)); got != h {
		t.Errorf("decoded as %+v, want %+v", got, h)
	}
}

func data(id uint32, flags uint16, n int) header {
	return header{kind: typeData, flags: flags, stream: id, length: uint32(n)}
}

func window(id uint32, flags uint16, n uint32) header {
	return header{kind: typeWindowUpdate, flags: flags, stream: id, length: n}
}

func TestViolations(t *testing.T) {
	syn := window(1, flagSYN, 0)
	for _, tt := range []struct {
		name   string
		frames []any
		what   string
	}{
		{"version", []any{header{version: 1}}, "version 1"},
		{"type", []any{header{kind: 4, stream: 1}}, "unknown type 4"},
		{"flags", []any{window(1, 1<<4, 0)}, "unknown flags 0x0010"},
		{"stream 0", []any{data(0, flagSYN, 0)}, "stream id 0"},
		{"our id", []any{window(2, flagSYN, 0)}, "an id of ours"},
		{"opened twice", []any{syn, syn}, "opens the stream again"},
		{"opened again after reset", []any{syn, window(1, flagRST, 0), syn}, "opens the stream again"},
		{"SYN and ACK", []any{window(1, flagSYN|flagACK, 0)}, "both opens and accepts"},
		{"ACK of its own", []any{syn, window(1, flagACK, 0)}, "accepts a stream of its own"},
		{"peer's stream unopened", []any{data(1, 0, 1)}, "never opened"},
		{"peer's stream skipped", []any{window(5, flagSYN, 0), data(3, 0, 1)}, "never opened"},
		{"our stream unopened", []any{window(4, 0, 1)}, "never opened"},
		{"window exceeded", []any{syn, data(1, 0, InitialWindow+1)}, "exceed the window of 262144"},
		{"window exceeded in two", []any{data(1, flagSYN, 5), "12345", data(1, 0, InitialWindow-4)}, "exceed the window of 262139"},
		{"any window exceeded", []any{window(1, flagSYN|flagRST, 0), data(1, 0, DefaultMaxWindow+1)}, "exceed any window"},
		{"window overflows", []any{syn, window(1, 0, math.MaxUint32-InitialWindow), window(1, 0, 1)}, "overflows"},
		{"FIN twice", []any{syn, window(1, flagFIN, 0), data(1, flagFIN, 0)}, "ends its data twice"},
		{"ping's stream", []any{header{kind: typePing, flags: flagSYN, stream: 1}}, "a ping"},
		{"ping without a question", []any{header{kind: typePing, flags: flagACK}}, "a ping"},
		{"go-away's stream", []any{header{kind: typeGoAway, stream: 2}}, "a go-away"},
		{"go-away's code", []any{header{kind: typeGoAway, length: 3}}, "unknown code 3"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRaw(t, Config{})
			if n := len(tt.frames) - 1; n > 0 {
				r.in(tt.frames[:n]...)
			}
			err := r.Input(encode(tt.frames[len(tt.frames)-1]), nil)
			var perr *ProtocolError
			if !errors.As(err, &perr) || !strings.Contains(err.Error(), tt.what) {
				t.Fatalf("Input: %v, want a ProtocolError with %q", err, tt.what)
			}
			if again := r.Input(encode(syn), nil); again != err {
				t.Errorf("Input after that: %v", again)
			}
		})
	}
}

// What comes for a stream that was closed is dropped, and answered once.
func TestDataAfterClose(t *testing.T) {
	r := newRaw(t, Config{})
	r.in(data(1, flagSYN, 3), "abc")
	s := r.accept()
	s.Close()
	r.in(data(1, 0, 2), "de")
	// The window that the three bytes took is given back with the FIN.
	r.out(window(1, flagACK|flagFIN|flagRST, 0))
	r.in(data(1, 0, 5), "fghij", window(1, flagFIN, 0), data(1, 0, 1), "k")
	r.out()
	if n := r.NumStreams(); n != 0 {
		t.Errorf("%d streams live", n)
	}
	// The same when Close comes in the middle of a frame.
	r.in(data(3, flagSYN, 4), "ab")
	s = r.accept()
	s.Close()
	r.out(window(3, flagACK|flagFIN, 4))
	r.in("cd", data(3, 0, 1), "e")
	r.out(window(3, flagRST, 0))
	if got := s.Stats(); got != (Stats{Received: 2}) {
		t.Errorf("Stats: %+v", got)
	}
	// Data after FIN, of a peer that closes while it writes, resets too.
	r.in(data(5, flagSYN|flagFIN, 2), "ab", data(5, 0, 2), "cd")
	s = r.accept()
	r.out(window(5, flagACK|flagRST, 0))
	if got, err := io.ReadAll(s); string(got) != "ab" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
	if _, err := s.Write([]byte("x")); err != ErrReset {
		t.Errorf("Write: %v", err)
	}
	s.Close()
}

// An RST that answers unwanted data comes after the data of a Write under way.
func TestRSTWaitsForWrite(t *testing.T) {
	r := newRaw(t, Config{})
	r.in(window(1, flagSYN, 0))
	s := r.accept()
	r.out(window(1, flagACK, 0))
	r.lane.limit = 0
	done := make(chan struct{})
	go func() { // ends by Close
		defer close(done)
		if n, err := s.Write([]byte("lost")); n != 0 || !errors.Is(err, net.ErrClosed) {
			t.Errorf("Write: %d, %v", n, err)
		}
	}()
	for range r.lane.kick { // until the writer has found the lane full
		if r.lane.isStarved() {
			break
		}
		r.lane.Wake()
	}
	s.mu.Lock() // holds the writer while the stream is closed and data comes
	s.drop()
	s.finish()
	s.unwanted()
	s.unwanted()
	s.mu.Unlock()
	r.lane.Wake()
	<-done
	r.out(window(1, flagFIN|flagRST, 0))
	if n := r.NumStreams(); n != 0 {
		t.Errorf("%d streams live", n)
	}
}

func (l *lane) isStarved() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.starved
}

func TestReset(t *testing.T) {
	r := newRaw(t, Config{})
	r.in(window(1, flagSYN, 0), data(1, 0, 3), "abc")
	s := r.accept()
	r.out(window(1, flagACK, 0))
	if err := s.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	s.Reset()
	s.Reset()
	r.out(window(1, flagRST, 0)) // the FIN that waited is void
	_, rerr := s.Read(make([]byte, 1))
	_, werr := s.Write(make([]byte, 1))
	for _, err := range []error{rerr, werr, s.CloseWrite(), s.SetDeadline(never), s.SetReadDeadline(never), s.SetWriteDeadline(never)} {
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("after Reset: %v", err)
		}
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close after Reset: %v", err)
	}

	// A stream reset before its SYN went is announced and taken back at once.
	s, _ = r.Open()
	s.Reset()
	r.out(window(2, flagSYN|flagRST, 0))

	// A reset by the peer: what came before it can be read.
	s, _ = r.Open()
	r.out(window(4, flagSYN, 0))
	r.in(data(4, flagACK, 2), "ab", window(4, flagRST, 0))
	if got, err := io.ReadAll(s); string(got) != "ab" || err != ErrReset {
		t.Errorf("read %q, %v", got, err)
	}
	if _, err := s.Write([]byte("x")); err != ErrReset {
		t.Errorf("Write: %v", err)
	}
	if err := s.CloseWrite(); err != ErrReset {
		t.Errorf("CloseWrite: %v", err)
	}
	s.Close()
	s.Reset()
	r.out()

	// A reset after FIN: to the end.
	s, _ = r.Open()
	r.out(window(6, flagSYN, 0))
	r.in(data(6, flagACK|flagFIN|flagRST, 2), "ab")
	if got, err := io.ReadAll(s); string(got) != "ab" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
	s.Close()
	r.out()
}

func TestFINOrder(t *testing.T) {
	r := newRaw(t, Config{Client: true})
	s, _ := r.Open()
	_, _ = s.Write([]byte("abc"))
	s.Close()
	if err := s.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	r.out(data(1, flagSYN, 3), "abc", window(1, flagFIN, 0))
	r.in(window(1, flagACK|flagFIN, 0))
	if n := r.NumStreams(); n != 0 {
		t.Errorf("%d streams live", n)
	}
	r.in(window(1, 0, 7), data(1, 0, 1), "x") // late, and harmless
	r.out()

	s, _ = r.Open()
	if err := s.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if err := s.CloseWrite(); err != nil {
		t.Errorf("second CloseWrite: %v", err)
	}
	if _, err := s.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Write after CloseWrite: %v", err)
	}
	r.out(window(3, flagSYN|flagFIN, 0))
	r.in(data(3, flagACK|flagFIN, 1), "y")
	if got, err := io.ReadAll(s); string(got) != "y" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
	s.Close()
	r.out()
}

func TestIncomingCap(t *testing.T) {
	r := newRaw(t, Config{MaxIncoming: 2})
	r.in(window(1, flagSYN, 0), window(3, flagSYN, 0), data(5, flagSYN|flagFIN, 2), "ab")
	s1, s3 := r.accept(), r.accept()
	r.out(window(5, flagRST, 0), window(1, flagACK, 0), window(3, flagACK, 0))
	if len(r.accepted) != 0 {
		t.Error("a stream above the cap was accepted")
	}
	// Closed here alone, a stream still counts; else a peer could pile them up.
	s1.Close()
	r.in(window(7, flagSYN, 0))
	r.out(window(7, flagRST, 0), window(1, flagFIN, 0))
	r.in(window(1, flagFIN, 0), window(9, flagSYN, 0))
	r.accept().Reset()
	s3.Reset()
	r.in(window(11, flagSYN|flagRST, 0)) // opened and given up
	if len(r.accepted) != 0 || r.NumStreams() != 0 {
		t.Errorf("%d accepted, %d live", len(r.accepted), r.NumStreams())
	}
	refuses := &raw{newEnd(Config{}), t}
	refuses.cfg.Accept = nil
	refuses.in(window(1, flagSYN, 0))
	refuses.out(window(1, flagRST, 0))
}

// SYNs come out of order when goroutines race to announce streams.
func TestOpenedOutOfOrder(t *testing.T) {
	r := newRaw(t, Config{})
	for _, id := range []uint32{7, 1, 5, 3, 9} {
		r.in(data(id, flagSYN, 1), fmt.Sprint(id))
		s := r.accept()
		if got, err := s.Read(make([]byte, 2)); got != 1 || err != nil || s.ID() != id {
			t.Errorf("stream %d: read %d, %v", s.ID(), got, err)
		}
	}
}

func TestIDSet(t *testing.T) {
	s := idSet{next: 2}
	model := map[uint32]bool{}
	for _, id := range []uint32{20, 10, 10, 2, 18, 6, 12, 12, 14, 4, 8, 16, 16, 22, 1<<32 - 2, 30, 1<<32 - 2} {
		if got := s.add(id); got == model[id] {
			t.Errorf("add(%d) = %v", id, got)
		}
		model[id] = true
		for id := uint32(2); id < 40; id += 2 {
			if s.has(id) != model[id] {
				t.Errorf("has(%d) = %v", id, s.has(id))
			}
		}
	}
	// However the peer jumps, memory stays bounded; what is forgotten is used.
	s = idSet{next: 1}
	for id := uint32(5); id < 8*maxGaps; id += 4 {
		s.add(id)
	}
	if len(s.gaps) != maxGaps || s.add(3) || !s.add(8*maxGaps-5) {
		t.Errorf("%d gaps", len(s.gaps))
	}
	s = idSet{next: 1}
	s.add(8*maxGaps + 1)
	for id := uint32(5); id < 8*maxGaps; id += 4 {
		s.add(id)
	}
	if len(s.gaps) != maxGaps {
		t.Errorf("%d gaps", len(s.gaps))
	}
}

// A large payload is kept in place and given back; small ones are packed.
func TestOwnership(t *testing.T) {
	r := newRaw(t, Config{})
	r.in(window(1, flagSYN, 0))
	s := r.accept()
	rec := buf.Get(HeaderSize + ChunkSize)
	copy(rec.B, encode(data(1, 0, ChunkSize)))
	payload := rec.B[HeaderSize:]
	copy(payload, pattern(ChunkSize))
	if err := r.Input(rec.B, rec); err != nil {
		t.Fatal(err)
	}
	if &s.recv.head.data[0] != &payload[0] {
		t.Error("a full payload was copied")
	}
	s.recv.head.data[0] ^= 0xff // seen through the caller's buffer, which is the same
	rec.Release()
	got := make([]byte, ChunkSize)
	if _, err := io.ReadFull(s, got); err != nil || !slices.Equal(got, payload) {
		t.Error("what was read differs")
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the record has not been given back")
			}
		}()
		rec.Retain()
	}()

	for range 5000 {
		r.in(data(1, 0, 1), "x")
	}
	n := 0
	for c := s.recv.head; c != nil; c = c.next {
		n++
	}
	if n > 4 {
		t.Errorf("5000 bytes in frames of one take %d buffers", n)
	}
	s.Close()
	if s.recv != (recvQueue{}) {
		t.Error("a closed stream holds memory")
	}
}
