// Privacy measures what one relay can tell of what was sent through it: how
// often the classifier of k-fingerprinting, trained on the defended traffic,
// tells which of 100 pages a client loaded. From the benchmarks module:
//
//	go run ./privacy        # all of it: prints the figures and draws docs/experiments/privacy.svg
//	go run ./privacy -quick # a small form: figures that mean little, in seconds
//	go run ./privacy -sweep # other settings of Unlinkability beside the chosen
//
// The pages are made, not recorded, and the links are modelled; splitting and
// padding are the library's own, in virtual time. The same seed gives the same
// figures.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
)

// What the figures must come to.
const (
	leastUndefended   = 0.95 // below it the experiment shows nothing
	mostUnlinkability = 0.16 // TrafficSliver's figure for splitting alone
	aim               = 0.12
	mostOverhead      = 0.20
)

func main() {
	small := flag.Bool("quick", false, "a small form, whose figures mean little")
	sweep := flag.Bool("sweep", false, "show other settings of Unlinkability")
	seed := flag.Uint64("seed", 1, "the seed of pages, visits, links and trees")
	svg := flag.String("svg", "../docs/experiments/privacy.svg", "where to draw the chart; empty for nowhere")
	flag.Parse()
	sc := full
	if *small {
		sc, *svg = quick, ""
	}
	sc.seed = *seed
	if *sweep {
		// Half of it is enough to compare by.
		sc.visits, sc.trees = sc.visits/2, sc.trees/2
		show(os.Stdout, sc)
		return
	}
	bars, err := run(os.Stdout, sc)
	if *svg != "" {
		err = errors.Join(err, save(*svg, bars, sc))
	}
	if err != nil && !*small {
		log.Fatal(err)
	}
}

// run is the experiment. Its error says which bars were missed.
func run(w io.Writer, sc scale) ([]bar, error) {
	fmt.Fprintf(w, "privacy: seed %d, %d pages, %d visits each, %d trees\n", sc.seed, sc.classes, sc.visits, sc.trees)
	plain := carry(undefended(), sc)
	alone, _ := plain.relays()
	fmt.Fprintf(w, "PRIVACY_UNDEFENDED = %.3f (bar ≥ %.2f)\n", alone, leastUndefended)
	bars := []bar{{name: "undefended, one relay", accuracy: alone}}

	for _, c := range []struct {
		d          *defence
		name, line string
	}{
		{striped(), "striped over 5", "STRIPED"},
		{secrecy(), "secrecy, 2 of 3", "SECRECY"},
		{split(), "split into cells over 5", "SPLIT_UNPADDED"},
	} {
		t := carry(c.d, sc)
		mean, most := t.relays()
		fmt.Fprintf(w, "PRIVACY_%s = %.3f (no bar; %.3f by the relay that saw the most; overhead %.3f)\n",
			c.line, mean, most, t.bytes/plain.bytes-1)
		bars = append(bars, bar{c.name, mean, t.bytes/plain.bytes - 1})
	}

	t := carry(unlinkability(), sc)
	mean, most := t.relays()
	overhead := t.bytes/plain.bytes - 1
	fmt.Fprintf(w, "PRIVACY_UNLINKABILITY = %.3f (bar ≤ %.2f, aim ≤ %.2f)\n", mean, mostUnlinkability, aim)
	fmt.Fprintf(w, "PRIVACY_UNLINKABILITY_OVERHEAD = %.3f (bar ≤ %.2f)\n", overhead, mostOverhead)
	fmt.Fprintf(w, "PRIVACY_UNLINKABILITY_DURATION = %.2f (no bar; times the undefended)\n", t.seconds/plain.seconds)
	fmt.Fprintf(w, "PRIVACY_UNLINKABILITY_MOST_SEEING = %.3f (no bar; the relay that saw the most of each visit)\n", most)
	fmt.Fprintf(w, "PRIVACY_UNLINKABILITY_POOLED = %.3f (no bar; one relay, trained on what all saw)\n", t.pooled())
	bars = append(bars, bar{"unlinkability over 5", mean, overhead})
	for n := 2; n <= t.defence.relays; n++ {
		a := t.together(n)
		fmt.Fprintf(w, "PRIVACY_UNLINKABILITY_%d_RELAYS = %.3f (no bar; so many of %d together)\n", n, a, t.defence.relays)
		bars = append(bars, bar{fmt.Sprintf("… %d of them together", n), a, overhead})
	}

	var err error
	if alone < leastUndefended {
		err = errors.Join(err, fmt.Errorf("the experiment is void: %.3f undefended, want at least %.2f", alone, leastUndefended))
	}
	if mean > mostUnlinkability {
		err = errors.Join(err, fmt.Errorf("unlinkability is %.3f, want at most %.2f", mean, mostUnlinkability))
	}
	if overhead > mostOverhead {
		err = errors.Join(err, fmt.Errorf("its overhead is %.3f, want at most %.2f", overhead, mostOverhead))
	}
	return bars, err
}

// show prints a line for each other setting.
func show(w io.Writer, sc scale) {
	base := carry(undefended(), sc)
	for _, d := range append([]*defence{split(), unlinkability()}, alternatives()...) {
		t := carry(d, sc)
		mean, most := t.relays()
		fmt.Fprintf(w, "%-22s accuracy %.3f, of the relay that saw the most %.3f, overhead %.3f, duration × %.2f\n",
			d.name, mean, most, t.bytes/base.bytes-1, t.seconds/base.seconds)
	}
}

func save(path string, bars []bar, sc scale) error {
	var b bytes.Buffer
	caption := fmt.Sprintf("k-fingerprinting's forest, closed world of %d pages, %d visits each, mean over the relays, seed %d", sc.classes, sc.visits, sc.seed)
	if err := draw(&b, bars, mostUnlinkability, caption); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = b.WriteTo(f)
	return errors.Join(err, f.Close())
}
