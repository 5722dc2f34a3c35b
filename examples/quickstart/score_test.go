package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// won is a game over three relays and a spare that was won; tests spoil it.
func won() *game {
	o := &options{relays: 3, size: 6 << 20, kill: true}
	g := newGame(o, nil)
	for _, name := range []string{"relay A", "relay B", "relay C", "relay D"} {
		g.relays = append(g.relays, &proc{name: name, id: strings.ToLower(name[6:])})
	}
	g.victim, g.spare = g.relays[0], g.relays[3]
	g.victim.killed = true
	g.victimBrought, g.stillToCome, g.recovery = 1<<20, 3<<20, 12*time.Millisecond
	sum := strings.Repeat("5a", 32)
	g.gotAll = &done{SHA256: sum, progress: progress{Bytes: o.size}}
	g.sentAll = &done{SHA256: sum, progress: progress{Bytes: o.size, Relays: []carried{
		{ID: "a", Bytes: 1 << 20}, {ID: "b", Bytes: 2<<20 + 1000, Live: true}, {ID: "c", Bytes: 2 << 20, ReSent: 900, Live: true}, {ID: "d", Bytes: 1 << 20, Live: true},
	}}}
	g.sent, g.received = g.sentAll.progress, g.gotAll.progress
	g.began = time.Unix(100, 0)
	g.ended = g.began.Add(1500 * time.Millisecond)
	return g
}

func TestScore(t *testing.T) {
	s, err := won().score()
	if err != nil {
		t.Fatal(err)
	}
	if want := "PASS sha256=" + strings.Repeat("5a", 32) + " bytes=6291456 relays=3 largest-share=33.3% killed=1 seconds=1.50"; s.String() != want {
		t.Errorf("%v\nwant\n%v", s, want)
	}
	if want := "(relay A killed after 16.7% through it, 50.0% to go; relay D after 12ms; 900 B sent twice)"; s.killing() != want {
		t.Errorf("%v\nwant\n%v", s.killing(), want)
	}
	var all score
	all.add(s)
	all.add(&score{relays: 3, bytes: 1, largest: 0.351, killed: 1, took: time.Second})
	if want := "PASS runs=2 bytes=6291457 relays=3 largest-share=35.1% killed=2 seconds=2.50"; all.summary() != want {
		t.Errorf("%v\nwant\n%v", all.summary(), want)
	}
	if got := (&score{}).killing(); got != "(none killed)" {
		t.Error(got)
	}
}

func TestScoreOfWhatIsWrong(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(g *game)
		want  string
	}{
		{"sent too little", func(g *game) { g.sentAll.Bytes-- }, "6291456 bytes were to be sent, and 6291455 were"},
		{"lost", func(g *game) { g.gotAll.Bytes -= 3 }, "3 bytes were lost"},
		{"doubled", func(g *game) { g.gotAll.Bytes += 4 }, "4 bytes too many arrived"},
		{"altered", func(g *game) { g.gotAll.SHA256 = strings.Repeat("00", 32) }, "what arrived is not what was sent"},
		{"past the relays", func(g *game) { g.sentAll.Relays[0].ID = "direct" }, "1048576 bytes went past the relays"},
		{"nowhere", func(g *game) { g.sentAll.Relays = g.sentAll.Relays[:2] }, "less than the file has"},
		{"one carried too much", func(g *game) { g.sentAll.Relays[1].Bytes = 3 << 20 }, "one relay carried 42.9% of what was sent, more than 40.0%"},
		{"none was killed", func(g *game) { g.victim = nil }, "no relay had carried a tenth"},
		{"killed too early", func(g *game) { g.victimBrought = 600_000 }, "relay A was killed with 600000 bytes carried"},
		{"killed too late", func(g *game) { g.stillToCome = 600_000 }, "600000 still to go"},
		{"no spare", func(g *game) { g.spare = nil }, "no relay took the place of relay A"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := won()
			tt.spoil(g)
			s, err := g.score()
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, %v, want %q", s, err, tt.want)
			}
		})
	}
}

func TestShares(t *testing.T) {
	if got := fmt.Sprintf("%.6f", shareLimit(3)); got != "0.400000" {
		t.Errorf("the limit for three relays is %v", got)
	}
	const frame = 32<<10 + 12 // a full segment: a chunk of a stream and its header
	for n := 1; n <= maxRelays; n++ {
		if shareCap(n) > shareLimit(n) {
			t.Errorf("%d relays may carry more than passes", n)
		}
		// When every path but for less than a frame has its share of the last
		// mebibyte, there must be no room left for another frame.
		if n > 1 && float64(n)*(shareCap(n)*(1<<20)-frame) < 1<<20-frame {
			t.Errorf("%d relays at %v each can't carry a mebibyte of whole frames", n, shareCap(n))
		}
	}
}
