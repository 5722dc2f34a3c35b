//go:build !js

package websocket_test

import (
	"io"
	"net"
	"testing"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/internal/buf"
	"github.com/splitmesh/splitmesh/transport/websocket"
)

// loopback returns both ends of a connection over a socket.
func loopback(b testing.TB) (client, server net.Conn) {
	b.Helper()
	delivered := make(chan net.Conn, 1)
	tr := &websocket.Transport{}
	l, err := tr.Listen(b.Context(), multiaddr.StringCast("/ip4/127.0.0.1/tcp/0/ws"),
		func([]byte) func(net.Conn) { return func(c net.Conn) { delivered <- c } })
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	client, err = tr.Dial(b.Context(), l.Multiaddr(), nil)
	if err != nil {
		b.Fatal(err)
	}
	server = <-delivered
	b.Cleanup(func() {
		client.Close()
		server.Close()
	})
	return client, server
}

const bulk = 32 << 10

// One way, until the receiver has every byte.
func BenchmarkOneWay(b *testing.B) {
	for name, move := range map[string]func(b *testing.B, from, to net.Conn) error{"Write-Read": writeRead, "WriteBuf-ReadBuf": writeReadBuf} {
		for _, up := range []bool{true, false} {
			b.Run(name+map[bool]string{true: "/client-server", false: "/server-client"}[up], func(b *testing.B) {
				from, to := loopback(b)
				if !up {
					from, to = to, from
				}
				b.SetBytes(bulk)
				b.ReportAllocs()
				if err := move(b, from, to); err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}

func writeRead(b *testing.B, from, to net.Conn) error {
	done := make(chan error, 1)
	go func() { // ends with the last byte
		p := make([]byte, bulk)
		for range b.N {
			if _, err := io.ReadFull(to, p); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	p := make([]byte, bulk)
	b.ResetTimer()
	for range b.N {
		if _, err := from.Write(p); err != nil {
			return err
		}
	}
	return <-done
}

func writeReadBuf(b *testing.B, from, to net.Conn) error {
	w, ok := from.(buf.Writer)
	r, both := to.(buf.Reader)
	if !ok || !both {
		b.Skip("without buffers")
	}
	done := make(chan error, 1)
	go func() { // ends with the last byte
		for left := b.N * bulk; left > 0; {
			p, owner, err := r.ReadBuf()
			if err != nil {
				done <- err
				return
			}
			left -= len(p)
			owner.Release()
		}
		done <- nil
	}()
	b.ResetTimer()
	for range b.N {
		if err := w.WriteBuf(buf.Get(w.Headroom()+bulk), false); err != nil {
			return err
		}
	}
	return <-done
}

// A byte there and back.
func BenchmarkEcho(b *testing.B) {
	client, server := loopback(b)
	go func() { // ends with the connection
		p := make([]byte, 1)
		for {
			if _, err := server.Read(p); err != nil {
				return
			}
			if _, err := server.Write(p); err != nil {
				return
			}
		}
	}()
	p := make([]byte, 1)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if _, err := client.Write(p); err != nil {
			b.Fatal(err)
		}
		if _, err := client.Read(p); err != nil {
			b.Fatal(err)
		}
	}
}
