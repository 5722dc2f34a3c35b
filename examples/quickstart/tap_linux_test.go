package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"sync"
	"testing"
)

// A wire is all that goes between a relay and the others, who know the relay by
// the wire's address.
type wire struct {
	addr     string
	relay    string // host:port
	listener net.Listener
	wg       sync.WaitGroup

	mu    sync.Mutex // guards all below
	conns []net.Conn
	flows []*flow
}

// A flow is what went one way over one connection. It belongs to the goroutine
// that copies, until the wire is closed.
type flow struct{ seen []byte }

// Write implements io.Writer.
func (f *flow) Write(p []byte) (int, error) {
	f.seen = append(f.seen, p...)
	return len(p), nil
}

var listens = regexp.MustCompile(`^/ip4/127\.0\.0\.1/tcp/(\d+)/ws/p2p/`)

// tap puts a wire before the relay at addr.
func tap(addr string) (*wire, error) {
	m := listens.FindStringSubmatchIndex(addr)
	if m == nil {
		return nil, fmt.Errorf("%s is not where a relay listens", addr)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	here := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	w := &wire{addr: addr[:m[2]] + here + addr[m[3]:], relay: "127.0.0.1:" + addr[m[2]:m[3]], listener: l}
	w.wg.Go(w.run) // ends with close
	return w, nil
}

func (w *wire) run() {
	for {
		in, err := w.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", w.relay)
		if err != nil { // the relay was killed
			in.Close()
			continue
		}
		w.mu.Lock()
		w.conns = append(w.conns, in, out)
		for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
			f := new(flow)
			w.flows = append(w.flows, f)
			w.wg.Go(func() { // ends when either end closes, or with close
				io.Copy(way[1], io.TeeReader(way[0], f))
				in.Close()
				out.Close()
			})
		}
		w.mu.Unlock()
	}
}

// close ends the wire and all that goes over it.
func (w *wire) close() {
	w.listener.Close()
	w.mu.Lock()
	for _, c := range w.conns {
		c.Close()
	}
	w.mu.Unlock()
	w.wg.Wait()
}

// search fails the test if one of the words went over the wire, as it was or in a
// WebSocket's mask. It returns how many bytes of messages did.
func (w *wire) search(t *testing.T, words [][]byte) (carried int) {
	t.Helper()
	for _, f := range w.flows {
		payload, err := unmask(f.seen)
		if err != nil {
			t.Errorf("what went over %s is no WebSocket: %v", w.addr, err)
		}
		found := make([]int, len(words))
		count(found, f.seen, words)
		count(found, payload, words)
		for i, n := range found {
			if n > 0 {
				t.Errorf("the secret went over %s %d times (form %d)", w.addr, n, i)
			}
		}
		carried += len(payload)
	}
	return carried
}

// unmask returns the payload of all frames of a WebSocket (RFC 6455, section 5.2),
// of which the last may be cut off. The HTTP request, or answer, stays before it.
func unmask(seen []byte) ([]byte, error) {
	head := bytes.Index(seen, []byte("\r\n\r\n"))
	if head < 0 {
		if len(seen) == 0 {
			return nil, nil
		}
		return nil, errors.New("no end of an HTTP header")
	}
	out, rest := append([]byte(nil), seen[:head+4]...), seen[head+4:]
	for len(rest) >= 2 {
		if rest[0]&0x70 != 0 {
			return nil, fmt.Errorf("a frame begins with %#02x", rest[0])
		}
		size, masked, n := uint64(rest[1]&0x7f), rest[1]&0x80 != 0, 2
		switch {
		case size == 126 && len(rest) >= 4:
			size, n = uint64(binary.BigEndian.Uint16(rest[2:])), 4
		case size == 127 && len(rest) >= 10:
			size, n = binary.BigEndian.Uint64(rest[2:]), 10
		case size >= 126:
			return out, nil
		}
		var key [4]byte
		if masked {
			if len(rest) < n+4 {
				return out, nil
			}
			copy(key[:], rest[n:])
			n += 4
		}
		rest = rest[n:]
		k := int(min(size, uint64(len(rest))))
		for i, b := range rest[:k] {
			out = append(out, b^key[i%4])
		}
		rest = rest[k:]
	}
	return out, nil
}

// TestSearchFinds shows that the search of traffic finds what it is to find: in
// each form, at each place, masked or not, and in a frame that is cut off.
func TestSearchFinds(t *testing.T) {
	secret := bytes.Repeat([]byte("0123456789abcdef"), 2)
	copy(secret[16:], "\xff\xfe\xfd and so on")
	words := needles(secret)
	frame := func(payload []byte, mask bool) []byte {
		b := []byte("GET / HTTP/1.1\r\n\r\n\x82")
		if !mask {
			return append(append(b, 126, byte(len(payload)>>8), byte(len(payload))), payload...)
		}
		b = append(b, 0x80|126, byte(len(payload)>>8), byte(len(payload)), 1, 2, 3, 4)
		for i, c := range payload {
			b = append(b, c^byte(i%4+1))
		}
		return b
	}
	for form, spoken := range encodings(secret) {
		for _, mask := range []bool{false, true} {
			payload := append([]byte("some bytes before"), spoken...)
			payload = append(payload, "and some behind"...)
			cut := frame(payload, mask)
			cut = cut[:len(cut)-3]
			plain, err := unmask(cut)
			if err != nil {
				t.Fatal(err)
			}
			found := make([]int, len(words))
			count(found, plain, words)
			total := 0
			for _, n := range found {
				total += n
			}
			if total == 0 {
				t.Errorf("%s, masked %v: not found in %q", form, mask, plain)
			}
		}
	}
	found := make([]int, len(words))
	count(found, make([]byte, 4096), words)
	for i, n := range found {
		if n != 0 {
			t.Errorf("form %d is found in nothing", i)
		}
	}
}
