package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"time"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/mesh"
)

// roleVariable tells this program, started by itself, which part to play.
const roleVariable = "SPLITMESH_QUICKSTART_ROLE"

// The parts. Each is a process that gets orders on its standard input and sends
// reports to its standard output, one JSON object a line. When its input ends, so
// does it: whoever started it is gone.
var roles = map[string]func(context.Context, *parent) error{
	"relay":    relay,
	"sender":   sender,
	"receiver": receiver,
}

// An order is what a role is told.
type order struct {
	Config *config `json:"config,omitempty"` // the first order, but to relays
	// GoOn lets the sender go on past config.Hold.
	GoOn bool `json:"go_on,omitempty"`
	// EveryMS is how often to report progress from now on.
	EveryMS int `json:"every_ms,omitempty"`
}

// A config says what to do; each role reads the fields that are for it.
type config struct {
	// Relays are addresses, each ending in /p2p/ID.
	Relays []string `json:"relays"`
	// Peer is whom the sender dials, or the only one whom the receiver lets in.
	Peer string `json:"peer"`
	// Paths and MaxShare are the sender's policy.
	Paths    int     `json:"paths,omitempty"`
	MaxShare float64 `json:"max_share,omitempty"`
	// Size is how much the sender sends, File from where: empty for random data.
	Size int64  `json:"size"`
	File string `json:"file,omitempty"`
	// Out is where the receiver keeps what arrives, empty for nowhere.
	Out string `json:"out,omitempty"`
	// Hold is the offset at which the sender waits for GoOn, 0 for none.
	Hold int64 `json:"hold,omitempty"`
	// Mark is the offset that the receiver reports as soon as it has it.
	Mark int64 `json:"mark,omitempty"`
}

// A report is what a role tells. One field is set.
type report struct {
	Ready    *ready    `json:"ready,omitempty"`
	Progress *progress `json:"progress,omitempty"`
	Done     *done     `json:"done,omitempty"`
	Failed   string    `json:"failed,omitempty"`
}

// Ready says who is there: of a relay, also where.
type ready struct {
	ID   string `json:"id"`
	Addr string `json:"addr,omitempty"`
}

// Progress is how far the sender or the receiver is.
type progress struct {
	Bytes  int64     `json:"bytes"` // of the file
	Relays []carried `json:"relays"`
}

// Carried is what went through one relay: sent for the sender, received for the
// receiver.
type carried struct {
	ID     string `json:"id"`
	Bytes  uint64 `json:"bytes"`
	ReSent uint64 `json:"resent,omitempty"` // those of Bytes that another had carried
	Live   bool   `json:"live"`             // it has a path now
}

// Done is the end of it.
type done struct {
	SHA256 string `json:"sha256"`
	progress
}

// playRole is main for a role. It returns the exit status.
func playRole(name string) int {
	// A terminal sends Ctrl-C to all of us; the one that started us decides.
	signal.Ignore(os.Interrupt)
	p := newParent(os.Stdin, os.Stdout, func() { os.Exit(statusPass) })
	play, ok := roles[name]
	if !ok {
		p.tell(report{Failed: fmt.Sprintf("%s is %q, which is not a role", roleVariable, name)})
		return statusFail
	}
	if err := play(context.Background(), p); err != nil {
		p.tell(report{Failed: err.Error()})
		return statusFail
	}
	select {} // until the parent is gone
}

// A parent is the process that started this one.
type parent struct {
	orders   chan order
	orphaned func() // what to do when the parent is gone

	mu  sync.Mutex // held while writing
	out *json.Encoder
}

// maxOrders is more than a role is ever given.
const maxOrders = 64

// newParent reads orders until in ends, and then calls orphaned. The goroutine
// that does so lives as long as in, and waits for nothing else.
func newParent(in io.Reader, out io.Writer, orphaned func()) *parent {
	p := &parent{orders: make(chan order, maxOrders), orphaned: orphaned, out: json.NewEncoder(out)}
	go func() {
		defer orphaned()
		dec := json.NewDecoder(in)
		for range maxOrders {
			var o order
			if dec.Decode(&o) != nil {
				return
			}
			p.orders <- o
		}
	}()
	return p
}

// tell sends a report. A parent that can't be told is gone.
func (p *parent) tell(r report) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.out.Encode(r); err != nil {
		p.orphaned()
	}
}

// config waits for the first order.
func (p *parent) config() (*config, []multiaddr.Multiaddr, error) {
	o := <-p.orders
	if o.Config == nil {
		return nil, nil, fmt.Errorf("the first order has no config")
	}
	var relays []multiaddr.Multiaddr
	for _, s := range o.Config.Relays {
		a, err := multiaddr.NewMultiaddr(s)
		if err != nil {
			return nil, nil, fmt.Errorf("a relay's address: %w", err)
		}
		relays = append(relays, a)
	}
	return o.Config, relays, nil
}

// relay is all that a relay takes: an address to listen on, and consent.
func relay(ctx context.Context, p *parent) error {
	loopback, err := multiaddr.NewMultiaddr("/ip4/127.0.0.1/tcp/0/ws")
	if err != nil {
		return err
	}
	node := &mesh.Node{ListenAddrs: []multiaddr.Multiaddr{loopback}, Relay: &mesh.RelayConfig{}}
	if err := node.Start(ctx); err != nil {
		return err
	}
	p.tell(report{Ready: &ready{ID: node.ID().String(), Addr: node.Addrs()[0].String()}})
	return nil
}

// reportEvery is how often the sender and the receiver report progress.
const reportEvery = 50 * time.Millisecond
