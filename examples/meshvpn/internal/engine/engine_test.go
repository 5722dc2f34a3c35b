package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/overlay"
	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/packet"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/transport"
)

// TestAllowed: what a rule allows arrives, and its answer; nothing else does.
func TestAllowed(t *testing.T) {
	a, b := two(t, "allow host1 udp 53")
	for _, addrs := range [][2]netip.Addr{{a.v4, b.v4}, {a.v6, b.v6}} {
		src, dst := addrs[0], addrs[1]
		a.dev.out <- udp(src, dst, 1000, 53, "question")
		if got := data(b.gets()); got != "question" {
			t.Error(got)
		}
		b.dev.out <- udp(dst, src, 53, 1000, "answer")
		if got := data(a.gets()); got != "answer" {
			t.Error(got)
		}
	}
	a.dev.out <- udp(a.v6, b.v6, 1000, 54, "another port")
	b.drops("denied", 1)
	b.dev.out <- udp(b.v6, a.v6, 53, 1001, "to a port that did not ask")
	a.drops("denied", 1)
}

// TestSources: a packet that is not from its sender, or not for us, is dropped at either end.
func TestSources(t *testing.T) {
	a, b := two(t, "allow *")
	other := overlay.V6(seeded(t, 3).ID())
	a.dev.out <- udp(other, b.v6, 1, 2, "forged")
	isError(t, a.gets(), b.v6, 1, 1) // to the forger, who has no such address
	a.drops("source-not-ours", 1)
	a.cfg.Book.Guest(seeded(t, 3).ID())

	// A sender that does not check itself.
	conn, err := a.node.Dial(within(t), b.id.String()+":"+Service)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	send := func(raw []byte) {
		t.Helper()
		frame := append(make([]byte, packet.HeaderSize), raw[packet.VnetSize:]...)
		packet.PutHeader(frame, packet.Whole, len(frame)-packet.HeaderSize)
		if _, err := conn.Write(frame); err != nil {
			t.Fatal(err)
		}
	}
	send(udp(other, b.v6, 1, 2, "forged"))
	b.drops("source-not-the-sender's", 1)
	send(udp(b.v6, b.v6, 1, 2, "from itself"))
	b.drops("source-not-the-sender's", 2)
	send(udp(netip.MustParseAddr("192.0.2.1"), b.v4, 1, 2, "from elsewhere"))
	b.drops("source-not-the-sender's", 3)
	send(udp(a.v6, other, 1, 2, "to another"))
	b.drops("not-for-us", 1)
	send(udp(a.v4, netip.MustParseAddr("192.0.2.1"), 1, 2, "to elsewhere"))
	b.drops("not-for-us", 2)
	send(udp(a.v6, netip.MustParseAddr("ff02::1"), 1, 2, "to all"))
	b.drops("not-unicast", 1)
	send(append(make([]byte, packet.VnetSize), 0x60))
	b.drops("malformed", 1)
	send(udp(a.v6, b.v6, 1, 2, "true"))
	if got := data(b.gets()); got != "true" {
		t.Error(got)
	}
	frame := make([]byte, packet.HeaderSize)
	packet.PutHeader(frame, packet.Echo, packet.MaxSize+1)
	if _, err := conn.Write(frame); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(frame); err == nil {
		t.Error("a frame that can't be does not end the conn")
	}
}

// TestStrangers: who is allowed nothing has no conn.
func TestStrangers(t *testing.T) {
	a, b := two(t, "allow host3")
	a.dev.out <- udp(a.v6, b.v6, 1, 2, "x")
	b.drops("conn-of-stranger", 1)
}

// TestUnreachable: the sender is told.
func TestUnreachable(t *testing.T) {
	a := start(t, 1, nil, []byte{2}, nil, nil)
	nobody, absent := netip.MustParseAddr("100.64.9.9"), overlay.V4(seeded(t, 2).ID())
	a.dev.out <- udp(a.v4, nobody, 1, 2, "x")
	isError(t, a.gets(), nobody, 3, 0)
	a.dev.out <- udp(a.v4, absent, 1, 2, "x")
	isError(t, a.gets(), absent, 3, 1)
	a.dev.out <- udp(a.v6, overlay.V6(seeded(t, 2).ID()), 1, 2, "x") // at once: it was just tried
	isError(t, a.gets(), overlay.V6(seeded(t, 2).ID()), 1, 3)
	s := a.Status()
	if len(s.Peers) != 1 || s.Peers[0].Error == "" || s.Dropped["no-route"] != 1 || s.Dropped["peer-unreachable"] == 0 {
		t.Errorf("%+v", s)
	}
}

// TestNotUp: the sender is told that a peer takes no packets, also of what it sends again after a second.
func TestNotUp(t *testing.T) {
	listen, err := transport.Parse("/ip4/127.0.0.1/tcp/0")
	if err != nil {
		t.Fatal(err)
	}
	b := &mesh.Node{Identity: seeded(t, 2), ListenAddrs: []multiaddr.Multiaddr{listen}}
	if err := b.Start(within(t)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	a := start(t, 1, b.Addrs(), []byte{2}, nil, nil)
	to := overlay.V4(b.ID())
	begin := time.Now()
	a.dev.out <- udp(a.v4, to, 1000, 7, "lost before it is known")
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for ctx := within(t); !slices.ContainsFunc(a.Status().Peers, func(p PeerStatus) bool { return strings.Contains(p.Error, "takes no packets") }); <-again.C {
		if ctx.Err() != nil {
			t.Fatalf("%+v", a.Status())
		}
	}
	a.dev.out <- udp(a.v4, to, 1000, 7, "refused")
	isError(t, a.gets(), to, 3, 13)
	p := a.known(b.ID())
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse.Before(begin.Add(retryNobody)) {
		t.Errorf("packets are refused until %v after the first: what TCP sends again gets no answer", p.refuse.Sub(begin))
	}
}

// TestOrder: the packets of a flow arrive in their order, of whatever size, and with what the kernel left undone.
func TestOrder(t *testing.T) {
	const flows, packets = 10, 300
	a, b := two(t, "allow host1 tcp")
	go func() { // ends with what it has to send; the device has room for all
		for n := range packets {
			for f := range flows {
				payload := make([]byte, 20+(n*n*37+f)%60000+8)
				binary.BigEndian.PutUint16(payload, uint16(f))
				binary.BigEndian.PutUint16(payload[2:], 80)
				binary.BigEndian.PutUint32(payload[4:], uint32(n))
				payload[12] = 5 << 4
				p := ip(a.v4, b.v4, packet.TCP, payload)
				p[0], p[1] = 1, 1
				for i, v := range []uint16{40, 1400, 20, 16} {
					binary.NativeEndian.PutUint16(p[2+2*i:], v)
				}
				select {
				case a.dev.out <- p:
				case <-a.dev.closed:
					return
				}
			}
		}
	}()
	last := make(map[uint16]uint32)
	for range flows * packets {
		if a.Status().Dropped["queue-full"] > 0 {
			break // it is allowed to; what came came in order
		}
		got := b.gets()
		p, err := packet.Parse(got[packet.VnetSize:])
		if err != nil || got[1] != 1 || binary.NativeEndian.Uint16(got[4:]) != 1400 {
			t.Fatal(got[:packet.VnetSize], err)
		}
		n := binary.BigEndian.Uint32(got[packet.VnetSize+24:])
		if want := last[p.SrcPort]; n != want {
			t.Fatalf("packet %d of %d came instead of %d", n, p.SrcPort, want)
		}
		last[p.SrcPort] = n + 1
	}
	if s := a.Status().Peers[0]; s.Streams < 2 || s.Streams > streamsPerClass {
		t.Errorf("%d streams", s.Streams)
	}
}

// TestGrants: networks beyond the overlay are reached by way of who offers them, and only so.
func TestGrants(t *testing.T) {
	lan, wan := netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("198.51.100.9")
	b := start(t, 2, nil, []byte{1}, []string{"allow host1"}, []string{"192.0.2.0/24 to host1"})
	a := start(t, 1, b.node.Addrs(), []byte{2}, nil, []string{"0.0.0.0/0 via host2"})
	a.dev.out <- udp(a.v4, lan, 1, 2, "question")
	if got := data(b.gets()); got != "question" {
		t.Error(got)
	}
	b.dev.out <- udp(lan, a.v4, 2, 1, "answer")
	if got := data(a.gets()); got != "answer" {
		t.Error(got)
	}
	a.dev.out <- udp(a.v4, wan, 1, 2, "x")
	b.drops("not-for-us", 1)
	b.dev.out <- udp(wan, a.v4, 1, 2, "x")
	isError(t, b.gets(), a.v4, 3, 13)
	b.drops("source-not-ours", 1)
	b.dev.out <- udp(overlay.V4(seeded(t, 3).ID()), a.v4, 2, 1, "another peer's, though the grant is for all")
	isError(t, b.gets(), a.v4, 3, 13)
	b.drops("source-not-ours", 2)
	if e := a.theirs(overlay.V4(seeded(t, 3).ID()), b.id); e {
		t.Error("a grant lets a peer be another")
	}
}

// TestReports: routers beyond say what became of packets that went there, and of no others.
func TestReports(t *testing.T) {
	lan, router := netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("10.0.0.1")
	b := start(t, 2, nil, []byte{1}, []string{"allow host1"}, []string{"192.0.2.0/24 to host1"})
	a := start(t, 1, b.node.Addrs(), []byte{2}, nil, []string{"192.0.2.0/24 via host2"})
	sent := udp(a.v4, lan, 1, 2, "too big")
	a.dev.out <- sent
	b.gets()
	tooBig := func(about []byte) []byte {
		return ip(router, a.v4, packet.ICMP, append([]byte{3, 4, 0, 0, 0, 0, 5, 0}, about[packet.VnetSize:]...))
	}
	b.dev.out <- tooBig(sent)
	isError(t, a.gets(), router, 3, 4)
	b.dev.out <- tooBig(udp(a.v4, b.v4, 1, 2, "not beyond"))
	b.drops("source-not-ours", 1)
	b.dev.out <- tooBig(udp(a.v4, netip.MustParseAddr("198.51.100.1"), 1, 2, "not granted"))
	b.drops("source-not-ours", 2)
	b.dev.out <- tooBig(udp(a.v4, lan, 7, 2, "never sent"))
	a.drops("denied", 1)
	b.dev.out <- udp(router, a.v4, 2, 1, "no error")
	isError(t, b.gets(), a.v4, 3, 13)
	b.drops("source-not-ours", 3)
}

// TestPing: a peer that hears us answers.
func TestPing(t *testing.T) {
	a, b := two(t, "allow host1 icmp")
	n := 0
	err := a.Ping(within(t), b.id, 3, func(p Pong) error {
		n++
		if p.RTT <= 0 || len(p.Paths) != 1 {
			return fmt.Errorf("%+v", p)
		}
		return nil
	})
	if n != 3 || err != nil {
		t.Error(n, err)
	}
	if err := b.Ping(within(t), a.id, 1, func(Pong) error { return nil }); !errors.Is(err, ErrNotHeard) {
		t.Error("a peer that is allowed nothing:", err)
	}
}

// TestRestart: a peer that was away is reached again.
func TestRestart(t *testing.T) {
	a, b := two(t, "allow host1")
	a.dev.out <- udp(a.v6, b.v6, 1, 2, "before")
	b.gets()
	b.stop()
	b = start(t, 2, a.node.Addrs(), []byte{1}, []string{"allow host1"}, nil)
	b.dev.out <- udp(b.v6, a.v6, 9, 9, "hello") // so that it is known where it is now
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for ctx := within(t); ; {
		a.dev.out <- udp(a.v6, b.v6, 1, 2, "after")
		select {
		case got := <-b.dev.in:
			if data(got) != "after" {
				t.Error(data(got))
			}
			return
		case <-again.C:
		case <-ctx.Done():
			t.Fatalf("%+v", a.Status())
		}
	}
}
