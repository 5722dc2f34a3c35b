package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/splitter"
)

const (
	perPeer  = 10               // circuits that each dialling peer has
	atOnce   = 8                // dials at a time: as many handshakes as a small machine does well
	maxBlock = 32 << 10         // bytes that go there and back at once
	maxPause = 2 * time.Second  // between blocks
	patience = 60 * time.Second // for what should take milliseconds
)

// tally counts what came of it all.
type tally struct {
	blocks, echoed, lost, gone atomic.Int64
}

// A crowd is the peers: some that echo, and many that dial them, each of these all of those.
type crowd struct {
	o      options
	boot   []multiaddr.Multiaddr
	echoes []*mesh.Node
	to     []string // the services of echoes
	tally  tally

	dials  chan struct{}
	ctx    context.Context // ends with close
	cancel context.CancelFunc
	once   sync.Once
	wg     sync.WaitGroup
}

func newCrowd(ctx context.Context, o options, relay multiaddr.Multiaddr) (_ *crowd, err error) {
	c := &crowd{o: o, boot: []multiaddr.Multiaddr{relay}, dials: make(chan struct{}, atOnce)}
	c.ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	for range perPeer {
		n := &mesh.Node{Bootstrap: c.boot}
		c.echoes = append(c.echoes, n)
		l, err := n.Listen("echo")
		if err != nil {
			return nil, err
		}
		if err := n.WaitReserved(ctx, 1); err != nil {
			return nil, err
		}
		c.to = append(c.to, l.Addr().String())
		go func() { // ends with the node
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					_, _ = io.Copy(conn, conn)
					conn.Close()
				}()
			}
		}()
	}
	return c, nil
}

// gather has all peers come, and returns when every circuit is there. A peer that has stayed long enough goes once another
// has come in its place, until close.
func (c *crowd) gather(ctx context.Context) error {
	peers := (c.o.circuits + perPeer - 1) / perPeer
	there := make(chan struct{}, peers)
	for range peers {
		c.wg.Go(func() { c.place(func() { there <- struct{}{} }) }) // ends with close
	}
	for range peers {
		select {
		case <-there:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// place has one dialling peer after another. taken is called when the first has all its circuits.
func (c *crowd) place(taken func()) {
	var last *visitor
	tell := sync.OnceFunc(taken)
	for c.ctx.Err() == nil {
		v, err := c.come()
		if err != nil {
			if c.ctx.Err() == nil { // else the end came in the midst of it
				c.lose(1, err)
			}
			continue
		}
		if last != nil {
			last.leave()
			c.tally.gone.Add(1)
		}
		last = v
		tell()
		stay := time.NewTimer(c.o.life/2 + rand.N(c.o.life))
		select {
		case <-stay.C:
		case <-c.ctx.Done():
			stay.Stop()
		}
	}
	if last != nil {
		last.leave()
	}
}

// A visitor is a dialling peer.
type visitor struct {
	node  *mesh.Node
	going chan struct{}
	talks sync.WaitGroup
}

// come dials everybody.
func (c *crowd) come() (*visitor, error) {
	v := &visitor{node: &mesh.Node{Bootstrap: c.boot}, going: make(chan struct{})}
	for _, to := range c.to {
		conn, err := c.dial(v.node, to)
		if err != nil {
			v.leave()
			return nil, err
		}
		v.talks.Go(func() { c.talk(v.going, conn) }) // ends when it leaves
	}
	return v, nil
}

// leave ends the talks in order, and the node.
func (v *visitor) leave() {
	close(v.going)
	v.talks.Wait()
	v.node.Close()
}

func (c *crowd) dial(n *mesh.Node, to string) (net.Conn, error) {
	c.dials <- struct{}{}
	defer func() { <-c.dials }()
	ctx, cancel := context.WithTimeout(c.ctx, patience)
	defer cancel()
	return (&mesh.Dialer{Node: n, RelayedOnly: true, Paths: 1, Split: splitter.Policy{MinPaths: 1}}).Dial(ctx, to)
}

// talk sends blocks there and back until the peer goes. What it sent comes back before that.
func (c *crowd) talk(going <-chan struct{}, conn net.Conn) {
	defer conn.Close()
	sent, back := make([]byte, maxBlock), make([]byte, maxBlock)
	chance := rand.NewChaCha8([32]byte{byte(rand.Uint32()), byte(rand.Uint32())})
	for {
		pause := time.NewTimer(rand.N(maxPause))
		select {
		case <-pause.C:
		case <-going:
			pause.Stop()
			return
		}
		n := 1 + rand.N(maxBlock)
		_, _ = chance.Read(sent[:n]) // which never fails
		_ = conn.SetDeadline(time.Now().Add(patience))
		wrote := make(chan error, 1)
		go func() { // ends with the deadline
			_, err := conn.Write(sent[:n])
			wrote <- err
		}()
		got, err := io.ReadFull(conn, back[:n])
		if err = errors.Join(err, <-wrote); err == nil && !bytes.Equal(sent[:n], back[:n]) {
			got, err = 0, errors.New("other bytes came back")
		}
		c.tally.echoed.Add(int64(got))
		if err != nil {
			c.lose(n-got, err)
			return
		}
		c.tally.blocks.Add(1)
	}
}

// lose counts bytes that are lost, and says why.
func (c *crowd) lose(n int, err error) {
	c.tally.lost.Add(int64(max(1, n)))
	fmt.Fprintln(os.Stderr, "relayload:", err)
}

// close ends the stays, in order, and then the nodes.
func (c *crowd) close() {
	c.once.Do(func() {
		c.cancel()
		c.wg.Wait()
		var all sync.WaitGroup
		for _, n := range c.echoes {
			all.Go(func() { n.Close() })
		}
		all.Wait()
	})
}
