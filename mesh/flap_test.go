package mesh_test

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multiformats/go-multiaddr"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/registry"
	directory "github.com/splitmesh/splitmesh/registry/memory"
	"github.com/splitmesh/splitmesh/splitter"
	"github.com/splitmesh/splitmesh/transport"
	"github.com/splitmesh/splitmesh/transport/memory"
	"golang.org/x/net/nettest"
)

// TestNettestWhilePathsDie runs the conformance test on a conn of each policy and
// class, while paths are killed and others take their place all the time.
func TestNettestWhilePathsDie(t *testing.T) {
	for _, tt := range []struct {
		name  string
		split splitter.Policy
		class splitter.Class
	}{
		{"interactive", splitter.Policy{MinPaths: 2, MaxShare: 0.6}, splitter.Interactive},
		{"bulk", splitter.Policy{MinPaths: 2, MaxShare: 0.6}, splitter.Bulk},
		{"one path at a time", splitter.Policy{MinPaths: 1, MaxShare: 1}, splitter.Interactive},
		{"replicated", splitter.Policy{Purpose: splitter.Resilience, K: 1, N: 2}, splitter.Interactive},
		{"resilience", splitter.Policy{Purpose: splitter.Resilience}, splitter.Interactive},
		{"secrecy", splitter.Policy{Purpose: splitter.Secrecy}, splitter.Interactive},
		{"unlinkability", splitter.Policy{Purpose: splitter.Unlinkability}, splitter.Interactive},
	} {
		t.Run(tt.name, func(t *testing.T) {
			relays := max(4, 2+tt.split.N)
			if tt.split.Purpose == splitter.Unlinkability {
				relays = splitter.MinUnlinkable + 2
			}
			wire := memory.NewNetwork(memory.Options{})
			t.Cleanup(func() { wire.Close() })
			boot := memoryRelays(t, wire, relays)
			server := start(t, &mesh.Node{Identity: key(t, 1), Bootstrap: boot, Transports: []transport.Transport{wire.Host("server")}})
			l := listen(t, server, "nettest", relays)
			client := start(t, &mesh.Node{Identity: key(t, 2), Bootstrap: boot, Transports: []transport.Transport{wire.Host("client")}})
			d := &mesh.Dialer{Node: client, RelayedOnly: true, Split: tt.split, Class: tt.class}
			stop := flap(t, wire)
			nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
				dialled, accepted := connect(t, d, l)
				if dialled.Class() != tt.class || accepted.Class() != tt.class || dialled.Policy().Purpose != max(tt.split.Purpose, splitter.Throughput) {
					t.Errorf("%v %v %v", dialled.Class(), accepted.Class(), dialled.Policy())
				}
				return dialled, accepted, func() {
					dialled.Close()
					accepted.Close()
				}, nil
			})
			if killed := stop(); killed == 0 {
				t.Error("no path was killed: the test shows nothing")
			}
		})
	}
}

// flap cuts the client's connection to one relay after another, until it is told
// to stop. The client dials anew each time.
func flap(t *testing.T, wire *memory.Network) (stop func() int) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	killed := 0
	wg.Go(func() { // ends with ctx
		tick := time.NewTicker(150 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			for _, c := range wire.Conns() {
				if c.From == "client" {
					c.Pipe.Cut() // the oldest
					killed++
					break
				}
			}
		}
	})
	return func() int {
		cancel()
		wg.Wait()
		return killed
	}
}

// TestDatagrams: they arrive once, over one path or all, beside the stream.
func TestDatagrams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wire := memory.NewNetwork(memory.Options{})
		t.Cleanup(func() { wire.Close() })
		boot := memoryRelays(t, wire, 2)
		server := start(t, &mesh.Node{Identity: key(t, 1), Bootstrap: boot, Transports: []transport.Transport{wire.Host("server")}})
		l := listen(t, server, "frames", 2)
		client := start(t, &mesh.Node{Identity: key(t, 2), Bootstrap: boot, Transports: []transport.Transport{wire.Host("client")}})
		here, there := connect(t, &mesh.Dialer{Node: client, RelayedOnly: true}, l)
		const count = 50
		seen := make(map[uint32]int)
		var wg sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		wg.Go(func() {
			for {
				p, err := there.ReceiveDatagram(ctx)
				if errors.Is(err, context.Canceled) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				seen[binary.BigEndian.Uint32(p)]++
			}
		})
		synctest.Wait()
		for i := range uint32(count) {
			send := here.SendDatagram
			if i%2 == 1 {
				send = here.SendDatagramOverAll
			}
			if err := send(binary.BigEndian.AppendUint32(nil, i)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond) // virtual
		}
		cancel()
		wg.Wait()
		for i := range uint32(count) {
			if seen[i] != 1 {
				t.Errorf("datagram %d arrived %d times", i, seen[i])
			}
		}
		if err := here.SendDatagram(make([]byte, mesh.MaxDatagram+1)); !errors.Is(err, mesh.ErrDatagramSize) {
			t.Error(err)
		}
		for _, s := range client.Stats().Sessions {
			if s.Peer == server.ID() && (len(s.Lanes) != 3 || s.Lanes[0].Class != 0 || s.Lanes[2].Policy != here.Policy() || s.Lanes[2].Streams != 1 || s.Lanes[0].Redundancy() > 1) {
				t.Errorf("%+v", s.Lanes)
			}
		}
		here.Close()
		_, err := here.ReceiveDatagram(t.Context())
		if err2 := here.SendDatagram(nil); !errors.Is(err, net.ErrClosed) || !errors.Is(err2, net.ErrClosed) {
			t.Error(err, err2)
		}
	})
}

// memoryRelays starts k relays in a network and returns their addresses.
func memoryRelays(t *testing.T, wire *memory.Network, k int) (boot []multiaddr.Multiaddr) {
	for i := range k {
		r := start(t, &mesh.Node{
			Identity: key(t, 1000+i), ListenAddrs: []multiaddr.Multiaddr{addr(t, "/memory/0")},
			Transports: []transport.Transport{wire.Host("relay")}, Relay: &mesh.RelayConfig{},
		})
		boot = append(boot, r.Addrs()...)
	}
	return boot
}

// TestOperatorsOfPaths: both ends learn who runs the relays between them.
func TestOperatorsOfPaths(t *testing.T) {
	wire := memory.NewNetwork(memory.Options{})
	t.Cleanup(func() { wire.Close() })
	dir := &watched{directory.New(), make(chan *registry.Record, 100)}
	relay := start(t, &mesh.Node{
		ListenAddrs: []multiaddr.Multiaddr{addr(t, "/memory/0")}, Transports: []transport.Transport{wire.Transport()},
		Relay: &mesh.RelayConfig{}, Operator: "ACME", Directory: dir,
	})
	<-dir.published
	server := start(t, &mesh.Node{Bootstrap: relay.Addrs(), Directory: dir, Transports: []transport.Transport{wire.Transport()}})
	l := listen(t, server, "x", 1)
	client := start(t, &mesh.Node{Bootstrap: relay.Addrs(), Directory: dir, Transports: []transport.Transport{wire.Transport()}})
	here, there := connect(t, &mesh.Dialer{Node: client, RelayedOnly: true, Split: splitter.Policy{MinPaths: 1}}, l)
	for name, c := range map[string]*mesh.Conn{"dialler": here, "listener": there} {
		if p := c.Paths(); len(p) != 1 || p[0].Operator != "ACME" || p[0].Relay != relay.ID() {
			t.Errorf("%s: %+v", name, p)
		}
	}
}
