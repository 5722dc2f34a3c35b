package splitter_test

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/splitmesh/splitmesh/splitter"
)

func TestPolicyDefaults(t *testing.T) {
	for _, tt := range []struct {
		name    string
		in      splitter.Policy
		relayed bool
		want    splitter.Policy
		err     string
	}{
		{name: "zero", want: splitter.Policy{Purpose: splitter.Throughput, MinPaths: 1, MaxShare: 1}},
		{name: "relayed", relayed: true, want: splitter.Policy{Purpose: splitter.Throughput, MinPaths: 2, MaxShare: 0.6}},
		{name: "relayed over one on request", relayed: true, in: splitter.Policy{MinPaths: 1}, want: splitter.Policy{Purpose: splitter.Throughput, MinPaths: 1, MaxShare: 1}},
		{name: "kept", in: splitter.Policy{MinPaths: 4, MaxShare: 0.3, FailFast: true}, want: splitter.Policy{Purpose: splitter.Throughput, MinPaths: 4, MaxShare: 0.3, FailFast: true}},
		{name: "three thirds and a segment", in: splitter.Policy{MinPaths: 3, MaxShare: 0.3573}, want: splitter.Policy{Purpose: splitter.Throughput, MinPaths: 3, MaxShare: 0.3573}},
		{name: "three bare thirds", in: splitter.Policy{MinPaths: 3, MaxShare: 1.0 / 3}, err: "raise MaxShare to 0.3568"},
		{name: "resilience", in: splitter.Policy{Purpose: splitter.Resilience}, want: splitter.Policy{Purpose: splitter.Resilience, K: 2, N: 3, MinPaths: 2, MaxShare: 1}},
		{name: "replicated", relayed: true, in: splitter.Policy{Purpose: splitter.Resilience, K: 1, N: 2}, want: splitter.Policy{Purpose: splitter.Resilience, K: 1, N: 2, MinPaths: 2, MaxShare: 1}},
		{name: "secrecy", relayed: true, in: splitter.Policy{Purpose: splitter.Secrecy, K: 3, N: 5}, want: splitter.Policy{Purpose: splitter.Secrecy, K: 3, N: 5, MinPaths: 3, MaxShare: 1}},
		{name: "unlinkability", relayed: true, in: splitter.Policy{Purpose: splitter.Unlinkability}, want: splitter.Policy{Purpose: splitter.Unlinkability, MinPaths: 5, MaxShare: 1}},
		{name: "a secret for one", in: splitter.Policy{Purpose: splitter.Secrecy, K: 1, N: 3}, err: "2 ≤ K"},
		{name: "more needed than there are", in: splitter.Policy{Purpose: splitter.Resilience, K: 4, N: 3}, err: "4 of 3"},
		{name: "too many shards", in: splitter.Policy{Purpose: splitter.Resilience, K: 4, N: 9}, err: "4 of 9"},
		{name: "shards of a stripe", in: splitter.Policy{K: 2, N: 3}, err: "no shards"},
		{name: "a secret over fewer than K", in: splitter.Policy{Purpose: splitter.Secrecy, K: 3, N: 3, MinPaths: 2}, err: "want 3 to 8"},
		{name: "few to hide among", in: splitter.Policy{Purpose: splitter.Unlinkability, MinPaths: 4}, err: "want 5 to 8"},
		{name: "a share of shards", in: splitter.Policy{Purpose: splitter.Secrecy, MaxShare: 0.6}, err: "MaxShare is for throughput"},
		{name: "unknown purpose", in: splitter.Policy{Purpose: 9}, err: "purpose 9"},
		{name: "too many", in: splitter.Policy{MinPaths: 9}, err: "MinPaths is 9"},
		{name: "negative", in: splitter.Policy{MinPaths: -1}, err: "MinPaths is -1"},
		{name: "share over one", in: splitter.Policy{MaxShare: 1.5}, err: "MaxShare is 1.5"},
		{name: "share not a number", in: splitter.Policy{MaxShare: nan()}, err: "MaxShare is NaN"},
		{name: "shares below the whole", in: splitter.Policy{MinPaths: 2, MaxShare: 0.4}, err: "can't carry the whole"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.in.WithDefaults(tt.relayed)
			if tt.err != "" {
				if !errors.Is(err, splitter.ErrPolicy) || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want ErrPolicy with %q", err, tt.err)
				}
				return
			}
			if err != nil || got != tt.want {
				t.Fatalf("got %+v, %v, want %+v", got, err, tt.want)
			}
		})
	}
}

func nan() float64 { z := 0.0; return z / z }

func TestTooFewPathsSaysWhatToDo(t *testing.T) {
	err := &splitter.TooFewPathsError{Have: 1, Want: 2}
	if got := err.Error(); !strings.Contains(got, "1 of the 2") || !strings.Contains(got, "more relays") {
		t.Fatal(got)
	}
	if got := splitter.Throughput.String(); got != "throughput" {
		t.Fatal(got)
	}
}

func TestShortestQueue(t *testing.T) {
	p := func(inFlight, window int) splitter.Path { return splitter.Path{InFlight: inFlight, Window: window} }
	barred := p(0, 100)
	barred.Barred = true
	for _, tt := range []struct {
		name  string
		size  int
		paths []splitter.Path
		want  int
	}{
		{"none", 1, nil, -1},
		{"fewest in flight", 10, []splitter.Path{p(30, 100), p(20, 100), p(25, 100)}, 1},
		{"first among equals", 10, []splitter.Path{p(20, 100), p(20, 100)}, 0},
		{"least carried among equals", 10, []splitter.Path{{Window: 100, Carried: 9}, {Window: 100, Carried: 7}, {Window: 100, Carried: 8}}, 1},
		{"in flight before carried", 10, []splitter.Path{p(20, 100), {InFlight: 10, Window: 100, Carried: 1000}}, 1},
		{"full window waits", 10, []splitter.Path{p(95, 100)}, -1},
		{"full window is passed over", 10, []splitter.Path{p(15, 20), p(50, 100)}, 1},
		{"idle path takes a segment over its window", 1000, []splitter.Path{p(0, 100)}, 0},
		{"barred", 10, []splitter.Path{barred, p(50, 100)}, 1},
		{"only barred", 10, []splitter.Path{barred}, -1},
	} {
		if got, ahead := (splitter.ShortestQueue{}).Next(time.Time{}, splitter.Job{Size: tt.size, Backlog: tt.size}, tt.paths); got != tt.want || ahead != 0 {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

// TestShareHoldsOverEveryWindow sends random segments, asking Allows each time,
// and checks every window of ShareSpan bytes by brute force.
func TestShareHoldsOverEveryWindow(t *testing.T) {
	const carriers, maxShare, unit = 3, 0.6, 1 << 10
	rng := rand.New(rand.NewPCG(1, 2))
	var w splitter.ShareWindow
	var sent []int // carrier of each unit
	refused := 0
	for len(sent) < 8*splitter.ShareSpan/unit {
		c := 0 // a greedy sender that prefers carrier 0
		if rng.IntN(4) == 0 {
			c = rng.IntN(carriers)
		}
		n := unit * (1 + rng.IntN(32))
		if !w.Allows(c, n, maxShare) {
			refused++
			c = 1 + rng.IntN(carriers-1)
			if !w.Allows(c, n, maxShare) {
				continue
			}
		}
		w.Sent(c, n)
		for range n / unit {
			sent = append(sent, c)
		}
	}
	if refused == 0 {
		t.Fatal("the greedy sender was never refused: the test shows nothing")
	}
	span := splitter.ShareSpan / unit
	for c := range carriers {
		held := 0
		for i, who := range sent {
			if who == c {
				held++
			}
			if i >= span && sent[i-span] == c {
				held--
			}
			if float64(held) > maxShare*float64(span) {
				t.Fatalf("carrier %d held %d of the %d units up to %d", c, held, span, i)
			}
		}
	}
}

// TestLeastShareNeverStalls: under the least share that a policy may have, some
// path may always take the next segment, whatever the sizes before it.
func TestLeastShareNeverStalls(t *testing.T) {
	for n := 2; n <= splitter.MaxMinPaths; n++ {
		share := 0.05
		for ; ; share += 0.0005 {
			if _, err := (splitter.Policy{MinPaths: n, MaxShare: share}).WithDefaults(false); err == nil {
				break
			}
		}
		for seed := range uint64(20) {
			rng := rand.New(rand.NewPCG(seed, uint64(n)))
			var w splitter.ShareWindow
			for sent := 0; sent < 3*splitter.ShareSpan; {
				size := splitter.ShareGrain
				if seed%2 == 1 {
					size = 1 + rng.IntN(splitter.ShareGrain)
				}
				taken := false
				for _, c := range rng.Perm(n) {
					if w.Allows(c, size, share) {
						w.Sent(c, size)
						sent += size
						taken = true
						break
					}
				}
				if !taken {
					t.Fatalf("%d paths of %.4f, seed %d: nobody may take %d bytes after %d", n, share, seed, size, sent)
				}
			}
		}
	}
}

func TestShareOfOneAllowsAll(t *testing.T) {
	var w splitter.ShareWindow
	w.Sent(0, 3*splitter.ShareSpan)
	if !w.Allows(0, splitter.ShareSpan, 1) {
		t.Fatal("refused under MaxShare 1")
	}
	if w.Allows(0, 1, 0.5) {
		t.Fatal("allowed beyond half")
	}
}
