package mesh_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/multiformats/go-multiaddr"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/splitter"
	"github.com/splitmesh/splitmesh/transport"
	"github.com/splitmesh/splitmesh/transport/memory"
	"golang.org/x/net/nettest"
)

// TestNettest runs the standard library's conformance test on every kind of conn.
func TestNettest(t *testing.T) {
	for _, tt := range []struct {
		name   string
		listen string // of the peer; empty: by relays only
		relays int
		paths  int
	}{
		{name: "direct ws", listen: overWS},
		{name: "direct tcp", listen: overTCP},
		{name: "direct memory", listen: "/memory/0"},
		{name: "one relay", relays: 1, paths: 1},
		{name: "three relays", relays: 3, paths: 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, boot := relays(t, tt.relays, overWS, mesh.RelayConfig{})
			server := &mesh.Node{Identity: key(t, 1), Bootstrap: boot}
			client := &mesh.Node{Identity: key(t, 2), Bootstrap: boot}
			if strings.HasPrefix(tt.listen, "/memory") {
				net := memory.NewNetwork(memory.Options{})
				t.Cleanup(func() { net.Close() })
				server.Transports = []transport.Transport{net.Host("server")}
				client.Transports = []transport.Transport{net.Host("client")}
			}
			if tt.listen != "" {
				server.ListenAddrs = []multiaddr.Multiaddr{addr(t, tt.listen)}
			}
			start(t, server)
			l := listen(t, server, "nettest", tt.relays)
			client.Bootstrap = append(client.Bootstrap, server.Addrs()...)
			start(t, client)
			d := &mesh.Dialer{Node: client}
			if tt.relays > 0 {
				d.RelayedOnly, d.Paths = true, tt.paths
				d.Split.MinPaths = tt.paths
			}
			nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
				dialled, accepted := connect(t, d, l)
				if tt.relays > 0 && len(dialled.Paths()) != tt.paths {
					return nil, nil, nil, errors.New("not over the paths that the test is about")
				}
				return dialled, accepted, func() {
					dialled.Close()
					accepted.Close()
				}, nil
			})
		})
	}
}

// TestLinger: who closes a conn without lingering resets it, so that nobody takes a part for the whole.
func TestLinger(t *testing.T) {
	server := start(t, &mesh.Node{ListenAddrs: []multiaddr.Multiaddr{addr(t, overTCP)}})
	l := listen(t, server, "x", 0)
	client := start(t, &mesh.Node{Bootstrap: server.Addrs()})
	for _, sec := range []int{0, -1, 3} {
		here, there := connect(t, &mesh.Dialer{Node: client}, l)
		if err := here.SetLinger(sec); err != nil {
			t.Fatal(err)
		}
		io.WriteString(here, "a part")
		if _, err := io.ReadFull(there, make([]byte, 6)); err != nil {
			t.Fatal(err)
		}
		here.Close()
		if _, err := there.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) == (sec == 0) {
			t.Errorf("linger %d: %v", sec, err)
		}
	}
}

func TestAddrs(t *testing.T) {
	server := start(t, &mesh.Node{Identity: key(t, 1), ListenAddrs: []multiaddr.Multiaddr{addr(t, overTCP)}})
	l := listen(t, server, "who", 0)
	client := start(t, &mesh.Node{Identity: key(t, 2), Bootstrap: server.Addrs()})
	here, there := connect(t, &mesh.Dialer{Node: client}, l)
	if got := there.RemoteAddr().(mesh.Addr); got.ID != client.ID() {
		t.Errorf("the caller is %v, want %v", got, client.ID())
	}
	if got := here.RemoteAddr().String(); got != server.ID().String()+":who" || got != there.LocalAddr().String() {
		t.Error(got)
	}
	if here.LocalAddr().Network() != "mesh" || here.LocalAddr().String() != client.ID().String() {
		t.Error(here.LocalAddr())
	}
	paths := here.Paths()
	if len(paths) != 1 || !paths[0].Relay.IsZero() {
		t.Errorf("%+v", paths)
	}
}

// TestDialsItself needs no address at all.
func TestDialsItself(t *testing.T) {
	n := start(t, &mesh.Node{})
	here, there := connect(t, &mesh.Dialer{Node: n, RelayedOnly: true}, listen(t, n, "me", 0))
	go func() {
		here.Write([]byte("hello, me"))
		here.CloseWrite()
	}()
	if got, err := io.ReadAll(there); string(got) != "hello, me" || err != nil {
		t.Fatal(string(got), err)
	}
}

func TestDialErrors(t *testing.T) {
	server := start(t, &mesh.Node{
		Identity: key(t, 1), ListenAddrs: []multiaddr.Multiaddr{addr(t, overTCP)},
		Authorize: func(_ context.Context, peer identity.ID, service string) error {
			if service == "private" {
				return errors.New("the reason stays here")
			}
			return nil
		},
	})
	listen(t, server, "private", 0)
	client := start(t, &mesh.Node{Identity: key(t, 2), Bootstrap: server.Addrs()})
	stranger := key(t, 3).ID()
	for _, tt := range []struct {
		name, addr string
		dialer     mesh.Dialer
		want       error
	}{
		{name: "no such service", addr: server.ID().String() + ":nothing", want: mesh.ErrNoService},
		{name: "not authorized", addr: server.ID().String() + ":private", want: mesh.ErrRefused},
		{name: "the other spelling", addr: server.ID().PeerID() + ":nothing", want: mesh.ErrNoService},
		{name: "unknown peer", addr: stranger.String() + ":x", want: mesh.ErrNotReserved},
		{name: "relayed only, but no relay", addr: server.ID().String() + ":x", dialer: mesh.Dialer{RelayedOnly: true}, want: mesh.ErrNoRoute},
		{name: "impossible policy", addr: server.ID().String() + ":x", dialer: mesh.Dialer{Split: splitter.Policy{MinPaths: 2, MaxShare: 0.1}}, want: splitter.ErrPolicy},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.dialer.Node = client
			if tt.want == mesh.ErrNotReserved {
				// The server does not relay, so it refuses to say even that.
				tt.want = mesh.ErrRefused
			}
			_, err := tt.dialer.Dial(within(t), tt.addr)
			if !errors.Is(err, tt.want) {
				t.Fatalf("%v, want %v", err, tt.want)
			}
			if _, ok := errors.AsType[*mesh.OpError](err); !ok {
				t.Errorf("%T is no *OpError", err)
			}
		})
	}
	for _, bad := range []string{"", "x", ":80", server.ID().String(), server.ID().String() + ":", server.ID().String() + ":UPPER", server.ID().String()[1:] + ":x"} {
		_, err := client.Dial(within(t), bad)
		if _, ok := errors.AsType[*mesh.AddrError](err); !ok {
			t.Errorf("%q: %v is no *AddrError", bad, err)
		}
	}
	if _, err := client.DialContext(within(t), "udp", server.ID().String()+":x"); err == nil {
		t.Error("dialled over udp")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := client.Dial(ctx, server.ID().String()+":private"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestListen(t *testing.T) {
	n := start(t, &mesh.Node{})
	l := listen(t, n, "a", 0)
	if _, err := n.Listen("a"); !errors.Is(err, mesh.ErrServiceTaken) {
		t.Error(err)
	}
	for _, bad := range []string{"", "A", "a b", string(make([]byte, 64))} {
		if _, err := n.Listen(bad); err == nil {
			t.Errorf("listens on %q", bad)
		}
	}
	l.Close()
	l.Close()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	listen(t, n, "a", 0) // free again
	n.Close()
	if _, err := n.Listen("b"); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if _, err := n.Dial(within(t), n.ID().String()+":a"); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

// TestFastOpen shows that a refusal comes with the first Read.
func TestFastOpen(t *testing.T) {
	server := start(t, &mesh.Node{Identity: key(t, 1), ListenAddrs: []multiaddr.Multiaddr{addr(t, overTCP)}})
	l := listen(t, server, "fast", 0)
	client := start(t, &mesh.Node{Identity: key(t, 2), Bootstrap: server.Addrs()})
	d := &mesh.Dialer{Node: client, FastOpen: true}
	here, there := connect(t, d, l)
	go there.Write([]byte("yes"))
	buf := make([]byte, 3)
	if _, err := io.ReadFull(here, buf); string(buf) != "yes" || err != nil {
		t.Fatal(string(buf), err)
	}
	c, err := d.Dial(within(t), server.ID().String()+":nothing")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := c.Read(buf); !errors.Is(err, mesh.ErrNoService) {
			t.Fatal(err)
		}
	}
}

// relayed is a sender and a receiver that know each other by relays alone.
func relayed(t *testing.T, k int, cfg mesh.RelayConfig) (nodes []*mesh.Node, client *mesh.Node, l net.Listener) {
	t.Helper()
	nodes, boot := relays(t, k, overWS, cfg)
	server := start(t, &mesh.Node{Identity: key(t, 1), Bootstrap: boot})
	l = listen(t, server, "sink", k)
	return nodes, start(t, &mesh.Node{Identity: key(t, 2), Bootstrap: boot, Grace: -1}), l
}

func TestRelayLimits(t *testing.T) {
	t.Run("circuits of a peer", func(t *testing.T) {
		_, client, l := relayed(t, 1, mesh.RelayConfig{MaxCircuitsPerPeer: 1})
		d := &mesh.Dialer{Node: client, RelayedOnly: true, Paths: 1, Split: splitter.Policy{MinPaths: 1}}
		connect(t, d, l)
		other := start(t, &mesh.Node{Bootstrap: client.Bootstrap}) // another peer, so another session
		_, err := d.Dial(within(t), listen(t, other, "x", 1).Addr().String())
		limit, ok := errors.AsType[*mesh.LimitError](err)
		if !ok || limit.Limit != "MaxCircuitsPerPeer" || limit.Value != 1 || limit.Relay.IsZero() {
			t.Fatalf("%v: %+v", err, limit)
		}
	})
	t.Run("reservations", func(t *testing.T) {
		nodes, boot := relays(t, 1, overTCP, mesh.RelayConfig{MaxReservations: 1})
		first := start(t, &mesh.Node{Bootstrap: boot})
		listen(t, first, "x", 1)
		second := start(t, &mesh.Node{Bootstrap: boot})
		listen(t, second, "x", 0)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := second.WaitReserved(ctx, 1); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if st := nodes[0].Stats().Relay; st.Reservations != 1 {
			t.Fatalf("%+v", st)
		}
	})
	t.Run("not allowed", func(t *testing.T) {
		_, boot := relays(t, 1, overTCP, mesh.RelayConfig{Allow: func(identity.ID) bool { return false }})
		client := start(t, &mesh.Node{Bootstrap: boot})
		_, err := (&mesh.Dialer{Node: client, RelayedOnly: true, Split: splitter.Policy{MinPaths: 1}}).Dial(within(t), key(t, 9).ID().String()+":x")
		if !errors.Is(err, mesh.ErrRefused) {
			t.Fatal(err)
		}
	})
	t.Run("bytes of a circuit", func(t *testing.T) {
		const limit = 1 << 20
		nodes, client, l := relayed(t, 1, mesh.RelayConfig{MaxCircuitBytes: limit})
		d := &mesh.Dialer{Node: client, RelayedOnly: true, Paths: 1, Split: splitter.Policy{MinPaths: 1}}
		here, there := connect(t, d, l)
		go io.Copy(io.Discard, there)
		var err error
		for err == nil {
			_, err = here.Write(make([]byte, 64<<10))
		}
		reached, ok := errors.AsType[*mesh.LimitError](err)
		if !ok || reached.Limit != "MaxCircuitBytes" || reached.Value != limit || reached.Relay != nodes[0].ID() {
			t.Fatal(err)
		}
		if carried := nodes[0].Stats().Relay.Bytes; carried > limit {
			t.Errorf("the relay carried %d bytes", carried)
		}
	})
	t.Run("circuits of a network", func(t *testing.T) {
		_, client, l := relayed(t, 1, mesh.RelayConfig{MaxCircuitsPerNetwork: 1, BytesPerSecond: 100 << 20})
		d := &mesh.Dialer{Node: client, RelayedOnly: true, Paths: 1, Split: splitter.Policy{MinPaths: 1}}
		connect(t, d, l)
		neighbour := start(t, &mesh.Node{Bootstrap: client.Bootstrap})
		_, err := (&mesh.Dialer{Node: neighbour, RelayedOnly: true, Split: splitter.Policy{MinPaths: 1}}).Dial(within(t), l.Addr().String())
		if limit, ok := errors.AsType[*mesh.LimitError](err); !ok || limit.Limit != "MaxCircuitsPerNetwork" {
			t.Fatal(err)
		}
	})
}
