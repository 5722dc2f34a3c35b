//go:build !js

package websocket

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splitmesh/splitmesh/internal/buf"
)

// A pipeWriter is a ResponseWriter whose connection is a pipe.
type pipeWriter struct {
	*httptest.ResponseRecorder
	conn net.Conn
}

func (w pipeWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return w.conn, bufio.NewReadWriter(bufio.NewReader(w.conn), bufio.NewWriter(w.conn)), nil
}

// servePipe returns a connection as a server has it, and the raw other end, which
// nobody reads but the test.
func servePipe(t *testing.T, interval time.Duration) (*conn, net.Conn) {
	t.Helper()
	here, there := net.Pipe()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	for k, v := range map[string]string{
		"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
		"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Authorization": "Bearer",
	} {
		r.Header.Set(k, v)
	}
	delivered := make(chan net.Conn, 1)
	tr := &Transport{PingInterval: interval}
	h := tr.Handler(func([]byte) func(net.Conn) { return func(c net.Conn) { delivered <- c } }, nil)
	h.ServeHTTP(pipeWriter{httptest.NewRecorder(), here}, r)
	c := (<-delivered).(*conn)
	t.Cleanup(func() { c.Close(); there.Close() })
	return c, there
}

// frame is a client's frame, masked with zeros.
func frame(first byte, payload string) []byte {
	f := []byte{first}
	switch n := len(payload); {
	case n < 126:
		f = append(f, 0x80|byte(n))
	case n < 1<<16:
		f = binary.BigEndian.AppendUint16(append(f, 0x80|126), uint16(n))
	default:
		f = binary.BigEndian.AppendUint64(append(f, 0x80|127), uint64(n))
	}
	return append(append(f, 0, 0, 0, 0), payload...)
}

// readFrame reads a server's frame.
func readFrame(t *testing.T, r io.Reader) (first byte, payload string) {
	t.Helper()
	h := make([]byte, 2)
	if _, err := io.ReadFull(r, h); err != nil {
		t.Fatal(err)
	}
	n := uint64(h[1])
	if ext := map[byte]int{126: 2, 127: 8}[h[1]]; ext > 0 {
		b := make([]byte, 8)
		if _, err := io.ReadFull(r, b[8-ext:]); err != nil {
			t.Fatal(err)
		}
		n = binary.BigEndian.Uint64(b)
	}
	p := make([]byte, n)
	if _, err := io.ReadFull(r, p); err != nil {
		t.Fatal(err)
	}
	return h[0], string(p)
}

const (
	more     = 0x00 // continuation, not the last
	last     = 0x80 // continuation, the last
	begin    = 0x02 // binary, not the last
	text     = 0x81
	binMsg   = 0x82
	closeMsg = 0x88
	pingMsg  = 0x89
	pong     = 0x8a
)

func TestOneWriteIsOneMessage(t *testing.T) {
	c, peer := servePipe(t, time.Hour)
	for _, tt := range []struct {
		size     int
		messages []int
	}{
		{1, []int{1}}, {125, []int{125}}, {126, []int{126}}, {32 << 10, []int{32 << 10}}, {MaxMessage, []int{MaxMessage}},
		{MaxMessage + 1, []int{MaxMessage, 1}}, {300 << 10, []int{MaxMessage, MaxMessage, 44 << 10}},
	} {
		data := bytes.Repeat([]byte("0123456789abcdef"), tt.size/16+1)[:tt.size]
		done := make(chan error, 1)
		go func() { // ends when all is read below
			n, err := c.Write(data)
			if n != len(data) && err == nil {
				err = fmt.Errorf("wrote %d", n)
			}
			done <- err
		}()
		rest := string(data)
		for _, want := range tt.messages {
			first, got := readFrame(t, peer)
			if first != binMsg || got != rest[:want] {
				t.Fatalf("a Write of %d: frame %#x of %d bytes, want a binary message of %d", tt.size, first, len(got), want)
			}
			rest = rest[want:]
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

// A message that fits a Buf is one write to the socket, either way of writing it.
func TestOneMessageIsOneWrite(t *testing.T) {
	for _, client := range []bool{true, false} {
		counts := &countingConn{}
		c := newConn(newLink(counts, counts, nil, client), time.Hour)
		defer c.Close()
		h := header{masked: client, length: 32 << 10}
		if _, err := c.Write(make([]byte, 32<<10)); err != nil || counts.writes != 1 || counts.bytes != 32<<10+h.size() {
			t.Errorf("Write: %d bytes in %d writes, %v", counts.bytes, counts.writes, err)
		}
		if err := c.WriteBuf(buf.Get(c.Headroom()+32<<10), false); err != nil || counts.writes != 2 || counts.bytes != 2*(32<<10+h.size()) {
			t.Errorf("then WriteBuf: %d bytes in %d writes, %v", counts.bytes, counts.writes, err)
		}
	}
}

type countingConn struct {
	net.Conn
	writes, bytes int
}

func (c *countingConn) Write(p []byte) (int, error) {
	c.writes++
	c.bytes += len(p)
	return len(p), nil
}

func (c *countingConn) SetWriteDeadline(time.Time) error { return nil }
func (c *countingConn) Close() error                     { return nil }

func TestReadAcrossMessages(t *testing.T) {
	c, peer := servePipe(t, time.Hour)
	go func() { // ends when all of it is read
		peer.Write(frame(binMsg, "one "))
		peer.Write(frame(binMsg, ""))
		peer.Write(frame(begin, "t"))
		peer.Write(frame(more, "w"))
		peer.Write(frame(pong, "unasked"))
		peer.Write(frame(last, "o "))
		peer.Write(frame(binMsg, strings.Repeat("x", MaxReadMessage)))
	}()
	got := make([]byte, 8+MaxReadMessage)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "one two "+strings.Repeat("x", MaxReadMessage) {
		t.Errorf("read %.20q…, %v", got, err)
	}
}

// What no peer of ours sends ends the connection, with the status that says so.
func TestProtocolErrors(t *testing.T) {
	for _, tt := range []struct {
		name   string
		sends  []byte
		says   string
		status status
	}{
		{"text", frame(text, "hello"), "text message", statusUnsupported},
		{"too big", frame(binMsg, strings.Repeat("x", MaxReadMessage+1)), "over 262144 bytes", statusTooBig},
		{"too big in fragments", append(append(frame(begin, strings.Repeat("x", MaxReadMessage)), frame(more, "y")...), frame(last, "z")...),
			"over 262144 bytes", statusTooBig},
		{"reserved bit", frame(binMsg|0x40, "x"), "rsv", statusProtocolError},
		{"unknown opcode", frame(0x83, "x"), "opcode", statusProtocolError},
		{"continues nothing", frame(last, "x"), "continuation", statusProtocolError},
		{"unmasked", []byte{binMsg, 1, 'x'}, "unmasked", statusProtocolError},
		{"error status", frame(closeMsg, "\x03\xf3oops"), "oops", status(1011)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, peer := servePipe(t, time.Hour)
			go peer.Write(tt.sends) // ends with c or with peer
			ended := make(chan error, 1)
			go func() {
				_, err := io.Copy(io.Discard, c)
				ended <- err
			}()
			first, payload := readFrame(t, peer)
			if first != closeMsg || binary.BigEndian.Uint16([]byte(payload)) != uint16(tt.status) {
				t.Errorf("got frame %#x with % x, want a close with %d", first, payload, tt.status)
			}
			err := <-ended
			if err == nil || !strings.Contains(err.Error(), tt.says) || errors.Is(err, net.ErrClosed) {
				t.Errorf("Read: %v; want something about %q", err, tt.says)
			}
			if _, again := c.Read(make([]byte, 1)); again == nil || again.Error() != err.Error() {
				t.Errorf("the next Read: %v; want as before: %v", again, err)
			}
		})
	}
}

func TestPeerCloses(t *testing.T) {
	for name, leave := range map[string]func(net.Conn){
		"normally":       func(p net.Conn) { p.Write(frame(closeMsg, "\x03\xe8")) },
		"going away":     func(p net.Conn) { p.Write(frame(closeMsg, "\x03\xe9")) },
		"without status": func(p net.Conn) { p.Write(frame(closeMsg, "")) },
		"hanging up":     func(p net.Conn) { p.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			c, peer := servePipe(t, time.Hour)
			go func() { // ends with either end of the pipe
				leave(peer)
				io.Copy(io.Discard, peer)
			}()
			if _, err := c.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("Read: %v; want io.EOF", err)
			}
			if _, err := c.Write([]byte("x")); !errors.Is(err, errPeerClosed) || errors.Is(err, net.ErrClosed) {
				t.Errorf("Write: %v; want errPeerClosed", err)
			}
			if _, err := c.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("Read again: %v; want io.EOF", err)
			}
			c.Close()
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("Read after Close: %v; want net.ErrClosed", err)
			}
		})
	}
}

// With nobody reading and the network at a stand, Close says no farewell, and
// returns all the same. Of time, only the bubble's passes.
func TestCloseAtAStand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := servePipe(t, time.Hour)
		start := time.Now()
		c.Close()
		if waited := time.Since(start); waited > time.Second {
			t.Errorf("Close took %v of the bubble's time", waited)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		c, _ := servePipe(t, time.Hour)
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := c.Write(make([]byte, 1<<20)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("Write ended by Close: %v", err)
			}
		})
		synctest.Wait() // until the Write waits for the network
		start := time.Now()
		c.Close()
		if waited := time.Since(start); waited > time.Second {
			t.Errorf("Close during a Write took %v of the bubble's time", waited)
		}
		wg.Wait()
	})
}

// Pings that come while our own Write waits for the network are answered when the
// network allows, and Read goes on meanwhile. The library alone gives up after 5 s.
func TestPingDuringAStalledWrite(t *testing.T) {
	for _, pingFirst := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c, peer := servePipe(t, time.Hour)
			var wg sync.WaitGroup
			write := func() {
				wg.Go(func() {
					if _, err := c.Write(make([]byte, MaxMessage)); err != nil {
						t.Errorf("Write: %v", err)
					}
				})
				synctest.Wait() // until it waits for the network
			}
			exchange := func(ping, data string) {
				wg.Go(func() {
					peer.Write(frame(pingMsg, ping))
					peer.Write(frame(binMsg, data))
				})
				got := make([]byte, len(data))
				if _, err := io.ReadFull(c, got); err != nil || string(got) != data {
					t.Fatalf("read %q, %v; want %q", got, err, data)
				}
				synctest.Wait() // until what answers the ping waits too
			}
			want := []string{strings.Repeat("\x00", MaxMessage), "first", "second"}
			if pingFirst {
				want[0], want[1] = want[1], want[0]
				exchange("first", "data")
				write()
			} else {
				write()
				exchange("first", "data")
			}
			exchange("second", "more data")
			time.Sleep(time.Minute) // of the bubble's time
			for _, want := range want {
				if first, p := readFrame(t, peer); first != pong && first != binMsg || p != want {
					t.Errorf("frame %#x %.10q of %d bytes; want %.10q of %d", first, p, len(p), want, len(want))
				}
			}
			wg.Wait()
		})
	}
}

// Who pings and reads no answer makes us hold a little, and harms nothing: the newest
// pings are answered when it reads, and it is told of the end.
func TestPingFlood(t *testing.T) {
	for _, size := range []int{0, 1, 2, 3, 125} {
		synctest.Test(t, func(t *testing.T) {
			c, peer := servePipe(t, time.Hour)
			var wg sync.WaitGroup
			wg.Go(func() {
				for range 10_000 {
					peer.Write(frame(pingMsg, strings.Repeat("x", size)))
				}
				peer.Write(frame(pingMsg, "last"))
				peer.Write(frame(binMsg, "y"))
			})
			got := make([]byte, 1)
			if _, err := c.Read(got); err != nil || got[0] != 'y' {
				t.Fatalf("%d bytes a ping: read %q, %v", size, got, err)
			}
			wg.Wait()
			wg.Go(func() { c.Close() })
			pongs, last := 0, ""
			for {
				first, payload := readFrame(t, peer)
				if first == closeMsg {
					if payload != "\x03\xe8" {
						t.Errorf("%d bytes a ping: closed with %q", size, payload)
					}
					break
				}
				if first != pong {
					t.Fatalf("%d bytes a ping: frame %#x %q", size, first, payload)
				}
				pongs += 2 + len(payload)
				last = payload
			}
			if pongs > maxUnsent+127 || last != "last" {
				t.Errorf("%d bytes a ping: %d bytes of pongs, the last %q", size, pongs, last)
			}
			peer.Close()
			wg.Wait()
		})
	}
}

func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, peer := servePipe(t, time.Hour)
		// One that expires while nothing waits may be moved.
		c.SetDeadline(time.Now().Add(time.Second))
		time.Sleep(time.Minute)
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Read past its deadline: %v", err)
		}
		if _, err := c.Write(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Write past its deadline: %v", err)
		}
		c.SetDeadline(time.Now().Add(time.Minute))
		var wg sync.WaitGroup
		wg.Go(func() {
			time.Sleep(time.Second)
			peer.Write(frame(binMsg, "x"))
		})
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Errorf("Read after the deadline moved: %v", err)
		}
		wg.Wait()
		// One that expires in the midst of a Read ends the connection.
		if err := c.SetReadDeadline(time.Now().Add(-time.Second)); err != nil {
			t.Error(err)
		}
		c.SetReadDeadline(time.Time{})
		wg.Go(func() {
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("Read: %v; want os.ErrDeadlineExceeded", err)
			}
		})
		synctest.Wait()
		c.SetReadDeadline(time.Now().Add(-time.Second))
		wg.Wait()
		c.SetDeadline(time.Time{})
		if _, err := c.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Write after a deadline ended the connection: %v", err)
		}
	})
}

// A timer that fires as its deadline is moved does nothing.
func TestDeadlineMovedInTime(t *testing.T) {
	killed := 0
	d := &deadline{kill: func() { killed++ }}
	d.set(time.Now().Add(time.Hour))
	first := d.setting
	if !d.begin() {
		t.Fatal("expired before its time")
	}
	d.set(time.Now().Add(2 * time.Hour))
	d.expire(first)
	if killed != 0 || !d.begin() {
		t.Errorf("the timer of a deadline that was moved killed %d", killed)
	}
	d.expire(d.setting)
	if killed != 1 || d.begin() {
		t.Errorf("the timer of the deadline killed %d", killed)
	}
	d.set(time.Time{})
}

func TestPings(t *testing.T) {
	t.Run("answered", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, peer := servePipe(t, time.Second)
			var wg sync.WaitGroup
			wg.Go(func() {
				for range 100 {
					if first, payload := readFrame(t, peer); first != pingMsg {
						t.Errorf("frame %#x; want a ping", first)
					} else {
						peer.Write(frame(pong, payload))
					}
				}
				peer.Write(frame(binMsg, "x"))
			})
			if _, err := c.Read(make([]byte, 1)); err != nil {
				t.Errorf("after 100 pings that were answered: %v", err)
			}
			wg.Wait()
		})
	})
	t.Run("not needed", func(t *testing.T) { // who is heard is not asked
		synctest.Test(t, func(t *testing.T) {
			c, peer := servePipe(t, time.Second)
			go io.Copy(io.Discard, c) // ends with c
			var wg sync.WaitGroup
			wg.Go(func() {
				for range 100 {
					peer.Write(frame(binMsg, "x"))
					time.Sleep(900 * time.Millisecond)
				}
			})
			defer wg.Wait()
			_ = peer.SetReadDeadline(time.Now().Add(89 * time.Second))
			if n, err := peer.Read(make([]byte, 1)); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%d bytes came, %v", n, err)
			}
		})
	})
	t.Run("unanswered", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, peer := servePipe(t, time.Second)
			go io.Copy(io.Discard, peer) // ends with c
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, errPeerSilent) {
				t.Errorf("Read: %v; want errPeerSilent", err)
			}
		})
	})
	t.Run("unread", func(t *testing.T) { // what nobody reads may well be there
		synctest.Test(t, func(t *testing.T) {
			c, peer := servePipe(t, time.Second)
			go io.Copy(io.Discard, peer) // ends with c
			time.Sleep(time.Hour)        // of the bubble's time
			go peer.Write(frame(binMsg, "x"))
			if _, err := c.Read(make([]byte, 1)); err != nil {
				t.Errorf("after an hour without a Read: %v", err)
			}
		})
	})
}

func FuzzOpening(f *testing.F) {
	f.Add("Bearer", "")
	f.Add("Bearer AAEC", "binary, bearer.AAEC")
	f.Add("bearer AAED", "")
	f.Add("Bearer AAEC=", "")
	f.Add("Bearer AB", "")
	f.Add("Bearer AA\nEC", "")
	f.Add("Basic dTpw", "binary,bearer.")
	f.Add("", "binary, bearer.__-_")
	f.Add("Bearer "+strings.Repeat("A", 5462), "chat, bearer.AAEC")
	f.Add("Bearer "+strings.Repeat("A", 5463), "binary, bearer.AAEC, x")
	f.Fuzz(func(t *testing.T, auth, offered string) {
		h := http.Header{}
		if auth != "" {
			h["Authorization"] = []string{auth}
		}
		if offered != "" {
			h["Sec-Websocket-Protocol"] = []string{offered}
		}
		opening, ok := openingOf(h)
		if !ok {
			return
		}
		token := encodeOpening(opening)
		inHeader := strings.EqualFold(auth, strings.TrimSuffix(bearer+" "+token, " ")) || strings.EqualFold(auth, bearer+" "+token)
		inOffer := auth == "" && strings.HasSuffix(strings.TrimSpace(offered), bearerToken+token)
		if len(opening) > 4096 || !inHeader && !inOffer {
			t.Fatalf("%q, %q gave %q, which is written %q", auth, offered, opening, token)
		}
	})
}
