package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/dustin/go-humanize"
)

// A scenario is what is played once, in a world of its own.
type scenario struct {
	name, about string
	tools       []string // programs that it needs
	long        bool     // and so not for -quick
	play        func(*trial) error
}

var scenarios = []scenario{
	{"vpn", "meshvpn up at both ends of a relay: ping, iperf3, ssh and scp", []string{"iperf3", "sshd", "ssh", "scp", "ssh-keygen"}, false, playVPN},
	{"failover", "one of two relays is killed during an iperf3 and an scp", []string{"iperf3", "sshd", "ssh", "scp", "ssh-keygen"}, false, playFailover},
	{"drain", "one of two relays is drained under load", nil, false, playDrain},
	{"direct", "a cable between the ends, while they talk over a relay", []string{"iperf3"}, false, playDirect},
	{"user", "somebody without any privilege serves a web page to a peer", []string{"curl", "setpriv"}, false, playUser},
	{"load", "circuits through one relay, whose peers come and go, and Prometheus", []string{"prometheus"}, true, playLoad},
	{"ratios", "throughput beside wireguard-go's: benchmarks/vpn and benchmarks/socks", nil, true, playRatios},
	{"chat", "meshchat in tmux: two people, a file, a relay that dies", []string{"tmux"}, true, playChat},
	{"doctor", "planted failures, of which doctor is to name the cause", []string{"mount"}, true, playDoctor},
}

// packages are what Debian calls where the tools are.
var packages = map[string]string{
	"ip": "iproute2", "sshd": "openssh-server", "ssh": "openssh-client", "scp": "openssh-client", "ssh-keygen": "openssh-client",
	"setpriv": "util-linux", "mount": "mount", "go": "Go itself",
}

type options struct {
	only     *regexp.Regexp
	scpBytes uint64
	span     time.Duration
	load     time.Duration
	circuits int
	rounds   int
	quick    bool
	logs     string
}

const help = `E2e runs the programs of splitmesh as people run them, in network namespaces that it makes: peers a and b reach relays
and nobody else.

	a ═ r ═ b     and, where there are two relays,     a ═ s ═ b

It prints a line NAME = value (bar …) for each figure, and what it is doing to the standard error. Everything that it starts
and makes ends with it, however it ends. It needs Linux, root, Go, ip and, of each scenario, what stands in brackets.

Scenarios, in their order:
`

func main() {
	if len(os.Args) == 4 && os.Args[1] == webRole {
		fmt.Fprintln(os.Stderr, "e2e:", serveWeb(os.Args[2], os.Args[3]))
		os.Exit(1)
	}
	var o options
	if err := o.parse(os.Args[1:], os.Stderr); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return
		}
		fmt.Fprintf(os.Stderr, "e2e: %v\nSee e2e -help.\n", err)
		os.Exit(2)
	}
	if dir := os.Getenv(insideVariable); dir != "" {
		os.Exit(inside(&o, dir))
	}
	if err := o.possible(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	status, err := isolated(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
	}
	os.Exit(status)
}

// parse reads the flags. Its errors are about them.
func (o *options) parse(args []string, out io.Writer) (err error) {
	f := flag.NewFlagSet("e2e", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	only := f.String("only", ".", "the scenarios to play: a regular expression")
	size := f.String("scp-bytes", "1GiB", "how much scp carries")
	f.DurationVar(&o.span, "span", 10*time.Second, "how long each iperf3 takes")
	f.DurationVar(&o.load, "load", 10*time.Minute, "how long the load on one relay lasts")
	f.IntVar(&o.circuits, "circuits", 1000, "how many circuits that is, at once")
	f.IntVar(&o.rounds, "rounds", 5, "how often each side of a ratio is measured")
	f.BoolVar(&o.quick, "quick", false, "about a minute: scp carries 32MiB, an iperf3 takes 2s, and long scenarios are left out")
	f.StringVar(&o.logs, "logs", "", "directory into which what the programs logged is copied")
	f.Usage = func() {
		fmt.Fprint(out, help)
		for _, s := range scenarios {
			needs, long := "", ""
			if len(s.tools) > 0 {
				needs = " [" + strings.Join(s.tools, ", ") + "]"
			}
			if s.long {
				long = " (long)"
			}
			fmt.Fprintf(out, "  %-9s %s%s%s\n", s.name, s.about, needs, long)
		}
		fmt.Fprint(out, "\nFlags:\n")
		f.SetOutput(out)
		f.PrintDefaults()
		fmt.Fprint(out, "\nExit statuses: 0 all bars are passed; 1 one is not, or a scenario could not be played; 2 wrong usage.\n")
	}
	if err := f.Parse(args); err != nil {
		return err
	}
	set := make(map[string]bool)
	f.Visit(func(x *flag.Flag) { set[x.Name] = true })
	if o.quick && !set["span"] {
		o.span = 2 * time.Second
	}
	if o.quick && !set["scp-bytes"] {
		*size = "32MiB"
	}
	if o.scpBytes, err = humanize.ParseBytes(*size); err != nil || o.scpBytes < 1<<20 || o.scpBytes > 1<<40 {
		return fmt.Errorf("-scp-bytes: %q is no size between 1MiB and 1TiB", *size)
	}
	if o.only, err = regexp.Compile("^(?:" + *only + ")$"); *only == "." {
		o.only, err = regexp.MustCompile("."), nil
	}
	switch {
	case err != nil:
		return fmt.Errorf("-only: %w", err)
	case len(o.chosen()) == 0:
		return fmt.Errorf("-only: %q is the name of no scenario, or with -quick of long ones only", *only)
	case o.span < time.Second || o.load <= 0 || o.circuits < 10 || o.circuits > 8000 || o.rounds < 1 || o.rounds > 100:
		return errors.New("-span is 1s and more, -load above 0, -circuits 10 to 8000, -rounds 1 to 100")
	case f.NArg() > 0:
		return fmt.Errorf("%q is no flag", f.Arg(0))
	}
	return nil
}

// chosen are the scenarios that are to be played.
func (o *options) chosen() (out []scenario) {
	for _, s := range scenarios {
		if o.only.MatchString(s.name) && !(o.quick && s.long) {
			out = append(out, s)
		}
	}
	return out
}

// possible says what is missing.
func (o *options) possible() error {
	if os.Geteuid() != 0 {
		return errors.New("it needs root, to make network namespaces: sudo make e2e")
	}
	need := map[string]bool{"ip": true, "go": true}
	for _, s := range o.chosen() {
		for _, tool := range s.tools {
			need[tool] = true
		}
	}
	var missing []string
	for tool := range need {
		if _, err := toolPath(tool); err != nil {
			name := packages[tool]
			if name == "" {
				name = tool
			}
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("some programs are missing: apt-get install %s, or choose other scenarios with -only", strings.Join(missing, " "))
	}
	return nil
}

// toolPath finds a program, also where only root looks.
func toolPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		path, err = exec.LookPath(filepath.Join("/usr/sbin", name))
	}
	return path, err
}

// inside plays the scenarios, in namespaces of this process and its children's own.
func inside(o *options, dir string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	out := &lines{out: os.Stdout, log: os.Stderr}
	programs, err := prepare(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	for _, s := range o.chosen() {
		if ctx.Err() != nil {
			break
		}
		began := time.Now()
		t := &trial{ctx: ctx, options: o, lines: out, programs: programs, name: s.name, dir: filepath.Join(ours, s.name), large: filepath.Join(dir, s.name)}
		t.say("%s", s.about)
		err := errors.Join(os.Mkdir(t.dir, 0o755), os.Mkdir(t.large, 0o700)) // ordinary users have theirs below the first
		if err == nil {
			err = s.play(t)
		}
		failed := err != nil && ctx.Err() == nil
		if failed {
			t.say("%v", err)
		}
		if err := t.end(failed); err != nil && ctx.Err() == nil { // such as a program that does not end well
			t.say("%v", err)
			failed = true
		}
		if failed {
			out.atMost(strings.ToUpper(s.name)+"_FAILED", 1, 0)
		}
		if ctx.Err() == nil {
			t.say("%v", time.Since(began).Round(time.Second))
		}
	}
	if ctx.Err() != nil {
		fmt.Fprintln(os.Stderr, "e2e: interrupted")
		return 1
	}
	if out.short > 0 {
		fmt.Fprintf(os.Stderr, "e2e: %d of %d figures miss their bars\n", out.short, out.all)
		return 1
	}
	return 0
}
