// Command split cuts a network of real nodes in two for a minute, again and again, and measures how long after each heal
// every node finds the newest record of every node of the other half, published while there was no way to it.
//
//	go run ./split            # as root, on Linux, with ip(8): half an hour
//	go run ./split -splits 2  # three minutes
//
// A node is a mesh.Node on WebSockets whose directory is a dht.DHT, and knows one other from the start. Each half is a
// process in a network namespace of its own, and each node in a /24 of its own; a third namespace routes between them:
//
//	198.18.i.1, left ── router ── right, 198.19.i.1
//
// The cut is that the router forwards nothing: packets vanish and nobody is told, as on the way through a provider. The
// namespaces have no names, so that they go with their processes, however these end.
//
// Read main.go, what is done and demanded; side.go, the half that is a process; namespace.go, the network.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// limit is within how long of a heal all is to be found.
	limit = 10 * time.Second
	// patience is how long it is looked for: how late it comes is worth knowing.
	patience = 3 * limit
)

type options struct {
	splits, nodes int
	cut           time.Duration
	debug         bool
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == sideCommand {
		serveSide()
		return
	}
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "split:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := split(ctx, o, os.Stdout, os.Stderr); err != nil {
		stop()
		fmt.Fprintln(os.Stderr, "split:", err)
		os.Exit(1)
	}
}

func parse(args []string) (o options, err error) {
	f := flag.NewFlagSet("split", flag.ContinueOnError)
	f.IntVar(&o.splits, "splits", 20, "`how often` the network is cut in two")
	f.IntVar(&o.nodes, "nodes", 50, "of how many `nodes`; an even number up to 500")
	f.DurationVar(&o.cut, "cut", time.Minute, "for `how long`")
	f.BoolVar(&o.debug, "debug", false, "show what the nodes log")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	switch {
	case f.NArg() > 0:
		return o, fmt.Errorf("%q is no flag; see split -h", f.Arg(0))
	case o.splits < 1 || o.nodes < 2 || o.nodes > 500 || o.nodes%2 != 0:
		return o, errors.New("there is to be one split at least, of 2 to 500 nodes, an even number")
	}
	return o, nil
}

// split does it all, and prints the figure to out and what goes on to log.
func split(ctx context.Context, o options, out, log io.Writer) error {
	w, err := newWorld(ctx, log)
	if err != nil {
		return err
	}
	defer w.close()
	if err := w.populate(o); err != nil {
		return err
	}
	records, err := w.publish(Publication{0, patience})
	if err != nil {
		return err
	}
	start := time.Now()
	ready, err := w.find(records, start)
	if err != nil {
		return err
	}
	if ready.Missing > 0 {
		return fmt.Errorf("the nodes do not find one another even before: %v", ready)
	}
	fmt.Fprintf(log, "%d nodes found one another: %v\n", o.nodes, ready)
	var all found
	for i := range o.splits {
		got, err := w.once(o)
		if err != nil {
			return fmt.Errorf("split %d of %d: %w", i+1, o.splits, err)
		}
		fmt.Fprintf(log, "split %d of %d: %v\n", i+1, o.splits, got)
		all.add(got.found)
	}
	worst := all.worst()
	verdict := "ok"
	if worst > limit || all.Missing > 0 {
		verdict = "FAILED"
	}
	fmt.Fprintf(out, "SPLIT_HEALED = %.2f s (bar ≤ %g) %s: the slowest of %d heals after %v, until each of %d nodes had the newest record of each of the other half; %v\n",
		worst.Seconds(), limit.Seconds(), verdict, o.splits, o.cut, o.nodes, all)
	if verdict != "ok" {
		return errors.New("SPLIT_HEALED missed its bar")
	}
	return nil
}

// A round is what one split showed.
type round struct {
	found
	cut       time.Duration // how long it was
	published Published     // meanwhile, by both sides
}

func (r round) String() string {
	p := r.published
	return fmt.Sprintf("cut for %.1f s; published in %.1f s at most, %d too late, %d attempts failed%v; found in %.2f s at most: %v", r.cut.Seconds(), p.Slowest.Seconds(), p.Late, p.Failed, causes(p.Causes), r.worst().Seconds(), r.found)
}

// once cuts the network, has every node publish, and heals it.
func (w *world) once(o options) (r round, err error) {
	begun := time.Now()
	if err := w.forward(false); err != nil {
		return r, err
	}
	records, err := w.publish(Publication{o.cut / 2, o.cut})
	if err != nil {
		return r, err
	}
	select {
	case <-time.After(time.Until(begun.Add(o.cut))):
	case <-w.ctx.Done():
		return r, context.Cause(w.ctx)
	}
	healed := time.Now()
	if err := w.forward(true); err != nil {
		return r, err
	}
	r.cut = healed.Sub(begun)
	for _, p := range records {
		r.published.add(p)
	}
	r.found, err = w.find(records, healed)
	return r, err
}

// both has each side do something, and waits for both.
func (w *world) both(do func(i int, s *side) error) error {
	var wg sync.WaitGroup
	errs := make([]error, len(w.sides))
	for i, s := range w.sides {
		wg.Go(func() { errs[i] = do(i, s) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// populate starts the nodes: the first of the left is whom all others know.
func (w *world) populate(o options) error {
	var first string
	for i, s := range w.sides {
		if err := s.call("Start", Plan{Nodes: o.nodes / 2, Net: nets[i], Bootstrap: first, Debug: o.debug}, &first); err != nil {
			return err
		}
	}
	return nil
}

// publish has every node publish a new record.
func (w *world) publish(p Publication) (out [2]Published, err error) {
	err = w.both(func(i int, s *side) error { return s.call("Publish", p, &out[i]) })
	return out, err
}

// find has every node look for the records of the other side, and tells how long that took from since on.
func (w *world) find(records [2]Published, since time.Time) (all found, err error) {
	var out [2]Found
	err = w.both(func(i int, s *side) error {
		return s.call("Find", Wanted{records[1-i].Sequences, since, patience}, &out[i])
	})
	for _, f := range out {
		all.add(found(f))
	}
	return all, err
}

func (p *Published) add(q Published) {
	p.Slowest = max(p.Slowest, q.Slowest)
	p.Late += q.Late
	p.Failed += q.Failed
	p.Causes = sum(p.Causes, q.Causes)
}

// found adds up what was found.
type found Found

func (f *found) add(g found) {
	f.Took = append(f.Took, g.Took...)
	f.Missing += g.Missing
	f.Stale += g.Stale
	f.Failed += g.Failed
	f.Causes = sum(f.Causes, g.Causes)
}

func (f found) worst() time.Duration {
	if f.Missing > 0 {
		return patience
	}
	return slices.Max(f.Took)
}

func (f found) String() string {
	slices.Sort(f.Took)
	s := fmt.Sprintf("%d found", len(f.Took))
	if last := len(f.Took) - 1; last >= 0 {
		s += fmt.Sprintf(", half of them within %.2f s and 99 %% within %.2f s", f.Took[last/2].Seconds(), f.Took[last*99/100].Seconds())
	}
	if f.Missing > 0 {
		s += fmt.Sprintf(", %d not found in %v", f.Missing, patience)
	}
	return s + fmt.Sprintf("; lookups before that: %d with an older record, %d failed%v", f.Stale, f.Failed, causes(f.Causes))
}

// causes is how often what went wrong.
type causes map[string]int

func (c causes) String() string {
	var all []string
	for _, cause := range slices.Sorted(maps.Keys(c)) {
		all = append(all, fmt.Sprintf("%d × %s", c[cause], cause))
	}
	if len(all) == 0 {
		return ""
	}
	return " (" + strings.Join(all, ", ") + ")"
}

// sum adds up both.
func sum(a, b map[string]int) map[string]int {
	out := maps.Clone(a)
	if out == nil {
		out = make(map[string]int)
	}
	for k, n := range b {
		out[k] += n
	}
	return out
}
