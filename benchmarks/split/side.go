package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/rpc"
	"net/rpc/jsonrpc"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"time"

	"github.com/multiformats/go-multiaddr"
	"github.com/splitmesh/splitmesh/dht"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/transport"
	"github.com/splitmesh/splitmesh/transport/websocket"
)

// sideCommand makes a process that does what it is told by JSON-RPC on stdin, and ends with it.
const sideCommand = "serve-side"

const (
	// atOnce is how many lookups a node has under way, again how long after one that was in vain it looks again.
	atOnce = 4
	again  = time.Second
)

func serveSide() {
	signal.Ignore(os.Interrupt) // which the terminal sends to all
	s := new(Side)
	defer s.close()
	server := rpc.NewServer()
	_ = server.Register(s) // whose methods are right
	server.ServeCodec(jsonrpc.NewServerCodec(struct {
		io.Reader
		io.Writer
		io.Closer
	}{os.Stdin, os.Stdout, os.Stdin}))
}

// Side is what the process of a half can be told to do, a method each. That between the halves has no nodes.
type Side struct {
	nodes []*node
}

type node struct {
	*mesh.Node
	dht *dht.DHT
}

func (s *Side) close() {
	var closing sync.WaitGroup
	for _, n := range s.nodes {
		closing.Go(func() {
			n.dht.Close()
			n.Node.Close()
		})
	}
	closing.Wait()
}

// IP does what ip(8) does with such lines.
func (*Side) IP(script string, _ *struct{}) error {
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip: %w: %s", err, out)
	}
	return nil
}

// Forward says whether this namespace routes.
func (*Side) Forward(on bool, _ *struct{}) error {
	value := "0"
	if on {
		value = "1"
	}
	return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte(value), 0)
}

// A Plan says what nodes there are to be.
type Plan struct {
	Nodes     int
	Net       string // the first half of their addresses
	Bootstrap string // whom they know; "": the first of them
	Debug     bool
}

// Start starts the nodes, and returns whom they know.
func (s *Side) Start(p Plan, bootstrap *string) error {
	for i := range p.Nodes {
		n, err := newNode(p, fmt.Sprintf("%s.%d.1", p.Net, i+1))
		if err != nil {
			return err
		}
		s.nodes = append(s.nodes, n)
		if p.Bootstrap == "" {
			p.Bootstrap = n.Addrs()[0].String()
		}
	}
	*bootstrap = p.Bootstrap
	return nil
}

func newNode(p Plan, at string) (*node, error) {
	listen, err := multiaddr.NewMultiaddr("/ip4/" + at + "/tcp/0/ws")
	if err != nil {
		return nil, err
	}
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(at)}}
	n := &mesh.Node{
		ListenAddrs:  []multiaddr.Multiaddr{listen},
		Capabilities: []string{registry.CapDHTServer},
		Transports: []transport.Transport{&websocket.Transport{
			DialContext: dialer.DialContext,
			Proxy:       func(*http.Request) (*url.URL, error) { return nil, nil },
		}},
	}
	var cfg dht.Config
	if p.Bootstrap != "" {
		a, err := multiaddr.NewMultiaddr(p.Bootstrap)
		if err != nil {
			return nil, err
		}
		_, id, _, err := transport.SplitPeer(a)
		if err != nil {
			return nil, err
		}
		n.Bootstrap, cfg.Bootstrap = []multiaddr.Multiaddr{a}, []identity.ID{id}
	}
	if p.Debug {
		n.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
		cfg.Logger = n.Logger
	}
	d := dht.New(cfg)
	n.Directory = d
	if err := n.Start(context.Background()); err != nil {
		return nil, err
	}
	return &node{n, d}, d.Start(n)
}

// A Publication is when the nodes of a side publish: at some moment of the span, and within the time given.
type Publication struct{ Span, Within time.Duration }

// Published is what the nodes of a side published, how long the slowest took, how many were late, and how often it failed.
type Published struct {
	Sequences    map[identity.ID]int64
	Slowest      time.Duration
	Late, Failed int
	Causes       map[string]int
}

// Publish has every node publish a new record, and waits for all. Those who are late go on trying when it has returned.
func (s *Side) Publish(p Publication, out *Published) error {
	var (
		publishing sync.WaitGroup
		mu         sync.Mutex // guards got
	)
	got := Published{Sequences: make(map[identity.ID]int64), Causes: make(map[string]int), Late: len(s.nodes)}
	tell := func(f func(*Published)) {
		mu.Lock()
		defer mu.Unlock()
		f(&got)
	}
	for _, n := range s.nodes {
		publishing.Go(func() { // ends when it is published, or with the process
			<-time.After(time.Duration(rand.Int64N(int64(p.Span) + 1)))
			n.publish(tell)
		})
	}
	done := make(chan struct{})
	go func() { // ends with them
		publishing.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(p.Within):
	}
	tell(func(got *Published) {
		*out = *got
		out.Sequences, out.Causes = maps.Clone(got.Sequences), maps.Clone(got.Causes)
	})
	return nil
}

// publish tries until it succeeds. What it says first is what there is to find; newer will do as well.
func (n *node) publish(tell func(func(*Published))) {
	for start := time.Now(); ; {
		r, err := n.Record()
		if err == nil {
			tell(func(p *Published) {
				if p.Sequences[r.ID] == 0 {
					p.Sequences[r.ID] = r.Sequence
				}
			})
			err = n.Directory.Publish(context.Background(), r)
		}
		if err == nil {
			tell(func(p *Published) { p.Late--; p.Slowest = max(p.Slowest, time.Since(start)) })
			return
		}
		tell(func(p *Published) { p.Failed++; p.Causes[cause(err)]++ })
		<-time.After(again)
	}
}

// cause is what went wrong, without whom it is about.
func cause(err error) string {
	if e := errors.Unwrap(err); e != nil {
		err = e
	}
	return err.Error()
}

// Wanted is what every node of a side is to find: the records of the sequences, or newer ones.
type Wanted struct {
	Sequences map[identity.ID]int64
	Since     time.Time // from when on Found counts
	Patience  time.Duration
}

// Found is what was found: how long each record took, of each node. Stale and Failed are lookups before that.
type Found struct {
	Took                   []time.Duration
	Missing, Stale, Failed int
	Causes                 map[string]int
}

// Find has every node look for all that is wanted, in an order of its own, until it is found.
func (s *Side) Find(w Wanted, out *Found) error {
	ctx, cancel := context.WithDeadline(context.Background(), w.Since.Add(w.Patience))
	defer cancel()
	out.Causes = make(map[string]int)
	var (
		looking sync.WaitGroup
		mu      sync.Mutex // guards out
	)
	for _, n := range s.nodes {
		ids := make(chan identity.ID, len(w.Sequences))
		for id := range w.Sequences { // in any order
			ids <- id
		}
		close(ids)
		for range atOnce {
			looking.Go(func() { // ends with ctx
				for id := range ids {
					n.find(ctx, id, w, func(add func(*Found)) {
						mu.Lock()
						defer mu.Unlock()
						add(out)
					})
				}
			})
		}
	}
	looking.Wait()
	return nil
}

// find looks for one record until it is found, and tells what comes of it.
func (n *node) find(ctx context.Context, id identity.ID, w Wanted, tell func(func(*Found))) {
	for ctx.Err() == nil {
		r, err := n.Directory.Lookup(ctx, id)
		switch {
		case err != nil:
			tell(func(f *Found) { f.Failed++; f.Causes[cause(err)]++ })
		case r.Sequence < w.Sequences[id]:
			tell(func(f *Found) { f.Stale++ })
		default:
			tell(func(f *Found) { f.Took = append(f.Took, time.Since(w.Since)) })
			return
		}
		select {
		case <-time.After(again):
		case <-ctx.Done():
		}
	}
	tell(func(f *Found) { f.Missing++ })
}
