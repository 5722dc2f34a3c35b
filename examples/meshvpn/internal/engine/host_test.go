package engine

import (
	"context"
	"encoding/binary"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"
	"go.uber.org/goleak"

	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/acl"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/overlay"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/packet"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// A memory is a device whose kernel is the test.
type memory struct {
	out, in chan []byte // read by the engine, written by it
	once    sync.Once
	closed  chan struct{}
}

func newMemory() *memory {
	return &memory{out: make(chan []byte, 4096), in: make(chan []byte, 4096), closed: make(chan struct{})}
}

func (m *memory) Read(b []byte) (int, error) {
	select {
	case p := <-m.out:
		return copy(b, p), nil
	case <-m.closed:
		return 0, os.ErrClosed
	}
}

func (m *memory) Write(b []byte) (int, error) {
	select {
	case m.in <- append([]byte(nil), b...):
		return len(b), nil
	case <-m.closed:
		return 0, os.ErrClosed
	}
}

func (m *memory) Close() error {
	m.once.Do(func() { close(m.closed) })
	return nil
}

// A host is a node with an engine and a device.
type host struct {
	*Engine
	t      *testing.T
	dev    *memory
	node   *mesh.Node
	id     identity.ID
	v4, v6 netip.Addr
	stop   func()
}

func seeded(t *testing.T, n byte) *identity.Key {
	t.Helper()
	k, err := identity.NewKeyFromSeed(append(make([]byte, identity.SeedSize-1), n))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// start makes a host, with the rules, that knows the peers with the numbers of known. boot are addresses.
func start(t *testing.T, n byte, boot []multiaddr.Multiaddr, known []byte, rules, grants []string) *host {
	t.Helper()
	listen, err := transport.Parse("/ip4/127.0.0.1/tcp/0")
	if err != nil {
		t.Fatal(err)
	}
	node := &mesh.Node{Identity: seeded(t, n), ListenAddrs: []multiaddr.Multiaddr{listen}, Bootstrap: boot, Grace: time.Second}
	if err := node.Start(within(t)); err != nil {
		t.Fatal(err)
	}
	book, err := overlay.Open(filepath.Join(t.TempDir(), "addresses"), node.ID(), true)
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Node: node, Book: book, Names: func(name string) (identity.ID, bool) {
		return seeded(t, name[len(name)-1]-'0').ID(), true // host1, host2, …
	}, Known: func() (ids []identity.ID) {
		for _, k := range known {
			ids = append(ids, seeded(t, k).ID())
		}
		return ids
	}}
	for _, line := range rules {
		var r acl.Rule
		if err := r.UnmarshalText([]byte(line)); err != nil {
			t.Fatal(err)
		}
		cfg.Policy.Rules = append(cfg.Policy.Rules, r)
	}
	for _, line := range grants {
		var g acl.Grant
		if err := g.UnmarshalText([]byte(line)); err != nil {
			t.Fatal(err)
		}
		cfg.Policy.Grants = append(cfg.Policy.Grants, g)
	}
	h := &host{t: t, dev: newMemory(), node: node, id: node.ID(), v4: overlay.V4(node.ID()), v6: overlay.V6(node.ID())}
	cfg.Device = h.dev
	h.Engine = New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	h.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := node.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(h.stop)
	return h
}

// two are hosts 1 and 2, of which 2 has the rules; each knows the other.
func two(t *testing.T, rules ...string) (a, b *host) {
	b = start(t, 2, nil, []byte{1}, rules, nil)
	a = start(t, 1, b.node.Addrs(), []byte{2}, nil, nil)
	return a, b
}

// make4 and make6 are packets; transport is what is above IP.
func ip(src, dst netip.Addr, proto uint8, transport []byte) []byte {
	var b []byte
	if src.Is4() {
		b = make([]byte, 20)
		b[0], b[8], b[9] = 0x45, 64, proto
		binary.BigEndian.PutUint16(b[2:], uint16(20+len(transport)))
		copy(b[12:], src.AsSlice())
		copy(b[16:], dst.AsSlice())
	} else {
		b = make([]byte, 40)
		b[0], b[6], b[7] = 0x60, proto, 64
		binary.BigEndian.PutUint16(b[4:], uint16(len(transport)))
		copy(b[8:], src.AsSlice())
		copy(b[24:], dst.AsSlice())
	}
	return slices.Concat(make([]byte, packet.VnetSize), b, transport)
}

func udp(src, dst netip.Addr, from, to uint16, data string) []byte {
	b := make([]byte, 8, 8+len(data))
	binary.BigEndian.PutUint16(b, from)
	binary.BigEndian.PutUint16(b[2:], to)
	return ip(src, dst, packet.UDP, append(b, data...))
}

// data is what is in a UDP packet.
func data(b []byte) string {
	p, err := packet.Parse(b[packet.VnetSize:])
	if err != nil {
		return err.Error()
	}
	return string(b[packet.VnetSize+p.Header+8:])
}

// gets waits for the next packet.
func (h *host) gets() []byte {
	h.t.Helper()
	select {
	case b := <-h.dev.in:
		return b
	case <-within(h.t).Done():
		h.t.Fatalf("no packet came: %+v", h.Status())
	}
	return nil
}

// drops waits until packets were dropped for the reason.
func (h *host) drops(why string, n uint64) {
	h.t.Helper()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for ctx := within(h.t); h.Status().Dropped[why] != n; <-again.C {
		if ctx.Err() != nil {
			h.t.Fatalf("want %d of %s: %+v", n, why, h.Status())
		}
	}
	if len(h.dev.in) > 0 {
		h.t.Errorf("it has %x, which was to be dropped for %s", <-h.dev.in, why)
	}
}

func isError(t *testing.T, b []byte, about netip.Addr, kind, code uint8) {
	t.Helper()
	p, err := packet.Parse(b[packet.VnetSize:])
	if err != nil || !p.IsError() || p.Src != about || p.Type != kind || p.Code != code {
		t.Errorf("%+v, %v: want type %d, code %d", p, err, kind, code)
	}
}
