package mesh_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multiformats/go-multiaddr"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/registry"
	directory "github.com/splitmesh/splitmesh/registry/memory"
	"github.com/splitmesh/splitmesh/splitter"
	"github.com/splitmesh/splitmesh/transport"
	"github.com/splitmesh/splitmesh/transport/link"
	"github.com/splitmesh/splitmesh/transport/memory"
)

// A roamer is a machine's network: it can be lost, and come back at another address.
type roamer struct {
	net *memory.Network

	mu    sync.Mutex // guards all below
	name  string     // empty while it is lost
	admit transport.Admit
}

func (r *roamer) host() *memory.Host {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.name == "" {
		return nil
	}
	return r.net.Host(r.name)
}

func (r *roamer) CanDial(addr multiaddr.Multiaddr) bool { return r.net.Host("any").CanDial(addr) }

func (r *roamer) Dial(ctx context.Context, addr multiaddr.Multiaddr, opening []byte) (net.Conn, error) {
	h := r.host()
	if h == nil {
		return nil, syscall.ENETUNREACH
	}
	return h.Dial(ctx, addr, opening)
}

func (r *roamer) Listen(ctx context.Context, addr multiaddr.Multiaddr, admit transport.Admit) (transport.Listener, error) {
	r.mu.Lock()
	r.admit = admit
	r.mu.Unlock()
	return r.host().Listen(ctx, addr, admit)
}

// lose takes the network away: every connection is reset.
func (r *roamer) lose() {
	r.mu.Lock()
	name := r.name
	r.name = ""
	r.mu.Unlock()
	r.net.Kill(name)
}

// back gives the machine another address, at which it listens if it did before.
func (r *roamer) back(t *testing.T, name string) multiaddr.Multiaddr {
	t.Helper()
	r.mu.Lock()
	r.name = name
	admit := r.admit
	r.mu.Unlock()
	if admit == nil {
		return nil
	}
	l, err := r.host().Listen(t.Context(), addr(t, "/memory/0"), admit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Multiaddr()
}

// publish tells dir that the holder of k is at addrs.
func publish(t *testing.T, dir registry.Directory, k *identity.Key, addrs ...multiaddr.Multiaddr) {
	t.Helper()
	now := time.Now()
	r := &registry.Record{Sequence: now.UnixMilli() + 1, Expires: now.Add(time.Hour).UnixMilli(), Addrs: addrs}
	if err := r.Sign(k); err != nil {
		t.Fatal(err)
	}
	if err := dir.Publish(t.Context(), r); err != nil {
		t.Fatal(err)
	}
}

// roamers are a server and a client that know each other by a directory.
func roamers(t *testing.T, grace time.Duration) (server, client *mesh.Node, at, from *roamer, dir registry.Directory) {
	wire := memory.NewNetwork(memory.Options{})
	t.Cleanup(func() { wire.Close() })
	dir = directory.New()
	at, from = &roamer{net: wire, name: "server"}, &roamer{net: wire, name: "client"}
	server = start(t, &mesh.Node{
		Identity: key(t, 1), Directory: dir, Transports: []transport.Transport{at}, Grace: grace,
		ListenAddrs: []multiaddr.Multiaddr{addr(t, "/memory/0")},
	})
	client = start(t, &mesh.Node{Identity: key(t, 2), Directory: dir, Transports: []transport.Transport{from}, Grace: grace})
	synctest.Wait() // the record is published
	return server, client, at, from, dir
}

// TestRoaming: both ends lose the network for 30 s in the midst of a transfer and
// come back at other addresses. Nothing is lost, what waits goes on waiting, and
// deadlines fire meanwhile.
func TestRoaming(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client, at, from, dir := roamers(t, 0)
		l := listen(t, server, "sink", 0)
		here, there := connect(t, &mesh.Dialer{Node: client}, l)
		want := make([]byte, 24<<20)
		rand.NewChaCha8([32]byte{1}).Read(want)
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := here.Write(want); err != nil {
				t.Error(err)
			}
			here.CloseWrite()
		})
		var reply []byte
		wg.Go(func() { reply, _ = io.ReadAll(here) }) // waits through all that follows

		var got bytes.Buffer
		if _, err := io.CopyN(&got, there, 1<<20); err != nil {
			t.Fatal(err)
		}
		at.lose()
		from.lose()
		synctest.Wait()
		there.SetReadDeadline(time.Now().Add(5 * time.Second))
		// What has come is still there to be read; then a deadline passes.
		if _, err := got.ReadFrom(there); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		there.SetReadDeadline(time.Time{})
		if st := client.Stats().Sessions; len(st) != 1 || st[0].PathlessSince.IsZero() || got.Len() == len(want) {
			t.Fatalf("%+v after %d bytes: the test shows nothing", st, got.Len())
		}
		time.Sleep(25 * time.Second) // virtual
		publish(t, dir, key(t, 1), at.back(t, "server elsewhere"))
		from.back(t, "client elsewhere")
		if _, err := got.ReadFrom(there); err != nil {
			t.Fatal(err)
		}
		if sha256.Sum256(got.Bytes()) != sha256.Sum256(want) {
			t.Fatalf("%d bytes arrived, %d were sent", got.Len(), len(want))
		}
		io.WriteString(there, "I have it all")
		there.Close()
		wg.Wait()
		if !bytes.Equal(reply, []byte("I have it all")) {
			t.Fatalf("%q", reply)
		}
	})
}

// TestGraceEnds: who never comes back is given up, with an error that says so.
func TestGraceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client, at, from, _ := roamers(t, 20*time.Second)
		here, there := connect(t, &mesh.Dialer{Node: client}, listen(t, server, "x", 0))
		at.lose()
		from.lose()
		began := time.Now()
		for name, c := range map[string]*mesh.Conn{"dialler": here, "listener": there} {
			_, err := c.Read(make([]byte, 1))
			lost, ok := errors.AsType[*mesh.PathsLostError](err)
			if !ok || lost.Grace != 20*time.Second || lost.Last == nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if waited := time.Since(began); waited != 20*time.Second { // virtual
			t.Errorf("given up after %v", waited)
		}
	})
}

// TestIdleSessionsEnd: a session without conns does not come back for long when its
// network is gone; the next dial makes another.
func TestIdleSessionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client, at, from, dir := roamers(t, 0)
		l := listen(t, server, "echo", 0)
		go echo(l)
		if err := ask(t.Context(), &mesh.Dialer{Node: client}, l.Addr().String()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // virtual: the conn has ended at both ends
		at.lose()
		from.lose()
		time.Sleep(2 * time.Second) // virtual
		if n := len(client.Stats().Sessions); n != 1 {
			t.Errorf("%d sessions soon after", n)
		}
		time.Sleep(5 * time.Second) // virtual
		if s := client.Stats().Sessions; len(s) != 0 {
			t.Errorf("later: %+v", s)
		}
		from.back(t, "client elsewhere")
		publish(t, dir, key(t, 1), at.back(t, "server elsewhere"))
		if err := ask(t.Context(), &mesh.Dialer{Node: client}, l.Addr().String()); err != nil {
			t.Error(err)
		}
		l.Close()
	})
}

// TestEndArrivesLate: the end of a conn's data, given while there is no network, arrives when there is one again.
func TestEndArrivesLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client, at, from, dir := roamers(t, 0)
		here, there := connect(t, &mesh.Dialer{Node: client}, listen(t, server, "x", 0))
		io.WriteString(here, "all")
		there.CloseWrite()
		if _, err := here.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // virtual: everything is acknowledged
		at.lose()
		from.lose()
		synctest.Wait()
		here.Close()
		time.Sleep(20 * time.Second) // virtual
		from.back(t, "client elsewhere")
		publish(t, dir, key(t, 1), at.back(t, "server elsewhere"))
		if got, err := io.ReadAll(there); string(got) != "all" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	})
}

// A countingDirectory counts the lookups.
type countingDirectory struct {
	registry.Directory
	n atomic.Int64
}

func (d *countingDirectory) Lookup(ctx context.Context, id identity.ID) (*registry.Record, error) {
	d.n.Add(1)
	return d.Directory.Lookup(ctx, id)
}

// TestLookupsOfTheLost: a session without paths asks the directory ever more seldom where its peer is. When a network is
// cut, all of them do.
func TestLookupsOfTheLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wire := memory.NewNetwork(memory.Options{})
		defer wire.Close()
		dir := &countingDirectory{Directory: directory.New()}
		at := &roamer{net: wire, name: "server"}
		server := start(t, &mesh.Node{
			Identity: key(t, 1), Directory: dir, Transports: []transport.Transport{at}, ListenAddrs: []multiaddr.Multiaddr{addr(t, "/memory/0")},
		})
		client := start(t, &mesh.Node{Directory: dir, Transports: []transport.Transport{&roamer{net: wire, name: "client"}}})
		synctest.Wait() // the record is published
		here, there := connect(t, &mesh.Dialer{Node: client}, listen(t, server, "x", 0))
		before := dir.n.Load()
		at.lose()
		time.Sleep(4 * time.Second) // virtual
		if n := dir.n.Load() - before; n < 2 || n > 4 {
			t.Errorf("%d lookups in 4 s", n)
		}
		time.Sleep(45 * time.Second) // virtual
		publish(t, dir, key(t, 1), at.back(t, "server elsewhere"))
		go io.WriteString(here, "hello")
		if _, err := io.ReadFull(there, make([]byte, 5)); err != nil {
			t.Error(err)
		}
	})
}

// TestDialWaitsForTheNetwork: a dial to a peer whose session has no path waits.
func TestDialWaitsForTheNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client, at, from, dir := roamers(t, 0)
		l := listen(t, server, "echo", 0)
		go echo(l)
		d := &mesh.Dialer{Node: client}
		if err := ask(t.Context(), d, l.Addr().String()); err != nil {
			t.Fatal(err)
		}
		at.lose()
		from.lose()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := ask(ctx, d, l.Addr().String())
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "every path to the peer was lost") {
			t.Error(err)
		}
		time.AfterFunc(10*time.Second, func() { // virtual
			from.back(t, "client elsewhere")
			publish(t, dir, key(t, 1), at.back(t, "server elsewhere"))
		})
		if err := ask(t.Context(), d, l.Addr().String()); err != nil {
			t.Error(err)
		}
		l.Close()
	})
}

// TestDialWaitsForPaths: so does one for which one path would be too few.
func TestDialWaitsForPaths(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client, at, from, dir := roamers(t, 0)
		l := listen(t, server, "echo", 0)
		go echo(l)
		if err := ask(t.Context(), &mesh.Dialer{Node: client}, l.Addr().String()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // virtual: the conn has ended at both ends
		at.lose()
		from.lose()
		synctest.Wait()
		time.AfterFunc(10*time.Second, func() { // virtual
			from.back(t, "client elsewhere")
			publish(t, dir, key(t, 1), at.back(t, "server elsewhere"))
		})
		begun := time.Now()
		_, err := (&mesh.Dialer{Node: client, Split: splitter.Policy{MinPaths: 2}}).Dial(t.Context(), l.Addr().String())
		few, ok := errors.AsType[*splitter.TooFewPathsError](err)
		if !ok || few.Have != 1 || time.Since(begun) < 10*time.Second {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
		l.Close()
	})
}

// TestRevokedWhileAway: nobody comes back to a peer whose key was revoked meanwhile.
func TestRevokedWhileAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client, at, _, dir := roamers(t, 0)
		known, _, _, _ := transport.SplitPeer(server.Addrs()[0])
		here, _ := connect(t, &mesh.Dialer{Node: client}, listen(t, server, "x", 0))
		at.lose()
		synctest.Wait()
		r := &registry.Record{Sequence: time.Now().UnixMilli() + 1, Expires: time.Now().Add(time.Hour).UnixMilli(), Revoked: true}
		if err := r.Sign(key(t, 1)); err != nil {
			t.Fatal(err)
		}
		if err := dir.Publish(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second) // virtual: it has been looked up
		at.mu.Lock()
		at.name = "server"
		at.mu.Unlock()
		back, err := at.host().Listen(t.Context(), known, at.admit)
		if err != nil {
			t.Fatal(err)
		}
		defer back.Close()
		time.Sleep(20 * time.Second) // virtual
		if p := here.Paths(); len(p) > 0 {
			t.Errorf("paths to who was revoked: %v", p)
		}
	})
}

// TestPeerRestarts: a peer that starts anew while its session waits for a path ends
// it at once: it says that it knows no such session.
func TestPeerRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client, at, _, dir := roamers(t, time.Hour)
		here, _ := connect(t, &mesh.Dialer{Node: client}, listen(t, server, "x", 0))
		at.lose()
		synctest.Wait()
		server.Close()
		var wg sync.WaitGroup
		wg.Go(func() {
			began := time.Now()
			if _, err := here.Read(make([]byte, 1)); !errors.Is(err, mesh.ErrPeerGone) {
				t.Error(err)
			}
			if waited := time.Since(began); waited > 30*time.Second { // virtual
				t.Errorf("it took %v", waited)
			}
		})
		time.Sleep(20 * time.Second) // virtual
		again := &roamer{net: at.net, name: "server again"}
		start(t, &mesh.Node{
			Identity: key(t, 1), Directory: dir, Transports: []transport.Transport{again},
			ListenAddrs: []multiaddr.Multiaddr{addr(t, "/memory/0")},
		})
		wg.Wait()
	})
}

// TestBothDialAtOnce: two sessions between the same peers become one, the same for
// both, and conns opened meanwhile work.
func TestBothDialAtOnce(t *testing.T) {
	for round := range 20 {
		synctest.Test(t, func(t *testing.T) {
			shape := link.Shape{Delay: 10 * time.Millisecond} // so that the dials cross
			wire := memory.NewNetwork(memory.Options{Shape: func(string, string) *link.Link { return link.New(link.Config{Up: shape, Down: shape}) }})
			t.Cleanup(func() { wire.Close() })
			dir := directory.New()
			var nodes [2]*mesh.Node
			var at [2]net.Listener
			for i := range nodes {
				nodes[i] = start(t, &mesh.Node{
					Identity: key(t, 2*round+i), Directory: dir, Transports: []transport.Transport{wire.Transport()},
					ListenAddrs: []multiaddr.Multiaddr{addr(t, "/memory/0")},
				})
				at[i] = listen(t, nodes[i], "echo", 0)
				go echo(at[i])
			}
			synctest.Wait()
			var conns [2]net.Conn
			var wg sync.WaitGroup
			for i, n := range nodes {
				wg.Go(func() {
					c, err := n.Dial(t.Context(), at[1-i].Addr().String())
					if err != nil {
						t.Error(err)
						return
					}
					conns[i] = c
				})
			}
			wg.Wait()
			both := len(nodes[0].Stats().Sessions)
			time.Sleep(time.Minute) // virtual
			for i, n := range nodes {
				if err := ask(t.Context(), &mesh.Dialer{Node: n}, at[1-i].Addr().String()); err != nil {
					t.Error(err)
				}
			}
			for _, c := range conns { // in use: neither session may go
				if _, err := c.Write([]byte("x")); err != nil {
					t.Error(err)
				}
				if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
					t.Error(err)
				}
				c.Close()
			}
			time.Sleep(time.Minute) // virtual
			for i, n := range nodes {
				if st := n.Stats().Sessions; len(st) != 1 {
					t.Errorf("round %d: node %d of %d sessions has %d left", round, i, both, len(st))
				}
			}
			if both != 2 {
				t.Errorf("round %d: %d sessions began: the test shows nothing", round, both)
			}
			at[0].Close()
			at[1].Close()
		})
	}
}

// TestUpgrade: a conn that began over relays moves to the direct path when there is
// one, falls back when that dies, and loses no byte on either way.
func TestUpgrade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wire := memory.NewNetwork(memory.Options{})
		t.Cleanup(func() { wire.Close() })
		dir := directory.New()
		boot := memoryRelays(t, wire, 3)
		public := &roamer{net: wire, name: "front door"}
		server := start(t, &mesh.Node{
			Identity: key(t, 1), Bootstrap: boot, Transports: []transport.Transport{public},
			ListenAddrs: []multiaddr.Multiaddr{addr(t, "/memory/0")},
		})
		l := listen(t, server, "sink", 3)
		var mu sync.Mutex
		var events []mesh.PathEvent
		client := start(t, &mesh.Node{
			Identity: key(t, 2), Bootstrap: boot, Directory: dir, Transports: []transport.Transport{wire.Host("client")},
			OnPath: func(e mesh.PathEvent) {
				mu.Lock()
				defer mu.Unlock()
				events = append(events, e)
			},
		})
		here, there := connect(t, &mesh.Dialer{Node: client, Split: splitter.Policy{MinPaths: 1}}, l)
		sum, want := sha256.New(), sha256.New()
		send := func(n int) {
			t.Helper()
			p := make([]byte, n)
			rand.NewChaCha8([32]byte{byte(n)}).Read(p)
			want.Write(p)
			var wg sync.WaitGroup
			wg.Go(func() {
				if _, err := here.Write(p); err != nil {
					t.Error(err)
				}
			})
			if _, err := io.CopyN(sum, there, int64(n)); err != nil {
				t.Fatal(err)
			}
			wg.Wait()
		}
		states := func() (direct, relayed, backup int, sent uint64) {
			for _, p := range here.Paths() {
				switch {
				case p.Relay.IsZero():
					direct++
					sent = p.Sent
				case p.State == mesh.PathBackup:
					backup++
				default:
					relayed++
				}
			}
			return
		}
		send(1 << 20)
		time.Sleep(5 * time.Second) // virtual
		if direct, relayed, _, _ := states(); direct != 0 || relayed != 3 {
			t.Fatalf("%+v", here.Paths())
		}
		base, _, _, _ := transport.SplitPeer(server.Addrs()[0])
		publish(t, dir, key(t, 1), base)
		time.Sleep(10 * time.Second) // virtual
		if direct, relayed, backup, _ := states(); direct != 1 || relayed != 0 || backup != 3 {
			t.Fatalf("%+v", here.Paths())
		}
		send(2 << 20)
		if _, _, _, sent := states(); sent < 2<<20 {
			t.Errorf("the direct path carried %d bytes", sent)
		}
		time.Sleep(2 * time.Minute) // virtual
		if direct, relayed, backup, _ := states(); direct != 1 || relayed != 0 || backup != 1 {
			t.Fatalf("surplus paths remain: %+v", here.Paths())
		}
		for _, c := range wire.Conns() {
			if c.From == "client" && c.To == "front door" {
				c.Pipe.Cut()
			}
		}
		send(3 << 20)
		if !bytes.Equal(sum.Sum(nil), want.Sum(nil)) {
			t.Error("other bytes arrived")
		}
		time.Sleep(10 * time.Second) // virtual
		if direct, _, _, _ := states(); direct != 1 {
			t.Errorf("the direct path did not come back: %+v", here.Paths())
		}
		mu.Lock()
		defer mu.Unlock()
		seen := make(map[mesh.PathState]bool)
		for _, e := range events {
			if e.Peer == server.ID() {
				seen[e.State] = true
			}
		}
		for _, s := range []mesh.PathState{mesh.PathProbing, mesh.PathActive, mesh.PathBackup, mesh.PathDead} {
			if !seen[s] {
				t.Errorf("no event told of a path that is %v", s)
			}
		}
	})
}
