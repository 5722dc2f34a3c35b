package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// A game is one transfer: the processes, what they have reported, and what was
// done to them. It belongs to the goroutine that plays it.
type game struct {
	o    *options
	show *display
	crew crew

	relays           []*proc // one more than carry at a time
	sender, receiver *proc

	sent, received   progress // as last reported
	sentAll, gotAll  *done
	began, ended     time.Time
	moved            time.Time // when a byte arrived last
	victim           *proc
	killedAt         time.Time
	victimBrought    uint64          // what had come through the victim when it was killed
	stillToCome      int64           // and what had not come at all
	before           map[string]bool // the relays that had carried by then
	spare            *proc           // what took the victim's place
	recovery         time.Duration   // how long that took
	wentOn           bool            // the sender was told that the kill is done
	lookedAtHalfTime bool            // o.half was called
}

func newGame(o *options, show *display) *game {
	return &game{o: o, show: show, crew: crew{exe: o.exe, events: make(chan event)}}
}

// startLimit bounds how long the processes may take to find each other.
const startLimit = 30 * time.Second

var errNobody = errors.New("nobody reported anything")

// play starts everyone, watches the transfer, and ends everyone.
func (g *game) play(ctx context.Context) (*score, error) {
	defer g.crew.stop()
	err := g.gather(ctx)
	if err == nil {
		err = g.watch(ctx)
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	return g.score()
}

// next waits for a report, no longer than limit. The end of a process that was
// not killed, and a report of failure, are errors.
func (g *game) next(ctx context.Context, limit time.Duration) (event, error) {
	late := time.NewTimer(limit)
	defer late.Stop()
	for {
		select {
		case e := <-g.crew.events:
			if e.ended {
				g.crew.alive--
			}
			switch {
			case e.ended && e.from.killed:
				continue
			case e.ended:
				return e, e.from.why(e.err)
			case e.err != nil:
				return e, e.err
			case e.report.Failed != "":
				return e, fmt.Errorf("%s: %s", e.from, e.report.Failed)
			}
			return e, nil
		case <-late.C:
			return event{}, fmt.Errorf("%w for %v", errNobody, limit)
		case <-ctx.Done():
			return event{}, ctx.Err()
		}
	}
}

// gather starts the processes and makes them known to each other.
func (g *game) gather(ctx context.Context) (err error) {
	for i := range g.o.relays + 1 {
		r, err := g.crew.start("relay", fmt.Sprintf("relay %c", 'A'+i))
		if err != nil {
			return err
		}
		g.relays = append(g.relays, r)
	}
	if g.sender, err = g.crew.start("sender", "sender"); err != nil {
		return err
	}
	addrs := make(map[*proc]string)
	for range g.crew.procs {
		who, at, err := g.ready(ctx)
		if err != nil {
			return err
		}
		addrs[who] = at
	}
	cfg := config{Size: g.o.size, Paths: g.o.relays, MaxShare: shareCap(g.o.relays)}
	for _, r := range g.relays {
		at := addrs[r]
		if g.o.via != nil {
			if at, err = g.o.via(at); err != nil {
				return err
			}
		}
		cfg.Relays = append(cfg.Relays, at)
	}
	if g.receiver, err = g.crew.start("receiver", "receiver"); err != nil {
		return err
	}
	in := cfg
	in.Peer, in.Out, in.Mark = g.sender.id, g.o.out, g.o.size/2
	g.receiver.order(order{Config: &in})
	if _, _, err := g.ready(ctx); err != nil {
		return err
	}
	g.show.begin(g)
	g.began = time.Now()
	g.moved = g.began
	out := cfg
	out.Peer, out.File = g.receiver.id, g.o.file
	if g.pauses() {
		out.Hold = holdAt(g.o.size)
	}
	g.sender.order(order{Config: &out})
	return nil
}

// ready waits for one more process to say who it is, and where.
func (g *game) ready(ctx context.Context) (*proc, string, error) {
	e, err := g.next(ctx, startLimit)
	if errors.Is(err, errNobody) {
		err = fmt.Errorf("the processes did not get ready within %v; the machine may be too busy", startLimit)
	}
	if err != nil {
		return nil, "", err
	}
	if e.report.Ready == nil {
		return nil, "", fmt.Errorf("%s reports something before it is ready", e.from)
	}
	e.from.id = e.report.Ready.ID
	return e.from, e.report.Ready.Addr, nil
}

// pauses reports whether something is to happen at half time.
func (g *game) pauses() bool { return g.o.kill || g.o.half != nil }

// holdAt is how far the sender may go before half time is over. What a killed
// relay is to leave over is a tenth, so that is beyond the hold, however late the
// news of half time comes.
func holdAt(size int64) int64 { return size * 88 / 100 }

// watch follows the transfer to its end.
func (g *game) watch(ctx context.Context) error {
	for g.sentAll == nil || g.gotAll == nil {
		e, err := g.next(ctx, g.o.stall)
		if err != nil {
			return err
		}
		switch r := &e.report; {
		case r.Progress != nil && e.from == g.sender:
			g.sent = *r.Progress
			g.noticed()
		case r.Progress != nil && e.from == g.receiver:
			g.arrived(*r.Progress)
		case r.Done != nil && e.from == g.sender:
			g.sent, g.sentAll = r.Done.progress, r.Done
		case r.Done != nil && e.from == g.receiver:
			g.arrived(r.Done.progress)
			g.gotAll, g.ended = r.Done, time.Now()
		default:
			return fmt.Errorf("%s reports what is not its to report", e.from)
		}
		if err := g.halfTime(ctx); err != nil {
			return err
		}
		if silent := time.Since(g.moved); g.gotAll == nil && silent > g.o.stall {
			return fmt.Errorf("nothing has arrived for %v: %d of %d bytes are there", g.o.stall, g.received.Bytes, g.o.size)
		}
		g.show.progress(g)
	}
	return nil
}

// arrived takes the receiver's progress.
func (g *game) arrived(p progress) {
	if p.Bytes > g.received.Bytes {
		g.moved = time.Now()
	}
	g.received = p
	if g.victim == nil || g.spare != nil {
		return
	}
	for _, c := range p.Relays {
		if !g.before[c.ID] && c.Bytes > 0 {
			g.spare, g.recovery = g.byID(c.ID), time.Since(g.killedAt)
			g.every(reportEvery)
			g.show.recovered(g)
			return
		}
	}
}

// halfTime does what is to be done once half of the file has arrived.
func (g *game) halfTime(ctx context.Context) error {
	if !g.pauses() || g.victim != nil || g.wentOn || g.received.Bytes < g.o.size/2 {
		return nil
	}
	if g.o.half != nil && !g.lookedAtHalfTime {
		if err := g.o.half(ctx, g); err != nil {
			return err
		}
		g.lookedAtHalfTime = true
		g.moved = time.Now()
	}
	if !g.o.kill {
		g.wentOn = true
		g.sender.order(order{GoOn: true})
		return nil
	}
	g.killOne() // or, when none has carried enough yet, with the next report
	return nil
}

// noticed lets the sender go on when it has seen that the victim is dead: what
// it writes from then on waits for the spare.
func (g *game) noticed() {
	if g.victim == nil || g.wentOn {
		return
	}
	for _, c := range g.sent.Relays {
		if c.ID == g.victim.id && c.Live {
			return
		}
	}
	g.wentOn = true
	g.sender.order(order{GoOn: true})
}

// killOne kills one of the relays that have a path, and through which at least a
// tenth of the file has come, if there is one.
func (g *game) killOne() {
	var candidates []carried
	for _, c := range g.received.Relays {
		if c.Live && c.Bytes >= uint64(g.o.size/10) && g.byID(c.ID) != nil {
			candidates = append(candidates, c)
		}
	}
	if len(candidates) == 0 {
		return
	}
	c := candidates[rand.IntN(len(candidates))]
	g.victim, g.victimBrought, g.stillToCome = g.byID(c.ID), c.Bytes, g.o.size-g.received.Bytes
	g.before = make(map[string]bool)
	for _, r := range g.received.Relays {
		g.before[r.ID] = true
	}
	g.killedAt = time.Now()
	g.victim.kill()
	g.every(2 * time.Millisecond) // to see when the spare begins
	g.show.killed(g)
}

// every has progress reported so often.
func (g *game) every(d time.Duration) {
	for _, p := range []*proc{g.sender, g.receiver} {
		p.order(order{EveryMS: int(d / time.Millisecond)})
	}
}

// byID is the relay with this ID, nil if there is none.
func (g *game) byID(id string) *proc {
	for _, r := range g.relays {
		if r.id == id {
			return r
		}
	}
	return nil
}
