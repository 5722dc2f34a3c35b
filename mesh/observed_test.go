package mesh

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/internal/session"
	directory "github.com/splitmesh/splitmesh/registry/memory"
	"github.com/splitmesh/splitmesh/splitter"
)

// TestAgreed: what one network says is not believed, nor what fewer say than say
// otherwise, nor an address that is nobody's.
func TestAgreed(t *testing.T) {
	says := func(network, host string, ports ...string) observation {
		o := observation{network: network, host: netip.MustParseAddr(host)}
		for _, p := range ports {
			o.reached = append(o.reached, withHost(multiaddr.StringCast("/ip4/0.0.0.0/tcp/"+p), o.host))
		}
		return o
	}
	for name, tt := range map[string]struct {
		said []observation
		want []string
	}{
		"nobody":              {},
		"one":                 {said: []observation{says("a", "203.0.113.1", "1")}},
		"one network":         {said: []observation{says("a", "203.0.113.1", "1"), says("a", "203.0.113.1", "1")}},
		"two networks":        {said: []observation{says("a", "203.0.113.1", "1", "2"), says("b", "203.0.113.1", "1")}, want: []string{"/ip4/203.0.113.1/tcp/1"}},
		"seen, not reached":   {said: []observation{says("a", "203.0.113.1"), says("b", "203.0.113.1")}},
		"outvoted":            {said: []observation{says("a", "203.0.113.1", "1"), says("b", "203.0.113.1", "1"), says("c", "203.0.113.2"), says("d", "203.0.113.2")}},
		"other family":        {said: []observation{says("a", "203.0.113.1", "1"), says("b", "203.0.113.1", "1"), says("c", "2001:db8::1"), says("d", "2001:db8::1")}, want: []string{"/ip4/203.0.113.1/tcp/1"}},
		"both families":       {said: []observation{says("a", "203.0.113.1", "1"), says("b", "203.0.113.1", "1"), says("c", "2001:db8::1", "1"), says("d", "2001:db8::1", "1")}, want: []string{"/ip4/203.0.113.1/tcp/1", "/ip6/2001:db8::1/tcp/1"}},
		"loopback":            {said: []observation{says("a", "127.0.0.1", "1"), says("b", "127.0.0.1", "1")}},
		"unspecified":         {said: []observation{says("a", "0.0.0.0", "1"), says("b", "0.0.0.0", "1")}},
		"multicast":           {said: []observation{says("a", "224.0.0.1", "1"), says("b", "224.0.0.1", "1")}},
		"link-local":          {said: []observation{says("a", "fe80::1", "1"), says("b", "fe80::1", "1")}},
		"elsewhere than seen": {said: []observation{{network: "a", host: netip.MustParseAddr("203.0.113.1"), reached: []multiaddr.Multiaddr{multiaddr.StringCast("/ip4/198.51.100.1/tcp/1")}}, {network: "b", host: netip.MustParseAddr("203.0.113.1"), reached: []multiaddr.Multiaddr{multiaddr.StringCast("/ip4/198.51.100.1/tcp/1")}}}},
	} {
		seen := make(map[identity.ID]observation)
		for i, o := range tt.said {
			seen[identity.ID{byte(i)}] = o
		}
		var got []string
		for _, a := range agreed(seen) {
			got = append(got, a.String())
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q; want %q", name, got, tt.want)
		}
	}
}

// TestCallers: a peer can't make a node call again at once, and all together not more
// than it has room for.
func TestCallers(t *testing.T) {
	var c callers
	now := time.Now()
	peer := func(i int) identity.ID { return identity.ID{byte(i), byte(i >> 8)} }
	if !c.enter(peer(0), now) || c.enter(peer(0), now.Add(callEvery-1)) {
		t.Error("called twice in a row")
	}
	c.leave()
	if !c.enter(peer(0), now.Add(callEvery)) {
		t.Error("never called again")
	}
	c.leave()
	for i := 1; i <= maxCalls; i++ {
		if !c.enter(peer(i), now) {
			t.Fatal("not even", i, "at once")
		}
	}
	if c.enter(peer(maxCalls+1), now) {
		t.Error("more than", maxCalls, "at once")
	}
	for range maxCalls {
		c.leave()
	}
	for i := range 2 * maxCalled {
		if c.enter(peer(1000+i), now) {
			c.leave()
		}
	}
	if len(c.last) > maxCalled {
		t.Errorf("%d peers are remembered", len(c.last))
	}
}

// TestCallable: who asks can't point a node at other protocols.
func TestCallable(t *testing.T) {
	for s, want := range map[string]bool{
		"/ip4/203.0.113.1/tcp/4001": true, "/ip6/2001:db8::1/tcp/443/tls/ws": true, "/ip4/203.0.113.1/tcp/80/ws": true,
		"/ip4/203.0.113.1/tcp/25": false, "/ip4/203.0.113.1/tcp/22/ws": false, "/ip4/203.0.113.1/udp/4001": false, "/ip4/203.0.113.1": false,
	} {
		if got := callable(multiaddr.StringCast(s)); got != want {
			t.Errorf("%s: %v", s, got)
		}
	}
}

func FuzzObserveAddrs(f *testing.F) {
	entry := func(b []byte, s string) []byte {
		a := multiaddr.StringCast(s).Bytes()
		return append(binary.BigEndian.AppendUint16(b, uint16(len(a))), a...)
	}
	f.Add([]byte{})
	f.Add(entry(entry(nil, "/ip4/0.0.0.0/tcp/4001"), "/ip6/::/tcp/4002/ws"))
	f.Add(entry(nil, "/dns/example.org/tcp/1"))
	f.Add([]byte{0})
	f.Add([]byte{0, 9, 4})
	f.Add(bytes.Repeat(entry(nil, "/ip4/0.0.0.0/tcp/4001"), 5))
	f.Fuzz(func(t *testing.T, b []byte) {
		addrs, err := observeAddrs(b)
		if err != nil {
			return
		}
		if len(addrs) > maxObserved || len(b) > maxObserveBody {
			t.Errorf("%d addresses of %d bytes", len(addrs), len(b))
		}
		for _, a := range addrs {
			if c := withHost(a, netip.MustParseAddr("203.0.113.1")); callable(c) {
				if host, ok := hostOf(c); !ok || host != netip.MustParseAddr("203.0.113.1") {
					t.Errorf("%s is called instead of the peer", c)
				}
			}
		}
	})
}

// TestObserveCallsNoNeighbours: who comes from a host that is not public learns that, and
// has nobody called there: it may stand behind a proxy of the observer's.
func TestObserveCallsNoNeighbours(t *testing.T) {
	loopback := multiaddr.StringCast("/ip4/127.0.0.1/tcp/0")
	observer, n := &Node{ListenAddrs: []multiaddr.Multiaddr{loopback}}, &Node{ListenAddrs: []multiaddr.Multiaddr{loopback}}
	for _, node := range []*Node{observer, n} {
		defer node.Close()
		if err := node.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	s, err := n.session(t.Context(), plainKey(observer.id), demand{hopPolicy, 1}, observer.Addrs()...)
	if err != nil {
		t.Fatal(err)
	}
	o, err := n.askObserver(s, "a", []multiaddr.Multiaddr{n.arrivals[0].Multiaddr()})
	if err != nil || o.host != netip.MustParseAddr("127.0.0.1") || len(o.reached) != 0 {
		t.Errorf("%+v, %v", o, err)
	}
	for host, want := range map[string]bool{"203.0.113.1": true, "2001:db8::1": true, "127.0.0.1": false, "::1": false, "172.17.0.1": false, "100.64.0.1": false, "169.254.169.254": false, "fd00::1": false} {
		if public(netip.MustParseAddr(host)) != want {
			t.Error(host)
		}
	}
}

// TestTellsWhere: a node that accepts only what comes over relays does not look for an
// address to publish.
func TestTellsWhere(t *testing.T) {
	for want, n := range map[bool]*Node{
		true:  {Directory: directory.New()},
		false: {Directory: directory.New(), Split: splitter.Policy{Purpose: splitter.Secrecy, K: 2, N: 3}},
	} {
		n.init()
		if n.tellsWhere() != want {
			t.Error("not", want)
		}
	}
}

// TestQuestionIsDue: who has moved asks those with whom it has a new session, as soon as
// they heed it.
func TestQuestionIsDue(t *testing.T) {
	now := time.Now()
	old, s := new(session.Session), new(session.Session)
	q := question{old, now}
	for _, tt := range []struct {
		s     *session.Session
		after time.Duration
		want  bool
	}{{old, callEvery, false}, {old, observeAgain, true}, {s, callEvery - 1, false}, {s, callEvery, true}} {
		if got := q.due(tt.s, now.Add(tt.after)); got != tt.want {
			t.Errorf("%+v: %v", tt, got)
		}
	}
}
