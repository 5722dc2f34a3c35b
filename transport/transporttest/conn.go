package transporttest

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

func testEcho(t *testing.T, h Harness) {
	client, remote := serve(t, h).dial(t, h, "echo")
	mustReach(t, client, remote, "there")
	mustReach(t, remote, client, "and back")
	if n, err := client.Write(nil); n != 0 || err != nil {
		t.Errorf("empty Write = %d, %v", n, err)
	}
	if n, err := client.Read(nil); n != 0 || err != nil {
		t.Errorf("empty Read = %d, %v", n, err)
	}
	mustReach(t, client, remote, "still there")
	for name, addr := range map[string]net.Addr{
		"dialler's local": client.LocalAddr(), "dialler's remote": client.RemoteAddr(),
		"listener's local": remote.LocalAddr(), "listener's remote": remote.RemoteAddr(),
	} {
		if addr == nil {
			t.Errorf("%s address is nil", name)
		}
	}
}

// testTransfer sends several MiB both ways at once, in writes of all sizes.
func testTransfer(t *testing.T, h Harness) {
	const size = 6 << 20
	client, remote := serve(t, h).dial(t, h, "transfer")
	seeds := [2][32]byte{{1}, {2}}
	var wg sync.WaitGroup
	send := func(c net.Conn, seed [32]byte) {
		src, sizes := rand.NewChaCha8(seed), rand.New(rand.NewPCG(uint64(seed[0]), 0))
		buf := make([]byte, 300<<10)
		for left := size; left > 0; {
			n := min(left, 1+sizes.IntN(1<<(1+sizes.IntN(18))))
			src.Read(buf[:n])
			if m, err := c.Write(buf[:n]); m != n || err != nil {
				t.Errorf("Write of %d = %d, %v", n, m, err)
				c.Close()
				return
			}
			left -= n
		}
	}
	receive := func(c net.Conn, seed [32]byte) {
		want, got := sha256.New(), sha256.New()
		io.CopyN(want, rand.NewChaCha8(seed), size)
		if n, err := io.CopyN(got, c, size); err != nil {
			t.Errorf("received %d of %d bytes: %v", n, size, err)
		} else if string(got.Sum(nil)) != string(want.Sum(nil)) {
			t.Error("what was received is not what was sent")
		}
	}
	wg.Go(func() { send(client, seeds[0]) })
	wg.Go(func() { send(remote, seeds[1]) })
	wg.Go(func() { receive(remote, seeds[0]) })
	wg.Go(func() { receive(client, seeds[1]) })
	wg.Wait()
}

// testConcurrentUse has several writers each way. A Write is not torn apart by
// another, and every one arrives once.
func testConcurrentUse(t *testing.T, h Harness) {
	const writers, each, record = 8, 64, 512
	client, remote := serve(t, h).dial(t, h, "concurrent")
	var wg sync.WaitGroup
	for _, c := range []net.Conn{client, remote} {
		for w := range writers {
			wg.Go(func() {
				for i := range each {
					b := make([]byte, record)
					for j := 0; j < record; j += 8 {
						binary.BigEndian.PutUint64(b[j:], uint64(w*each+i))
					}
					if _, err := c.Write(b); err != nil {
						t.Errorf("writer %d: %v", w, err)
						return
					}
				}
			})
		}
		wg.Go(func() {
			seen := make(map[uint64]bool)
			for range writers * each {
				b := make([]byte, record)
				if _, err := io.ReadFull(c, b); err != nil {
					t.Errorf("after %d records: %v", len(seen), err)
					return
				}
				first := binary.BigEndian.Uint64(b)
				for j := 0; j < record; j += 8 {
					if got := binary.BigEndian.Uint64(b[j:]); got != first {
						t.Errorf("a Write was torn: record %d holds %d", first, got)
						return
					}
				}
				if seen[first] {
					t.Errorf("record %d came twice", first)
				}
				seen[first] = true
			}
		})
	}
	wg.Wait()
}

func testConnClose(t *testing.T, h Harness) {
	for _, end := range []string{"dialler", "listener"} {
		client, remote := serve(t, h).dial(t, h, "close")
		here, there := client, remote
		if end == "listener" {
			here, there = remote, client
		}
		mustReach(t, here, there, "before")
		if err := here.Close(); err != nil {
			t.Errorf("%s: Close: %v", end, err)
		}
		if n, err := there.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("the other end of a closed %s: Read = %d, %v; want an error", end, n, err)
		}
		if err := here.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: second Close: %v", end, err)
		}
		for what, err := range map[string]error{
			"Read":             second(here.Read(make([]byte, 1))),
			"Write":            second(here.Write([]byte("x"))),
			"SetDeadline":      here.SetDeadline(time.Time{}),
			"SetReadDeadline":  here.SetReadDeadline(time.Time{}),
			"SetWriteDeadline": here.SetWriteDeadline(time.Time{}),
		} {
			if !errors.Is(err, net.ErrClosed) {
				t.Errorf("%s: %s after Close: %v; want net.ErrClosed", end, what, err)
			}
		}
	}
}

func second(_ int, err error) error { return err }

// testConnCloseUnblocks closes while the same end reads what never comes and
// writes more than the other end, which does not read, can take.
func testConnCloseUnblocks(t *testing.T, h Harness) {
	for _, end := range []string{"dialler", "listener"} {
		client, remote := serve(t, h).dial(t, h, "unblock")
		here := client
		if end == "listener" {
			here = remote
		}
		full := make(chan struct{})
		results := make(chan error, 2)
		go func() { // ends with the Close below, as does the next
			_, err := here.Read(make([]byte, 1))
			results <- ended("Read", err)
		}()
		go func() {
			buf := make([]byte, 64<<10)
			for sent := 0; ; sent += len(buf) {
				if sent == 1<<20 {
					close(full)
				}
				if _, err := here.Write(buf); err != nil {
					results <- ended("Write", err)
					return
				}
				if sent > 1<<30 {
					results <- errors.New("wrote a GiB that nobody read")
					return
				}
			}
		}()
		<-full
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { here.Close() })
		}
		for range 2 {
			if err := <-results; err != nil {
				t.Errorf("%s: %v", end, err)
			}
		}
		wg.Wait()
	}
}

func ended(what string, err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return fmt.Errorf("%s ended by Close: %v; want net.ErrClosed", what, err)
}

func testReadDeadline(t *testing.T, h Harness) {
	s := serve(t, h)
	for _, end := range []string{"dialler", "listener"} {
		here, there := s.dial(t, h, "deadline")
		if end == "listener" {
			here, there = there, here
		}
		// One that is far off, and one that is taken back, do nothing.
		for _, when := range []time.Time{time.Now().Add(time.Hour), {}} {
			if err := here.SetDeadline(when); err != nil {
				t.Fatal(err)
			}
			mustReach(t, there, here, "in time")
			mustReach(t, here, there, "and back")
		}
		result := make(chan error, 1)
		go func() { // ends with the deadline below
			_, err := here.Read(make([]byte, 1))
			result <- err
		}()
		if err := here.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		mustExpire(t, end+": pending Read", <-result)
		_, err := here.Read(make([]byte, 1))
		mustExpire(t, end+": next Read", err)
	}
}

func testWriteDeadline(t *testing.T, h Harness) {
	s := serve(t, h)
	for _, end := range []string{"dialler", "listener"} {
		here, there := s.dial(t, h, "deadline")
		if end == "listener" {
			here = there
		}
		if err := here.SetWriteDeadline(time.Now().Add(time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		var err error
		for buf := make([]byte, 64<<10); err == nil; { // nobody reads, so that this fills up
			_, err = here.Write(buf)
		}
		mustExpire(t, end+": Write", err)
		_, err = here.Write([]byte("x"))
		mustExpire(t, end+": next Write", err)
	}
}

func mustExpire(t *testing.T, what string, err error) {
	t.Helper()
	var ne net.Error
	if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &ne) || !ne.Timeout() {
		t.Errorf("%s past its deadline: %v; want os.ErrDeadlineExceeded", what, err)
	}
}
