package kad

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
)

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func newKey(t testing.TB) *identity.Key {
	t.Helper()
	k, err := identity.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func signed(t testing.TB, k *identity.Key, at time.Time, change func(*registry.Record)) *registry.Record {
	t.Helper()
	a, err := multiaddr.NewMultiaddr("/ip4/192.0.2.1/tcp/443/wss")
	if err != nil {
		t.Fatal(err)
	}
	r := &registry.Record{
		Sequence: at.UnixMilli(), Expires: at.Add(time.Hour).UnixMilli(),
		Addrs: []multiaddr.Multiaddr{a}, Capabilities: []string{registry.CapDHTServer},
	}
	if change != nil {
		change(r)
	}
	if err := r.Sign(k); err != nil {
		t.Fatal(err)
	}
	return r
}

// made is a contact that nobody signed for, which these tests need many of.
func made(rng *rand.Rand, key Key, network int) *Contact {
	var id identity.ID
	for i := range id {
		id[i] = byte(rng.Uint32())
	}
	g := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(network >> 8), byte(network), 0}), 24)
	return &Contact{ID: id, Key: key, Group: g, Record: &registry.Record{ID: id, Sequence: 1}}
}

func anyKey(rng *rand.Rand) (k Key) {
	for i := range k {
		k[i] = byte(rng.Uint32())
	}
	return k
}

func TestKeys(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		k, n := anyKey(rng), rng.IntN(256)
		near := within(k, n, anyKey(rng))
		if got := Common(k, near); got != n {
			t.Fatalf("%d bits in common; want %d", got, n)
		}
		far := anyKey(rng)
		if Common(k, far) < n && k.Compare(near, far) != -1 {
			t.Fatal("who has more in common is not closer")
		}
	}
	k := anyKey(rng)
	if Common(k, k) != 256 || within(k, 256, anyKey(rng)) != k || k.Compare(k, k) != 0 {
		t.Error("a key and itself")
	}
	a, b := newKey(t).ID(), newKey(t).ID()
	if PeerKey(a) == PeerKey(b) || PeerKey(a) == Key(a) || CapabilityKey("relay") == CapabilityKey("exit") {
		t.Error("keys that ought to differ are alike")
	}
}

func TestContacts(t *testing.T) {
	k := newKey(t)
	for _, tt := range []struct {
		addrs []string
		want  string // the network; "" for none
	}{
		{[]string{"/ip4/192.0.2.77/tcp/443/wss"}, "192.0.2.0/24"},
		{[]string{"/dns/example.org/tcp/1", "/ip4/192.0.2.77/tcp/1"}, "192.0.2.0/24"},
		{[]string{"/ip6/2001:db8:1:2::3/tcp/1"}, "2001:db8:1::/48"},
		{[]string{"/ip6/::ffff:192.0.2.7/tcp/1"}, "192.0.2.0/24"},
		{[]string{"/ip6/64:ff9b::c000:207/tcp/1"}, "192.0.2.0/24"},
		{[]string{"/ip6/2002:c000:207::1/tcp/1"}, "192.0.2.0/24"},
		{[]string{"/dns/example.org/tcp/1"}, ""},
		{[]string{"/ip4/192.0.2.7/tcp/1/p2p/" + newKey(t).ID().PeerID() + "/p2p-circuit"}, ""},
		{nil, ""},
	} {
		r := signed(t, k, noon, func(r *registry.Record) {
			r.Addrs = nil
			for _, s := range tt.addrs {
				a, err := multiaddr.NewMultiaddr(s)
				if err != nil {
					t.Fatal(err)
				}
				r.Addrs = append(r.Addrs, a)
			}
		})
		c, err := NewContact(r)
		if err != nil || c.ID != k.ID() || c.Key != PeerKey(k.ID()) {
			t.Fatalf("%v: %+v, %v", tt.addrs, c, err)
		}
		if got := c.Group; got.IsValid() != (tt.want != "") || got.IsValid() && got.String() != tt.want {
			t.Errorf("%v is in %v; want %s", tt.addrs, got, tt.want)
		}
	}
	for _, change := range []func(*registry.Record){
		func(r *registry.Record) { r.Capabilities = []string{registry.CapRelay} },
		func(r *registry.Record) { r.Addrs, r.Capabilities, r.Revoked = nil, nil, true },
	} {
		if _, err := NewContact(signed(t, k, noon, change)); !errors.Is(err, errNoServer) {
			t.Errorf("error is %v; want errNoServer", err)
		}
	}
	private := signed(t, k, noon, func(r *registry.Record) {
		a, _ := multiaddr.NewMultiaddr("/ip4/10.1.2.3/tcp/1")
		r.Addrs = []multiaddr.Multiaddr{a}
	})
	if got := PrivateGroupOf(private.Addrs).String(); got != "10.1.2.3/32" {
		t.Errorf("a private address is in %s", got)
	}
	if got := PrivateGroupOf(signed(t, k, noon, nil).Addrs).String(); got != "192.0.2.0/24" {
		t.Errorf("a public address is in %s", got)
	}
}

func TestPublicAndLocal(t *testing.T) {
	relayed := "/p2p/" + newKey(t).ID().PeerID() + "/p2p-circuit"
	for _, tt := range []struct {
		addrs         []string
		public, local bool
	}{
		{[]string{"/ip4/192.0.2.1/tcp/1", "/ip6/2001:db8::1/tcp/1", "/dns/example.org/tcp/1"}, true, false},
		{[]string{"/ip4/192.0.2.1/tcp/1", "/ip4/10.0.0.1/tcp/1"}, true, false},
		{[]string{"/ip4/10.0.0.1/tcp/1", "/ip4/192.168.0.1/tcp/1", "/ip6/fd00::1/tcp/1"}, false, true},
		{[]string{"/ip4/127.0.0.1/tcp/1"}, false, true},
		{[]string{"/ip6/::1/tcp/1"}, false, true},
		{[]string{"/ip6/::ffff:127.0.0.1/tcp/1"}, false, true},
		{[]string{"/ip6/64:ff9b::a00:1/tcp/1"}, false, true},
		{[]string{"/ip6/2002:a00:1::/tcp/1"}, false, true},
		{[]string{"/ip4/169.254.1.1/tcp/1"}, false, true},
		{[]string{"/ip6/fe80::1/tcp/1"}, false, true},
		{[]string{"/ip6zone/eth0/ip6/fe80::1/tcp/1"}, false, false},
		{[]string{"/ip4/0.0.0.0/tcp/1"}, false, true},
		{[]string{"/ip4/100.64.0.1/tcp/1"}, false, true},
		{[]string{"/ip4/224.0.0.1/tcp/1"}, false, true},
		{[]string{"/ip4/192.0.2.1/tcp/1" + relayed}, true, false},
		{[]string{"/ip4/10.0.0.1/tcp/1" + relayed}, false, false},
		{[]string{"/ip4/10.0.0.1/tcp/1", "/ip4/192.0.2.1/tcp/1" + relayed}, true, false},
		{nil, true, false},
	} {
		var addrs []multiaddr.Multiaddr
		for _, s := range tt.addrs {
			a, err := multiaddr.NewMultiaddr(s)
			if err != nil {
				t.Fatal(err)
			}
			addrs = append(addrs, a)
		}
		if Public(addrs) != tt.public || Local(addrs) != tt.local {
			t.Errorf("%v: public %v, local %v", tt.addrs, Public(addrs), Local(addrs))
		}
	}
}

// Who was met is counted to where that was, and to none if its record does not go with it.
func TestMet(t *testing.T) {
	for _, tt := range []struct {
		addr, host string
		dialled    bool
		want       string // the network; "no" for who is not counted
	}{
		{"/ip4/198.51.100.7/tcp/1", "198.51.100.9", false, "198.51.100.0/24"},
		{"/ip4/198.51.100.7/tcp/1", "203.0.113.9", false, "no"},
		{"/ip4/198.51.100.7/tcp/1", "203.0.113.9", true, "203.0.113.0/24"},
		{"/dns/example.org/tcp/1", "203.0.113.9", false, "no"},
		{"/dns/example.org/tcp/1", "203.0.113.9", true, "203.0.113.0/24"},
		{"/ip4/198.51.100.7/tcp/1", "", false, "no"},
		{"/ip4/198.51.100.7/tcp/1", "10.0.0.1", false, "no"},
		{"/ip4/10.1.2.3/tcp/1", "10.0.0.1", false, "10.1.2.0/24"},
		{"/ip6/2001:db8:1::1/tcp/1", "2001:db8:1:ffff::2", false, "2001:db8:1::/48"},
		{"/memory/1", "", false, "invalid Prefix"},
	} {
		c, err := NewContact(signed(t, newKey(t), noon, func(r *registry.Record) {
			r.Addrs, r.Capabilities = []multiaddr.Multiaddr{multiaddr.StringCast(tt.addr)}, []string{registry.CapDHTServer}
		}))
		if err != nil {
			t.Fatal(err)
		}
		var host netip.Addr
		if tt.host != "" {
			host = netip.MustParseAddr(tt.host)
		}
		got := "no"
		if met := c.Met(host, tt.dialled); met != nil {
			got = met.Group.String()
		}
		if got != tt.want {
			t.Errorf("%+v: %s", tt, got)
		}
	}
}

func TestTableIsBounded(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	self := anyKey(rng)
	tab := NewTable(self)
	for i := range 5000 {
		tab.Answered(made(rng, anyKey(rng), i), noon)
	}
	if tab.Answered(made(rng, self, 9999), noon) {
		t.Error("self is in its own table")
	}
	perBucket := make(map[int]int)
	for _, c := range tab.Contacts() {
		perBucket[Common(self, c.Key)]++
	}
	for i, n := range perBucket {
		if n > K {
			t.Errorf("bucket %d holds %d", i, n)
		}
	}
	if tab.Len() != len(tab.Contacts()) || tab.Len() < 8*K {
		t.Errorf("Len is %d, of %d contacts", tab.Len(), len(tab.Contacts()))
	}
	// The closest of those in the table, for targets near and far.
	for range 100 {
		target := anyKey(rng)
		if rng.IntN(2) == 0 {
			target = within(self, rng.IntN(20), target)
		}
		want := tab.Contacts()
		Sort(target, want)
		for _, n := range []int{1, 7, K, 2 * K, 10_000} {
			if got := tab.Closest(target, n); !slices.Equal(got, want[:min(n, len(want))]) {
				t.Fatalf("Closest(%d) is not the closest", n)
			}
		}
		closer := 0
		for _, c := range want {
			if target.Compare(c.Key, self) < 0 {
				closer++
			}
		}
		if got := tab.Closer(target); got != closer {
			t.Fatalf("Closer is %d; want %d", got, closer)
		}
	}
	if got := tab.Closest(self, 3); len(got) != 3 {
		t.Errorf("%d contacts closest to self", len(got))
	}
}

// Who is there stays; one that does not answer any more is replaced by one that did.
func TestTableKeepsTheOld(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	self := anyKey(rng)
	tab := NewTable(self)
	far := func(i int) *Contact { return made(rng, within(self, 0, anyKey(rng)), i) }
	var old []*Contact
	for i := range K {
		old = append(old, far(i))
		if tab.Has(old[i].Key) || !tab.Wants(old[i]) || !tab.Answered(old[i], noon) || tab.Wants(old[i]) || !tab.Has(old[i].Key) {
			t.Fatal("there is room, and then there is not")
		}
	}
	var late []*Contact
	for i := range 2 * spares {
		late = append(late, far(100+i))
		if tab.Answered(late[i], noon.Add(time.Hour)) {
			t.Fatal("a newcomer is taken into a full bucket")
		}
	}
	if tab.Wants(far(500)) || !slices.Equal(tab.Contacts(), old) {
		t.Fatal("the old are not all there")
	}
	tab.Failed(old[3])
	tab.Answered(old[3], noon) // it is back
	tab.Failed(old[3])
	if !slices.Contains(tab.Contacts(), old[3]) {
		t.Fatal("gone after failures that were not in a row")
	}
	tab.Failed(late[2*spares-1]) // the last spare, which is forgotten
	tab.Failed(old[3])
	if got := tab.Contacts(); slices.Contains(got, old[3]) || !slices.Contains(got, late[2*spares-2]) || len(got) != K {
		t.Fatal("not replaced by the one that answered last")
	}
	tab.Failed(far(1000)) // of whom nobody knew
	tab.Failed(made(rng, self, 1))
	if !tab.Answered(old[4], noon.Add(2*time.Hour)) {
		t.Error("who is in the table is not")
	}
	if due := tab.Questionable(noon.Add(questionable), 3); len(due) != 3 || slices.Contains(due, old[4]) {
		t.Errorf("%d are questionable", len(due))
	}
	if due := tab.Questionable(noon.Add(questionable-1), 99); len(due) != 0 {
		t.Errorf("%d are questionable already", len(due))
	}
}

func TestTableOfFewNetworks(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	self := anyKey(rng)
	tab := NewTable(self)
	for range 3000 {
		tab.Answered(made(rng, anyKey(rng), rng.IntN(3)), noon)
	}
	in := make(map[string]int)
	for _, c := range tab.Contacts() {
		in[c.Group.String()]++
		in[fmt.Sprint(c.Group, Common(self, c.Key))]++
	}
	for g, n := range in {
		if most := map[bool]int{true: MaxGroupTable, false: MaxGroup}[strings.HasSuffix(g, "/24")]; n > most {
			t.Errorf("%d of %s", n, g)
		}
	}
	if len(tab.Groups()) != 3 || tab.Len() != 3*MaxGroupTable {
		t.Errorf("%d contacts of %v", tab.Len(), tab.Groups())
	}
	// Nor do they make it believe that others are closer to whatever it is to keep.
	near := NewTable(self)
	for i := range 60 {
		near.Answered(made(rng, within(self, i/10, anyKey(rng)), i%4), noon)
	}
	if got := near.Closer(within(self, 0, anyKey(rng))); got > 4*MaxGroup {
		t.Errorf("%d of 4 networks are closer", got)
	}
	// One that moves to a network of which there are enough loses its place, which another gets.
	c := made(rng, within(self, 3, anyKey(rng)), 77)
	if !tab.Answered(c, noon) {
		t.Fatal("another network's is not taken")
	}
	moved := *c
	moved.Group = tab.Contacts()[0].Group
	moved.Record = &registry.Record{ID: c.ID, Sequence: 2}
	if tab.Answered(&moved, noon) || tab.Groups()[c.Group] != 0 || tab.Groups()[moved.Group] != MaxGroupTable {
		t.Errorf("it moved into %v", tab.Groups())
	}
}

// Of one network there are as few among the spares.
func TestSparesOfOneNetwork(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	self := anyKey(rng)
	tab := NewTable(self)
	far := func(network int) *Contact { return made(rng, within(self, 0, anyKey(rng)), network) }
	for i := range K {
		tab.Answered(far(i), noon)
	}
	honest := far(100)
	tab.Answered(honest, noon)
	for range 50 {
		tab.Answered(far(200), noon)
	}
	if b := tab.bucketOf(honest.Key); find(b.spare, honest.ID) < 0 || len(b.spare) != 1+MaxGroup {
		t.Errorf("%d spares, without the honest", len(b.spare))
	}
}

func TestRemoveAndExpire(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	self := anyKey(rng)
	tab := NewTable(self)
	var all []*Contact
	for i := range K + spares {
		c := made(rng, within(self, 0, anyKey(rng)), i)
		c.Record.Expires = noon.Add(time.Duration(i) * time.Minute).UnixMilli()
		tab.Answered(c, noon.Add(-time.Hour))
		all = append(all, c)
	}
	tab.Remove(all[K].Key) // a spare
	tab.Remove(all[K-1].Key)
	tab.Remove(all[K-1].Key)
	tab.Remove(self)
	if tab.Len() != K || tab.Has(all[K-1].Key) || !tab.Has(all[K+spares-1].Key) {
		t.Errorf("%d contacts, without the spare", tab.Len())
	}
	tab.Expire(noon.Add(10 * time.Minute))
	if tab.Len() != K-5 || tab.Has(all[10].Key) || !tab.Has(all[11].Key) {
		t.Errorf("%d contacts", tab.Len())
	}
	if tab.Expire(noon.Add(time.Hour)); tab.Len() != 0 || len(tab.Groups()) != 0 || len(tab.bucketOf(all[0].Key).spare) != 0 {
		t.Errorf("%d contacts are left, of %v", tab.Len(), tab.Groups())
	}
}

func TestRefresh(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	self := anyKey(rng)
	tab := NewTable(self)
	if _, ok := tab.Refresh(noon, time.Hour, anyKey(rng)); ok {
		t.Error("an empty table wants a lookup")
	}
	for i := range 100 {
		tab.Answered(made(rng, anyKey(rng), i), noon)
	}
	seen := make(map[int]bool)
	for {
		target, ok := tab.Refresh(noon, time.Hour, anyKey(rng))
		if !ok {
			break
		}
		if i := Common(self, target); seen[i] {
			t.Fatalf("bucket %d twice", i)
		} else {
			seen[i] = true
		}
	}
	if !seen[0] || !seen[1] {
		t.Errorf("buckets %v", seen)
	}
	tab.Looked(within(self, 0, anyKey(rng)), noon.Add(30*time.Minute))
	tab.Looked(self, noon)
	if target, ok := tab.Refresh(noon.Add(time.Hour), time.Hour, anyKey(rng)); !ok || Common(self, target) == 0 {
		t.Error("the bucket that was looked up is due")
	}
}
