package mesh

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/internal/session"
	"github.com/splitmesh/splitmesh/splitter"
)

func relayID(t testing.TB, i int) identity.ID {
	t.Helper()
	seed := make([]byte, 32)
	seed[0], seed[1] = byte(i), byte(i>>8)
	k, err := identity.NewKeyFromSeed(seed)
	if err != nil {
		t.Fatal(err)
	}
	return k.ID()
}

// TestDiverseDrawsNetworksFirst: a swarm of relays in one network is drawn as often
// as the only relay of another, and no operator is drawn twice while there are others.
func TestDiverseDrawsNetworksFirst(t *testing.T) {
	routes := []route{{relay: identity.ID{1}, group: "a"}, {relay: identity.ID{2}, group: "b"}, {relay: identity.ID{3}, group: "c", operator: "o"}}
	for i := range 27 {
		routes = append(routes, route{relay: identity.ID{9, byte(i)}, group: "swarm", operator: "o"})
	}
	const draws = 2000
	first := make(map[string]int)
	for seed := range draws {
		rng := rand.New(rand.NewPCG(uint64(seed), 1))
		order := diverse(nil, routes, rng.IntN)
		if len(order) != len(routes) {
			t.Fatalf("%d of %d routes", len(order), len(routes))
		}
		first[order[0].group]++
		operators := 0
		for _, r := range order[:3] {
			operators += len(r.operator)
		}
		if operators > 1 {
			t.Fatalf("seed %d: one operator twice among %v", seed, order[:3])
		}
	}
	for _, g := range []string{"a", "b", "c", "swarm"} { // binomial: σ = 19 of 500
		if n := first[g]; n < 400 || n > 600 {
			t.Errorf("network %s is drawn first %d times of %d, want about a quarter", g, n, draws)
		}
	}
}

// TestFirstHops walks through the life of first hops.
func TestFirstHops(t *testing.T) {
	path := filepath.Join(t.TempDir(), "first hops")
	h, err := LoadFirstHops(path)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_800_000_000, 0)
	for i := range maxFirstHops + 2 {
		if err := h.worked(relayID(t, i), now); err != nil {
			t.Fatal(err)
		}
	}
	if len(h.Relays()) != maxFirstHops || h.has(relayID(t, maxFirstHops), now) {
		t.Fatal(h.Relays())
	}
	again, err := LoadFirstHops(path)
	if err != nil || !slices.Equal(again.Relays(), h.Relays()) {
		t.Fatal(again, err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Error(st, err)
	}
	flaky, dead := relayID(t, 0), relayID(t, 1)
	for hours := range 100 {
		at := now.Add(time.Duration(hours) * time.Hour)
		h.failed(dead, at)
		h.failed(flaky, at)
		if hours%24 == 0 {
			h.worked(flaky, at)
		}
	}
	if !h.has(flaky, now) || h.has(dead, now) {
		t.Error("a hop out of reach now and then is gone, or one that is dead is not")
	}
	h.worked(relayID(t, 99), now)
	if !h.has(relayID(t, 99), now) {
		t.Error("nobody took the place of the dead one")
	}
	if relays := h.Relays(); !h.has(relays[0], now.Add(minHopLife-time.Second)) || len(h.Relays()) != len(relays) {
		t.Error("expired too early")
	}
	if h.has(relayID(t, 99), now.Add(maxHopLife)) || len(h.Relays()) != 0 {
		t.Error("never expires")
	}
	os.WriteFile(path, []byte("nonsense"), 0o600)
	if _, err := LoadFirstHops(path); !errors.Is(err, errFirstHops) || !strings.Contains(err.Error(), "delete the file") {
		t.Error(err)
	}
}

// TestFirstHopsGoFirst: for those who use relays only; a direct route goes before.
func TestFirstHopsGoFirst(t *testing.T) {
	n := &Node{FirstHops: new(FirstHops)}
	n.init()
	defer n.Close()
	var routes []route
	for i := range 20 {
		routes = append(routes, route{relay: relayID(t, i), group: fmt.Sprint(i % 7)})
	}
	n.firstHops.worked(routes[11].relay, time.Now())
	n.firstHops.worked(routes[17].relay, time.Now())
	for range 20 {
		order := n.inOrder(nil, append(routes, route{group: "9"}), true)
		if !order[0].direct() || !n.firstHops.has(order[1].relay, time.Now()) || !n.firstHops.has(order[2].relay, time.Now()) || len(order) != 21 {
			t.Fatal(order[:3])
		}
	}
}

func FuzzFirstHops(f *testing.F) {
	f.Add([]byte{})
	f.Add(appendFirstHops(nil, []firstHop{{relayID(f, 1), time.Unix(5, 0), time.Time{}}, {relayID(f, 2), time.Unix(1<<40, 0), time.Unix(7, 0)}}))
	f.Add([]byte(relayID(f, 1).String() + " +5 0\n"))
	f.Fuzz(func(t *testing.T, p []byte) {
		hops, err := parseFirstHops(p)
		if err != nil {
			if !errors.Is(err, errFirstHops) {
				t.Fatal(err)
			}
			return
		}
		if len(hops) > maxFirstHops || !bytes.Equal(appendFirstHops(nil, hops), p) {
			t.Fatalf("%q is read as %+v", p, hops)
		}
	})
}

// TestOverHeld: those that have waited longest go, and no more than need be.
func TestOverHeld(t *testing.T) {
	a, b := identity.ID{1}, identity.ID{2}
	sessions := make([]*session.Session, 6)
	for i := range sessions {
		sessions[i] = session.New(session.Config{Exporter: [32]byte{1}})
	}
	at := func(i int, peer identity.ID, bytes int) holding {
		return holding{sessions[i], peer, time.Unix(int64(i), 0), bytes}
	}
	for _, tt := range []struct {
		name string
		held []holding
		want []int
	}{
		{"within", []holding{at(0, a, 10), at(1, b, 10)}, nil},
		{"one peer's", []holding{at(2, a, 5), at(0, a, 5), at(1, a, 5), at(3, b, 10)}, []int{0}},
		{"all", []holding{at(0, a, 0), at(1, a, 10), at(2, b, 9), at(3, identity.ID{3}, 10), at(4, identity.ID{4}, 10)}, []int{1}},
		{"both", []holding{at(0, b, 10), at(1, a, 10), at(2, a, 1), at(3, identity.ID{3}, 10), at(4, identity.ID{4}, 10)}, []int{0, 1}},
	} {
		var got []int
		for _, e := range overHeld(tt.held, 10, 30) {
			got = append(got, slices.Index(sessions, e.s))
			if e.err.Held <= e.err.Limit || !strings.Contains(e.err.Error(), "waited longest") {
				t.Errorf("%s: %v", tt.name, e.err)
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v end, want %v", tt.name, got, tt.want)
		}
	}
}

// TestWrongPurpose: a node of a private policy takes no conns of another.
func TestWrongPurpose(t *testing.T) {
	secret, plain := splitter.Policy{Purpose: splitter.Secrecy}, splitter.Policy{Purpose: splitter.Throughput}
	for _, tt := range []struct {
		own, conn splitter.Policy
		want      bool
	}{{plain, plain, true}, {plain, secret, true}, {secret, secret, true}, {secret, plain, false}, {secret, splitter.Policy{Purpose: splitter.Unlinkability}, false}} {
		a := wrongPurpose(tt.own, tt.conn)
		if (a == nil) != tt.want {
			t.Errorf("%v for %v: %v", tt.conn.Purpose, tt.own.Purpose, a)
		}
		if a == nil {
			continue
		}
		b, err := readAnswer(bytes.NewReader(appendAnswer(nil, *a)))
		if err != nil {
			t.Fatal(err)
		}
		if wrong, ok := errors.AsType[*PurposeError](b.err(identity.ID{7})); !ok || wrong.Want != tt.own.Purpose || !strings.Contains(wrong.Error(), "secrecy") {
			t.Error(wrong)
		}
	}
}

// TestPace: attempts come ever later, up to a limit.
func TestPace(t *testing.T) {
	var p pace
	for i, seconds := range []float64{1, 2, 4, 5, 5} {
		if i == 0 && p.left() != 0 {
			t.Error("not due at once")
		}
		p.next(time.Second, 5*time.Second)
		if p.wait.Seconds() != seconds || !p.at.After(time.Now().Add(p.wait/2)) {
			t.Errorf("attempt %d comes after %v, at %v", i, p.wait, p.at)
		}
	}
}
