package dht_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/dht"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/transport"
	"github.com/splitmesh/splitmesh/transport/memory"
)

// TestDialsDoNotWaitForEachOther: in a small network the nodes that are dialled are those who are asked where they are. No
// dial waits for a query that waits for it, nor do several that begin at once, each asking whom another dials. Time is
// virtual: what takes any waits for a timeout.
func TestDialsDoNotWaitForEachOther(t *testing.T) {
	for _, n := range []int{2, 3, 6} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				wire := memory.NewNetwork(memory.Options{})
				defer wire.Close()
				node := func(i int, by *realNode) *realNode {
					var cfg dht.Config
					m := &mesh.Node{
						Capabilities: []string{registry.CapDHTServer}, Transports: []transport.Transport{wire.Transport()},
						ListenAddrs: []multiaddr.Multiaddr{multiaddr.StringCast(fmt.Sprintf("/memory/%d", i))},
					}
					if by != nil {
						cfg.Bootstrap, m.Bootstrap = []identity.ID{by.ID()}, by.Addrs()
					}
					r := &realNode{m, dht.New(cfg)}
					m.Directory = r.dht
					if err := m.Start(t.Context()); err != nil {
						t.Fatal(err)
					}
					if err := r.dht.Start(m); err != nil {
						t.Fatal(err)
					}
					return r
				}
				nodes := []*realNode{node(1, nil)}
				for i := 2; i <= n; i++ {
					nodes = append(nodes, node(i, nodes[0]))
				}
				for _, r := range nodes {
					r.echo(t)
				}
				time.Sleep(time.Minute) // all are known
				cold := node(100, nodes[0])
				var dialling sync.WaitGroup
				for _, to := range nodes {
					dialling.Go(func() {
						start := time.Now()
						ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
						defer cancel()
						if err := dialEcho(ctx, cold, to.ID()); err != nil {
							t.Error(err)
						}
						if took := time.Since(start); took > time.Second {
							t.Errorf("a dial took %v", took)
						}
					})
				}
				dialling.Wait()
				for _, r := range append(nodes, cold) {
					r.close()
				}
			})
		})
	}
}
