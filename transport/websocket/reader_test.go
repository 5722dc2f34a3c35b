//go:build !js

package websocket

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/splitmesh/splitmesh/internal/buf"
)

// xor against a byte at a time, for all that its words and turns could get wrong.
func TestXor(t *testing.T) {
	// RFC 6455 §5.7: "Hello", masked.
	hello := []byte{0x7f, 0x9f, 0x4d, 0x51, 0x58}
	if xor(hello, hello, 0x3d21fa37); string(hello) != "Hello" {
		t.Errorf("unmasked %q", hello)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	src := make([]byte, 800)
	for i := range src {
		src[i] = byte(rng.Uint32())
	}
	defer func(w bool) { wide = w }(wide)
	for range 2 { // where there are wide registers, also as if there were none
		for n := range 600 {
			for off := range 9 {
				key, from := rng.Uint32(), src[off:off+n]
				want := make([]byte, n)
				for i := range want {
					want[i] = from[i] ^ byte(key>>(i%4*8))
				}
				room := make([]byte, n+64)
				got := room[:n]
				next := xor(got, from, key)
				if wantNext := key>>(n%4*8) | key<<(32-n%4*8); !bytes.Equal(got, want) || next != wantNext {
					t.Fatalf("%d bytes at %d: % x, then key %#x; want % x, then %#x", n, off, got, next, want, wantNext)
				}
				if !bytes.Equal(room[n:], make([]byte, 64)) {
					t.Fatalf("%d bytes at %d: more was written", n, off)
				}
				// In place, and in two pieces as a message's fragments come.
				cut := rng.IntN(n + 1)
				copy(got, from)
				xor(got[cut:], got[cut:], xor(got[:cut], got[:cut], key))
				if !bytes.Equal(got, want) {
					t.Fatalf("%d bytes at %d, cut at %d: % x; want % x", n, off, cut, got, want)
				}
			}
		}
		wide = false
	}
}

func TestKeysDiffer(t *testing.T) {
	var a, b keys
	seen := map[uint32]bool{}
	for range 40 {
		seen[a.next()], seen[b.next()] = true, true
	}
	if len(seen) < 79 { // two of 80 are alike once in a million runs
		t.Errorf("%d keys of 80", len(seen))
	}
}

func FuzzHeader(f *testing.F) {
	for _, h := range []header{{op: opBinary, fin: true, length: 125}, {op: opContinuation, length: 126, masked: true, key: 1 << 31},
		{op: opText, length: 1 << 16}, {op: opPing, fin: true, length: 125, masked: true}, {op: opClose, fin: true}} {
		b := make([]byte, maxFrameHeader)
		f.Add(b[:h.put(b)], h.masked)
	}
	f.Add([]byte{0x82, 126, 0, 125}, false)
	f.Add([]byte{0x82, 127, 128, 0, 0, 0, 0, 0, 0, 0}, false)
	f.Fuzz(func(t *testing.T, b []byte, fromClient bool) {
		h, size, err := parseHeader(b, fromClient)
		if err != nil || size == 0 {
			if size != 0 || err == nil && len(b) >= maxFrameHeader {
				t.Fatalf("% x: size %d, %v", b, size, err)
			}
			return
		}
		again := make([]byte, maxFrameHeader)
		if n := h.put(again); n != size || n != h.size() || !bytes.Equal(again[:n], b[:n]) {
			t.Fatalf("% x is %+v, which is written % x", b, h, again[:n])
		}
	})
}

// understood is what the stream b means, read as simply as can be: the data, the
// control frames, and the status with which it is refused; abrupt for none.
func understood(b []byte, fromClient bool) (data []byte, controls string, end status) {
	open, message := false, uint64(0)
	for {
		h, size, err := parseHeader(b, fromClient)
		if err != nil {
			return data, controls, statusProtocolError
		}
		if size == 0 {
			return data, controls, abrupt
		}
		b = b[size:]
		if h.op == opBinary {
			message = 0
		}
		switch {
		case h.op == opText:
			return data, controls, statusUnsupported
		case h.op < opClose && (h.op == opBinary) == open:
			return data, controls, statusProtocolError
		case h.op < opClose && message+h.length > MaxReadMessage:
			return data, controls, statusTooBig
		}
		payload := b[:min(h.length, uint64(len(b)))]
		b = b[len(payload):]
		clear := make([]byte, len(payload))
		for i := range payload {
			clear[i] = payload[i] ^ byte(h.key>>(i%4*8))
		}
		if h.op < opClose {
			open, message = !h.fin, message+h.length
			data = append(data, clear...)
		} else if uint64(len(payload)) == h.length {
			controls += fmt.Sprintf("%d %q;", h.op, clear)
			if h.op == opClose {
				return data, controls, statusNormal
			}
		}
	}
}

// chopped is a source that gives as many bytes at a time as chop says, in turns.
type chopped struct {
	b, chop []byte
	turn    int
}

func (c *chopped) Read(p []byte) (int, error) {
	if len(c.b) == 0 {
		return 0, io.EOF
	}
	n := 1 << 20
	if len(c.chop) > 0 {
		n = int(c.chop[c.turn%len(c.chop)])*int(c.chop[c.turn%len(c.chop)]) + 1
		c.turn++
	}
	n = copy(p[:min(n, len(p))], c.b)
	c.b = c.b[n:]
	return n, nil
}

// The frame reader, by any turns of Read and ReadBuf, over any cuts of the stream,
// says what the stream means, and holds nothing when it has ended.
func FuzzReader(f *testing.F) {
	for _, fromClient := range []bool{true, false} {
		for i, tt := range autobahn(fromClient) {
			if b := (&raw{client: fromClient}).encode(tt.sends); len(b) < 2000 {
				f.Add(b, fromClient, []byte{byte(i), 0, byte(i * 7)}, uint64(i)*0x9e3779b97f4a7c15)
			}
		}
	}
	long := (&raw{client: true}).encode([]piece{{first: binMsg, payload: strings.Repeat("a", 5000)}, {first: binMsg, payload: strings.Repeat("b", 70000)},
		{first: pingMsg, payload: "p"}, {first: begin, payload: strings.Repeat("c", 120000)}, {first: binMsg}})
	f.Add(long, true, []byte{}, uint64(0x5555))
	f.Add(long, true, []byte{255, 3}, uint64(0x0f0f))
	f.Fuzz(func(t *testing.T, b []byte, fromClient bool, chop []byte, turns uint64) {
		want, wantControls, wantEnd := understood(b, fromClient)
		var got []byte
		controls, end := "", error(nil)
		errClosed := errors.New("closed")
		r := &reader{src: &chopped{b: b, chop: chop}, client: !fromClient, control: func(op byte, p []byte) error {
			controls += fmt.Sprintf("%d %q;", op, p)
			if op == opClose {
				return errClosed
			}
			return nil
		}}
		p := make([]byte, 700)
		for end == nil {
			turns = turns>>1 | turns<<63
			if turns&1 == 0 {
				var n int
				n, end = r.read(p[:1+turns%700])
				got = append(got, p[:n]...)
				if end == nil && n == 0 {
					t.Fatal("Read read nothing")
				}
				continue
			}
			var piece []byte
			var owner *buf.Buf
			if piece, owner, end = r.readBuf(); end == nil {
				got = append(got, piece...)
				if len(piece) == 0 || !owner.Around(piece, min(front, owner.Cap()-cap(piece))) {
					t.Fatalf("%d bytes in a Buf that is not the caller's alone", len(piece))
				}
				clear(piece) // is the caller's
				owner.Release()
			}
			if r.in != nil && (len(r.in.B) == 0 || r.in.Cap() > buf.Max) {
				t.Fatalf("holds %d bytes for %d", r.in.Cap(), len(r.in.B))
			}
		}
		// A piece that never became complete was not handed over.
		if !bytes.HasPrefix(want, got) || controls != wantControls {
			t.Fatalf("%d bytes, %s; want %d, %s", len(got), controls, len(want), wantControls)
		}
		var wrong *protocolError
		gotEnd := abrupt
		switch {
		case end == errClosed:
			gotEnd = statusNormal
		case errors.As(end, &wrong):
			gotEnd = wrong.status
		case end != io.EOF && end != io.ErrUnexpectedEOF:
			t.Fatal(end)
		}
		if gotEnd != wantEnd || len(got) != len(want) && end != io.ErrUnexpectedEOF {
			t.Fatalf("%d bytes of %d, then %v; want the status %d", len(got), len(want), end, wantEnd)
		}
	})
}

// A slow reader of small messages gets them in small memory, as it may keep them
// for long.
func TestSmallMessagesHoldLittle(t *testing.T) {
	var pieces []piece
	for range 100 {
		pieces = append(pieces, piece{first: binMsg, payload: "small"}, piece{first: binMsg, payload: strings.Repeat("m", 600)})
	}
	pieces = append(pieces, piece{first: binMsg, payload: strings.Repeat("x", 90000)}, pieces[0], pieces[0])
	c, p := rawServer(t, false, "")
	go p.Write(p.encode(pieces)) // ends with p
	for _, want := range pieces {
		got, owner, err := c.ReadBuf()
		if err != nil || string(got) != want.payload {
			t.Fatalf("%d bytes, %v; want %d", len(got), err, len(want.payload))
		}
		if owner.Cap() > 512 && owner.Cap() > 8*len(got) {
			t.Errorf("%d bytes in %d of memory", len(got), owner.Cap())
		}
		owner.Release()
	}
}
