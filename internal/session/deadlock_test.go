package session

import (
	"bytes"
	"flag"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/splitmesh/splitmesh/splitter"
)

var rounds = flag.Int("rounds", 60, "how often both ends send while readers stall")

// TestBothEndsSendWhileReadersStall is the deadlock of the design's first draft,
// in which the reader waited for the writer's lock: both ends send as fast as
// they can while readers stop and start at random.
func TestBothEndsSendWhileReadersStall(t *testing.T) {
	policies := []splitter.Policy{
		plainPolicy, {Purpose: splitter.Throughput, MinPaths: 2, MaxShare: 0.6},
		coded["erasure 2 of 3"], coded["replicated"], coded["secrecy 2 of 3"],
	}
	for round := range *rounds {
		streams, size := 2, 300<<10 // more than a stream's window: writers wait for readers
		if round%50 == 0 {
			streams, size = 4, 600<<10
		}
		synctest.Test(t, func(t *testing.T) {
			p := newPair(t, nil)
			for relay := 1; relay <= 3; relay++ {
				ca, cb := net.Pipe() // unbuffered: a write waits for its reader
				p.join(t, relay, ca, cb)
			}
			var wg sync.WaitGroup
			for i := range streams {
				policy := policies[(round+i)%len(policies)]
				here, there := p.open(t, policy, splitter.Class(1+round/5%2))
				for dir, ends := range [][2]net.Conn{{here, there}, {there, here}} {
					seed := uint64(round*100 + i*10 + dir)
					want := noise(seed, size)
					wg.Go(func() {
						ends[0].Write(want)
						ends[0].(interface{ CloseWrite() error }).CloseWrite()
					})
					wg.Go(func() { stallingRead(t, ends[1], want, seed) })
				}
			}
			wg.Wait()
			p.a.Close()
			p.b.Close()
		})
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
	show("DEADLOCKS", 0, 0, "in %d rounds of both ends sending while readers stall", *rounds)
}

// stallingRead reads what is wanted, and stops at random for up to a second.
func stallingRead(t *testing.T, c net.Conn, want []byte, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	piece := make([]byte, 16<<10)
	for at := 0; ; {
		n, err := c.Read(piece)
		if at+n > len(want) || !bytes.Equal(piece[:n], want[at:at+n]) {
			t.Errorf("the bytes from %d on differ", at)
			return
		}
		at += n
		if err != nil {
			if err != io.EOF || at != len(want) {
				t.Errorf("after %d bytes of %d: %v", at, len(want), err)
			}
			return
		}
		if rng.IntN(20) == 0 {
			time.Sleep(time.Duration(rng.IntN(1000)) * time.Millisecond) // virtual
		}
	}
}
