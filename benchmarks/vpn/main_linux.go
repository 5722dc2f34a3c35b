package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func main() {
	var o options
	flag.StringVar(&o.meshvpn, "meshvpn", "", "meshvpn's program (default: it is built)")
	flag.IntVar(&o.mtu, "mtu", 1420, "of both devices")
	flag.IntVar(&o.rounds, "rounds", 5, "how often each is measured")
	flag.DurationVar(&o.span, "span", 3*time.Second, "for how long, after it has warmed up")
	flag.StringVar(&o.way, "way", "direct,relayed", "which of direct, relayed and routed")
	role := flag.String("role", "", "what this process is for the one that measures")
	flag.Parse()
	var err error
	switch *role {
	case "":
		err = o.run()
	case "relay":
		err = relay()
	case "wireguard":
		err = wireguard(o.mtu)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "vpn:", err)
		os.Exit(1)
	}
}

type options struct {
	meshvpn, way string
	mtu, rounds  int
	span         time.Duration
}

// bar is the least that meshvpn carries of what wireguard-go does.
const bar = 1.0

func (o *options) run() (err error) {
	if os.Geteuid() != 0 {
		return errors.New("it needs root, to make network namespaces")
	}
	w, err := newWorld()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	if o.meshvpn == "" {
		o.meshvpn = filepath.Join(w.dir, "meshvpn")
		if out, err := exec.Command("go", "build", "-o", o.meshvpn, "github.com/splitmesh/splitmesh/examples/meshvpn").CombinedOutput(); err != nil {
			return fmt.Errorf("building meshvpn (from within the repository, or give it with -meshvpn): %w\n%s", err, out)
		}
	}
	worst := 0.0
	for way := range strings.SplitSeq(o.way, ",") {
		ratio, err := o.compare(w, way)
		if err != nil {
			return fmt.Errorf("%s: %w", way, err)
		}
		if worst == 0 || ratio < worst {
			worst = ratio
		}
	}
	fmt.Printf("TUN_OVER_WIREGUARD_GO = %.2f (bar >= %.1f)\n", worst, bar)
	if worst < bar {
		return errors.New("the bar is not met")
	}
	return nil
}

// compare measures one way and prints what came of it.
func (o *options) compare(w *world, way string) (ratio float64, err error) {
	ours, err := w.startMesh(way, o)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, ours.stop()) }()
	theirs, err := w.startWireguard(way, o)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, theirs.stop()) }()
	rates, perCPU := make(map[*tunnel][]float64), make(map[*tunnel][]float64)
	for range o.rounds {
		for _, t := range []*tunnel{ours, theirs} {
			rate, per, err := w.carry(t, o.span)
			if err != nil {
				return 0, fmt.Errorf("%s: %w", t.name, err)
			}
			rates[t], perCPU[t] = append(rates[t], rate), append(perCPU[t], per)
		}
	}
	for _, t := range []*tunnel{ours, theirs} {
		fmt.Printf("%-8s %-13s %5.0f MB/s  of %4.0f, %5.0f MB for a second of CPU\n", way, t.name, median(rates[t]), rates[t], median(perCPU[t]))
	}
	ratio = median(rates[ours]) / median(rates[theirs])
	fmt.Printf("%-8s ratio %.2f\n", way, ratio)
	return ratio, nil
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}
