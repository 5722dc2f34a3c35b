package mesh_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/transport"
	"github.com/splitmesh/splitmesh/transport/tcp"
	"github.com/splitmesh/splitmesh/transport/websocket"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(natRole); role != "" {
		os.Exit(playNAT(role))
	}
	goleak.VerifyTestMain(m)
}

const (
	overTCP = "/ip4/127.0.0.1/tcp/0"
	overWS  = "/ip4/127.0.0.1/tcp/0/ws"
)

// key is the n-th key of the tests.
func key(t testing.TB, n int) *identity.Key {
	t.Helper()
	k, err := numberedKey(n)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func numberedKey(n int) (*identity.Key, error) {
	seed := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("mesh test key"), uint64(n)))
	return identity.NewKeyFromSeed(seed[:])
}

func addr(t testing.TB, s string) multiaddr.Multiaddr {
	t.Helper()
	a, err := transport.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// within bounds a test that hangs; nothing is asserted of how long it takes.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// start starts n and closes it with the test.
func start(t testing.TB, n *mesh.Node) *mesh.Node {
	t.Helper()
	t.Cleanup(func() { n.Close() })
	if err := n.Start(within(t)); err != nil {
		t.Fatal(err)
	}
	return n
}

// relays starts k relays and returns them with their addresses.
func relays(t testing.TB, k int, listen string, cfg mesh.RelayConfig) (nodes []*mesh.Node, addrs []multiaddr.Multiaddr) {
	t.Helper()
	for i := range k {
		n := start(t, &mesh.Node{Identity: key(t, 1000+i), ListenAddrs: []multiaddr.Multiaddr{addr(t, listen)}, Relay: &cfg})
		nodes = append(nodes, n)
		addrs = append(addrs, n.Addrs()[0])
	}
	return nodes, addrs
}

// listen listens on a service of n and waits until it is reserved at k relays.
func listen(t testing.TB, n *mesh.Node, service string, k int) net.Listener {
	t.Helper()
	l, err := n.Listen(service)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.WaitReserved(within(t), k); err != nil {
		t.Fatal(err)
	}
	return l
}

// connect dials and accepts at once.
func connect(t testing.TB, d *mesh.Dialer, l net.Listener) (dialled, accepted *mesh.Conn) {
	t.Helper()
	var wg sync.WaitGroup
	wg.Go(func() {
		c, err := l.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		accepted = c.(*mesh.Conn)
	})
	c, err := d.Dial(within(t), l.Addr().String())
	if err != nil {
		l.Close()
		wg.Wait()
		t.Fatal(err)
	}
	wg.Wait()
	if accepted == nil {
		t.FailNow()
	}
	return c.(*mesh.Conn), accepted
}

var _ = []transport.Transport{&tcp.Transport{}, &websocket.Transport{}}
