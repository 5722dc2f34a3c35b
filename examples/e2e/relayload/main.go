// Relayload puts one meshrelay under load: so many circuits at once, whose peers come and go, each of which sends blocks
// there and back and looks at every byte.
//
//	go run ./examples/e2e/relayload -circuits 1000 -for 10m
//
// The relay is a process of its own, built from this tree; all peers are in this one, and use the public API alone. It
// prints the figures that count, and its exit status is 1 if one of them misses its bar. Read main.go, what is demanded;
// peers.go, the load; relay.go, the process; prometheus.go, who watches it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const maxKiB = 64 // of resident memory, a circuit

type options struct {
	circuits int
	lasts    time.Duration
	life     time.Duration
	relay    string
	watched  bool // by Prometheus
}

func main() {
	var o options
	flag.IntVar(&o.circuits, "circuits", 1000, "how many at once, 10 to 8000")
	flag.DurationVar(&o.lasts, "for", time.Minute, "how long it lasts once all are there")
	flag.DurationVar(&o.life, "life", time.Minute, "how long a dialling peer stays, on the average")
	flag.StringVar(&o.relay, "relay", "", "the meshrelay to run (default: it is built)")
	flag.BoolVar(&o.watched, "prometheus", false, "have a Prometheus scrape the relay meanwhile")
	flag.Parse()
	if o.circuits < 10 || o.circuits > 8000 || o.lasts <= 0 || o.life < time.Second || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "relayload: -circuits is 10 to 8000, -for above 0, -life 1s and more; nothing else")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	f, err := load(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "relayload:", err)
	}
	if !f.judge(o) || err != nil {
		stop()
		os.Exit(1)
	}
}

// figures are what came of it.
type figures struct {
	circuits int     // the least of all seconds
	kib      float64 // the most
	lost     int64   // bytes
	scraped  scraped
}

// load runs it all.
func load(ctx context.Context, o options) (f figures, err error) {
	r, err := startRelay(ctx, o)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, r.stop()) }()
	var p *prometheus
	if o.watched {
		if p, err = startPrometheus(ctx, r); err != nil {
			return f, err
		}
		defer func() { err = errors.Join(err, p.stop()) }()
	}
	crowd, err := newCrowd(ctx, o, r.addr)
	if err != nil {
		return f, err
	}
	defer crowd.close()
	before, err := r.sample(ctx)
	if err != nil {
		return f, err
	}
	begin := time.Now()
	if err := crowd.gather(ctx); err != nil {
		return f, err
	}
	fmt.Printf("# %d circuits after %v; the relay had %.1f MiB before\n", o.circuits, time.Since(begin).Round(time.Second), before.mib)
	f, err = watch(ctx, o, r, crowd, before)
	if p != nil && err == nil {
		f.scraped, err = p.result(ctx)
	}
	crowd.close()
	t := &crowd.tally
	f.lost = t.lost.Load()
	fmt.Printf("# %d peers came and went, %d blocks and %.1f MiB there and back\n", t.gone.Load(), t.blocks.Load(), float64(t.echoed.Load())/(1<<20))
	return f, err
}

// judge prints the figures with their bars, and reports whether all were reached.
func (f figures) judge(o options) bool {
	ok := true
	bar := func(reached bool) string {
		if ok = ok && reached; !reached {
			return " SHORT"
		}
		return ""
	}
	fmt.Printf("RELAY_CIRCUITS = %d (bar >= %d)%s\n", f.circuits, o.circuits, bar(f.circuits >= o.circuits))
	fmt.Printf("RELAY_CIRCUIT_KIB = %.1f (bar <= %d)%s\n", f.kib, maxKiB, bar(f.kib <= maxKiB))
	fmt.Printf("RELAY_LOST = %d (bar <= 0)%s\n", f.lost, bar(f.lost == 0))
	if o.watched {
		fmt.Printf("# %.0f scrapes by Prometheus\n", f.scraped.scrapes)
		fmt.Printf("RELAY_SCRAPES_MISSED = %.0f (bar <= 0)%s\n", f.scraped.missed, bar(f.scraped.scrapes > 0 && f.scraped.missed == 0))
		fmt.Printf("RELAY_SCRAPED_CIRCUITS = %.0f (bar >= %d)%s\n", f.scraped.circuits, o.circuits, bar(f.scraped.circuits >= float64(o.circuits)))
	}
	return ok
}

// watch looks at the relay every second: what its memory was at worst for each circuit, and how many these were at least.
func watch(ctx context.Context, o options, r *relay, crowd *crowd, before sample) (f figures, err error) {
	ctx, cancel := context.WithTimeout(ctx, o.lasts)
	defer cancel()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	f.circuits = 1 << 30
	for n := 1; ; n++ {
		now, err := r.sample(ctx)
		if ctx.Err() != nil {
			return f, nil
		}
		if err != nil {
			return f, err
		}
		f.circuits = min(f.circuits, now.circuits)
		f.kib = max(f.kib, (now.mib-before.mib)*1024/float64(max(1, now.circuits)))
		if n%30 == 0 {
			fmt.Printf("# %d circuits, %.1f MiB, %d lost\n", now.circuits, now.mib, crowd.tally.lost.Load())
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return f, nil
		}
	}
}
