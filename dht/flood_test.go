package dht_test

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/dht"
	"github.com/splitmesh/splitmesh/mesh"
)

var flood = flag.Bool("flood", false, "measure lookups while a node floods (TestFloodedNodes)")

// What the flooder is told by its environment: an address of a node, the nodes to flood, and whether to wait for answers.
const (
	floodBy    = "SPLITMESH_TEST_FLOOD_BY"
	floodNodes = "SPLITMESH_TEST_FLOOD_NODES"
	floodWaits = "SPLITMESH_TEST_FLOOD_WAITS"
)

// How long lookups take while one node, in a process of its own, floods all others with queries, as many as it can:
// printed, as no test judges times.
func TestFloodedNodes(t *testing.T) {
	if !*flood {
		t.Skip("a measurement: run it with -flood")
	}
	nodes := []*realNode{newNode(t, 0, nil)}
	for i := 1; i < 20; i++ {
		nodes = append(nodes, newNode(t, i, nodes[0]))
	}
	var ids []string
	for _, r := range nodes {
		defer r.close()
		r.findable(t, nodes[0])
		ids = append(ids, r.ID().String())
	}
	honest := newNode(t, 30, nodes[0])
	defer honest.close()
	median := func() time.Duration {
		var took []time.Duration
		pace := time.NewTicker(50 * time.Millisecond) // far below what a node is answered
		defer pace.Stop()
		for i := range 100 {
			<-pace.C
			start := time.Now()
			if res, err := honest.dht.Find(t.Context(), nodes[i%20].ID()); err != nil || len(res.Records) != 1 {
				t.Fatalf("%+v, %v", res, err)
			}
			took = append(took, time.Since(start))
		}
		slices.Sort(took)
		return took[len(took)/2]
	}
	median()
	quiet := median()
	for _, waits := range []string{"every", "no"} {
		evil := exec.Command(os.Args[0], "-test.run=TestFlooder$", "-test.v")
		evil.Env = append(os.Environ(), floodBy+"="+nodes[0].Addrs()[0].String(), floodNodes+"="+strings.Join(ids, ","), floodWaits+"="+waits)
		evil.Stderr = os.Stderr
		end, err := evil.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out := new(strings.Builder)
		evil.Stdout = out
		if err := evil.Start(); err != nil {
			t.Fatal(err)
		}
		median() // until it has found them all, and been cut off
		flooded := median()
		end.Close()
		if err := evil.Wait(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		said, _, _ := strings.Cut(out.String()[strings.Index(out.String(), "it sent"):], "\n")
		t.Logf("FLOOD_LATENCY = %.2f × (bar < 2): median lookup %v, and %v beside a flooder that waits for %s answer: %s",
			float64(flooded)/float64(quiet), quiet, flooded, waits, said)
	}
}

// The flooder, until its standard input ends.
func TestFlooder(t *testing.T) {
	if os.Getenv(floodBy) == "" {
		t.Skip("is run by TestFloodedNodes")
	}
	by, err := multiaddr.NewMultiaddr(os.Getenv(floodBy))
	if err != nil {
		t.Fatal(err)
	}
	evil := changedNode(t, 40, nil, func(n *mesh.Node) { n.Bootstrap = []multiaddr.Multiaddr{by} })
	defer evil.close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() { // ends with standard input
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	q := binary.BigEndian.AppendUint32(nil, 3)
	q = append(q, 0xa1, 0x01, 0x01) // {1: 1}, a ping
	waits := os.Getenv(floodWaits) != "no"
	var flooding sync.WaitGroup
	var sent, answered atomic.Int64
	for _, id := range slices.Repeat(strings.Split(os.Getenv(floodNodes), ","), 10) {
		flooding.Go(func() {
			for ctx.Err() == nil {
				c, err := evil.FastDial(ctx, id+":"+dht.Service)
				if err != nil {
					continue
				}
				if _, err := c.Write(q); err == nil {
					sent.Add(1)
					if waits {
						if n, _ := c.Read(make([]byte, 4)); n > 0 {
							answered.Add(1)
						}
					}
				}
				c.Close()
			}
		})
	}
	start := time.Now()
	flooding.Wait()
	took := time.Since(start).Seconds()
	fmt.Fprintf(os.Stdout, "it sent %.0f queries a second, and read %.0f answers\n", float64(sent.Load())/took, float64(answered.Load())/took)
}
