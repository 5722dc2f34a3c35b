package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	mostGap  = 2 * time.Second // in which nothing comes
	moreTime = 3 * time.Second // that transfers go on for after what befell the relay
)

// playFailover kills one of two relays while iperf3 sends from b to a, and scp from a to b.
func playFailover(t *trial) error {
	w, err := newWorld(t, 2)
	if err != nil {
		return err
	}
	if err := w.meet(vpnRules); err != nil {
		return err
	}
	if err := w.b.serveIperf(w.b.v4); err != nil {
		return err
	}
	s, err := startSSH(w)
	if err != nil {
		return err
	}
	p, err := newPayload(t, t.scpBytes)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(t.ctx)
	defer cancel()
	copied, measured := make(chan error, 1), make(chan error, 1)
	var got iperf
	lasts := t.span + moreTime
	go func() { // ends with ctx
		_, err := s.copy(ctx, p, lasts) // so that there is time for what follows
		copied <- err
	}()
	go func() { // ends with ctx
		var err error
		got, err = w.a.iperf(ctx, w.b.v4, lasts, "--reverse", "--interval", "0.1")
		measured <- err
	}()
	began := time.Now()
	victim := w.relays[0]
	err = until(ctx, time.Minute, "both relays carry the transfers", func() error {
		for _, r := range w.relays {
			if _, n, err := r.carried(); err != nil || n < 1<<20 {
				return errors.Join(fmt.Errorf("%s has carried %d bytes", r.name, n), err)
			}
		}
		if p.came() < min(p.size/16, 8<<20) || time.Since(began) < t.span/4 {
			return fmt.Errorf("%d bytes have come", p.came())
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(copied)+len(measured) > 0 {
		return errors.New("a transfer was over too soon: give it more with -scp-bytes and -span")
	}
	if err := victim.run.kill(); err != nil {
		return err
	}
	t.say("relay %s is killed, when %d of %d MiB have come", victim.name, p.came()>>20, p.size>>20)
	interrupted := 0.0
	for what, ended := range map[string]chan error{"scp": copied, "iperf3": measured} {
		if err := <-ended; err != nil {
			t.say("%s was interrupted: %v", what, err)
			interrupted++
		}
	}
	if t.ctx.Err() != nil {
		return t.ctx.Err()
	}
	t.atMost("FAILOVER_INTERRUPTED", interrupted, 0)
	t.atMost("FAILOVER_GAP_SECONDS", got.gap(), mostGap.Seconds())
	ok, err := p.intact()
	if err != nil {
		return err
	}
	t.atLeast("FAILOVER_SCP_INTACT", float64(btoi(ok)), 1)
	return nil
}
