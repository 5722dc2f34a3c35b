package mesh

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/internal/session"
	"github.com/splitmesh/splitmesh/registry"
)

// TestRecordOfLongAddresses: relays with addresses that leave no room for others keep
// nobody from publishing, and honest ones are in the record beside them.
func TestRecordOfLongAddresses(t *testing.T) {
	long := multiaddr.StringCast("/ip4/203.0.113.1/tcp/443/tls/ws/http-path/" + strings.Repeat("x", 3900))
	for name, hostile := range map[string]multiaddr.Multiaddr{
		"long": long,
		"big":  multiaddr.StringCast("/ip4/203.0.113.1/tcp/443/tls/ws/http-path/" + strings.Repeat("x", 1400)),
		"many": multiaddr.StringCast("/ip4/203.0.113.1/tcp/1" + strings.Repeat("/ws", registry.MaxComponents-2)),
	} {
		n := new(Node)
		n.init()
		for i := range 3 {
			k, err := identity.GenerateKey()
			if err != nil {
				t.Fatal(err)
			}
			id := k.ID()
			rec := &registry.Record{ID: id, Addrs: []multiaddr.Multiaddr{hostile}}
			if i == 0 {
				rec.Addrs[0] = multiaddr.StringCast("/ip4/198.51.100.1/tcp/443")
			}
			n.found[id], n.reservations[id] = rec, new(session.Session)
		}
		rec, err := n.Record()
		if err != nil || len(rec.Addrs) != 1 {
			t.Errorf("%s: %v, %v", name, rec, err)
		}
		n.Bootstrap = []multiaddr.Multiaddr{long.Encapsulate(multiaddr.StringCast("/p2p/" + n.id.PeerID()))}
		n.reservations[n.id] = new(session.Session)
		if _, err := n.Record(); err != nil {
			t.Errorf("%s, and in Bootstrap: %v", name, err)
		}
	}
}

// TestFitting: own addresses, of which a machine with containers has many, leave room for
// those by which a node behind a translation is reached at all.
func TestFitting(t *testing.T) {
	several := func(n int, format string) (out []multiaddr.Multiaddr) {
		for i := range n {
			out = append(out, multiaddr.StringCast(fmt.Sprintf(format, i)))
		}
		return out
	}
	own, others := several(30, "/ip4/172.17.%d.1/tcp/1"), several(30, "/ip4/203.0.113.%d/tcp/1")
	for _, tt := range []struct{ own, others, wantOwn, wantOthers int }{
		{30, 0, 16, 0}, {0, 30, 0, 16}, {30, 3, 13, 3}, {30, 30, 8, 8}, {2, 30, 2, 14}, {1, 1, 1, 1},
	} {
		got := fitting(own[:tt.own], others[:tt.others])
		want := slices.Concat(own[:tt.wantOwn], others[:tt.wantOthers])
		if !slices.EqualFunc(got, want, func(a, b multiaddr.Multiaddr) bool { return a.Equal(b) }) {
			t.Errorf("%+v: %v", tt, got)
		}
	}
}

// TestClockThatWasAhead: a node that was started with a clock far ahead publishes once
// that is set right.
func TestClockThatWasAhead(t *testing.T) {
	n := new(Node)
	n.init()
	n.lastSequence = time.Now().Add(365 * 24 * time.Hour).UnixMilli()
	rec, err := n.Record()
	if err != nil {
		t.Fatal(err)
	}
	if err := rec.Check(time.Now()); err != nil {
		t.Error(err)
	}
	ahead := time.Now().Add(registry.MaxSkew / 2).UnixMilli()
	n.lastSequence = ahead
	if rec, err := n.Record(); err != nil || rec.Sequence != ahead+1 {
		t.Error(rec, err)
	}
}
