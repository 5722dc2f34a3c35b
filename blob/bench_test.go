package blob

import (
	"context"
	"net"
	"testing"
)

type nowhere struct{}

func (nowhere) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

// BenchmarkTransfer is a hashed source to a receiver that keeps nothing.
func BenchmarkTransfer(b *testing.B) {
	data := random(64<<20, 1)
	s := source(b, data, Options{ChunkSize: 256 << 10})
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		transfer(b, sender(s), func(ctx context.Context, c net.Conn) (Info, error) {
			return Receive(ctx, c, nowhere{}, Options{})
		}).ok(b)
	}
}

func BenchmarkNewSource(b *testing.B) {
	data := random(64<<20, 1)
	for name, o := range map[string]Options{"plain": {}, "2of3": {K: 2, N: 3}} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			o.ChunkSize = 256 << 10
			for b.Loop() {
				source(b, data, o)
			}
		})
	}
}
