package session

import (
	"fmt"
	"io"
	"testing"
)

// BenchmarkStream measures one stream over loopback TCP paths, both ends in this
// process. Compare with the TLS figures of the benchmarks module.
func BenchmarkStream(b *testing.B) {
	for _, paths := range []int{1, 3} {
		b.Run(fmt.Sprintf("paths=%d", paths), func(b *testing.B) {
			p := newPair(b, nil)
			for relay := 1; relay <= paths; relay++ {
				p.joinTCP(b, relay)
			}
			here, there := p.stream(b)
			chunk := make([]byte, 1<<20)
			b.SetBytes(int64(len(chunk)))
			b.ReportAllocs()
			done := make(chan struct{})
			go func() {
				io.Copy(io.Discard, there)
				close(done)
			}()
			for b.Loop() {
				if _, err := here.Write(chunk); err != nil {
					b.Fatal(err)
				}
			}
			here.CloseWrite()
			<-done
		})
	}
}

// BenchmarkRoundTrip measures one byte there and back.
func BenchmarkRoundTrip(b *testing.B) {
	p := newPair(b, nil)
	p.joinTCP(b, 0)
	here, there := p.stream(b)
	go io.Copy(there, there)
	one := make([]byte, 1)
	for b.Loop() {
		here.Write(one)
		io.ReadFull(here, one)
	}
}
