package mesh_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
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
	"github.com/splitmesh/splitmesh/transport/memory"
)

// operated starts a relay of each operator, that dir knows.
func operated(t *testing.T, dir registry.Directory, operators ...string) (relays map[identity.ID]*mesh.Node) {
	t.Helper()
	relays = make(map[identity.ID]*mesh.Node)
	for i, op := range operators {
		n := start(t, &mesh.Node{Identity: key(t, 300+i), Directory: dir, Operator: op, ListenAddrs: []multiaddr.Multiaddr{addr(t, overTCP)}, Relay: &mesh.RelayConfig{}})
		relays[n.ID()] = n
		known(t, dir, n.ID())
	}
	return relays
}

// known waits until dir knows id.
func known(t *testing.T, dir registry.Directory, id identity.ID) {
	t.Helper()
	until(t, "the record is published", func() bool {
		_, err := dir.Lookup(t.Context(), id)
		return err == nil
	})
}

// until polls for what there is no signal for.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for ctx := within(t); !ok(); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("never: ", what)
		}
	}
}

// TestRelaysOfTheDirectory: a node that knows only a directory is reserved at relays
// of as many operators as there are, and at another when one dies; and a peer that
// knows only the directory reaches it over them.
func TestRelaysOfTheDirectory(t *testing.T) {
	dir := directory.New()
	relays := operated(t, dir, "swarm", "swarm", "swarm", "swarm", "left", "right", "")
	hidden := start(t, &mesh.Node{Identity: key(t, 1), Directory: dir})
	go echo(listen(t, hidden, "echo", 3))
	operators := func() (of []string) {
		for _, id := range hidden.Stats().Reservations {
			of = append(of, relays[id].Operator)
		}
		slices.Sort(of)
		return of
	}
	if of := operators(); len(slices.Compact(of)) != 3 {
		t.Errorf("reserved at relays of %q", of)
	}
	dead := hidden.Stats().Reservations[0]
	relays[dead].Close()
	until(t, "another takes the place of a relay that died", func() bool {
		now := hidden.Stats().Reservations
		return len(now) == 3 && !slices.Contains(now, dead)
	})
	client := start(t, &mesh.Node{Identity: key(t, 2), Directory: dir})
	d := &mesh.Dialer{Node: client, RelayedOnly: true, Split: splitter.Policy{MinPaths: 3}}
	if err := ask(within(t), d, hidden.ID().String()+":echo"); err != nil {
		t.Error(err)
	}
}

// TestReservationsWanted: what Reservations says, and who takes no strangers' relays.
func TestReservationsWanted(t *testing.T) {
	dir := directory.New()
	relays := operated(t, dir, "a", "b", "c", "d", "e")
	var some *mesh.Node
	for _, some = range relays {
		break
	}
	five := start(t, &mesh.Node{Identity: key(t, 1), Directory: dir, Bootstrap: some.Addrs(), Reservations: 5})
	listen(t, five, "x", 5)
	more := start(t, &mesh.Node{Identity: key(t, 2), Directory: dir})
	listen(t, more, "x", 4) // what is waited for is wanted
	none := start(t, &mesh.Node{Identity: key(t, 3), Directory: dir, Reservations: -1, Bootstrap: some.Addrs()})
	listen(t, none, "x", 1)
	relay := start(t, &mesh.Node{Identity: key(t, 4), Directory: dir, Relay: &mesh.RelayConfig{}, ListenAddrs: []multiaddr.Multiaddr{addr(t, overTCP)}})
	listen(t, relay, "x", 0)
	for _, n := range []*mesh.Node{none, relay} {
		if err := n.WaitReserved(within(t), 2); err == nil {
			t.Error("a node that takes no relays of the directory waits for them")
		}
	}
	if got := none.Stats().Reservations; len(got) != 1 {
		t.Errorf("reserved at %d relays", len(got))
	}
	alone := start(t, &mesh.Node{Identity: key(t, 5), Directory: directory.New()})
	listen(t, alone, "x", 0)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := alone.WaitReserved(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// A lines collects what a node logs.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Count(l.buf.Bytes(), []byte(s))
}

// TestBootstrapPeerThatIsNoRelay is asked seldom whether it relays, which the log
// says once.
func TestBootstrapPeerThatIsNoRelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wire := memory.NewNetwork(memory.Options{})
		defer wire.Close()
		peer := start(t, &mesh.Node{Identity: key(t, 1), ListenAddrs: []multiaddr.Multiaddr{addr(t, "/memory/1")}, Transports: []transport.Transport{wire.Transport()}})
		var log lines
		n := start(t, &mesh.Node{
			Identity: key(t, 2), Bootstrap: peer.Addrs(), Transports: []transport.Transport{wire.Transport()},
			Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		})
		listen(t, n, "x", 0)
		time.Sleep(time.Hour)
		if said, asked := log.count("no relay for us"), log.count("no reservation"); said != 1 || asked < 4 || asked > 6 {
			t.Errorf("in an hour it was said %d times, and asked %d times more", said, asked)
		}
		n.Close()
		peer.Close()
	})
}

// A moody directory takes no record while err is set.
type moody struct {
	registry.Directory
	mu    sync.Mutex
	err   error
	tries int
}

func (d *moody) Publish(ctx context.Context, r *registry.Record) error {
	d.mu.Lock()
	err := d.err
	d.tries++
	d.mu.Unlock()
	if err != nil {
		return err
	}
	return d.Directory.Publish(ctx, r)
}

// TestPublishedAgain: a record that the directory did not take is offered again, ever
// more slowly, until it does, and anew long before it expires.
func TestPublishedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wire := memory.NewNetwork(memory.Options{})
		defer wire.Close()
		dir := &moody{Directory: directory.New(), err: errors.New("out of order")}
		n := start(t, &mesh.Node{Identity: key(t, 1), Directory: dir, ListenAddrs: []multiaddr.Multiaddr{addr(t, "/memory/1")}, Transports: []transport.Transport{wire.Transport()}})
		time.Sleep(time.Hour)
		dir.mu.Lock()
		if dir.tries < 12 || dir.tries > 30 {
			t.Errorf("%d tries in an hour", dir.tries)
		}
		dir.err = nil
		dir.mu.Unlock()
		for range 10 {
			time.Sleep(12 * time.Hour)
			if _, err := dir.Lookup(t.Context(), n.ID()); err != nil {
				t.Error(err)
			}
		}
		n.Close()
	})
}

// TestClockThatWentBack: a node whose last record is ahead of its clock publishes from
// there on.
func TestClockThatWentBack(t *testing.T) {
	dir := directory.New()
	k := key(t, 1)
	ahead := &registry.Record{Sequence: time.Now().Add(5 * time.Minute).UnixMilli(), Expires: time.Now().Add(time.Hour).UnixMilli()}
	if err := ahead.Sign(k); err != nil {
		t.Fatal(err)
	}
	if err := dir.Publish(t.Context(), ahead); err != nil {
		t.Fatal(err)
	}
	start(t, &mesh.Node{Identity: k, Directory: dir, ListenAddrs: []multiaddr.Multiaddr{addr(t, overTCP)}})
	until(t, "a newer record", func() bool {
		r, err := dir.Lookup(t.Context(), k.ID())
		return err == nil && r.Sequence > ahead.Sequence && len(r.Addrs) == 1
	})
}

// TestRecordThatCannotBe: what a node can't say of itself is told when it starts.
func TestRecordThatCannotBe(t *testing.T) {
	for field, n := range map[string]*mesh.Node{
		"name": {Name: "Ann Smith"}, "capabilities": {Capabilities: []string{"Bad Cap"}}, "operator": {Operator: "a\nb"},
	} {
		if err := n.Start(within(t)); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
		n.Close()
	}
}

// TestNameTaken: who does not get its name is found by its ID.
func TestNameTaken(t *testing.T) {
	dir := directory.New()
	first := start(t, &mesh.Node{Identity: key(t, 1), Directory: dir, Name: "ann", ListenAddrs: []multiaddr.Multiaddr{addr(t, overTCP)}})
	known(t, dir, first.ID())
	second := start(t, &mesh.Node{Identity: key(t, 2), Directory: dir, Name: "ann", ListenAddrs: []multiaddr.Multiaddr{addr(t, overTCP)}})
	known(t, dir, second.ID())
	until(t, "it is said why", func() bool { return errors.Is(second.Stats().Unpublished, registry.ErrNameTaken) })
	if id, err := dir.Resolve(t.Context(), "ann"); err != nil || id != first.ID() {
		t.Error(id, err)
	}
	if err := first.Stats().Unpublished; err != nil {
		t.Error(err)
	}
}

// A hanging directory answers nobody.
type hanging struct{ registry.Directory }

func (hanging) Lookup(ctx context.Context, _ identity.ID) (*registry.Record, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestDirectoryThatHangs: it holds up no dial of who is known, directly or by a relay.
// Time is virtual.
func TestDirectoryThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wire := memory.NewNetwork(memory.Options{})
		defer wire.Close()
		boot := memoryRelays(t, wire, 1)
		server := start(t, &mesh.Node{Identity: key(t, 1), Bootstrap: boot, Transports: []transport.Transport{wire.Transport()}})
		go echo(listen(t, server, "echo", 1))
		near := start(t, &mesh.Node{Identity: key(t, 2), ListenAddrs: []multiaddr.Multiaddr{addr(t, "/memory/7777")}, Transports: []transport.Transport{wire.Transport()}})
		go echo(listen(t, near, "echo", 0))
		client := start(t, &mesh.Node{Identity: key(t, 3), Bootstrap: append(boot, near.Addrs()...), Directory: hanging{directory.New()}, Transports: []transport.Transport{wire.Transport()}})
		for n, most := range map[*mesh.Node]time.Duration{near: time.Second, server: 2 * time.Second} {
			begun := time.Now()
			if err := ask(within(t), &mesh.Dialer{Node: client}, n.ID().String()+":echo"); err != nil {
				t.Error(err)
			}
			if took := time.Since(begun); took > most {
				t.Errorf("it took %v", took)
			}
		}
		for _, n := range []*mesh.Node{client, near, server} {
			n.Close()
		}
	})
}

// TestUnknownPeer: that nobody knows it is said first, and the relays that do not either
// come after it.
func TestUnknownPeer(t *testing.T) {
	_, boot := relays(t, 1, overTCP, mesh.RelayConfig{})
	n := start(t, &mesh.Node{Directory: directory.New(), Bootstrap: boot})
	_, err := n.Dial(within(t), key(t, 77).ID().String()+":x")
	if !errors.Is(err, registry.ErrNotFound) || !errors.Is(err, mesh.ErrNotReserved) || strings.Index(err.Error(), "no record") > strings.Index(err.Error(), "relay") {
		t.Error(err)
	}
}

// TestNetworksAreNoClaims: relays of one host whose records claim networks of their own
// get one reservation of three, while there are relays in other networks.
func TestNetworksAreNoClaims(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs all of 127.0.0.0/8")
	}
	dir := directory.New()
	relay := func(i int, host string, claims ...string) identity.ID {
		n := start(t, &mesh.Node{Identity: key(t, 400+i), ListenAddrs: []multiaddr.Multiaddr{addr(t, "/ip4/"+host+"/tcp/0")}, Relay: &mesh.RelayConfig{}})
		rec, err := n.Record()
		if err != nil {
			t.Fatal(err)
		}
		claimed := &registry.Record{Sequence: rec.Sequence, Expires: rec.Expires, Capabilities: rec.Capabilities}
		for _, c := range claims {
			claimed.Addrs = append(claimed.Addrs, addr(t, c))
		}
		claimed.Addrs = append(claimed.Addrs, rec.Addrs...)
		if err := claimed.Sign(key(t, 400+i)); err != nil {
			t.Fatal(err)
		}
		if err := dir.Publish(t.Context(), claimed); err != nil {
			t.Fatal(err)
		}
		return n.ID()
	}
	for i := range 8 {
		relay(i, "127.0.0.1", fmt.Sprintf("/ip4/127.%d.0.1/tcp/1", 10+i)) // where nobody is
	}
	honest := []identity.ID{relay(8, "127.2.0.1"), relay(9, "127.3.0.1")}
	hidden := start(t, &mesh.Node{Identity: key(t, 1), Directory: dir})
	listen(t, hidden, "echo", 3)
	until(t, "it is reserved in three networks", func() bool {
		at := hidden.Stats().Reservations
		return len(at) == 3 && slices.Contains(at, honest[0]) && slices.Contains(at, honest[1])
	})
}

// TestRelaysOfOneNetwork: where there are no others, all are taken, wherever they say to be.
func TestRelaysOfOneNetwork(t *testing.T) {
	dir := directory.New()
	for i := range 3 {
		n := start(t, &mesh.Node{Identity: key(t, 400+i), ListenAddrs: []multiaddr.Multiaddr{addr(t, overTCP)}, Relay: &mesh.RelayConfig{}})
		rec, err := n.Record()
		if err != nil {
			t.Fatal(err)
		}
		addrs := append([]multiaddr.Multiaddr{addr(t, fmt.Sprintf("/ip4/127.%d.0.1/tcp/1", 10+i))}, rec.Addrs...)
		claimed := &registry.Record{Sequence: rec.Sequence, Expires: rec.Expires, Capabilities: rec.Capabilities, Addrs: addrs}
		if err := claimed.Sign(key(t, 400+i)); err != nil {
			t.Fatal(err)
		}
		if err := dir.Publish(t.Context(), claimed); err != nil {
			t.Fatal(err)
		}
	}
	listen(t, start(t, &mesh.Node{Identity: key(t, 1), Directory: dir}), "echo", 3)
}
