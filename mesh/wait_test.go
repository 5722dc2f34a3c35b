package mesh_test

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/splitter"
	"github.com/splitmesh/splitmesh/transport"
	"github.com/splitmesh/splitmesh/transport/memory"
)

// TestWriteSaysWhyItWaits: a deadline that ends a wait for relays says how many there
// are, and how many there should be.
func TestWriteSaysWhyItWaits(t *testing.T) {
	wire := memory.NewNetwork(memory.Options{})
	t.Cleanup(func() { wire.Close() })
	boot := memoryRelays(t, wire, 1)
	doomed := start(t, &mesh.Node{
		ListenAddrs: []multiaddr.Multiaddr{addr(t, "/memory/0")}, Transports: []transport.Transport{wire.Host("doomed")}, Relay: &mesh.RelayConfig{},
	})
	boot = append(boot, doomed.Addrs()...)
	server := start(t, &mesh.Node{Bootstrap: boot, Transports: []transport.Transport{wire.Host("server")}})
	l := listen(t, server, "x", 2)
	client := start(t, &mesh.Node{Bootstrap: boot, Transports: []transport.Transport{wire.Host("client")}})
	c, _ := connect(t, &mesh.Dialer{Node: client, RelayedOnly: true}, l)
	doomed.Close()
	for len(c.Paths()) > 1 {
		if _, err := c.Write(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	for err == nil {
		_, err = c.Write(make([]byte, 64<<10))
	}
	few, ok := errors.AsType[*splitter.TooFewPathsError](err)
	wait, timeout := errors.AsType[*mesh.WaitError](err)
	if !ok || few.Have != 1 || few.Want != 2 || !timeout || !wait.Timeout() || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
}
