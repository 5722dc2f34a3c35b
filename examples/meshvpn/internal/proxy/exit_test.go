package proxy

import (
	"net/netip"
	"testing"
)

func TestMay(t *testing.T) {
	here := []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8"), netip.MustParsePrefix("192.168.7.1/24"), netip.MustParsePrefix("9.9.9.1/24"), netip.MustParsePrefix("2620:fe::1/64"), netip.MustParsePrefix("8.8.8.8/32")}
	e := &Exit{Nets: []netip.Prefix{netip.MustParsePrefix("192.168.7.0/24")}}
	for _, text := range []string{"1.1.1.1", "93.184.215.14", "2606:4700::1111", "::ffff:1.1.1.1", "192.168.7.9", "9.9.8.1", "2620:fe:0:1::1", "8.8.8.9", "::ffff:192.168.7.9"} {
		if !e.may(netip.MustParseAddr(text), here) {
			t.Error(text, "is not dialled")
		}
	}
	for _, text := range []string{
		"127.0.0.1", "127.8.9.1", "0.0.0.0", "0.1.2.3", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.0.1", "192.168.8.1", "169.254.169.254", "100.64.0.1", "100.127.255.255",
		"192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
		"::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::7f00:1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00::1", "fec0::1", "ff02::1",
		"64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "2002:a00:1::1", "3fff::1", "5f00::1",
		"192.168.7.1", "9.9.9.1", "9.9.9.9", "::ffff:9.9.9.1", "2620:fe::1", "2620:fe::fe", "8.8.8.8", // this machine, and its neighbours
	} {
		if e.may(netip.MustParseAddr(text), here) {
			t.Error(text, "is dialled")
		}
	}
}

// TestMayByNets: a network that was granted is no way into this machine, unless it names just that.
func TestMayByNets(t *testing.T) {
	here := []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8"), netip.MustParsePrefix("10.0.0.1/8"), netip.MustParsePrefix("fe80::1/64")}
	for _, tt := range []struct {
		net, addr string
		may       bool
	}{
		{"0.0.0.0/0", "10.1.1.1", true}, {"0.0.0.0/0", "127.0.0.1", false}, {"0.0.0.0/0", "10.0.0.1", false}, {"0.0.0.0/0", "169.254.169.254", false}, {"0.0.0.0/0", "0.0.0.0", false},
		{"::/0", "fd00::1", true}, {"::/0", "::1", false}, {"::/0", "fe80::2", false}, {"::/0", "::", false}, {"::/0", "::ffff:127.0.0.1", false},
		{"10.0.0.0/8", "10.0.0.2", true}, {"10.0.0.0/8", "10.0.0.1", false}, {"10.0.0.1/32", "10.0.0.1", true},
		{"127.0.0.0/8", "127.0.0.1", true}, {"127.0.0.2/32", "127.0.0.1", false}, {"126.0.0.0/7", "127.0.0.1", false},
		{"169.254.0.0/16", "169.254.169.254", true}, {"169.0.0.0/8", "169.254.169.254", false}, {"fe80::/10", "fe80::2", true}, {"::1/128", "::1", true},
	} {
		e := &Exit{Nets: []netip.Prefix{netip.MustParsePrefix(tt.net)}}
		if e.may(netip.MustParseAddr(tt.addr), here) != tt.may {
			t.Errorf("%s by %s: %v", tt.addr, tt.net, !tt.may)
		}
	}
}
