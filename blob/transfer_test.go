package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/splitmesh/splitmesh/transport/link"
)

var sizes = []int{0, 1, chunk - 1, chunk, chunk + 1, 2 * chunk, 3*chunk + 7, 20*chunk - 1, 33 * chunk}

func TestRoundTrip(t *testing.T) {
	for _, size := range sizes {
		for _, o := range []Options{{}, {Private: true}, {K: 2, N: 3}, {K: 1, N: 2}, {K: 3, N: 3, Private: true}} {
			t.Run(fmt.Sprint(size, o.Private, o.K, o.N), func(t *testing.T) {
				private := o.Private
				data := random(size, 1)
				var stages [4]int64
				o.ChunkSize = chunk
				o.Progress = func(s Stage, done, total int64) {
					if done < stages[s] || done > total {
						t.Errorf("%v: %d after %d, of %d", s, done, stages[s], total)
					}
					stages[s] = done
				}
				var w memory
				out := transfer(t,
					func(ctx context.Context, c net.Conn) (Info, error) {
						return Send(ctx, c, bytes.NewReader(data), int64(size), o)
					},
					func(ctx context.Context, c net.Conn) (Info, error) { return Receive(ctx, c, &w, Options{}) },
				).ok(t)
				if out.sent != out.got || out.got.Size != int64(size) {
					t.Fatalf("%+v", out)
				}
				if !bytes.Equal(w.b[:size], data) {
					t.Fatal("other bytes")
				}
				total := paddedSize(int64(size), private)
				if out.got.Carried != total || stages[Hashing] != total || stages[Transferring] != total {
					t.Fatal(out, stages)
				}

				o.Progress = nil
				path := filepath.Join(t.TempDir(), "file")
				again := transfer(t, sender(source(t, data, o)), toFile(path, Options{Want: out.got.ID})).ok(t)
				if again.got != out.got {
					t.Fatal(again, out)
				}
				is(t, path, data)
				// The last word may be lost: sending once more must cost nothing.
				kept := transfer(t, sender(source(t, data, o)), toFile(path, Options{})).ok(t)
				if kept.got.Carried != 0 || kept.got.Size != int64(size) {
					t.Fatalf("%+v", kept)
				}
				is(t, path, data)
			})
		}
	}
}

// TestTwoBlobsOneConn: a transfer reads nothing that is not its own.
func TestTwoBlobsOneConn(t *testing.T) {
	one, two := random(3*chunk, 1), random(2*chunk+1, 2)
	var w [2]memory
	transfer(t,
		func(ctx context.Context, c net.Conn) (Info, error) {
			if _, err := source(t, one, Options{}).Send(ctx, c, Options{}); err != nil {
				return Info{}, err
			}
			return source(t, two, Options{}).Send(ctx, c, Options{})
		},
		func(ctx context.Context, c net.Conn) (Info, error) {
			if _, err := Receive(ctx, c, &w[0], Options{}); err != nil {
				return Info{}, err
			}
			return Receive(ctx, c, &w[1], Options{})
		}).ok(t)
	if !bytes.Equal(w[0].b, one) || !bytes.Equal(w[1].b, two) {
		t.Fatal("mixed up")
	}
}

// A cutter is a conn whose link is cut after it has read n bytes.
type cutter struct {
	net.Conn
	l *link.Link
	n int
}

func (c *cutter) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p[:min(len(p), max(1, c.n))])
	if c.n -= n; c.n <= 0 {
		c.l.Cut()
	}
	return n, err
}

// TestResume cuts a transfer at every boundary of a part and in the middle of every
// one, and counts what the next carries.
func TestResume(t *testing.T) {
	const parts = 5
	data := random(parts*chunk-100, 1)
	s := source(t, data, Options{})
	m := s.Manifest()
	for k := range parts {
		for _, within := range []int{0, 1, partHead, partHead + 40, len(part(t, s, k)) / 2, len(part(t, s, k)) - 1} {
			t.Run(fmt.Sprint(k, "+", within), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "file")
				at := len(magic) + manifestSize + within
				for i := range k {
					at += len(part(t, s, i))
				}
				l := link.New(link.Config{})
				a, b := l.Pipe(nil, nil).Conns()
				out := over(t, a, &cutter{b, l, at}, sender(s), toFile(path, Options{}))
				if out.sendErr == nil || out.receiver == nil || !Broken(out.sendErr) || !Broken(out.receiver) {
					t.Fatalf("cut at %d: sender %v, receiver %v", at, out.sendErr, out.receiver)
				}
				if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
					t.Fatal("an unfinished file has its name:", err)
				}
				rest := transfer(t, sender(s), toFile(path, Options{})).ok(t)
				if want := m.Size - int64(k*chunk); rest.got.Carried != want || rest.sent.Carried != want {
					t.Fatalf("the second transfer carried %d and %d bytes, want %d", rest.sent.Carried, rest.got.Carried, want)
				}
				is(t, path, data)
			})
		}
	}
}
