package mesh_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multiformats/go-multiaddr"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/transport"
	"github.com/splitmesh/splitmesh/transport/memory"
)

// TestPeers: how those of Bootstrap and others fare, from before the first attempt on,
// through the end of one of them.
func TestPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wire := memory.NewNetwork(memory.Options{})
		defer wire.Close()
		node := func(n int, listen string, boot ...multiaddr.Multiaddr) *mesh.Node {
			return &mesh.Node{
				Identity: key(t, n), ListenAddrs: []multiaddr.Multiaddr{addr(t, listen)},
				Bootstrap: boot, Transports: []transport.Transport{wire.Transport()},
			}
		}
		server, absent := start(t, node(1, "/memory/1")), transport.WithPeer(addr(t, "/memory/2"), key(t, 2).ID())
		go echo(listen(t, server, "echo", 0))
		client := start(t, node(3, "/memory/3", server.Addrs()[0], absent))
		of := func(n *mesh.Node, id identity.ID) mesh.PeerHealth {
			t.Helper()
			peers := n.Peers()
			i := slices.IndexFunc(peers, func(p mesh.PeerHealth) bool { return p.ID == id })
			if i < 0 {
				t.Fatal("not known at all")
			}
			return peers[i]
		}
		for _, id := range []identity.ID{server.ID(), key(t, 2).ID()} {
			if p := of(client, id); p.Up || !p.Seen.IsZero() || p.Err != nil {
				t.Errorf("before all: %+v", p)
			}
		}
		if err := ask(within(t), &mesh.Dialer{Node: client}, server.ID().String()+":echo"); err != nil {
			t.Fatal(err)
		}
		if p := of(client, server.ID()); !p.Up || !p.Seen.Equal(time.Now()) || p.Err != nil {
			t.Errorf("with a session: %+v", p)
		}
		if p := of(server, client.ID()); !p.Up {
			t.Errorf("of who dialled: %+v", p)
		}
		if _, err := client.Dial(within(t), key(t, 2).ID().String()+":echo"); err == nil {
			t.Fatal("who is not there was reached")
		}
		if p := of(client, key(t, 2).ID()); p.Up || !p.Seen.IsZero() || p.Err == nil {
			t.Errorf("who is not there: %+v", p)
		}
		time.Sleep(time.Minute)
		server.Close()
		synctest.Wait()
		if p := of(client, server.ID()); p.Up || !p.Seen.Equal(time.Now()) || p.Err == nil {
			t.Errorf("once it went: %+v", p)
		}
		client.Close()
	})
}
