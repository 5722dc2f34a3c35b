package main

import (
	"fmt"
	"time"
)

// A score is what was measured in one game that was won, or in several.
type score struct {
	games   int
	sha256  string
	bytes   int64
	relays  int
	largest float64 // the largest share of any relay, 0 to 1
	killed  int
	took    time.Duration

	victim, spare string
	brought       float64 // share of the file that had come through the victim
	left          float64 // share of the file that was still to come
	reSent        uint64  // bytes that were sent twice
	recovery      time.Duration
}

// shareLimit is the largest share that passes, shareCap what the sender's policy
// allows of any mebibyte. The cap is above an even share by as much as one frame
// is of a mebibyte: as frames are whole, paths that must all carry the same could
// not carry all of it.
func shareLimit(relays int) float64 { return min(1, 1/float64(relays)+1./15) }
func shareCap(relays int) float64   { return min(1, 1/float64(relays)+1./32) }

// score judges the game.
func (g *game) score() (*score, error) {
	s := &score{
		games: 1, sha256: g.gotAll.SHA256, bytes: g.gotAll.Bytes, relays: g.o.relays,
		took: g.ended.Sub(g.began),
	}
	switch {
	case g.sentAll.Bytes != g.o.size:
		return nil, fmt.Errorf("%d bytes were to be sent, and %d were", g.o.size, g.sentAll.Bytes)
	case g.gotAll.Bytes < g.o.size:
		return nil, fmt.Errorf("%d bytes were lost: %d were sent, %d arrived", g.o.size-g.gotAll.Bytes, g.o.size, g.gotAll.Bytes)
	case g.gotAll.Bytes > g.o.size:
		return nil, fmt.Errorf("%d bytes too many arrived: %d were sent, %d arrived", g.gotAll.Bytes-g.o.size, g.o.size, g.gotAll.Bytes)
	case g.gotAll.SHA256 != g.sentAll.SHA256:
		return nil, fmt.Errorf("what arrived is not what was sent: its SHA-256 is %s, and %s was sent", g.gotAll.SHA256, g.sentAll.SHA256)
	}
	var total, most uint64
	for _, c := range g.sentAll.Relays {
		r := g.byID(c.ID)
		if r == nil && c.Bytes > 0 {
			return nil, fmt.Errorf("%d bytes went past the relays", c.Bytes)
		}
		total += c.Bytes
		s.reSent += c.ReSent
		most = max(most, c.Bytes)
	}
	if total < uint64(g.o.size) {
		return nil, fmt.Errorf("the relays carried %d bytes, which is less than the file has", total)
	}
	s.largest = float64(most) / float64(total)
	if limit := shareLimit(g.o.relays); s.largest > limit {
		return nil, fmt.Errorf("one relay carried %.1f%% of what was sent, more than %.1f%%", 100*s.largest, 100*limit)
	}
	if !g.o.kill {
		return s, nil
	}
	if err := g.scoreKill(); err != nil {
		return nil, err
	}
	s.killed, s.victim, s.spare, s.recovery = 1, g.victim.name, g.spare.name, g.recovery
	s.brought = float64(g.victimBrought) / float64(g.o.size)
	s.left = float64(g.stillToCome) / float64(g.o.size)
	return s, nil
}

// scoreKill checks that the kill was what was asked for.
func (g *game) scoreKill() error {
	switch tenth := g.o.size / 10; {
	case g.victim == nil:
		return fmt.Errorf("no relay had carried a tenth of the file in time to be killed")
	case g.victimBrought < uint64(tenth) || g.stillToCome < tenth:
		return fmt.Errorf("%s was killed with %d bytes carried and %d still to go, want a tenth of the file each", g.victim.name, g.victimBrought, g.stillToCome)
	case g.spare == nil:
		return fmt.Errorf("no relay took the place of %s, which was killed", g.victim.name)
	}
	return nil
}

// String is the line that says that all is well.
func (s *score) String() string {
	return fmt.Sprintf("PASS sha256=%s bytes=%d relays=%d largest-share=%.1f%% killed=%d seconds=%.2f",
		s.sha256, s.bytes, s.relays, 100*s.largest, s.killed, s.took.Seconds())
}

// killing says how the kill went.
func (s *score) killing() string {
	if s.killed == 0 {
		return "(none killed)"
	}
	return fmt.Sprintf("(%s killed after %.1f%% through it, %.1f%% to go; %s after %v; %s sent twice)",
		s.victim, 100*s.brought, 100*s.left, s.spare, s.recovery.Round(time.Millisecond), formatSize(s.reSent))
}

// add counts one more game.
func (s *score) add(one *score) {
	s.games++
	s.relays = one.relays
	s.bytes += one.bytes
	s.killed += one.killed
	s.took += one.took
	s.largest = max(s.largest, one.largest)
}

// summary is the last line after several games.
func (s *score) summary() string {
	return fmt.Sprintf("PASS runs=%d bytes=%d relays=%d largest-share=%.1f%% killed=%d seconds=%.2f",
		s.games, s.bytes, s.relays, 100*s.largest, s.killed, s.took.Seconds())
}
