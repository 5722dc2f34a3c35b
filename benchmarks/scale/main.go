// Command scale measures what many sessions, streams, paths and circuits cost,
// over loopback sockets and by the public API alone; docs/SCALE.md shows a run.
//
//	go run ./scale          # everything; eight minutes
//	go run ./scale -quick   # sizes up to 100
//
// Read main.go, what is measured and demanded; cases.go, how; relays.go, what
// runs in processes of its own; report.go.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"time"
)

// A kase measures one thing at growing sizes.
type kase struct {
	name, about string
	columns     []string // the first is the size
	sizes       []int
	measure     func(ctx context.Context, o options, n int) ([]float64, error)
}

var kases = []kase{
	{
		"sessions", "idle sessions with one listening node, a dialling node each",
		[]string{"sessions", "KiB a side", "KiB a side with the dialling node", "goroutines a side", "idle CPU ms/s per 1,000", "p50 ms", "p99 ms", "echo at the end", "wake-ups/s a side"},
		[]int{1, 10, 100, 1000, 10000}, sessions,
	},
	{
		"sides", "the same, with the dialling nodes in a process of their own",
		[]string{"sessions", "KiB listening", "of it stacks", "goroutines", "KiB dialling", "of it stacks", "goroutines"},
		[]int{100, 1000}, sides,
	},
	{
		"streams", "streams of one session, all busy, and the echo of one more",
		[]string{"streams", "MB/s", "KiB an idle stream a side", "p50 ms", "p99 ms", "p50 ms, all idle", "p99 ms, all idle"},
		[]int{1, 10, 100, 1000}, streams,
	},
	{
		"buffers", "MiB in the process before that many streams of a session were busy, meanwhile, and 25 s after",
		[]string{"streams", "before", "busy", "after", "RSS before", "RSS busy", "RSS after"},
		[]int{10, 100, 1000}, buffers,
	},
	{
		"paths", "one stream over that many relays at once, all in one process",
		[]string{"paths", "MB/s", "CPU s/GB", "KiB more when busy"},
		[]int{1, 2, 4, 8}, paths,
	},
	{
		"circuits", "circuits at one relay in a process of its own, a tenth of them busy; its sessions with both ends are part of what they cost",
		[]string{"circuits", "KiB idle", "KiB a tenth busy", "KiB of RSS", "goroutines", "MB/s", "p50 ms", "p99 ms", "relay's CPU s/GB"},
		[]int{1, 10, 100, 1000}, circuits,
	},
	{
		"relays", "64 busy circuits over that many relay processes, and the echo of 8 more",
		[]string{"relays", "MB/s", "p50 ms", "p99 ms"},
		[]int{1, 2, 4}, relays,
	},
}

// A bar is what a column of the largest size measured has to reach.
type bar struct {
	name, kase string
	column     int
	unit       string
	most       bool // it may be at most so much, not at least
	want       float64
	times      float64 // the column, to be in the unit; 0 means 1
}

var bars = []bar{
	{"IDLE_SESSION_KIB", "sessions", 1, "KiB a side", true, 32, 0},
	{"IDLE_SESSION_GOROUTINES", "sessions", 3, "a side", true, 3, 0},
	{"IDLE_DIALLER_KIB", "sides", 4, "KiB where it was dialled", true, 32, 0},
	{"IDLE_DIALLER_GOROUTINES", "sides", 6, "where it was dialled", true, 3, 0},
	{"SESSIONS", "sessions", 7, "that all echo", false, 10000, 0},
	{"CIRCUIT_KIB", "circuits", 2, "KiB of heap and stacks at the relay", true, 64, 0},
	{"IDLE_CPU", "sessions", 4, "CPU s a minute for both sides of 1,000", true, none, 0.06},
}

// judge is the line of a bar, empty when nothing was measured.
func (b bar) judge(tables []*table) string {
	for _, t := range tables {
		if t.Name != b.kase || len(t.Rows) == 0 {
			continue
		}
		row := t.Rows[len(t.Rows)-1]
		v, sign, word := row[b.column]*cmp.Or(b.times, 1), "≥", "ok"
		if b.want == none {
			return fmt.Sprintf("%s = %s %s, of %.0f (no bar)", b.name, number(v), b.unit, row[0])
		}
		if largest := largestOf(b.kase); row[0] < float64(largest) {
			return fmt.Sprintf("%s = %s %s, of %.0f (the bar is of %d)", b.name, number(v), b.unit, row[0], largest)
		}
		if b.most {
			sign = "≤"
		}
		if b.most && v > b.want || !b.most && v < b.want {
			word = "SHORT"
		}
		return fmt.Sprintf("%s = %s %s, of %.0f (bar %s %.0f) %s", b.name, number(v), b.unit, row[0], sign, b.want, word)
	}
	return ""
}

// largestOf is the largest size of the case, 0 when there is no such case.
func largestOf(name string) (n int) {
	for _, k := range kases {
		if k.name == name {
			n = slices.Max(k.sizes)
		}
	}
	return n
}

type options struct {
	only  *regexp.Regexp
	max   int
	quick bool
	out   string
	heap  string
	doc   string
	say   func(format string, args ...any)
}

func main() {
	if done, err := asChild(os.Args[1:]); done {
		if err != nil {
			fmt.Fprintln(os.Stderr, "scale:", err)
			os.Exit(1)
		}
		return
	}
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(2)
	}
	profile(o.heap)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := scale(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

func parse(args []string) (o options, err error) {
	f := flag.NewFlagSet("scale", flag.ContinueOnError)
	only := f.String("only", "", "only the cases that match this `regexp`")
	f.IntVar(&o.max, "max", 1<<30, "no size over this `number`")
	f.BoolVar(&o.quick, "quick", false, "sizes up to 100: three minutes")
	f.StringVar(&o.out, "out", "", "write scale.json, scale.md and scale.svg to this `directory` (default ../docs/scale, if all was measured)")
	f.StringVar(&o.heap, "heap", "", "write the heap profile of the idle sessions to this `file`, of sides the dialling one to FILE.dialler; the last size stays")
	f.StringVar(&o.doc, "markdown", "", "put the tables into this `file` too, between the lines "+docBegin+" and "+docEnd)
	f.Usage = func() {
		fmt.Fprint(f.Output(), `scale measures what many sessions, streams, paths and circuits cost.

It prints a table for each case, and then the figures that the project has to
reach: at the largest size that was measured. 10,000 sessions want 20,000
open files; what the limit does not allow is dialled by a second process.
Ctrl-C stops it, and it prints what it has. The record in docs is of whole runs
only: -out writes that of any other.

	go run ./scale                            all, eight minutes
	go run ./scale -quick -out /tmp/scale
	go run ./scale -only 'sessions|circuits' -max 1000 -out /tmp/scale
	go run ./scale -only sides -out /tmp/scale -heap heap.out && go tool pprof -top heap.out
	go run ./scale -markdown ../docs/SCALE.md  all, and the page that shows it

`)
		f.PrintDefaults()
		fmt.Fprintln(f.Output(), "\nCases:")
		for _, k := range kases {
			fmt.Fprintf(f.Output(), "  %-10s %s %v\n", k.name, k.about, k.sizes)
		}
	}
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("%q is no flag; see scale -h", f.Arg(0))
	}
	if o.quick { // what takes long is what is large
		o.max = min(o.max, 100)
	}
	if o.only, err = regexp.Compile(*only); err != nil {
		return o, fmt.Errorf("-only: %w", err)
	}
	if o.out == "" && *only == "" && o.max == 1<<30 {
		o.out = "../docs/scale"
	}
	if o.out != "" {
		if err := os.MkdirAll(o.out, 0o755); err != nil {
			return o, fmt.Errorf("-out: %w", err)
		}
	}
	o.say = func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, time.Now().Format(time.TimeOnly)+" "+format+"\n", args...)
	}
	return o, nil
}

// sizesFor are the sizes of k that the options leave.
func (o options) sizesFor(k kase) (sizes []int) {
	if !o.only.MatchString(k.name) {
		return nil
	}
	for _, n := range k.sizes {
		if n <= o.max {
			sizes = append(sizes, n)
		}
	}
	return sizes
}

// scale measures, and reports what it has even when something failed.
func scale(ctx context.Context, o options, out io.Writer) error {
	here := thisMachine(time.Now())
	var tables []*table
	var errs []error
	for _, k := range kases {
		sizes := o.sizesFor(k)
		if len(sizes) == 0 {
			continue
		}
		t := &table{Name: k.name, About: k.about, Columns: k.columns}
		tables = append(tables, t)
		for _, n := range sizes {
			if ctx.Err() != nil {
				break
			}
			o.say("%s: %d", k.name, n)
			row, err := k.measure(ctx, o, n)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %d: %w", k.name, n, err))
				continue
			}
			t.Rows = append(t.Rows, append([]float64{float64(n)}, row...))
		}
	}
	if len(tables) == 0 {
		return errors.New("-only and -max leave nothing; see scale -h")
	}
	if ctx.Err() != nil {
		errs = []error{errors.New("interrupted: what is printed was measured before")}
		if o.out == "../docs/scale" {
			o.out, o.doc = "", "" // what is there is whole
		}
	}
	return errors.Join(append(errs, report(o, here, tables, out))...)
}
