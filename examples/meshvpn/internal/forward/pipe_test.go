package forward_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/forward"
)

// A half is an end of a conn in memory that ends each way by itself.
type half struct {
	net.Conn // read from
	out      net.Conn
}

func (h *half) Write(p []byte) (int, error) { return h.out.Write(p) }
func (h *half) CloseWrite() error           { return h.out.Close() }
func (h *half) Close() error                { return errors.Join(h.Conn.Close(), h.out.Close()) }

func halves() (a, b *half) {
	r1, w1 := net.Pipe()
	r2, w2 := net.Pipe()
	return &half{r1, w2}, &half{r2, w1}
}

// TestHalfOpen: when one way has ended the other goes on as long as it carries something now and then, and no longer.
func TestHalfOpen(t *testing.T) {
	for _, times := range []int{0, 3} {
		synctest.Test(t, func(t *testing.T) { halfOpen(t, times) })
	}
}

func halfOpen(t *testing.T, times int) {
	client, near := halves()
	server, far := halves()
	ended := make(chan error, 1)
	go func() { ended <- forward.Pipe(context.Background(), near, far) }()
	time.Sleep(24 * time.Hour) // virtual: while both ways are open nothing is bounded
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	for range times {
		time.Sleep(14 * time.Minute) // virtual
		if _, err := server.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case err := <-ended:
		t.Fatal("it has ended while it was in use:", err)
	default:
	}
	if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	if _, err := server.Write([]byte("x")); err == nil {
		t.Error("the conn is still there")
	}
}
