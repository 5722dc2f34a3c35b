package mux

import (
	"fmt"
	"io"
	"sync"
	"testing"
	"time"
)

// BenchmarkThroughput moves data from one Mux to another through the test's
// lane: a copy, a channel and two goroutine switches a burst are the lane's.
func BenchmarkThroughput(b *testing.B) {
	for _, size := range []int{64, 1 << 10, ChunkSize, 256 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			x, y := newPair(b, Config{RTT: func() time.Duration { return time.Second }}, Config{RTT: func() time.Duration { return time.Second }}, nil)
			x.lane.limit = 64
			s, peer := open(b, x, y)
			var wg sync.WaitGroup
			wg.Go(func() {
				for p := make([]byte, 256<<10); ; {
					if _, err := peer.Read(p); err != nil {
						return
					}
				}
			})
			p := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Write(p); err != nil {
					b.Fatal(err)
				}
			}
			s.Close()
			wg.Wait()
			peer.Close()
		})
	}
}

// BenchmarkFrame is the cost of one full frame without any goroutine: Write,
// Input, Read and the window updates.
func BenchmarkFrame(b *testing.B) {
	for _, size := range []int{64, ChunkSize} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			x, y := newEnd(Config{Client: true}), newEnd(Config{})
			s, _ := x.Open()
			var peer *Stream
			move := func(from, to *end) {
				for _, rec := range from.lane.take() {
					if err := to.Input(rec.B, rec); err != nil {
						b.Fatal(err)
					}
					rec.Release()
				}
			}
			move(x, y)
			peer = <-y.accepted
			p, got := make([]byte, size), make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Write(p); err != nil {
					b.Fatal(err)
				}
				move(x, y)
				if _, err := io.ReadFull(peer, got); err != nil {
					b.Fatal(err)
				}
				move(y, x)
			}
		})
	}
}

// BenchmarkSplice forwards one stream to another, as a relay does.
func BenchmarkSplice(b *testing.B) {
	for _, direct := range []bool{true, false} {
		b.Run(fmt.Sprintf("in-place=%v", direct), func(b *testing.B) {
			x, relay1 := newPair(b, Config{}, Config{}, nil)
			relay2, y := newPair(b, Config{}, Config{}, nil)
			s, in := open(b, x, relay1)
			out, peer := open(b, relay2, y)
			var wg sync.WaitGroup
			wg.Go(func() {
				if direct {
					for {
						p, owner, err := in.ReadBuf()
						if err != nil {
							break
						}
						if owner.Around(p, out.Headroom()) {
							_ = out.WriteBuf(owner, false)
							continue
						}
						_, _ = out.Write(p)
						owner.Release()
					}
				} else {
					_, _ = io.Copy(struct{ io.Writer }{out}, struct{ io.Reader }{in})
				}
				_ = out.CloseWrite()
			})
			wg.Go(func() { _, _ = io.Copy(io.Discard, peer) })
			p := make([]byte, ChunkSize)
			b.SetBytes(int64(len(p)))
			for b.Loop() {
				_, _ = s.Write(p)
			}
			_ = s.CloseWrite()
			wg.Wait()
		})
	}
}
