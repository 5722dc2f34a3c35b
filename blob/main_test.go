package blob

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/splitmesh/splitmesh/transport/link"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const chunk = MinChunk

// random is n bytes that are the same in every run.
func random(n int, seed uint64) []byte {
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	b := make([]byte, n)
	rand.NewChaCha8(key).Read(b)
	return b
}

func source(t testing.TB, data []byte, o Options) *Source {
	t.Helper()
	if o.ChunkSize == 0 {
		o.ChunkSize = chunk
	}
	s, err := NewSource(t.Context(), bytes.NewReader(data), int64(len(data)), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func part(t testing.TB, s *Source, i int) []byte {
	t.Helper()
	p, err := s.AppendPart(nil, i)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A memory is an io.WriterAt that grows.
type memory struct{ b []byte }

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if end := int(off) + len(p); end > len(m.b) {
		m.b = append(m.b, make([]byte, end-len(m.b))...)
	}
	return copy(m.b[off:], p), nil
}

// An outcome is what both ends of a transfer say.
type outcome struct {
	sent, got         Info
	sendErr, receiver error
}

// transfer runs both ends over a pipe, and closes it when either has ended.
func transfer(t testing.TB, send, receive func(ctx context.Context, c net.Conn) (Info, error)) (o outcome) {
	t.Helper()
	a, b := link.New(link.Config{}).Pipe(nil, nil).Conns()
	return over(t, a, b, send, receive)
}

func over(t testing.TB, a, b net.Conn, send, receive func(ctx context.Context, c net.Conn) (Info, error)) (o outcome) {
	var wg sync.WaitGroup
	wg.Go(func() {
		o.sent, o.sendErr = send(t.Context(), a)
		a.Close()
	})
	wg.Go(func() {
		o.got, o.receiver = receive(t.Context(), b)
		b.Close()
	})
	wg.Wait()
	return o
}

func (o outcome) ok(t testing.TB) outcome {
	t.Helper()
	if o.sendErr != nil || o.receiver != nil {
		t.Fatalf("sender: %v\nreceiver: %v", o.sendErr, o.receiver)
	}
	return o
}

func sender(s *Source) func(context.Context, net.Conn) (Info, error) {
	return func(ctx context.Context, c net.Conn) (Info, error) { return s.Send(ctx, c, Options{}) }
}

func toFile(path string, o Options) func(context.Context, net.Conn) (Info, error) {
	return func(ctx context.Context, c net.Conn) (Info, error) { return ReceiveFile(ctx, c, path, o) }
}

// is fails the test unless the file is the data, and nothing else is beside it.
func is(t testing.TB, path string, data []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(b, data) {
		t.Fatalf("%d bytes, %v; want the %d that were sent", len(b), err, len(data))
	}
	names, err := filepath.Glob(path + "*")
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
}
