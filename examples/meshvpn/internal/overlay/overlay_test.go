package overlay

import (
	"encoding/binary"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/splitmesh/splitmesh/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func id(t testing.TB, n uint64) identity.ID {
	t.Helper()
	seed := make([]byte, identity.SeedSize)
	binary.BigEndian.PutUint64(seed, n)
	k, err := identity.NewKeyFromSeed(seed)
	if err != nil {
		t.Fatal(err)
	}
	return k.ID()
}

// rivals are two peers with one IPv4 address, the lower ID first. Names of peers need not be keys to have addresses.
func rivals(t testing.TB) (low, high identity.ID) {
	t.Helper()
	seen := make(map[netip.Addr]identity.ID)
	for n := uint64(1); ; n++ {
		x := id(t, n)
		if y, ok := seen[V4(x)]; ok {
			if x.Compare(y) > 0 {
				x, y = y, x
			}
			return x, y
		}
		seen[V4(x)] = x
	}
}

// TestAddrs: they are what they always were, and within their networks.
func TestAddrs(t *testing.T) {
	if Net6.String() != "fd77:45e9:e85d::/48" {
		t.Error(Net6)
	}
	x := id(t, 1)
	if got := V6(x).String() + " " + V4(x).String(); got != "fd77:45e9:e85d:20d5:bfeb:4c97:c468:e0a 100.111.218.230" {
		t.Error(got)
	}
	low, high := netip.MustParseAddr("100.64.1.0"), netip.MustParseAddr("100.127.254.255")
	for n := range uint64(1000) {
		if x := id(t, n); !Net6.Contains(V6(x)) || V4(x).Less(low) || high.Less(V4(x)) {
			t.Error(V6(x), V4(x))
		}
	}
}

// TestConflicts: who was pinned first keeps the address, over restarts and whoever comes.
func TestConflicts(t *testing.T) {
	low, high := rivals(t)
	self := id(t, 1<<40)
	has := func(b *Book, x identity.ID, want bool) {
		t.Helper()
		v4, v6 := b.Addrs(x)
		if v4.IsValid() != want || v6 != V6(x) {
			t.Errorf("%s has %v and %v", x.Short(), v4, v6)
		}
		if owner, ok := b.Peer(V6(x)); !ok || owner != x {
			t.Errorf("%v is %v's", V6(x), owner)
		}
	}
	open := func(path string, self identity.ID) *Book {
		t.Helper()
		b, err := Open(path, self, true)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	pin := func(b *Book, ids ...identity.ID) {
		t.Helper()
		if err := b.Pin(ids...); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("at once", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "addresses")
		b := open(path, self)
		pin(b, high, low)
		has(b, low, true)
		has(b, high, false)
		b = open(path, self)
		has(b, low, true)
		has(b, high, false)
	})
	t.Run("one after the other", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "addresses")
		pin(open(path, self), high)
		b := open(path, self)
		pin(b, low)
		b.Guest(low)
		has(b, high, true)
		has(b, low, false)
		pin(b, id(t, 7))
		b = open(path, self)
		has(b, high, true)
		has(b, low, false)
	})
	t.Run("a guest", func(t *testing.T) {
		b := open(filepath.Join(t.TempDir(), "addresses"), self)
		b.Guest(low)
		has(b, low, true)
		pin(b, high)
		has(b, high, true)
		has(b, low, false)
	})
	t.Run("the node itself", func(t *testing.T) {
		b := open(filepath.Join(t.TempDir(), "addresses"), high)
		pin(b, low)
		has(b, high, true)
		has(b, low, false)
	})
	t.Run("without IPv4", func(t *testing.T) {
		b, err := Open(filepath.Join(t.TempDir(), "addresses"), self, false)
		if err != nil {
			t.Fatal(err)
		}
		pin(b, low)
		has(b, self, false)
		has(b, low, false)
		if _, ok := b.Peer(V4(low)); ok {
			t.Error("it has an IPv4 address")
		}
	})
	t.Run("many guests", func(t *testing.T) {
		b := open(filepath.Join(t.TempDir(), "addresses"), self)
		pin(b, high)
		for n := range uint64(MaxGuests + 100) {
			b.Guest(id(t, n))
		}
		has(b, high, true)
		if _, ok := b.Peer(V6(id(t, 1))); ok || len(b.guests) != MaxGuests {
			t.Error("guests stay for good")
		}
		has(b, id(t, MaxGuests+99), true)
	})
}

// TestFullDisk: a peer that could not be written down is known, and is written down once there is room.
func TestFullDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "away")
	path := filepath.Join(dir, "addresses")
	b, err := Open(path, id(t, 1), true)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Pin(id(t, 2)); err == nil {
		t.Fatal("it is written down nowhere")
	}
	if _, v6 := b.Addrs(id(t, 2)); v6 != V6(id(t, 2)) || !b.Pinned(id(t, 2)) || b.Pinned(id(t, 3)) {
		t.Error("it is not known")
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := b.Pin(id(t, 2)); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(path); err != nil || !strings.Contains(string(text), id(t, 2).String()) {
		t.Errorf("%s, %v", text, err)
	}
}

// TestBadBooks: a book that is not right is not used.
func TestBadBooks(t *testing.T) {
	x := id(t, 1).String()
	for name, tt := range map[string]struct{ text, want string }{
		"no ID":     {"\nann\n", "line 2"},
		"twice":     {x + "\n" + x + "\n", "line 2"},
		"long line": {strings.Repeat("x", 2*maxLine), "token too long"},
	} {
		path := filepath.Join(t.TempDir(), "addresses")
		if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path, id(t, 2), true); err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("# who\n" + id(f, 1).String() + " fd00::1 100.64.1.1\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		ids, err := parse(strings.NewReader(text))
		if err != nil && ids != nil || len(ids) > MaxPinned {
			t.Error(ids, err)
		}
	})
}
