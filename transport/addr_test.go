package transport_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/transport"
)

// Two fixed IDs.
var (
	alice = idOf(1)
	bob   = idOf(2)
)

func idOf(seed byte) identity.ID {
	key, err := identity.NewKeyFromSeed([]byte(strings.Repeat(string(rune(seed)), 32)))
	if err != nil {
		panic(err)
	}
	return key.ID()
}

func parse(t testing.TB, s string) multiaddr.Multiaddr {
	t.Helper()
	addr, err := transport.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

func TestParse(t *testing.T) {
	for in, want := range map[string]string{
		"/ip4/192.0.2.1/tcp/443/tls/ws":                               "",
		"/ip6/2001:DB8:0::1/tcp/80/ws":                                "/ip6/2001:db8::1/tcp/80/ws",
		"/dns/example.org/tcp/443/wss/":                               "/dns/example.org/tcp/443/wss",
		"/dns/a_b.example-1.org/tcp/443/wss":                          "",
		"/dns/x.org/tcp/443/wss/http-path/api%2Fv2":                   "",
		"/dns/x.org/tcp/443/tls/sni/cdn.org/ws":                       "",
		"/p2p/" + alice.String():                                      "/p2p/" + alice.PeerID(),
		"/p2p/" + alice.PeerID():                                      "",
		"/ip4/1.2.3.4/tcp/1/p2p/" + alice.String() + "/ws":            "/ip4/1.2.3.4/tcp/1/p2p/" + alice.PeerID() + "/ws",
		"/p2p/" + alice.String() + "/p2p-circuit/p2p/" + bob.String(): "/p2p/" + alice.PeerID() + "/p2p-circuit/p2p/" + bob.PeerID(),
		"/unix/tmp/x/y":                                               "",
		"/memory/7":                                                   "",
	} {
		if want == "" {
			want = in
		}
		if got := parse(t, in).String(); got != want {
			t.Errorf("Parse(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tt := range []struct{ in, part, says string }{
		{"", "", "empty"},
		{"/", "", "empty"},
		{"example.org:443", "", "slash"},
		{"/ip4/192.0.2.1/tcp/80\n", "\n", "printable"},
		{"/dns/ex ample.org/tcp/80", " ample.org/tcp/80", "printable"},
		{"/dns/exämple.org/tcp/80", "ämple.org/tcp/80", "xn--"},
		{"/ip4/192.0.2.1/tcpp/80", "tcpp/80", `unknown protocol "tcpp"`},
		{"/ip4/192.0.2.1//tcp/80", "/tcp/80", "unknown protocol"},
		{"/ip4/192.0.2.256/tcp/80", "ip4/192.0.2.256/tcp/80", "192.0.2.256"},
		{"/ip4/192.0.2.1/tcp", "tcp", "missing"},
		{"/ip4/192.0.2.1/tcp/65536", "tcp/65536", "65536"},
		{"/ip4/192.0.2.1/tcp/80/p2p/" + alice.String()[:55], "p2p/" + alice.String()[:55], "56 characters"},
		{"/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N", "p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N", "no ID"},
		{"/dns/a..b/tcp/80", "dns/a..b/tcp/80", "host name"},
		{"/dns/me@evil/tcp/80", "dns/me@evil/tcp/80", "host name"},
		{"/dns/" + strings.Repeat("a", 64) + "/tcp/80", "", "host name"},
		{"/dns/" + strings.Repeat("aa.", 84) + "aa/tcp/80", "", "host name"},
		{"/dns/x/tcp/80/http-path/%zz", "http-path/%zz", "%zz"},
		{strings.Repeat("/tcp/1", 100), "", "512 bytes"},
		{"/http-path/" + strings.Repeat("~!", 240), "", "512 bytes"}, // 491 bytes that escape to 971
	} {
		addr, err := transport.Parse(tt.in)
		var ae *transport.AddrError
		if addr != nil || !errors.As(err, &ae) {
			t.Errorf("Parse(%q) = %v, %v; want an AddrError", tt.in, addr, err)
			continue
		}
		if len(tt.part) > 0 && ae.Part != tt.part || !strings.Contains(err.Error(), tt.says) || len(err.Error()) > 700 {
			t.Errorf("Parse(%q): %v (at %q); want %q at %q", tt.in, err, ae.Part, tt.says, tt.part)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"/ip4/192.0.2.1/tcp/443/tls/ws", "/dns/example.org/tcp/443/wss/http-path/a%2Fb+c", "/ip6/::ffff:1.2.3.4/tcp/1",
		"/p2p/" + alice.String() + "/p2p-circuit/p2p/" + bob.PeerID(), "/unix/a/b", "/onion3/aaaa:1", "/ip6zone/x/ip6/fe80::1",
		"/certhash/uEiDDq4_xNyDorZBH3TlGazyJdOWSwvo4PUo5YHFMrvDE8g", "/garlic32/566niximlxdzpanmn4qouucvua3k7neniwss47li5r6ugoertzuq",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		addr, err := transport.Parse(s)
		if err != nil {
			if ae := (*transport.AddrError)(nil); !errors.As(err, &ae) {
				t.Fatalf("%q: not an AddrError: %v", s, err)
			}
			return
		}
		text := addr.String()
		again, err := transport.Parse(text)
		if err != nil || !again.Equal(addr) || again.String() != text || len(text) > transport.MaxAddr {
			t.Fatalf("%q printed as %q parses to %v, %v", s, text, again, err)
		}
		if wire, err := multiaddr.NewMultiaddrBytes(addr.Bytes()); err != nil || !wire.Equal(addr) {
			t.Fatalf("%q: its bytes parse to %v, %v", s, wire, err)
		}
		transport.NetworkGroup(addr)
		_, _, _, _ = transport.HostPort(addr)
		if base, id, ok, err := transport.SplitPeer(addr); err != nil || ok && !transport.WithPeer(base, id).Equal(addr) {
			t.Fatalf("SplitPeer(%v) = %v, %v, %v, %v", addr, base, id, ok, err)
		}
		if relay, id, ok, err := transport.SplitCircuit(addr); err == nil && ok {
			if back, err := transport.Circuit(relay, id); err != nil || !back.Equal(addr) {
				t.Fatalf("Circuit(%v, %v) = %v, %v; want %v", relay, id, back, err, addr)
			}
		}
	})
}

func TestSplitPeer(t *testing.T) {
	base := parse(t, "/ip4/192.0.2.1/tcp/80/ws")
	full := transport.WithPeer(base, alice)
	if got, want := full.String(), "/ip4/192.0.2.1/tcp/80/ws/p2p/"+alice.PeerID(); got != want {
		t.Fatalf("WithPeer = %s, want %s", got, want)
	}
	if got, id, ok, err := transport.SplitPeer(full); err != nil || !ok || id != alice || !got.Equal(base) {
		t.Errorf("SplitPeer(%v) = %v, %v, %v, %v", full, got, id, ok, err)
	}
	if got, _, ok, err := transport.SplitPeer(base); err != nil || ok || !got.Equal(base) {
		t.Errorf("SplitPeer without an ID = %v, %v, %v", got, ok, err)
	}
	if got, id, ok, err := transport.SplitPeer(transport.WithPeer(nil, bob)); err != nil || !ok || id != bob || len(got) != 0 {
		t.Errorf("SplitPeer of an ID alone = %v, %v, %v, %v", got, id, ok, err)
	}
	// One base with two peers: neither may write into the other.
	split, _, _, _ := transport.SplitPeer(full)
	if other := transport.WithPeer(split, bob); full[len(full)-1].Value() != alice.PeerID() {
		t.Errorf("WithPeer wrote %v over its base", other)
	}
	foreign := multiaddr.StringCast("/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N")
	if _, _, ok, err := transport.SplitPeer(foreign); ok || err == nil {
		t.Errorf("SplitPeer took an ID that is no Ed25519 key")
	}
}

func TestCircuit(t *testing.T) {
	relay := transport.WithPeer(parse(t, "/dns/r.example.org/tcp/443/wss"), alice)
	addr, err := transport.Circuit(relay, bob)
	if err != nil {
		t.Fatal(err)
	}
	if want := relay.String() + "/p2p-circuit/p2p/" + bob.PeerID(); addr.String() != want {
		t.Fatalf("Circuit = %v, want %v", addr, want)
	}
	gotRelay, target, ok, err := transport.SplitCircuit(addr)
	if err != nil || !ok || target != bob || !gotRelay.Equal(relay) {
		t.Errorf("SplitCircuit(%v) = %v, %v, %v, %v", addr, gotRelay, target, ok, err)
	}
	twice, err := transport.Circuit(addr, alice)
	if err != nil {
		t.Fatal(err)
	}
	if first, target, ok, err := transport.SplitCircuit(twice); err != nil || !ok || target != alice || !first.Equal(addr) {
		t.Errorf("SplitCircuit of two relays = %v, %v, %v, %v", first, target, ok, err)
	}
	if _, _, ok, err := transport.SplitCircuit(relay); ok || err != nil {
		t.Errorf("SplitCircuit without a circuit = %v, %v", ok, err)
	}
	foreign := multiaddr.StringCast("/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N")
	for _, relay := range []multiaddr.Multiaddr{nil, parse(t, "/ip4/1.2.3.4/tcp/80"), foreign} {
		if addr, err := transport.Circuit(relay, bob); err == nil {
			t.Errorf("Circuit(%v) = %v: a relay without an ID", relay, addr)
		}
	}
	for _, s := range []string{
		"/p2p-circuit/p2p/" + bob.PeerID(),
		"/ip4/1.2.3.4/tcp/80/p2p-circuit/p2p/" + bob.PeerID(),
		"/p2p/" + alice.PeerID() + "/p2p-circuit",
		"/p2p/" + alice.PeerID() + "/p2p-circuit/ws/p2p/" + bob.PeerID(),
		foreign.String() + "/p2p-circuit/p2p/" + bob.PeerID(),
		"/p2p/" + bob.PeerID() + "/p2p-circuit" + foreign.String(),
	} {
		addr := multiaddr.StringCast(s)
		if _, _, ok, err := transport.SplitCircuit(addr); ok || err == nil {
			t.Errorf("SplitCircuit(%v) = %v, %v; want an error", s, ok, err)
		}
	}
}

func TestNetworkGroup(t *testing.T) {
	for in, want := range map[string]string{
		"/ip4/192.0.2.1/tcp/80":        "192.0.0.0/16",
		"/ip6/2001:db8:1:2::1/tcp/80":  "2001:db8::/32",
		"/ip6/::ffff:192.0.2.1/tcp/80": "192.0.0.0/16",
		"/dns4/a.B.Example.ORG/tcp/80": "example.org",
		"/dns/localhost/tcp/80":        "localhost",
		"/memory/1":                    "",
		"/p2p/" + alice.PeerID():       "",
		"/ip4/10.1.2.3/tcp/1/p2p/" + alice.PeerID() + "/p2p-circuit/p2p/" + bob.PeerID(): "10.1.0.0/16",
	} {
		if got := transport.NetworkGroup(parse(t, in)); got != want {
			t.Errorf("NetworkGroup(%s) = %q, want %q", in, got, want)
		}
	}
	if got := transport.NetworkGroup(nil); got != "" {
		t.Errorf("NetworkGroup(nil) = %q", got)
	}
}

func TestHostPort(t *testing.T) {
	for _, tt := range []struct{ in, network, hostport, rest string }{
		{"/ip4/192.0.2.1/tcp/80", "tcp4", "192.0.2.1:80", ""},
		{"/ip6/2001:db8::1/tcp/80/ws", "tcp6", "[2001:db8::1]:80", "/ws"},
		{"/ip6/::ffff:192.0.2.1/tcp/80", "tcp4", "192.0.2.1:80", ""},
		{"/dns/example.org/tcp/0/tls/ws", "tcp", "example.org:0", "/tls/ws"},
		{"/dns4/example.org/tcp/1", "tcp4", "example.org:1", ""},
		{"/dns6/example.org/tcp/1", "tcp6", "example.org:1", ""},
	} {
		network, hostport, rest, err := transport.HostPort(parse(t, tt.in))
		if err != nil || network != tt.network || hostport != tt.hostport || rest.String() != tt.rest {
			t.Errorf("HostPort(%s) = %s, %s, %v, %v", tt.in, network, hostport, rest, err)
		}
	}
	for _, in := range []multiaddr.Multiaddr{
		nil, multiaddr.StringCast("/ip4/1.2.3.4"), multiaddr.StringCast("/ip4/1.2.3.4/udp/1"),
		multiaddr.StringCast("/memory/1/tcp/1"), multiaddr.StringCast("/dns/a:b@c/tcp/1"),
	} {
		if _, got, _, err := transport.HostPort(in); err == nil {
			t.Errorf("HostPort(%v) = %s", in, got)
		}
	}
}

func TestFromTCP(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1:80":           "/ip4/192.0.2.1/tcp/80",
		"[::]:1":                 "/ip6/::/tcp/1",
		"[fe80::1%eth0]:1":       "/ip6/fe80::1/tcp/1",
		"[::ffff:192.0.2.1]:443": "/ip4/192.0.2.1/tcp/443",
	} {
		if got := transport.FromTCP(netip.MustParseAddrPort(in)).String(); got != want {
			t.Errorf("FromTCP(%s) = %s, want %s", in, got, want)
		}
	}
}

// The zero ID and the zero socket name nothing: to print them is a mistake of the caller's.
func TestPanics(t *testing.T) {
	for name, f := range map[string]func(){
		"zero ID":     func() { transport.WithPeer(nil, identity.ID{}) },
		"zero socket": func() { transport.FromTCP(netip.AddrPort{}) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}
