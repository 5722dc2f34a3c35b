package mesh_test

import (
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/splitter"
	"github.com/splitmesh/splitmesh/transport"
	"github.com/splitmesh/splitmesh/transport/memory"
)

// youngest is a scheduler of our own: always the path that came last.
type youngest struct{ asked *atomic.Int64 }

func (y youngest) Next(_ time.Time, j splitter.Job, paths []splitter.Path) (path, ahead int) {
	y.asked.Add(1)
	for i := len(paths) - 1; i >= 0; i-- {
		if !paths[i].Barred {
			if paths[i].Open(j.Size) {
				return i, 0
			}
			return -1, 0
		}
	}
	return -1, 0
}

// TestOwnScheduler: a node sends by the scheduler that it was given.
func TestOwnScheduler(t *testing.T) {
	wire := memory.NewNetwork(memory.Options{})
	t.Cleanup(func() { wire.Close() })
	boot := memoryRelays(t, wire, 2)
	server := start(t, &mesh.Node{Bootstrap: boot, Transports: []transport.Transport{wire.Host("server")}})
	l := listen(t, server, "x", 2)
	y := youngest{new(atomic.Int64)}
	client := start(t, &mesh.Node{Bootstrap: boot, Scheduler: y, Transports: []transport.Transport{wire.Host("client")}})
	c, peer := connect(t, &mesh.Dialer{Node: client, RelayedOnly: true, Split: splitter.Policy{MinPaths: 2, MaxShare: 1}}, l)
	const size = 1 << 20
	go func() { // ends with the conn
		c.Write(make([]byte, size))
		c.CloseWrite()
	}()
	if n, err := io.Copy(io.Discard, peer); n != size || err != nil {
		t.Fatal(n, err)
	}
	paths := c.Paths()
	if y.asked.Load() == 0 || len(paths) != 2 || paths[1].Sent < size || paths[0].Sent > size/4 {
		t.Errorf("asked %d times: %+v", y.asked.Load(), paths)
	}
}
