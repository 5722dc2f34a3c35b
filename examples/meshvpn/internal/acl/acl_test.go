package acl

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/splitmesh/splitmesh/examples/meshvpn/internal/packet"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/splitter"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	ann = identity.ID{1}
	bob = identity.ID{2}
	eve = identity.ID{3}
)

func names(name string) (identity.ID, bool) {
	id, ok := map[string]identity.ID{"ann": ann, "bob": bob, "eve": eve}[name]
	return id, ok
}

func rules(t *testing.T, lines ...string) (l List) {
	t.Helper()
	for _, line := range lines {
		var r Rule
		if err := r.UnmarshalText([]byte(line)); err != nil {
			t.Fatal(err)
		}
		if text, err := r.MarshalText(); err != nil || string(text) != line {
			t.Error(string(text), err)
		}
		l = append(l, r)
	}
	return l
}

// TestRules: the first that fits decides, and none is no.
func TestRules(t *testing.T) {
	ssh := &packet.Packet{Proto: packet.TCP, DstPort: 22}
	web := &packet.Packet{Proto: packet.TCP, DstPort: 8050}
	dns := &packet.Packet{Proto: packet.UDP, DstPort: 53}
	ping := &packet.Packet{Proto: packet.ICMPv6, Type: 128}
	sctp := &packet.Packet{Proto: 132}
	all := map[string]*packet.Packet{"ssh": ssh, "web": web, "dns": dns, "ping": ping, "sctp": sctp}
	for _, tt := range []struct {
		lines string
		id    identity.ID
		want  string
		hears bool
	}{
		{"", ann, "", false},
		{"allow ann tcp 22", ann, "ssh", true},
		{"allow ann tcp 22", bob, "", false},
		{"allow ann tcp 80 8000-8100", ann, "web", true},
		{"allow ann tcp", ann, "ssh web", true},
		{"allow * icmp", eve, "ping", true},
		{"allow * icmp; allow ann udp 53", ann, "dns ping", true},
		{"deny bob; allow *", bob, "", false},
		{"deny bob; allow *", eve, "dns ping sctp ssh web", true},
		{"deny bob tcp 22; allow * *", bob, "dns ping sctp web", true},
		{"allow ann 132", ann, "sctp", true},
		{"allow ann; deny *", ann, "dns ping sctp ssh web", true},
		{"allow nobody", ann, "", false},
	} {
		var lines []string
		if tt.lines != "" {
			lines = strings.Split(tt.lines, "; ")
		}
		l := rules(t, lines...)
		for name, p := range all {
			if got := l.Allows(tt.id, p, names); got != strings.Contains(tt.want, name) {
				t.Errorf("%q: %s of %d: %v", tt.lines, name, tt.id[0], got)
			}
		}
		if got := l.Hears(tt.id, names); got != tt.hears {
			t.Errorf("%q hears %d: %v", tt.lines, tt.id[0], got)
		}
	}
}

// TestWrongLines: what is wrong is told.
func TestWrongLines(t *testing.T) {
	for line, want := range map[string]string{
		"": "is no rule", "allow": "is no rule", "permit ann": "begins with allow or deny", "allow Ann!": "neither an ID nor a petname",
		"allow ann tpc": "is no protocol", "allow ann tcp x": "is no port", "allow ann tcp 9-3": "is no port", "allow ann tcp 65536": "is no port",
		"allow ann icmp 8": "only tcp and udp have ports", "allow ann 300": "is no protocol",
	} {
		if err := new(Rule).UnmarshalText([]byte(line)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", line, err)
		}
	}
	for line, want := range map[string]string{
		"192.0.2.0/24": "is no grant", "192.0.2.0/24 by ann": "is no grant", "192.0.2.1/24 via ann": "is no network", "x via ann": "is no network",
		"100.64.0.0/16 via ann": "of the virtual network", "fd77:45e9:e85d::/64 to ann": "of the virtual network", "127.0.0.0/8 to ann": "never leaves",
		"192.0.2.0/24 via *": "by way of one peer", "192.0.2.0/24 to A!": "neither an ID nor a petname", "::ffff:1.2.3.4/128 via ann": "is no network",
	} {
		if err := new(Grant).UnmarshalText([]byte(line)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", line, err)
		}
	}
}

// TestGrants: networks are reached by the longest prefix, and only by and for whom they are granted.
func TestGrants(t *testing.T) {
	var l Grants
	for _, line := range []string{"0.0.0.0/0 via ann", "192.0.2.0/24 via bob", "198.51.100.0/24 to bob", "2001:db8::/32 to *", "0.0.0.0/0 to eve", "::/0 to eve", "10.1.0.0/16 to eve"} {
		var g Grant
		if err := g.UnmarshalText([]byte(line)); err != nil {
			t.Fatal(err)
		}
		l = append(l, g)
	}
	a := netip.MustParseAddr
	if id, ok := l.Via(a("203.0.113.1"), names); !ok || id != ann {
		t.Error(id, ok)
	}
	if _, ok := l.Via(a("192.168.1.9"), names); ok {
		t.Error("a private network is reached by who has the internet")
	}
	if id, ok := l.Via(a("192.0.2.9"), names); !ok || id != bob {
		t.Error(id, ok)
	}
	if _, ok := l.Via(a("2001:db8::1"), names); ok {
		t.Error("what is offered is not reached by a peer")
	}
	for _, tt := range []struct {
		id       identity.ID
		addr     string
		from, to bool
	}{
		{bob, "192.0.2.1", true, false}, {ann, "192.0.2.1", false, false}, {eve, "192.0.2.1", false, true}, // ann is not on the longest prefix
		{ann, "203.0.113.1", true, false}, {bob, "203.0.113.1", false, false},
		{bob, "198.51.100.1", false, true}, {ann, "198.51.100.1", true, false}, {eve, "2001:db8::1", false, true},
		{ann, "192.168.1.1", false, false}, {ann, "10.9.9.9", false, false}, // the internet is not what is behind a router
		{eve, "203.0.114.1", false, true}, {eve, "172.16.9.9", false, false}, {eve, "10.1.2.3", false, true}, {eve, "10.2.2.3", false, false},
		{eve, "2001:db9::1", false, true}, {eve, "fd00::1", false, false}, {eve, "64:ff9b::a01:203", false, false}, {eve, "2002:a01:203::1", false, false},
	} {
		if got := l.From(tt.id, a(tt.addr), names); got != tt.from {
			t.Errorf("%+v: from %v", tt, got)
		}
		if got := l.To(tt.id, a(tt.addr), names); got != tt.to {
			t.Errorf("%+v: to %v", tt, got)
		}
	}
}

var (
	me  = netip.MustParseAddr("fd77::1")
	you = netip.MustParseAddr("fd77::2")
)

func sent(proto uint8, near, far uint16) *packet.Packet {
	return &packet.Packet{Src: me, Dst: you, Proto: proto, SrcPort: near, DstPort: far}
}

func came(proto uint8, far, near uint16) *packet.Packet {
	return &packet.Packet{Src: you, Dst: me, Proto: proto, SrcPort: far, DstPort: near}
}

func yes() bool { return true }
func no() bool  { return false }

// TestFlows: answers pass, and nothing else that no rule allows.
func TestFlows(t *testing.T) {
	var f Table
	now := time.Unix(1e9, 0)
	in := func(what string, p, quoted *packet.Packet, may func() bool, want bool) {
		t.Helper()
		if got := f.In(p, quoted, now, may); got != want {
			t.Errorf("%s: %v", what, got)
		}
	}
	in("unasked", came(packet.TCP, 22, 4000), nil, no, false)
	f.Out(sent(packet.TCP, 4000, 22), now)
	in("an answer", came(packet.TCP, 22, 4000), nil, no, true)
	in("another port", came(packet.TCP, 22, 4001), nil, no, false)
	in("another protocol", came(packet.UDP, 22, 4000), nil, no, false)
	in("allowed", came(packet.TCP, 4000, 80), nil, yes, true)
	in("its second packet", came(packet.TCP, 4000, 80), nil, no, true)

	unreachable := &packet.Packet{Src: you, Dst: me, Proto: packet.ICMPv6, Type: 1}
	in("an error about ours", unreachable, sent(packet.TCP, 4000, 22), no, true)
	in("an error about nothing", unreachable, sent(packet.TCP, 4009, 22), yes, false)

	f.Out(&packet.Packet{Src: me, Dst: you, Proto: packet.ICMPv6, Type: 128, SrcPort: 7}, now)
	in("a ping's answer", &packet.Packet{Src: you, Dst: me, Proto: packet.ICMPv6, Type: 129, DstPort: 7}, nil, no, true)
	in("a ping", &packet.Packet{Src: you, Dst: me, Proto: packet.ICMPv6, Type: 128, SrcPort: 7}, nil, no, false)

	f.Out(&packet.Packet{Src: me, Dst: you, Proto: packet.ICMPv6, Type: 1}, now)
	in("a ping after an error of ours", &packet.Packet{Src: you, Dst: me, Proto: packet.ICMPv6, Type: 128}, nil, no, false)

	first, later := came(packet.UDP, 53, 999), &packet.Packet{Src: you, Dst: me, Proto: packet.UDP, Fragment: true, Later: true, ID: 5}
	first.Fragment, first.ID = true, 5
	in("a fragment of nothing", later, nil, yes, false)
	in("a first fragment", first, nil, yes, true)
	in("the next", later, nil, no, true)

	now = now.Add(tcpIdle + time.Second)
	in("late", came(packet.TCP, 22, 4000), nil, no, false)
	if n := f.Sweep(now); n != 0 {
		t.Error(n, "flows are left")
	}
}

// TestBegin: who was connected to does not connect back.
func TestBegin(t *testing.T) {
	var f Table
	now := time.Unix(1e9, 0)
	f.Out(sent(packet.TCP, 4000, 22), now)
	syn := came(packet.TCP, 22, 4000)
	syn.Begins = true
	if f.In(syn, nil, now, no) {
		t.Error("a flow of ours lets its other end begin one")
	}
	if !f.In(came(packet.TCP, 22, 4000), nil, now, no) || !f.In(syn, nil, now, yes) {
		t.Error("an answer, or what a rule allows, is not let in")
	}
	quoted := sent(packet.TCP, 4000, 22)
	elsewhere := &packet.Packet{Src: you, Dst: netip.MustParseAddr("192.0.2.1"), Proto: packet.ICMPv6, Type: 1}
	if f.In(elsewhere, quoted, now, yes) {
		t.Error("an error goes to another than who sent what it is about")
	}
}

// TestJudge: what is not allowed any more does not go on, though our end goes on to send; what is ours does.
func TestJudge(t *testing.T) {
	var f Table
	now := time.Unix(1e9, 0)
	is := func(what string, p *packet.Packet, may func() bool, want bool) {
		t.Helper()
		if got := f.In(p, nil, now, may); got != want {
			t.Errorf("%s: %v", what, got)
		}
	}
	f.Out(sent(packet.TCP, 4000, 22), now)
	is("allowed", came(packet.TCP, 5000, 80), yes, true)
	is("allowed, too", came(packet.UDP, 5000, 53), yes, true)
	if !f.Ours() {
		t.Error("none is ours")
	}
	f.Judge(func(p *packet.Packet) bool {
		return p.Proto == packet.UDP && p.DstPort == 53 && p.Src == you && p.Dst == me
	})
	for range 2 {
		is("no more", came(packet.TCP, 5000, 80), no, false)
		f.Out(sent(packet.TCP, 80, 5000), now)
	}
	is("still", came(packet.UDP, 5000, 53), no, true)
	is("ours", came(packet.TCP, 22, 4000), no, true)
	is("again", came(packet.TCP, 5000, 80), yes, true)
	is("again, its second", came(packet.TCP, 5000, 80), no, true)
	f.Judge(func(*packet.Packet) bool { return false })
	begin := sent(packet.TCP, 80, 5000)
	begin.Begins = true
	f.Out(begin, now)
	is("an answer to what we began", came(packet.TCP, 5000, 80), no, true)
}

// TestFlowsAreBounded: new flows push out old ones, never one that was just used.
func TestFlowsAreBounded(t *testing.T) {
	var f Table
	now := time.Unix(1e9, 0)
	const most = MaxFlows / 4
	f.Limit(most)
	for i := range uint32(3 * MaxFlows) {
		now = now.Add(time.Millisecond)
		f.Out(sent(packet.UDP, uint16(i), uint16(i>>16)), now)
		if i == 2*MaxFlows {
			f.Limit(0)
		}
		if i < 2*MaxFlows && len(f.flows) > most || len(f.flows) > MaxFlows {
			t.Fatal(len(f.flows))
		}
		if p := came(packet.UDP, uint16(i>>16), uint16(i)); !f.In(p, nil, now, no) {
			t.Fatal("the newest is gone")
		}
	}
}

// TestClasses: what a person waits for goes first, and a flow stays in its class.
func TestClasses(t *testing.T) {
	for _, tt := range []struct {
		p    packet.Packet
		want splitter.Class
	}{
		{packet.Packet{Proto: packet.TCP, DstPort: 22}, splitter.Interactive},
		{packet.Packet{Proto: packet.TCP, SrcPort: 22}, splitter.Interactive},
		{packet.Packet{Proto: packet.TCP, DstPort: 443}, splitter.Bulk},
		{packet.Packet{Proto: packet.TCP, DstPort: 22, DSCP: 8}, splitter.Bulk},
		{packet.Packet{Proto: packet.UDP, DstPort: 40000, DSCP: 46}, splitter.Interactive},
		{packet.Packet{Proto: packet.ICMP}, splitter.Interactive},
		{packet.Packet{Proto: 132}, splitter.Bulk},
	} {
		if got := ClassOf(&tt.p); got != tt.want {
			t.Errorf("%+v: %v", tt.p, got)
		}
	}
	var f Table
	p := sent(packet.TCP, 1, 443)
	k, class := f.Out(p, time.Now())
	p.DSCP = 46
	if k2, c2 := f.Out(p, time.Now()); k2 != k || c2 != class {
		t.Error("a flow changed its class")
	}
}

func FuzzRule(f *testing.F) {
	for _, s := range []string{"allow ann tcp 22 80-90", "deny *", "allow * icmp", "allow * 132"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var r, again Rule
		if r.UnmarshalText([]byte(s)) != nil {
			return
		}
		if text, err := r.MarshalText(); err != nil || again.UnmarshalText(text) != nil {
			t.Error(err)
		}
		List{r}.Allows(ann, sent(6, 1, 2), names)
	})
}
