package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"time"
)

// options are what the command line asks for.
type options struct {
	quick   bool
	rounds  int
	only    *regexp.Regexp // nil: what is usual
	out     string         // "": nowhere
	whole   bool           // nothing is left out of what is usual
	floors  string
	profile string
	list    bool
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == sampleFlag {
		if err := serveSample(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := compare(ctx, o, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

func parse(args []string) (o options, err error) {
	f := flag.NewFlagSet("compare", flag.ContinueOnError)
	f.BoolVar(&o.quick, "quick", false, "only what the bars need, and shorter samples: a minute")
	f.IntVar(&o.rounds, "rounds", 0, "so many `rounds` (default 5, with -quick 3)")
	f.StringVar(&o.out, "out", "", "write the record and the chart to this `directory` (default \"results\", if nothing was left out, interrupted or profiled)")
	f.StringVar(&o.floors, "floors", "", "exit with 1 when a figure fell through its floor in this `file`")
	f.StringVar(&o.profile, "profile", "", "take one sample of the one that -only picks, and write its CPU profile to this `file`")
	f.BoolVar(&o.list, "list", false, "print the names of all there is, as CASE/SYSTEM, and do nothing")
	only := f.String("only", "", "only the CASE/SYSTEM that match this `regexp`, whether or not -quick has them")
	f.Usage = func() {
		fmt.Fprint(f.Output(), `compare measures splitmesh beside TLS, WebSockets, go-libp2p and WireGuard.

It prints a table of medians, with what they cost and how far samples lay apart,
and then the ratios that the project has to reach. Samples that others on the
machine disturbed are taken anew while there is time; where not, they count only where
there are no others. Ctrl-C stops it, and it prints what it has. The record in
results is of whole runs only: -out writes that of any other.

	go run ./compare                                    all, half an hour
	go run ./compare -quick -floors floors.json         as CI does
	go run ./compare -only 'bulk-.*/(tls|splitmesh-ws)$'
	go run ./compare -only 'bulk-out/splitmesh-ws$' -profile cpu.out && go tool pprof -top cpu.out

`)
		f.PrintDefaults()
		fmt.Fprintln(f.Output(), "\nSystems:")
		for _, s := range systems {
			fmt.Fprintf(f.Output(), "  %-24s %s\n", s.name, s.about)
		}
		fmt.Fprintln(f.Output(), "\nCases:")
		for _, k := range cases {
			fmt.Fprintf(f.Output(), "  %-24s %s, %s\n", k.name, k.about, k.unit)
		}
	}
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("%q is no flag; see compare -h", f.Arg(0))
	}
	if *only != "" {
		if o.only, err = regexp.Compile(*only); err != nil {
			return o, fmt.Errorf("-only: %w", err)
		}
	}
	usual := 5
	if o.quick {
		usual = 3
	}
	switch {
	case !given(f, "rounds"):
		o.rounds = usual
	case o.rounds < 1:
		return o, fmt.Errorf("-rounds %d: there must be one at least", o.rounds)
	}
	o.whole = o.only == nil && o.rounds >= usual && o.profile == ""
	if o.out == "" && o.whole {
		o.out = "results"
	}
	if !o.list {
		if err := canWrite(o.out); err != nil {
			return o, fmt.Errorf("-out: %w", err)
		}
	}
	if o.profile != "" {
		o.rounds = 1
		if o.profile, err = filepath.Abs(o.profile); err != nil {
			return o, err
		}
		if _, err := os.Stat(filepath.Dir(o.profile)); err != nil {
			return o, fmt.Errorf("-profile: %w", err)
		}
	}
	return o, nil
}

// given says whether the flag is on the command line.
func given(f *flag.FlagSet, name string) (ok bool) {
	f.Visit(func(g *flag.Flag) { ok = ok || g.Name == name })
	return ok
}

// canWrite makes the directory, if any, and finds out in time whether it takes files.
func canWrite(dir string) error {
	if dir == "" {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".writable-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// compare does what the options say. The error says that a sample failed, or
// that a figure fell through its floor.
func compare(ctx context.Context, o options, out, progress io.Writer) error {
	var under floors
	if o.floors != "" {
		var err error
		if under, err = readFloors(o.floors); err != nil {
			return err
		}
	}
	ps, missing := possible(pairings(o.quick, o.only))
	for _, name := range byName(missing) {
		fmt.Fprintf(progress, "%s is left out: %s\n", name, missing[name])
	}
	switch {
	case o.list:
		for _, p := range ps {
			fmt.Fprintln(out, p)
		}
		return nil
	case len(ps) == 0:
		return errors.New("-only matches nothing; see -list")
	case o.profile != "" && len(ps) != 1:
		return fmt.Errorf("-profile is of one case of one system, and -only picks %d; see -list", len(ps))
	}
	r := &run{pairings: ps, rounds: o.rounds, quick: o.quick, profile: o.profile, progress: progress, take: take, wait: pause, retakes: 20 * time.Minute}
	if o.quick {
		r.retakes = 12 * time.Second
	}
	here := thisMachine(time.Now())
	r.all(ctx)
	r.secondThoughts(ctx, under, o.only != nil)
	interrupted := ctx.Err() != nil
	if interrupted && o.out == "results" {
		o.out = "" // what is there is whole
	}
	err := r.report(o, under, here, missing, out)
	if interrupted {
		err = errors.Join(errors.New("interrupted: what is printed is of the samples taken before"), err)
	}
	return err
}

// possible leaves out the systems that can't run here.
func possible(ps []pairing) (can []pairing, missing map[string]string) {
	missing = make(map[string]string)
	for _, p := range ps {
		if p.system.missing != nil {
			if err := p.system.missing(); err != nil {
				missing[p.system.name] = err.Error()
				continue
			}
		}
		can = append(can, p)
	}
	return can, missing
}

// report prints and writes what the run found.
func (r *run) report(o options, under floors, here machine, missing map[string]string, out io.Writer) error {
	sum := summarise(r.samples)
	fmt.Fprintf(out, "%d × %s, %s, Linux %s, %s, %s\n", here.CPUs, here.CPU, here.OS, here.Kernel, here.Go, here.Date)
	printTable(out, r.pairings, sum)
	var failed, noisy int
	for _, s := range r.samples {
		if s.Error != "" {
			failed++
		}
		if s.Noisy {
			noisy++
		}
	}
	fmt.Fprintf(out, "\n%d samples, of which %d failed and %d are noisy. During a noisy one other processes used over %.0f %% of the machine: it counts only where there is no other.\n",
		len(r.samples), failed, noisy, 100*tooMuch)
	name := "compare"
	if o.quick {
		name = "quick"
	}
	ratios := printBars(out, sum, o.only != nil)
	kept := &record{Machine: here, Quick: o.quick, Rounds: o.rounds, Whole: o.whole, Ratios: ratios, Missing: missing, Samples: r.samples}
	var errs []error
	if o.out == "" {
		fmt.Fprintln(r.progress, "not a whole run: no record was written; -out DIRECTORY writes one")
	} else {
		file := filepath.Join(o.out, name)
		errs = append(errs, kept.write(file+".json"), writeChart(file+".svg", here, sum))
		fmt.Fprintf(r.progress, "the record is in %s.json, its chart in %[1]s.svg\n", file)
	}
	if failed > 0 {
		errs = append(errs, fmt.Errorf("%d samples failed", failed))
	}
	// Others who keep the machine busy prove nothing about the code, but that is said.
	fallen, of := under.broken(sum, o.only != nil)
	for i, line := range fallen {
		if of[i].noisy(sum) {
			fmt.Fprintf(r.progress, "%s: not taken for a failure\n", line)
		} else {
			errs = append(errs, fmt.Errorf("%s: %s", o.floors, line))
		}
	}
	if len(under) > 0 {
		fmt.Fprintf(r.progress, "%s: %d of %d floors were measured, %d hold\n", o.floors, under.measured(sum), len(under), under.measured(sum)-len(fallen))
	}
	return errors.Join(errs...)
}
