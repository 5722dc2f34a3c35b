package mesh_test

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"

	"github.com/multiformats/go-multiaddr"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/splitter"
	"github.com/splitmesh/splitmesh/transport"
	"github.com/splitmesh/splitmesh/transport/link"
	"github.com/splitmesh/splitmesh/transport/websocket"
)

var kills = flag.Int("kills", 5, "how many transfers TestNoByteLostWhenRelaysDie kills a relay of")

// A mortal is a relay that can be made to vanish: its sockets are reset, and it
// accepts no more.
type mortal struct {
	*mesh.Node
	link *link.Link
}

func newMortal(t testing.TB, n int) *mortal {
	t.Helper()
	l := link.New(link.Config{})
	ws := link.WrapTransport(&websocket.Transport{}, link.Wrapper{Accept: func(net.Conn) *link.Link { return l }})
	return &mortal{start(t, &mesh.Node{
		Identity: key(t, 2000+n), ListenAddrs: []multiaddr.Multiaddr{addr(t, overWS)},
		Transports: []transport.Transport{ws}, Relay: &mesh.RelayConfig{},
	}), l}
}

func (m *mortal) kill() {
	m.link.Cut()
	m.Close()
}

// TestNoByteLostWhenRelaysDie transfers over three relays with one to spare and
// kills one of the three after it has carried a tenth of the whole, with a tenth
// still to go.
func TestNoByteLostWhenRelaysDie(t *testing.T) {
	for seed := range *kills {
		killInMidTransfer(t, seed)
	}
}

func killInMidTransfer(t *testing.T, seed int) {
	const size = 6 << 20
	byID := make(map[identity.ID]*mortal)
	var boot []multiaddr.Multiaddr
	for i := range 4 {
		m := newMortal(t, i)
		byID[m.ID()] = m
		boot = append(boot, m.Addrs()...)
	}
	server := start(t, &mesh.Node{Identity: key(t, 1), Bootstrap: boot})
	l := listen(t, server, "sink", 4)
	client := start(t, &mesh.Node{Identity: key(t, 2), Bootstrap: boot})
	here, there := connect(t, &mesh.Dialer{Node: client, RelayedOnly: true, Split: splitter.Policy{MinPaths: 3}}, l)

	want := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(seed)}).Read(want)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := here.Write(want); err != nil {
			t.Error(err)
		}
		here.CloseWrite()
	})
	rng := rand.New(rand.NewPCG(uint64(seed), 0))
	var got bytes.Buffer
	killedAt := 0
	piece := make([]byte, 32<<10)
	for {
		n, err := there.Read(piece)
		got.Write(piece[:n])
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if killedAt > 0 {
			continue
		}
		var victims []identity.ID
		for _, p := range there.Paths() {
			if p.Received > size/10 {
				victims = append(victims, p.Relay)
			}
		}
		if len(victims) > 0 {
			killedAt = got.Len()
			wg.Go(byID[victims[rng.IntN(len(victims))]].kill)
		}
	}
	wg.Wait()
	if killedAt == 0 || killedAt > size*9/10 {
		t.Fatalf("seed %d: killed after %d of %d bytes: the test shows nothing", seed, killedAt, size)
	}
	if sha256.Sum256(got.Bytes()) != sha256.Sum256(want) {
		t.Fatalf("seed %d: %d bytes arrived, %d were sent", seed, got.Len(), size)
	}
	client.Close()
	server.Close()
	for _, m := range byID {
		m.Close()
	}
}
