package session

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splitmesh/splitmesh/internal/buf"
	"github.com/splitmesh/splitmesh/splitter"
)

// number makes a datagram of n bytes that says which it is.
func number(i, n int) []byte {
	p := make([]byte, max(n, 4))
	binary.BigEndian.PutUint32(p, uint32(i))
	return p
}

// waiting reads what has come for the stream already, and returns the numbers.
func waiting(t *testing.T, st *Stream) (got []int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for {
		p, err := st.ReceiveDatagram(ctx)
		if err != nil {
			if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			return got
		}
		got = append(got, int(binary.BigEndian.Uint32(p)))
	}
}

// gramPair is a pair with a stream that both ends know, and await datagrams on.
func gramPair(t *testing.T, relays int, edit func(a, b *Config)) (*pair, *Stream, *Stream) {
	p := newPair(t, edit)
	for relay := 1; relay <= relays; relay++ {
		ca, cb := net.Pipe()
		p.join(t, relay, ca, cb)
	}
	here, there := p.stream(t)
	waiting(t, there)
	return p, here, there
}

// TestDatagramsOverAllArriveOnce: every path carries each, the reader gets it once.
func TestDatagramsOverAllArriveOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, here, there := gramPair(t, 3, nil)
		time.Sleep(10 * ackDelay) // virtual: until the paths are measured
		const n = 100
		for i := range n {
			if err := here.SendDatagram(number(i, 500), true); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		got := waiting(t, there)
		for i := range got {
			if got[i] != i {
				t.Fatalf("datagram %d is number %d", i, got[i])
			}
		}
		if len(got) != n {
			t.Errorf("%d datagrams of %d arrived", len(got), n)
		}
		for _, path := range p.a.Stats().Paths {
			if path.SentBytes < n*500 {
				t.Errorf("path %d carried %d bytes", path.ID, path.SentBytes)
			}
		}
		p.a.Close()
		p.b.Close()
	})
}

// TestUnreadDatagramsAreDropped: the oldest first, by number and by bytes.
func TestUnreadDatagramsAreDropped(t *testing.T) {
	for _, tt := range []struct{ size, sent, kept int }{
		{10, maxInbox + 100, maxInbox},
		{MaxDatagram, 40, maxInboxBytes / MaxDatagram},
		{0, 3, 3},
	} {
		synctest.Test(t, func(t *testing.T) {
			p, here, there := gramPair(t, 1, nil)
			for i := range tt.sent {
				if err := here.SendDatagram(number(i, tt.size), false); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * ackDelay) // virtual
			}
			synctest.Wait()
			got := waiting(t, there)
			if len(got) != tt.kept || got[0] != tt.sent-tt.kept {
				t.Errorf("of %d datagrams of %d bytes %d are kept, from %d on", tt.sent, tt.size, len(got), got[0])
			}
			p.a.Close()
			p.b.Close()
		})
	}
}

// TestDatagramsThatFindNoRoom: what a path does not take is dropped, not kept.
func TestDatagramsThatFindNoRoom(t *testing.T) {
	s, p := victim(t, true)
	st, err := s.Open(plainPolicy, splitter.Interactive)
	if err != nil {
		t.Fatal(err)
	}
	p.wmu.Lock() // somebody writes, and does not come to an end
	defer p.wmu.Unlock()
	for i := range 3000 {
		size := 1 + i*97%400
		if i%5 == 0 {
			size = MaxDatagram
		}
		if err := st.SendDatagram(make([]byte, size), i%2 == 0); err != nil {
			t.Fatal(err)
		}
		s.mu.Lock()
		bytes := 0
		for _, b := range p.datagrams {
			bytes += datagramCost(b)
		}
		s.mu.Unlock()
		if bytes > maxGramsGiven {
			t.Fatalf("%d bytes wait on one path", bytes)
		}
	}
}

func TestDatagramErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, here, there := gramPair(t, 3, func(a, b *Config) { a.Grace, b.Grace = time.Minute, time.Minute })
		if err := here.SendDatagram(make([]byte, MaxDatagram+1), false); !errors.Is(err, ErrDatagramSize) {
			t.Error(err)
		}
		secret, err := p.a.Open(coded["secrecy 2 of 3"], splitter.Interactive)
		if err != nil {
			t.Fatal(err)
		}
		if err := secret.SendDatagram([]byte("x"), false); !errors.Is(err, ErrDatagramPolicy) {
			t.Error(err)
		}
		early, err := p.a.Open(plainPolicy, splitter.Bulk) // the peer does not know the lane yet
		if err != nil {
			t.Fatal(err)
		}
		if err := early.SendDatagram([]byte("x"), false); err != nil {
			t.Error(err)
		}

		cause := errors.New("the caller had enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan error)
		go func() { done <- errOfBytes(there.ReceiveDatagram(ctx)) }()
		synctest.Wait()
		cancel(cause)
		if err := <-done; !errors.Is(err, cause) {
			t.Error(err)
		}

		// Close ends a wait, and every later call.
		go func() { done <- errOfBytes(there.ReceiveDatagram(context.Background())) }()
		synctest.Wait()
		there.Close()
		for _, err := range []error{<-done, errOfBytes(there.ReceiveDatagram(t.Context())), there.SendDatagram([]byte("x"), true)} {
			if !errors.Is(err, net.ErrClosed) {
				t.Errorf("after Close: %v", err)
			}
		}
		if n := len(there.lane.inboxes.all); n != 0 {
			t.Errorf("%d inboxes of closed streams", n)
		}

		for id := uint32(1); id <= 3; id++ {
			p.cut(id)
		}
		synctest.Wait()
		if few, ok := errors.AsType[*splitter.TooFewPathsError](here.SendDatagram([]byte("x"), false)); !ok || few.Have != 0 {
			t.Error(few)
		}
		go func() { done <- errOfBytes(here.ReceiveDatagram(context.Background())) }()
		synctest.Wait()
		time.Sleep(time.Minute) // virtual
		for _, err := range []error{<-done, here.SendDatagram([]byte("x"), false)} {
			if lost, ok := errors.AsType[*PathsLostError](err); !ok {
				t.Error(lost, err)
			}
		}
		p.a.Close()
		p.b.Close()
	})
}

func errOfBytes(_ []byte, err error) error { return err }

func TestGramWindow(t *testing.T) {
	var w gramWindow
	for _, tt := range []struct {
		n    uint32
		want bool
	}{
		{5, true}, {5, false}, {4, true}, {4, false}, {7, true}, {6, true}, {6, false},
		{7 + gramWindowSize - 1, true}, {7, false}, {8, true}, {6, false}, // 6 is out of the window
		{1 << 30, true}, {7, false}, {1<<30 - 1, true},
		{1 << 31, true}, {1<<32 - 1, true}, {0, true}, {1<<32 - 1, false}, {0, false}, {2, true}, {1, true}, // it wraps around
	} {
		if got := w.add(tt.n); got != tt.want {
			t.Errorf("%d: %v", tt.n, got)
		}
	}
}

func FuzzDatagram(f *testing.F) {
	b := make([]byte, gramHeader+3)
	putDatagram(b, 1, 2, 3, []byte("abc"))
	f.Add(b)
	f.Add([]byte{typeGram, 0})
	f.Fuzz(func(t *testing.T, p []byte) {
		g, err := parseDatagram(p)
		if err != nil {
			if len(p) >= gramHeader && len(p) <= gramHeader+MaxDatagram {
				t.Fatal(err)
			}
			return
		}
		again := make([]byte, gramHeader+len(g.payload))
		putDatagram(again, g.lane, g.stream, g.number, g.payload)
		if p[0] = typeGram; !bytes.Equal(again, p) {
			t.Fatalf("%x is written as %x", p, again)
		}
	})
}

// FuzzShard also gives what is parsed to a lane, which refuses what no sender
// would write and never holds more than its bound.
func FuzzShard(f *testing.F) {
	shard := make([]byte, shardHeader+40)
	putShardHeader(shard, 2, splitter.Shard{Offset: 9, Size: 33, Generation: 1, Index: 2, K: 2, N: 3})
	f.Add(shard)
	f.Add([]byte{typeShard, 0, 1})
	s, path := victim(f, false)
	if err := feed(s, path, 0, control(appendPolicy(nil, 2, splitter.Interactive, coded["erasure 2 of 3"]))); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		_, sh, payload, err := parseShard(p)
		if err != nil {
			if len(p) > shardHeader {
				t.Fatal(err)
			}
			return
		}
		again := make([]byte, shardHeader, len(p))
		putShardHeader(again, p[1], sh)
		if p[0] = typeShard; !bytes.Equal(append(again, payload...), p) {
			t.Fatalf("%x is written as %x", p, again)
		}
		owner := buf.Get(len(payload))
		defer owner.Release()
		copy(owner.B, payload)
		l := newLane(s, 2, coded["erasure 2 of 3"], splitter.Interactive)
		if err := l.receiveShard(sh, owner.B, owner); err != nil && !isProtocol(err) {
			t.Fatal(err)
		}
		if l.blocks != nil {
			if l.blocks.Held() > laneIncomplete {
				t.Fatal(l.blocks.Held())
			}
			l.blocks.Reset()
		}
	})
}
