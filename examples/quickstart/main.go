// Quickstart sends a file from one key to another over three relays at once,
// kills one of the relays half way, and shows that not a byte is lost:
//
//	go run ./examples/quickstart                  256 MiB of random data
//	go run ./examples/quickstart -size 1GiB
//	go run ./examples/quickstart FILE
//	go run ./examples/quickstart -repeat 100 -size 32MiB
//
// Three relays, one to spare, a receiver and a sender are processes of their own
// that know of each other what a stranger would: the relays' addresses, and a
// key. They talk over real WebSockets on the loopback interface. The sender may
// use nothing but relays, three of them at a time, and no relay may carry much
// more than a third. As soon as half of the file has arrived, the program kills
// one of those that have carried at least a tenth of it; the sender finds that
// out by itself, and the spare takes the dead one's place. What had been on its
// way through the dead relay is sent again over the others.
//
// Progress goes to stderr: a block that is redrawn on a terminal, plain lines
// elsewhere. The last line on stdout is
//
//	PASS sha256=… bytes=… relays=3 largest-share=…% killed=1 seconds=…
//
// and the exit status 0, when all of these hold:
//
//   - What arrived has the size and the SHA-256 of what was sent. The receiver
//     and the sender each compute their own, while the file goes by.
//   - The largest share of all that was sent (what was sent twice counts twice)
//     that any one relay carried is at most 40 %: in general a fifteenth more
//     than an even share.
//   - The relay was killed when at least a tenth of the file had come through it
//     and at least a tenth was still to come, and the spare carried the rest.
//     With -kill=false none is.
//
// Otherwise the last line is "FAIL: why" and the exit status 1, or 130 after
// Ctrl-C. No process outlives the program, however it ends.
//
// What it shows that an application needs is in two files: receiver.go listens
// by name, sender.go dials a key over relays. The rest starts processes, kills one
// of them and keeps the score.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(playRole(role))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C is not caught
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// Exit statuses.
const (
	statusPass        = 0
	statusFail        = 1
	statusInterrupted = 130 // what a shell reports of a program that SIGINT ended
)

// run is the program: what it returns is its exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parseArgs(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return statusPass
	}
	var verdict string
	if err == nil {
		verdict, err = o.run(ctx, stdout, stderr)
	}
	switch {
	case err == nil:
		fmt.Fprintln(stdout, verdict)
		return statusPass
	case ctx.Err() != nil:
		fmt.Fprintln(stdout, "FAIL: interrupted")
		return statusInterrupted
	default:
		fmt.Fprintln(stdout, "FAIL: "+oneLine(err.Error()))
		return statusFail
	}
}

// Bounds of what may be asked for. Of a few mebibytes, the share of a relay is a
// matter of a few frames and says nothing.
const (
	minSize   = 4 << 20
	maxSize   = 1 << 40
	maxRelays = 7 // a session has eight paths, and the spare needs one
	maxRepeat = 10_000
)

// options are the command line.
type options struct {
	relays int
	size   int64
	kill   bool
	repeat int
	file   string // empty: random data
	out    string // empty: what arrives is not kept

	exe   string                                   // the program that plays the roles: this one
	stall time.Duration                            // how long nothing may arrive
	via   func(relay string) (string, error)       // of a test: where to reach a relay instead
	half  func(ctx context.Context, g *game) error // of a test: called where a relay is killed
}

const usage = `usage: quickstart [flags] [FILE]

Sends FILE, or random data, from one key to another over several relays at
once, kills a relay half way, and checks that every byte arrived once.

  -relays N     relays to split over, 1 to 7 (default 3); one more stands by
  -size SIZE    how much random data to send when there is no FILE: a number of
                bytes, or with KB, MB, GB, TB (powers of 1000) or KiB, MiB, GiB,
                TiB (powers of 1024); 4MiB to 1TiB (default 256MiB)
  -kill=false   let all relays live
  -repeat N     do it all N times, with another random victim each time
  -out PATH     keep what arrives; PATH must not exist yet

Progress is on stderr. The last line on stdout is PASS and what was measured
(exit status 0), or FAIL and the reason (1, or 130 after Ctrl-C).
`

// parseArgs reads the command line. Its errors are for people.
func parseArgs(args []string, stderr io.Writer) (*options, error) {
	o := &options{size: 256 << 20, stall: stallLimit}
	set := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.IntVar(&o.relays, "relays", 3, "")
	set.BoolVar(&o.kill, "kill", true, "")
	set.IntVar(&o.repeat, "repeat", 1, "")
	set.StringVar(&o.out, "out", "", "")
	set.Func("size", "", func(s string) (err error) {
		o.size, err = parseSize(s)
		return err
	})
	if err := set.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprint(stderr, usage)
			return nil, err
		}
		return nil, fmt.Errorf("%w; -h shows what there is", err)
	}
	sized := false
	set.Visit(func(f *flag.Flag) { sized = sized || f.Name == "size" })
	o.file = set.Arg(0)
	switch {
	case set.NArg() > 1:
		return nil, fmt.Errorf("one FILE at most can be sent, after the flags; there are %d arguments", set.NArg())
	case set.NArg() == 1 && o.file == "":
		return nil, errors.New("the name of FILE is empty")
	case o.file != "" && sized:
		return nil, errors.New("-size is for random data; a FILE has its own")
	case o.relays < 1 || o.relays > maxRelays:
		return nil, fmt.Errorf("-relays is %d, want 1 to %d", o.relays, maxRelays)
	case o.relays == 1 && o.kill:
		return nil, errors.New("with one relay there is none left to go on with when it is killed; add -kill=false")
	case o.repeat < 1 || o.repeat > maxRepeat:
		return nil, fmt.Errorf("-repeat is %d, want 1 to %d", o.repeat, maxRepeat)
	case o.repeat > 1 && o.out != "":
		return nil, errors.New("-out keeps what one run brings; leave out -repeat")
	}
	var err error
	if o.exe, err = os.Executable(); err != nil {
		return nil, fmt.Errorf("can't find this program's own file, which plays the relays too: %w", err)
	}
	return o, nil
}

// run plays as often as asked and returns the PASS line.
func (o *options) run(ctx context.Context, stdout, stderr io.Writer) (string, error) {
	var all score
	for i := range o.repeat {
		var show *display
		if o.repeat == 1 {
			show = newDisplay(stderr)
		} else {
			show = newDisplay(io.Discard)
		}
		one, err := o.once(ctx, show)
		if err != nil && o.repeat > 1 {
			err = fmt.Errorf("run %d of %d: %w", i+1, o.repeat, err)
		}
		if err != nil {
			return "", err
		}
		if o.repeat == 1 {
			return one.String(), nil
		}
		fmt.Fprintf(stdout, "%d/%d %v %s\n", i+1, o.repeat, one, one.killing())
		all.add(one)
	}
	return all.summary(), nil
}

// once plays one game, and keeps or removes what arrived.
func (o *options) once(ctx context.Context, show *display) (*score, error) {
	if o.file != "" {
		size, err := checkFile(o.file)
		if err != nil {
			return nil, err
		}
		o.size = size
	}
	if o.out != "" {
		f, err := os.OpenFile(o.out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return nil, fmt.Errorf("-out: can't create a new file: %w", err)
		}
		f.Close()
	}
	g := newGame(o, show)
	s, err := g.play(ctx)
	show.finish()
	if err != nil && o.out != "" {
		os.Remove(o.out)
	}
	return s, err
}

// stallLimit is how long a run may go without a byte arriving.
const stallLimit = 30 * time.Second
