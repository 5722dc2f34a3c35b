package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

// A system is one way to carry streams from a dialler to a listener.
type system struct {
	name  string
	about string // what an admirer of it would ask: versions, settings
	// relays is by how many others the bytes travel.
	relays int
	// env is added to the environment of the process that it is measured in.
	env []string
	// one says that a connection carries a single stream.
	one bool
	// udp says that it doesn't run over TCP: no shaped link can stand before it,
	// and its system calls are not those that the kernel counts as writes.
	udp bool
	// missing says why it can't run here. Nil: it can.
	missing func() error
	start   func(ctx context.Context, l gateway) (*world, error)
}

// systems are all that are compared, in the order in which they are shown.
var systems = slices.Concat(plainSystems, libp2pSystems, wireguardSystems, splitmeshSystems)

func systemNamed(name string) (*system, error) {
	for i := range systems {
		if systems[i].name == name {
			return &systems[i], nil
		}
	}
	return nil, fmt.Errorf("no system is called %q", name)
}

// A gateway is where diallers find a listener at host:port: there, or behind an
// emulated link. A relay is such a listener, for the dialler alone.
type gateway func(hostport string) (string, error)

// straight is no link at all.
func straight(hostport string) (string, error) { return hostport, nil }

// A stream is one end of what a system carries. Closing it need not wait.
type stream = io.ReadWriteCloser

// A world is a listener of one system with its relays, and whoever dials it.
type world struct {
	// client makes an end that can dial and has not yet: a node, a host, or
	// nothing where a system needs none.
	client func(ctx context.Context) (client, error)

	arrived chan stream   // the listener's ends of streams
	closed  chan struct{} // closed by close
	closers []func()
}

// A client is a dialler. Its first open makes the connection, with the whole
// handshake; later ones open further streams of that connection.
type client struct {
	open  func(ctx context.Context) (stream, error)
	close func()
}

func newWorld() *world {
	return &world{arrived: make(chan stream, 64), closed: make(chan struct{})}
}

// onClose has f called by close, before those that were given earlier.
func (w *world) onClose(f func()) { w.closers = append(w.closers, f) }

func (w *world) close() {
	close(w.closed)
	for _, f := range slices.Backward(w.closers) {
		f()
	}
}

// deliver is called by listeners with each stream that arrives.
func (w *world) deliver(s stream) {
	select {
	case w.arrived <- s:
	case <-w.closed:
		s.Close()
	}
}

// accept delivers what accept returns until it fails. Its goroutine ends when
// the listener is closed.
func accept[S stream](w *world, accept func() (S, error)) {
	go func() {
		for {
			s, err := accept()
			if err != nil {
				return
			}
			w.deliver(s)
		}
	}()
}

// pair opens a stream of c and returns both its ends. A byte goes over it, for
// systems that tell the listener of a stream with its first data.
func (w *world) pair(ctx context.Context, c client) (near, far stream, err error) {
	if near, err = c.open(ctx); err != nil {
		return nil, nil, err
	}
	if _, err := near.Write([]byte{1}); err != nil {
		return nil, nil, err
	}
	select {
	case far = <-w.arrived:
	case <-ctx.Done():
		return nil, nil, errors.New("the listener never got the stream")
	}
	_, err = io.ReadFull(far, make([]byte, 1))
	return near, far, err
}

// A keeper holds on to what must outlive a case.
type keeper struct {
	mu   sync.Mutex // guards all
	kept []stream
}

func (k *keeper) keep(s stream) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.kept = append(k.kept, s)
}

// answer echoes the first n bytes of every stream that arrives, one at a time, and
// leaves it open; n < 0 means all. Its goroutine ends with the world, those of
// the streams when they have echoed that or break.
func (w *world) answer(n int) *keeper {
	k := new(keeper)
	go func() {
		for {
			select {
			case s := <-w.arrived:
				if n >= 0 {
					k.keep(s)
				}
				go echo(s, n)
			case <-w.closed:
				return
			}
		}
	}()
	return k
}

func echo(s stream, n int) {
	one := make([]byte, 1)
	for i := 0; n < 0 || i < n; i++ {
		if _, err := io.ReadFull(s, one); err != nil {
			s.Close()
			return
		}
		if _, err := s.Write(one); err != nil {
			s.Close()
			return
		}
	}
}

// ask sends a byte and waits for its echo.
func ask(s stream, one []byte) error {
	if _, err := s.Write(one); err != nil {
		return err
	}
	_, err := io.ReadFull(s, one)
	return err
}

// patience bounds what should take milliseconds.
const patience = 20 * time.Second
