package mdns

import (
	"net/netip"
	"testing"
)

// Only what was sent to all on the link, from it, and by a responder.
func TestAcceptable(t *testing.T) {
	own := []netip.Prefix{netip.MustParsePrefix("192.0.2.7/24"), netip.MustParsePrefix("2001:db8::7/64")}
	v4, v6 := link{3, false}, link{3, true}
	for _, tc := range []struct {
		what string
		link link
		from string
		to   string
		ifi  int
		hops int
		want bool
	}{
		{"from the network", v4, "192.0.2.9:5353", "224.0.0.251", 3, 255, true},
		{"by itself", v4, "192.0.2.7:5353", "224.0.0.251", 3, 255, true},
		{"with nothing told", v4, "192.0.2.9:5353", "", 0, 0, true},
		{"link-local", v4, "169.254.1.1:5353", "224.0.0.251", 3, 255, true},
		{"from elsewhere", v4, "198.51.100.1:5353", "224.0.0.251", 3, 255, false},
		{"from elsewhere, with nothing told", v4, "198.51.100.1:5353", "", 0, 0, false},
		{"routed", v4, "192.0.2.9:5353", "224.0.0.251", 3, 254, false},
		{"to one", v4, "192.0.2.9:5353", "192.0.2.7", 3, 255, false},
		{"to another group", v4, "192.0.2.9:5353", "224.0.0.1", 3, 255, false},
		{"by another interface", v4, "192.0.2.9:5353", "224.0.0.251", 4, 255, false},
		{"by a legacy resolver", v4, "192.0.2.9:40000", "224.0.0.251", 3, 255, false},
		{"from the network, IPv6", v6, "[2001:db8::9]:5353", "ff02::fb", 3, 255, true},
		{"link-local, IPv6", v6, "[fe80::9]:5353", "ff02::fb", 3, 255, true},
		{"from elsewhere, IPv6", v6, "[2001:db8:1::9]:5353", "ff02::fb", 3, 255, false},
		{"routed, IPv6", v6, "[fe80::9]:5353", "ff02::fb", 3, 64, false},
		{"to the other group", v6, "[fe80::9]:5353", "224.0.0.251", 3, 255, false},
	} {
		a := arrival{from: netip.MustParseAddrPort(tc.from), index: tc.ifi, hops: tc.hops}
		if tc.to != "" {
			a.to = netip.MustParseAddr(tc.to)
		}
		if got := a.acceptable(tc.link, own); got != tc.want {
			t.Errorf("%s: %v", tc.what, got)
		}
	}
	if (arrival{}).acceptable(v4, own) {
		t.Error("from nobody")
	}
}
