// Command sim measures lookups in the DHT on networks of up to 10,000 nodes, with liars, with churn and under an attack
// on one key. Tables, lookups and stores are package internal/kad's, which is what nodes run; only the network between
// them is missing. The same seed gives the same figures.
//
//	go run ./sim          # all of it: prints the figures and draws docs/dht
//	go run ./sim -quick   # 500 nodes, in seconds: figures that show little
//
// Read world.go, the network; experiments.go, what is done to it; main.go, what is demanded; chart.go.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"time"

	"github.com/splitmesh/splitmesh/internal/kad"
)

type options struct {
	seed    uint64
	nodes   int
	lookups int
	only    *regexp.Regexp
	out     string
}

func main() {
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "sim:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "sim:", err)
		os.Exit(1)
	}
}

func parse(args []string) (o options, err error) {
	f := flag.NewFlagSet("sim", flag.ContinueOnError)
	quick := f.Bool("quick", false, "500 nodes and few lookups, whose figures show little, and no charts")
	f.Uint64Var(&o.seed, "seed", 1, "the `seed` of keys, joins, lookups and liars")
	only := f.String("only", "", "only the experiments that match this `regexp`: growth, liars, churn, eclipse")
	f.StringVar(&o.out, "out", "", "draw the charts in this `directory` (default ../docs/dht, if all is done)")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("%q is no flag; see sim -h", f.Arg(0))
	}
	if o.only, err = regexp.Compile(*only); err != nil {
		return o, fmt.Errorf("-only: %w", err)
	}
	o.nodes, o.lookups = 10_000, 2000
	if *quick {
		o.nodes, o.lookups = 500, 300
	} else if o.out == "" && *only == "" {
		o.out = "../docs/dht"
	}
	return o, nil
}

// A figure is one that is printed.
type figure struct {
	name  string
	value float64
	bar   string // such as "≥ 0.99"; "" for none
	ok    bool
	about string
}

func (f figure) String() string {
	bar, verdict := "no bar", ""
	if f.bar != "" {
		bar, verdict = "bar "+f.bar, " SHORT"
		if f.ok {
			verdict = " ok"
		}
	}
	return strings.TrimSuffix(fmt.Sprintf("%s = %.4g (%s)%s: %s", f.name, f.value, bar, verdict, f.about), ": ")
}

func atLeast(name string, v, want float64, about string) figure {
	return figure{name, v, fmt.Sprintf("≥ %g", want), v >= want, about}
}

func atMost(name string, v, want float64, about string) figure {
	return figure{name, v, fmt.Sprintf("≤ %g", want), v <= want, about}
}

func told(name string, v float64, about string) figure {
	return figure{name: name, value: v, about: about}
}

// A lab does the experiments and collects what they find.
type lab struct {
	options
	ctx      context.Context
	out, log io.Writer
	short    []string
	curves   map[string][]point
}

// A point is success and hops at some place of an axis.
type point struct{ x, success, hops, hops99 float64 }

func (l *lab) show(fs ...figure) {
	for _, f := range fs {
		fmt.Fprintln(l.out, f)
		if f.bar != "" && !f.ok {
			l.short = append(l.short, f.name)
		}
	}
}

func (l *lab) say(format string, args ...any) {
	fmt.Fprintf(l.log, time.Now().Format(time.TimeOnly)+" "+format+"\n", args...)
}

func run(ctx context.Context, o options, out, log io.Writer) error {
	l := &lab{options: o, ctx: ctx, out: out, log: log, curves: make(map[string][]point)}
	fmt.Fprintf(out, "k = replicas = %d, d = %d disjoint paths, α = %d on each, at most %d of a network in a bucket, a path and a record's nodes, %d in a table; seed %d\n",
		kad.K, kad.Paths, kad.Alpha, kad.MaxGroup, kad.MaxGroupTable, o.seed)
	for _, e := range []struct {
		name string
		do   func(*lab)
	}{{"growth", growth}, {"liars", liars}, {"churn", churn}, {"eclipse", eclipse}} {
		if o.only.MatchString(e.name) && ctx.Err() == nil {
			e.do(l)
		}
	}
	if ctx.Err() != nil {
		return errors.New("interrupted: what is printed was measured before")
	}
	if o.out != "" {
		if err := l.draw(); err != nil {
			return err
		}
	}
	if len(l.short) > 0 && o.nodes == 10_000 {
		return fmt.Errorf("short of its bar: %s", strings.Join(l.short, ", "))
	}
	return nil
}
