package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
	"os/exec"
	"time"

	"github.com/splitmesh/splitmesh/benchmarks/internal/isolate"
)

// nets are the networks of the halves, of which each node has a /24; they are for benchmarks (RFC 2544).
var nets = [2]string{"198.18", "198.19"}

// A world is two halves, and the router between them.
type world struct {
	ctx    context.Context
	sides  [2]*side
	router *side
}

// newWorld makes three namespaces and connects them. It ends with close, or with this process.
func newWorld(ctx context.Context, log io.Writer) (w *world, err error) {
	if err := missing(); err != nil {
		return nil, err
	}
	w = &world{ctx: ctx}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	for _, s := range []**side{&w.router, &w.sides[0], &w.sides[1]} {
		if *s, err = newSide(ctx, log); err != nil {
			return nil, err
		}
	}
	for i, s := range w.sides {
		if err := w.connect(i, s); err != nil {
			return nil, err
		}
	}
	return w, w.forward(true)
}

// connect lays a cable between the router and a half, all of whose network the half takes for its own.
func (w *world) connect(i int, s *side) error {
	if err := w.router.ip(`link add half%[1]d type veth peer name wan netns %[2]d
addr add 10.0.%[1]d.1/24 dev half%[1]d
link set half%[1]d up
`, i, s.cmd.Process.Pid); err != nil {
		return err
	}
	if err := s.ip(`link set lo up
addr add 10.0.%[1]d.2/24 dev wan
link set wan up
route add default via 10.0.%[1]d.1
route add local %[2]s.0.0/16 dev lo
`, i, nets[i]); err != nil {
		return err
	}
	return w.router.ip("route add %[2]s.0.0/16 via 10.0.%[1]d.2\n", i, nets[i])
}

// forward heals the network, or cuts it.
func (w *world) forward(on bool) error { return w.router.call("Forward", on, nil) }

func (w *world) close() {
	for _, s := range []*side{w.sides[0], w.sides[1], w.router} {
		if s != nil {
			s.end()
		}
	}
}

// A side is a process in a namespace of its own.
type side struct {
	ctx    context.Context
	cmd    *exec.Cmd
	client *rpc.Client
}

func newSide(ctx context.Context, log io.Writer) (*side, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s := &side{ctx: ctx, cmd: exec.CommandContext(ctx, self, sideCommand)}
	s.cmd.Stderr = log
	isolate.Isolate(s.cmd)
	in, err := s.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("making a network namespace: %w", err)
	}
	s.client = jsonrpc.NewClient(struct {
		io.Reader
		io.WriteCloser
	}{out, in})
	return s, nil
}

// call has the process do something; see [Side].
func (s *side) call(what string, args, reply any) error {
	if reply == nil {
		reply = new(struct{})
	}
	err := s.client.Call("Side."+what, args, reply)
	if s.ctx.Err() != nil { // which killed the process
		return context.Cause(s.ctx)
	}
	return err
}

func (s *side) ip(script string, args ...any) error {
	return s.call("IP", fmt.Sprintf(script, args...), nil)
}

// end waits for the process; it is killed when it takes too long.
func (s *side) end() {
	s.client.Close() // and so its stdin
	t := time.AfterFunc(limit, func() { _ = s.cmd.Process.Kill() })
	defer t.Stop()
	_ = s.cmd.Wait()
}

// missing says why there can be no namespaces here; nil when there can.
func missing() error {
	if !isolate.Can {
		return errors.New("it needs Linux")
	}
	if os.Geteuid() != 0 {
		return errors.New("it needs root, to make network namespaces")
	}
	_, err := exec.LookPath("ip")
	return err
}
