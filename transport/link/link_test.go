package link

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/nettest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bubble runs f with a fake clock.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// random returns n bytes that no other offset repeats.
func random(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// goWrite writes b and closes the writing direction, in a goroutine that ends
// when the test's connections do.
func goWrite(t *testing.T, c *Conn, b []byte) {
	go func() {
		if n, err := c.Write(b); err != nil {
			t.Errorf("Write = %d, %v", n, err)
		}
		if err := c.CloseWrite(); err != nil {
			t.Errorf("CloseWrite: %v", err)
		}
	}()
}

func mustWrite(t *testing.T, c net.Conn, b []byte) {
	t.Helper()
	if n, err := c.Write(b); n != len(b) || err != nil {
		t.Fatalf("Write = %d, %v; want %d", n, err, len(b))
	}
}

func mustRead(t *testing.T, c net.Conn, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil {
		t.Fatalf("read %d of %d bytes: %v", n, len(want), err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("read %x, want %x", clip(got), clip(want))
	}
}

func clip(b []byte) []byte { return b[:min(len(b), 32)] }

func closeBoth(p *Pipe) {
	a, b := p.Conns()
	a.Close()
	b.Close()
}

// near reports whether got is within a nanosecond a segment of want: what
// counting in whole nanoseconds costs.
func near(got, want time.Duration, segments int) bool {
	return (got - want).Abs() <= time.Duration(segments)
}

func TestNettest(t *testing.T) {
	for name, c := range map[string]Config{
		"plain":  {},
		"small":  {Up: Shape{Buffer: 100}, Down: Shape{Buffer: 1}},
		"shaped": {Up: Shape{Rate: 200 << 20, Delay: time.Millisecond, Jitter: time.Millisecond}, Down: Shape{Delay: time.Millisecond}, Seed: 1},
	} {
		t.Run(name, func(t *testing.T) {
			nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
				p := New(c).Pipe(nil, nil)
				a, b := p.Conns()
				return a, b, func() { closeBoth(p) }, nil
			})
		})
	}
}

func TestRate(t *testing.T) {
	for _, tt := range []struct {
		name   string
		shape  Shape
		size   int
		chunk  int
		within int
	}{
		{"slow", Shape{Rate: 10_000}, 50_000, 50_000, minSegment},
		{"slow, small writes", Shape{Rate: 10_000}, 50_000, 100, minSegment},
		{"fast", Shape{Rate: 100 << 20, Buffer: 64 << 10}, 8 << 20, 32 << 10, maxSegment},
		{"long and fat", Shape{Rate: 10 << 20, Delay: 500 * time.Millisecond, Buffer: 64 << 10}, 16 << 20, 64 << 10, maxSegment},
		{"tiny buffer", Shape{Rate: 1 << 20, Buffer: 4 << 10}, 1 << 20, 64 << 10, maxSegment},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := New(Config{Up: tt.shape}).Pipe(nil, nil)
				defer closeBoth(p)
				a, b := p.Conns()
				start := time.Now()
				go func() {
					for c := range slices.Chunk(random(tt.size), tt.chunk) {
						mustWrite(t, a, c)
					}
					a.CloseWrite()
				}()
				got, err := io.ReadAll(b)
				if err != nil || !bytes.Equal(got, random(tt.size)) {
					t.Fatalf("read %d bytes, %v", len(got), err)
				}
				took := time.Since(start)
				want := tt.shape.duration(tt.size) + tt.shape.Delay
				if d := (took - want).Abs(); d > tt.shape.duration(tt.within) {
					t.Errorf("%d bytes at %d bytes/s with %v of delay took %v, want %v", tt.size, tt.shape.Rate, tt.shape.Delay, took, want)
				}
			})
		})
	}
}

// Bytes trickle in at the link's rate: they don't come all at the end.
func TestRateIsEven(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := New(Config{Up: Shape{Rate: 1 << 20}}).Pipe(nil, nil)
		defer closeBoth(p)
		a, b := p.Conns()
		goWrite(t, a, random(1<<20))
		start, total := time.Now(), 0
		for b1 := make([]byte, 64<<10); ; {
			n, err := b.Read(b1)
			if err == io.EOF {
				break
			}
			total += n
			if want := int(float64(1<<20) * time.Since(start).Seconds()); (total-want) > 1 || want-total > minSegment {
				t.Fatalf("after %v %d bytes have come, want %d", time.Since(start), total, want)
			}
		}
	})
}

func TestRateIsShared(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := New(Config{Up: Shape{Rate: 1 << 20}})
		start := time.Now()
		var wg sync.WaitGroup
		for range 4 {
			p := l.Pipe(nil, nil)
			defer closeBoth(p)
			a, b := p.Conns()
			goWrite(t, a, random(1<<20))
			wg.Go(func() {
				if n, err := io.Copy(io.Discard, b); n != 1<<20 || err != nil {
					t.Errorf("read %d bytes, %v", n, err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(start); !near(took, 4*time.Second, 4*1024) {
			t.Errorf("4 × 1 MiB at 1 MiB/s took %v", took)
		}
		if up, down := l.Carried(); up != 4<<20 || down != 0 {
			t.Errorf("Carried = %d, %d", up, down)
		}
	})
}

func TestDelay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := New(Config{Up: Shape{Delay: 30 * time.Millisecond}, Down: Shape{Delay: 70 * time.Millisecond}}).Pipe(nil, nil)
		defer closeBoth(p)
		a, b := p.Conns()
		start := time.Now()
		for i := range 10 {
			mustWrite(t, a, []byte("ping"))
			mustRead(t, b, []byte("ping"))
			mustWrite(t, b, []byte("pong"))
			mustRead(t, a, []byte("pong"))
			if took, want := time.Since(start), time.Duration(i+1)*100*time.Millisecond; took != want {
				t.Fatalf("%d round trips took %v, want %v", i+1, took, want)
			}
		}
	})
}

// arrivals returns when each byte arrives that is written a millisecond apart.
func arrivals(t *testing.T, seed uint64) []time.Duration {
	var at []time.Duration
	bubble(t, func(t *testing.T) {
		p := New(Config{Up: Shape{Delay: 10 * time.Millisecond, Jitter: 20 * time.Millisecond}, Seed: seed}).Pipe(nil, nil)
		defer closeBoth(p)
		a, b := p.Conns()
		start := time.Now()
		go func() {
			for i := range 200 {
				mustWrite(t, a, []byte{byte(i)})
				time.Sleep(time.Millisecond) // paces virtual time
			}
		}()
		for i := range 200 {
			mustRead(t, b, []byte{byte(i)})
			at = append(at, time.Since(start))
			if low, high := time.Duration(i+10)*time.Millisecond, time.Duration(i+30)*time.Millisecond; at[i] < low || at[i] >= high {
				t.Errorf("byte %d arrived after %v, want [%v, %v)", i, at[i], low, high)
			}
		}
	})
	return at
}

func TestJitterKeepsOrderAndRepeats(t *testing.T) {
	one, again, other := arrivals(t, 1), arrivals(t, 1), arrivals(t, 2)
	if !slices.IsSorted(one) {
		t.Errorf("arrivals out of order: %v", one)
	}
	if !slices.Equal(one, again) {
		t.Error("the same seed gave other arrivals")
	}
	if slices.Equal(one, other) {
		t.Error("another seed gave the same arrivals")
	}
}

// taken writes until the link takes no more for a virtual hour.
func taken(t *testing.T, c net.Conn) int {
	t.Helper()
	c.SetWriteDeadline(time.Now().Add(time.Hour))
	defer c.SetWriteDeadline(time.Time{})
	n, err := c.Write(make([]byte, 8<<20))
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("Write = %d, %v, want a timeout", n, err)
	}
	return n
}

func TestBackPressure(t *testing.T) {
	for _, tt := range []struct {
		name  string
		shape Shape
		want  int
	}{
		{"default", Shape{}, DefaultBuffer},
		{"one", Shape{Buffer: 1}, 1},
		{"small", Shape{Buffer: 1000}, 1000},
		{"in flight too", Shape{Buffer: 1000, Rate: 100_000, Delay: 100 * time.Millisecond}, 11_000},
		{"a window", Shape{Buffer: 1000, Delay: time.Second}, 1000},
		{"nonsense", Shape{Buffer: -1, Rate: -1, Delay: -1, Jitter: -1}, DefaultBuffer},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := New(Config{Up: tt.shape}).Pipe(nil, nil)
				defer closeBoth(p)
				a, b := p.Conns()
				if n := taken(t, a); n != tt.want {
					t.Errorf("the link took %d bytes, want %d", n, tt.want)
				}
				mustRead(t, b, make([]byte, tt.want))
				if n := taken(t, a); n != tt.want {
					t.Errorf("once read, the link took %d bytes, want %d", n, tt.want)
				}
			})
		})
	}
}
