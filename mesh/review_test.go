package mesh_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/internal/handshake"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/registry/memory"
	"github.com/splitmesh/splitmesh/splitter"
	"github.com/splitmesh/splitmesh/transport"
	"github.com/splitmesh/splitmesh/transport/link"
	"github.com/splitmesh/splitmesh/transport/tcp"
)

// TestStartOutlivesItsCaller: a caller that gives up does not decide for others.
func TestStartOutlivesItsCaller(t *testing.T) {
	n := &mesh.Node{ListenAddrs: []multiaddr.Multiaddr{addr(t, overTCP)}}
	t.Cleanup(func() { n.Close() })
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	n.Dial(gone, n.ID().String()+":x")
	if err := n.Start(within(t)); err != nil || len(n.Addrs()) != 1 {
		t.Fatal(err, n.Addrs())
	}
}

// TestStricterListener: a listener that wants two paths gets them from a dialler
// that would have been content with one.
func TestStricterListener(t *testing.T) {
	_, boot := relays(t, 2, overTCP, mesh.RelayConfig{})
	server := start(t, &mesh.Node{
		Identity: key(t, 1), Bootstrap: boot, ListenAddrs: []multiaddr.Multiaddr{addr(t, overTCP)},
		Split: splitter.Policy{MinPaths: 2},
	})
	l := listen(t, server, "echo", 2)
	go echo(l)
	client := start(t, &mesh.Node{Identity: key(t, 2), Bootstrap: append(server.Addrs(), boot...)})
	if err := ask(within(t), &mesh.Dialer{Node: client}, l.Addr().String()); err != nil {
		t.Fatal(err)
	}
}

// TestTwoDirectAddresses are one way, when two ways are wanted.
func TestTwoDirectAddresses(t *testing.T) {
	_, boot := relays(t, 1, overTCP, mesh.RelayConfig{})
	server := start(t, &mesh.Node{
		Identity: key(t, 1), Bootstrap: boot,
		ListenAddrs: []multiaddr.Multiaddr{addr(t, overTCP), addr(t, overWS)},
	})
	l := listen(t, server, "echo", 1)
	client := start(t, &mesh.Node{Identity: key(t, 2), Bootstrap: append(server.Addrs(), boot...)})
	here, _ := connect(t, &mesh.Dialer{Node: client, Split: splitter.Policy{MinPaths: 2}}, l)
	ways := make(map[identity.ID]int)
	for _, p := range here.Paths() {
		ways[p.Relay]++
	}
	if len(ways) != 2 || ways[identity.ID{}] != 1 {
		t.Fatalf("%+v", here.Paths())
	}
}

// A liar answers every look-up with one record.
type liar struct{ record *registry.Record }

func (d liar) Publish(context.Context, *registry.Record) error { return nil }
func (d liar) Lookup(context.Context, identity.ID) (*registry.Record, error) {
	return d.record, nil
}

// TestDirectoryIsNotBelieved: a revoked peer is not dialled, even if it can be
// reached, and records of others or out of date lead nowhere.
func TestDirectoryIsNotBelieved(t *testing.T) {
	k := key(t, 1)
	server := start(t, &mesh.Node{Identity: k, ListenAddrs: []multiaddr.Multiaddr{addr(t, overTCP)}})
	l := listen(t, server, "echo", 0)
	go echo(l)
	base, _, _, _ := transport.SplitPeer(server.Addrs()[0])
	record := func(k *identity.Key, edit func(*registry.Record)) *registry.Record {
		now := time.Now()
		r := &registry.Record{Sequence: now.UnixMilli(), Expires: now.Add(time.Hour).UnixMilli(), Addrs: []multiaddr.Multiaddr{base}}
		edit(r)
		if err := r.Sign(k); err != nil {
			t.Fatal(err)
		}
		return r
	}
	revoked := record(k, func(r *registry.Record) { r.Revoked, r.Addrs = true, nil })
	dir := memory.New()
	if err := dir.Publish(within(t), revoked); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		dir  registry.Directory
		boot []multiaddr.Multiaddr
		want error
	}{
		{"good", liar{record(k, func(*registry.Record) {})}, nil, nil},
		{"revoked", dir, server.Addrs(), mesh.ErrRevoked},
		{"another's", liar{record(key(t, 3), func(*registry.Record) {})}, nil, mesh.ErrNoRoute},
		{"expired", liar{record(k, func(r *registry.Record) { r.Sequence -= 2 * 3600e3; r.Expires -= 2 * 3600e3 })}, nil, registry.ErrExpired},
	} {
		client := start(t, &mesh.Node{Directory: tt.dir, Bootstrap: tt.boot})
		if err := ask(within(t), &mesh.Dialer{Node: client}, l.Addr().String()); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

// TestReservedMeansAnswered: a relay that was only asked does not count.
func TestReservedMeansAnswered(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan bool)
	_, boot := relays(t, 1, overTCP, mesh.RelayConfig{Allow: func(identity.ID) bool {
		asked <- struct{}{}
		return <-answer
	}})
	server := start(t, &mesh.Node{Bootstrap: boot})
	listen(t, server, "x", 0)
	<-asked
	if st := server.Stats(); len(st.Reservations) != 0 {
		t.Error("reserved before the relay has answered")
	}
	answer <- true
	if err := server.WaitReserved(within(t), 1); err != nil {
		t.Fatal(err)
	}
}

// TestWaitingSaysWhy: whoever gives up waiting learns what was lacking.
func TestWaitingSaysWhy(t *testing.T) {
	_, boot := relays(t, 1, overTCP, mesh.RelayConfig{})
	server := start(t, &mesh.Node{Identity: key(t, 1), Bootstrap: boot})
	if err := server.WaitReserved(within(t), 1); err == nil || !strings.Contains(err.Error(), "call Listen first") {
		t.Error(err)
	}
	l := listen(t, server, "echo", 1)
	go echo(l)
	if err := server.WaitReserved(within(t), 2); err == nil || !strings.Contains(err.Error(), "Bootstrap names 1") {
		t.Error(err)
	}
	client := start(t, &mesh.Node{Bootstrap: boot})
	// One relay is one too few. A dialler in a hurry is told at once, and one
	// that waits is told when it gives up.
	_, err := (&mesh.Dialer{Node: client, RelayedOnly: true, Split: splitter.Policy{FailFast: true}}).Dial(within(t), l.Addr().String())
	if few, ok := errors.AsType[*splitter.TooFewPathsError](err); !ok || few.Have != 1 || few.Want != 2 || strings.Count(err.Error(), "paths") != 1 {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(within(t), 200*time.Millisecond)
	defer cancel()
	_, err = (&mesh.Dialer{Node: client, RelayedOnly: true}).Dial(ctx, l.Addr().String())
	if _, ok := errors.AsType[*splitter.TooFewPathsError](err); !ok || !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}

	_, deaf := relays(t, 2, overTCP, mesh.RelayConfig{Allow: func(identity.ID) bool { return false }})
	unwanted := start(t, &mesh.Node{Bootstrap: deaf})
	listen(t, unwanted, "x", 0)
	ctx, cancel = context.WithTimeout(within(t), 200*time.Millisecond)
	defer cancel()
	if err := unwanted.WaitReserved(ctx, 1); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, mesh.ErrRefused) {
		t.Error(err)
	}
}

// TestPeerGone: a peer that leaves is not taken for something that we closed.
func TestPeerGone(t *testing.T) {
	server := start(t, &mesh.Node{Identity: key(t, 1), ListenAddrs: []multiaddr.Multiaddr{addr(t, overTCP)}})
	l := listen(t, server, "x", 0)
	client := start(t, &mesh.Node{Identity: key(t, 2), Bootstrap: server.Addrs()})
	here, there := connect(t, &mesh.Dialer{Node: client}, l)
	server.Close()
	if _, err := here.Read(make([]byte, 1)); !errors.Is(err, mesh.ErrPeerGone) || errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) {
		t.Error(err)
	}
	if _, err := there.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

// TestCutIsNoEnd: whoever cuts the only path can't make a stream look complete.
func TestCutIsNoEnd(t *testing.T) {
	wire := link.New(link.Config{})
	var fin atomic.Bool
	server := start(t, &mesh.Node{Identity: key(t, 1), ListenAddrs: []multiaddr.Multiaddr{addr(t, overTCP)}, Grace: -1})
	l := listen(t, server, "x", 0)
	client := start(t, &mesh.Node{
		Identity: key(t, 2), Bootstrap: server.Addrs(), Grace: -1,
		Transports: []transport.Transport{link.WrapTransport(&tcp.Transport{}, link.Wrapper{Dial: func(multiaddr.Multiaddr) *link.Link {
			fin.Store(true)
			return wire
		}})},
	})
	here, there := connect(t, &mesh.Dialer{Node: client}, l)
	go here.Write([]byte("the first half"))
	if _, err := io.ReadFull(there, make([]byte, 14)); err != nil || !fin.Load() {
		t.Fatal(err)
	}
	wire.Cut()
	for name, c := range map[string]*mesh.Conn{"dialler": here, "listener": there} {
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestOneHostCannotFillTheDoor: one host's stalled handshakes are bounded, and
// another's is served meanwhile.
func TestOneHostCannotFillTheDoor(t *testing.T) {
	server := start(t, &mesh.Node{Identity: key(t, 1), ListenAddrs: []multiaddr.Multiaddr{addr(t, overTCP)}})
	l := listen(t, server, "echo", 0)
	go echo(l)
	base, _, _, _ := transport.SplitPeer(server.Addrs()[0])
	cfg := &handshake.Config{Identity: key(t, 2)}
	var cut atomic.Int32
	var wg sync.WaitGroup
	const many = 100
	stalled := make(chan struct{}, many)
	for range many {
		d, err := handshake.NewDialler(cfg, server.ID(), nil)
		if err != nil {
			t.Fatal(err)
		}
		c, err := (&tcp.Transport{}).Dial(within(t), base, d.Opening())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		wg.Go(func() { // ends with the test's connections
			_, err := handshake.ReadMessage(c)
			if err != nil {
				cut.Add(1)
			}
			stalled <- struct{}{}
		})
	}
	for range many {
		<-stalled
	}
	wg.Wait()
	if n := cut.Load(); n == 0 || n == many {
		t.Fatalf("%d of %d handshakes were refused", n, many)
	}
	other := &tcp.Transport{DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).DialContext}
	client := start(t, &mesh.Node{Bootstrap: server.Addrs(), Transports: []transport.Transport{other}})
	if err := ask(within(t), &mesh.Dialer{Node: client}, l.Addr().String()); err != nil {
		t.Fatal(err)
	}
}
