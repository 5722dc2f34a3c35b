package main

import (
	"fmt"
	"slices"
	"time"
)

const (
	directPatience = 3 * time.Minute // for the peers to hear of each other's new address, and try it
	leastFaster    = 1.1
	direct         = "direct"
)

// playDirect lays a cable between a and b while they talk over a relay.
func playDirect(t *trial) error {
	w, err := newWorld(t, 1)
	if err != nil {
		return err
	}
	if err := w.meet(vpnRules, "--node.listen=/ip4/0.0.0.0/tcp/4001/ws"); err != nil {
		return err
	}
	if err := w.b.serveIperf(w.b.v4); err != nil {
		return err
	}
	t.say("iperf3 by the relay")
	before, err := w.a.iperf(t.ctx, w.b.v4, t.span)
	if err != nil {
		return err
	}
	if via, err := w.via(); err != nil {
		return err
	} else if len(via) == 0 || slices.Contains(via, direct) {
		return fmt.Errorf("b is reached by %v, where there is but a relay", via)
	}
	began := time.Now()
	t.say("a cable from a to b, which have other addresses there")
	if err := cable(w.a.machine, w.b.machine, 99); err != nil {
		return err
	}
	err = until(t.ctx, directPatience, "the direct way is taken", func() error {
		via, err := w.via()
		if err == nil && !slices.Contains(via, direct) {
			err = fmt.Errorf("b is reached by %v", via)
		}
		return err
	})
	if err != nil {
		return err
	}
	t.atMost("DIRECT_AFTER_SECONDS", time.Since(began).Round(time.Second/10).Seconds(), directPatience.Seconds())
	t.say("iperf3 by the cable")
	after, err := w.a.iperf(t.ctx, w.b.v4, t.span)
	if err != nil {
		return err
	}
	t.say("%.0f MB/s by the relay, %.0f by the cable", before.rate(), after.rate())
	t.atLeast("DIRECT_OVER_RELAYED", after.rate()/before.rate(), leastFaster)
	return nil
}

// via are the ways by which a reaches b: relays, or direct.
func (w *world) via() (via []string, err error) {
	s, err := w.a.status()
	for _, p := range s.Peers {
		for _, path := range p.Paths {
			switch {
			case p.ID != w.b.id:
			case path.Relay.IsZero():
				via = append(via, direct)
			default:
				via = append(via, "relay "+path.Relay.Short())
			}
		}
	}
	return via, err
}
