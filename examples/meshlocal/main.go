// Meshlocal brings up a whole network on this machine: relays, a DHT of all nodes, and peers that talk to each other, of
// which some can be reached by relays only. Links may be slow, and relays die and come back.
//
//	go run ./examples/meshlocal --nodes 20
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/splitmesh/splitmesh/examples/internal/config"
	"github.com/splitmesh/splitmesh/examples/internal/program"
)

// settings are those of the network.
type settings struct {
	Nodes  int           `name:"nodes" help:"how many nodes there are, relays among them"`
	Relays int           `name:"relays" help:"how many of them relay"`
	Hidden int           `name:"hidden" help:"percent of the others that listen nowhere and are reached by relays only"`
	Delay  time.Duration `name:"delay" help:"of every connection, one way"`
	Rate   config.Size   `name:"rate" help:"bytes a second of every connection; 0: no limit"`
	Cuts   time.Duration `name:"cuts" help:"how often a relay dies, to come back after as long again; 0: never"`
	Every  time.Duration `name:"every" help:"how often each peer dials another, by its ID alone"`
	For    time.Duration `name:"for" help:"how long it lasts; 0: until it is interrupted"`
	Plain  bool          `name:"plain" help:"print a line now and then instead of the live view"`
	Log    program.Log   `name:"log"`
}

const maxNodes = 1000

// Validate implements config.Validator.
func (s *settings) Validate() (out []config.Problem) {
	bad := func(path, format string, args ...any) {
		out = append(out, config.Problem{Path: path, Text: fmt.Sprintf(format, args...)})
	}
	if s.Nodes < 3 || s.Nodes > maxNodes {
		bad("nodes", "%d is not between 3 and %d", s.Nodes, maxNodes)
	}
	if s.Nodes >= 3 && (s.Relays < 1 || s.Relays > s.Nodes-2) {
		bad("relays", "%d is not between 1 and %d, which leaves two peers", s.Relays, s.Nodes-2)
	}
	if s.Hidden < 0 || s.Hidden > 100 {
		bad("hidden", "%d is not between 0 and 100 percent", s.Hidden)
	}
	if s.Delay < 0 || s.Delay > 5*time.Second {
		bad("delay", "%v is not between 0 and 5s", s.Delay)
	}
	if s.Rate != 0 && s.Rate < 4<<10 {
		bad("rate", "%d bytes a second are fewer than handshakes take: 4KiB and more, or 0", s.Rate)
	}
	if s.Cuts != 0 && s.Cuts < time.Second {
		bad("cuts", "%v is too often: 1s and more, or 0", s.Cuts)
	}
	if s.Every < 10*time.Millisecond {
		bad("every", "%v is too often: 10ms and more", s.Every)
	}
	if s.For < 0 {
		bad("for", "%v is no time", s.For)
	}
	return out
}

func main() { os.Exit(newProgram().Main()) }

func newProgram() *program.Program {
	s := &settings{Nodes: 20, Relays: 4, Hidden: 50, Every: time.Second, Log: program.Log{Level: 8, Format: "text"}}
	return &program.Program{
		Name: "meshlocal", Short: "A whole mesh on this machine, with a live view",
		Long: "It starts relays and peers on real sockets of the loopback interface, has them find each other by the distributed\n" +
			"hash table, and shows how they talk while relays die. In the live view c cuts a relay off and q ends it.\n" +
			"Other programs join the network with the bootstrap address that it shows.",
		Settings: s, Log: &s.Log,
		Default: func(ctx context.Context, a *program.App) error { return run(ctx, a, s) },
	}
}

func run(ctx context.Context, a *program.App, s *settings) error {
	if s.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.For)
		defer cancel()
	}
	w := newWorld(s, a.Log)
	defer w.close()
	out, isFile := a.Out.(*os.File)
	live := isFile && !s.Plain && term.IsTerminal(int(out.Fd()))
	if err := w.start(ctx, func(n int) {
		if n%10 == 0 || n == s.Nodes {
			fmt.Fprintf(a.Err, "%d of %d nodes are up\n", n, s.Nodes)
		}
	}); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w.run(ctx)
	if live {
		return watch(ctx, cancel, w, out)
	}
	return report(ctx, w, a.Out)
}
