package link

import (
	"io"
	"net"
	"testing"
	"time"
)

func BenchmarkPipe(b *testing.B) {
	for name, c := range map[string]Config{
		"plain":  {},
		"shaped": {Up: Shape{Rate: 100 << 30, Delay: 100 * time.Microsecond, Buffer: 1 << 20}},
	} {
		b.Run(name, func(b *testing.B) {
			p := New(c).Pipe(nil, nil)
			defer closeBoth(p)
			x, y := p.Conns()
			benchmark(b, x, y)
		})
	}
}

func BenchmarkWrap(b *testing.B) {
	near, far := wrapPair(b, new(Link))
	benchmark(b, near, far)
}

func benchmark(b *testing.B, from, to net.Conn) {
	chunk := make([]byte, 32<<10)
	b.SetBytes(int64(len(chunk)))
	done := make(chan struct{})
	go func() { // ends with the writer's Close
		defer close(done)
		io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{to}, make([]byte, 64<<10))
	}()
	for b.Loop() {
		if _, err := from.Write(chunk); err != nil {
			b.Fatal(err)
		}
	}
	from.Close()
	<-done
}
