package session

import (
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/splitmesh/splitmesh/splitter"
	"golang.org/x/net/nettest"
)

// TestNettestWhilePathsChange: conns of each policy are net.Conns while paths are
// killed, one or all of them, and others take their place.
func TestNettestWhilePathsChange(t *testing.T) {
	for name, policy := range map[string]splitter.Policy{
		"throughput":     plainPolicy,
		"share 0.6":      {Purpose: splitter.Throughput, MinPaths: 2, MaxShare: 0.6},
		"erasure 2 of 3": coded["erasure 2 of 3"],
		"replicated":     coded["replicated"],
		"secrecy 2 of 3": coded["secrecy 2 of 3"],
		"unlinkability":  {Purpose: splitter.Unlinkability, MinPaths: splitter.MinUnlinkable, MaxShare: 1},
	} {
		relays := max(3, policy.MinPaths+1)
		t.Run(name, func(t *testing.T) {
			nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
				p := newPair(t, func(a, b *Config) {
					withGrace(a, b)
					a.Cells = policy.Purpose == splitter.Unlinkability
				})
				for relay := 1; relay <= relays; relay++ {
					p.joinTCP(t, relay)
				}
				c1, c2 = p.open(t, policy, splitter.Interactive)
				quit := make(chan struct{})
				var wg sync.WaitGroup
				wg.Go(func() { p.change(t, relays, quit) })
				return c1, c2, func() {
					close(quit)
					wg.Wait()
					p.a.Abort(CodeNormal)
					p.b.Abort(CodeNormal)
				}, nil
			})
		})
	}
}

// change kills paths and adds others until quit is closed, so that there are as
// many as wanted again each time.
func (p *pair) change(t *testing.T, want int, quit <-chan struct{}) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	rng := rand.New(rand.NewPCG(rand.Uint64(), 0))
	for relay := 4; ; {
		select {
		case <-tick.C:
		case <-quit:
			return
		}
		victims := p.a.Stats().Paths
		if rng.IntN(4) > 0 && len(victims) > 0 {
			victims = victims[:1]
		}
		for _, v := range victims {
			p.cut(v.ID)
			p.a.lose(v.ID)
		}
		for len(p.a.Stats().Paths) < want {
			p.mu.Lock()
			p.next++
			id := p.next
			p.mu.Unlock()
			ca, cb := tcpPipe(t)
			p.mu.Lock()
			p.conns[id] = [2]net.Conn{ca, cb}
			p.mu.Unlock()
			ra, rb := p.results(id)
			info := PathInfo{Relay: relayNumber(relay)}
			relay++
			if p.b.AddPath(cb, rb, info) != nil || p.a.AddPath(ca, ra, info) != nil { // those that died are still counted
				p.cut(id)
				break
			}
		}
	}
}
