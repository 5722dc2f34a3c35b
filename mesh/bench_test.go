package mesh_test

import (
	"fmt"
	"io"
	"testing"

	"github.com/multiformats/go-multiaddr"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/splitter"
)

// A way is how the benchmarks' two nodes reach each other: directly over listen,
// or over so many relays, all in this process and on loopback sockets.
type way struct {
	name   string
	listen string
	relays int
	split  splitter.Policy
}

var ways = []way{
	{name: "ws", listen: overWS},
	{name: "tcp", listen: overTCP},
	{name: "relays=1", relays: 1},
	{name: "relays=3", relays: 3},
	{name: "secrecy=2of3", relays: 3, split: splitter.Policy{Purpose: splitter.Secrecy, K: 2, N: 3}},
}

// open brings up the nodes and returns a conn from one to the other.
func (w way) open(b *testing.B) (dialled, accepted *mesh.Conn) {
	_, boot := relays(b, w.relays, overWS, mesh.RelayConfig{})
	server := &mesh.Node{Identity: key(b, 1), Bootstrap: boot}
	if w.listen != "" {
		server.ListenAddrs = []multiaddr.Multiaddr{addr(b, w.listen)}
	}
	start(b, server)
	l := listen(b, server, "bench", w.relays)
	b.Cleanup(func() { l.Close() })
	client := start(b, &mesh.Node{Identity: key(b, 2), Bootstrap: append(boot, server.Addrs()...)})
	d := &mesh.Dialer{Node: client, Split: w.split}
	if w.relays > 0 {
		d.RelayedOnly, d.Paths, d.Split.MinPaths = true, w.relays, w.relays
	}
	dialled, accepted = connect(b, d, l)
	if n := len(dialled.Paths()); n != max(w.relays, 1) {
		b.Fatalf("%d paths, want %d", n, max(w.relays, 1))
	}
	return dialled, accepted
}

// BenchmarkConn is one stream in each direction, all parties in this process.
func BenchmarkConn(b *testing.B) {
	for _, w := range ways {
		for _, back := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/back=%v", w.name, back), func(b *testing.B) {
				from, to := w.open(b)
				if back {
					from, to = to, from
				}
				const size = 256 << 10
				b.SetBytes(size)
				b.ReportAllocs()
				done := make(chan error, 1)
				arrived := func(n int64) {
					_, err := io.CopyN(io.Discard, to, n)
					done <- err
				}
				p := make([]byte, size)
				go arrived(64 * size)
				for range 64 { // warms up
					from.Write(p)
				}
				<-done
				n := 0
				b.ResetTimer()
				before := cpuTime()
				go arrived(int64(b.N) * size)
				for ; n < b.N; n++ {
					if _, err := from.Write(p); err != nil {
						b.Fatal(err)
					}
				}
				if err := <-done; err != nil {
					b.Fatal(err)
				}
				b.ReportMetric((cpuTime()-before).Seconds()/(float64(b.N)*size/1e9), "cpu-s/GB")
			})
		}
	}
}

// BenchmarkEcho is one byte there and back on a conn that is open.
func BenchmarkEcho(b *testing.B) {
	for _, w := range ways {
		b.Run(w.name, func(b *testing.B) {
			here, there := w.open(b)
			go io.Copy(there, there) // ends with the nodes
			one := make([]byte, 1)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := here.Write(one); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(here, one); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkDial is a new session to a node, until its first byte is echoed.
func BenchmarkDial(b *testing.B) {
	for _, w := range ways[:4] {
		b.Run(w.name, func(b *testing.B) {
			_, boot := relays(b, w.relays, overWS, mesh.RelayConfig{})
			server := &mesh.Node{Identity: key(b, 1), Bootstrap: boot}
			if w.listen != "" {
				server.ListenAddrs = []multiaddr.Multiaddr{addr(b, w.listen)}
			}
			start(b, server)
			l := listen(b, server, "echo", w.relays)
			b.Cleanup(func() { l.Close() })
			go echo(l)
			for i := 0; b.Loop(); i++ {
				client := &mesh.Node{Identity: key(b, 2+i), Bootstrap: append(boot, server.Addrs()...)}
				d := &mesh.Dialer{Node: client, FastOpen: true}
				if w.relays > 0 {
					d.RelayedOnly, d.Paths, d.Split.MinPaths = true, w.relays, w.relays
				}
				c, err := d.Dial(b.Context(), l.Addr().String())
				if err != nil {
					b.Fatal(err)
				}
				one := make([]byte, 1)
				if _, err := c.Write(one); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(c, one); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				client.Close()
				b.StartTimer()
			}
		})
	}
}
