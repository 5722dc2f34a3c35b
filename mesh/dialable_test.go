package mesh

import (
	"errors"
	"net"
	"slices"
	"testing"

	"github.com/multiformats/go-multiaddr"
)

// TestWorthDialling: who is on the Internet has us dial no private network but our own.
func TestWorthDialling(t *testing.T) {
	ip, n, err := net.ParseCIDR("192.168.1.7/24")
	if err != nil {
		t.Fatal(err)
	}
	here := func() ([]net.Addr, error) { return []net.Addr{&net.IPNet{IP: ip, Mask: n.Mask}}, nil }
	const public = "/ip4/198.51.100.7/tcp/1"
	for _, tt := range []struct{ addrs, want []string }{
		{nil, nil},
		{[]string{"/ip4/10.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/1"}, []string{"/ip4/10.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/1"}}, // all are
		{[]string{"/ip4/10.0.0.1/tcp/1", public}, []string{public}},
		{[]string{"/ip4/192.168.1.1/tcp/1", public}, []string{"/ip4/192.168.1.1/tcp/1", public}},
		{[]string{"/ip4/127.0.0.1/tcp/1", "/ip4/0.0.0.0/tcp/1", "/ip4/169.254.169.254/tcp/1", "/ip6/::1/tcp/1", "/ip6/fe80::1/tcp/1", "/ip6/fd00::1/tcp/1", "/ip4/224.0.0.1/tcp/1", public}, []string{public}},
		{[]string{"/dns/example.org/tcp/1", "/ip4/10.0.0.1/tcp/1"}, []string{"/dns/example.org/tcp/1"}},
		{[]string{"/memory/1", "/memory/2"}, []string{"/memory/1", "/memory/2"}},
	} {
		var addrs []multiaddr.Multiaddr
		for _, s := range tt.addrs {
			addrs = append(addrs, multiaddr.StringCast(s))
		}
		var got []string
		for _, a := range worthDialling(addrs, here) {
			got = append(got, a.String())
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%q: %q, want %q", tt.addrs, got, tt.want)
		}
	}
}

func TestDialable(t *testing.T) {
	var of []net.Addr
	for _, s := range []string{"127.0.0.1/8", "10.0.0.7/24", "198.51.100.7/24", "169.254.1.2/16", "::1/128", "fe80::1/64", "fd00::7/64", "2001:db8::7/64"} {
		ip, n, err := net.ParseCIDR(s)
		if err != nil {
			t.Fatal(err)
		}
		of = append(of, &net.IPNet{IP: ip, Mask: n.Mask})
	}
	for _, tt := range []struct {
		addr string
		want []string
	}{
		{"/ip4/192.0.2.1/tcp/1/ws", []string{"/ip4/192.0.2.1/tcp/1/ws"}},
		{"/ip4/127.0.0.1/tcp/1/ws", []string{"/ip4/127.0.0.1/tcp/1/ws"}},
		{"/dns/example.org/tcp/1/wss", []string{"/dns/example.org/tcp/1/wss"}},
		{"/ip4/0.0.0.0/tcp/1/ws", []string{"/ip4/198.51.100.7/tcp/1/ws", "/ip4/10.0.0.7/tcp/1/ws"}},
		{"/ip6/::/tcp/1", []string{"/ip4/198.51.100.7/tcp/1", "/ip6/2001:db8::7/tcp/1", "/ip4/10.0.0.7/tcp/1", "/ip6/fd00::7/tcp/1"}},
	} {
		var got []string
		for _, a := range dialable(multiaddr.StringCast(tt.addr), func() ([]net.Addr, error) { return of, nil }) {
			got = append(got, a.String())
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q; want %q", tt.addr, got, tt.want)
		}
	}
	if got := dialable(multiaddr.StringCast("/ip4/0.0.0.0/tcp/1"), func() ([]net.Addr, error) { return nil, errors.New("no") }); len(got) != 0 {
		t.Errorf("without interfaces: %v", got)
	}
}

func TestInterleaved(t *testing.T) {
	for _, tt := range []struct{ in, want []string }{
		{nil, nil},
		{[]string{"/ip4/192.0.2.1"}, []string{"/ip4/192.0.2.1"}},
		{
			[]string{"/ip6/2001:db8::1", "/ip6/2001:db8::2", "/ip6/2001:db8::3", "/ip4/192.0.2.1"},
			[]string{"/ip6/2001:db8::1", "/ip4/192.0.2.1", "/ip6/2001:db8::2", "/ip6/2001:db8::3"},
		},
		{
			[]string{"/ip4/192.0.2.1", "/ip4/192.0.2.2", "/ip6/2001:db8::1", "/dns/example.org", "/ip6/2001:db8::2"},
			[]string{"/ip4/192.0.2.1", "/ip6/2001:db8::1", "/ip4/192.0.2.2", "/ip6/2001:db8::2", "/dns/example.org"},
		},
		{[]string{"/dns/a.example", "/ip6/::ffff:192.0.2.1", "/ip6/2001:db8::1"}, []string{"/dns/a.example", "/ip6/2001:db8::1", "/ip6/::ffff:192.0.2.1"}},
	} {
		var routes []route
		for _, a := range tt.in {
			routes = append(routes, route{addr: multiaddr.StringCast(a + "/tcp/1")})
		}
		var got []string
		for _, r := range interleaved(routes) {
			got = append(got, r.addr.String()[:len(r.addr.String())-len("/tcp/1")])
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%q became %q; want %q", tt.in, got, tt.want)
		}
	}
}
