// Package memory is a network inside the process: hosts with names, listeners at
// /memory addresses, and between them links that can be shaped, cut, black-holed
// and healed. It is for tests, simulations, and thousands of nodes in one process.
//
//	net := memory.NewNetwork(memory.Options{
//		Shape: func(from, to string) *link.Link {
//			return link.New(link.Config{Up: link.Shape{Rate: 1 << 20, Delay: 20 * time.Millisecond}})
//		},
//	})
//	defer net.Close()
//	l, err := net.Host("bob").Listen(ctx, multiaddr.StringCast("/memory/0"), admit)
//	conn, err := net.Host("alice").Dial(ctx, l.Multiaddr(), opening)
//	net.Partition("bob") // bob and the others hear nothing from each other
//	net.Heal()           // and all that was held is delivered
//	net.Kill("bob")      // bob's connections are reset, his listeners gone
//
// What it promises:
//   - Two Networks don't see each other: there is no global state.
//   - A dial takes one round trip of its link, in which the opening travels, and
//     waits while the link or its host is cut off.
//   - An idle connection costs less than 2 KiB, its two ends together, and no
//     goroutine. An arrival has one until its function returns.
//   - All time is time.Now and timers: in a testing/synctest bubble a network is
//     exact and repeatable.
//
// What connections do is that of package link.
package memory

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"syscall"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/transport"
	"github.com/splitmesh/splitmesh/transport/link"
)

// Options are what a Network may be given. The zero value is a network of
// perfect links.
type Options struct {
	// Shape returns the link for a new connection between the named hosts; Up
	// is from the dialler. Connections for which it returns the same Link share
	// its rate. nil, the function or what it returns, stands for a link of the
	// connection's own, without shaping. It is called from many goroutines at once.
	Shape func(from, to string) *link.Link
}

// A Network connects hosts in one process. Its methods may be called at any time
// from any goroutine, with one exception: Kill and Close wait for calls of admit,
// and so must not be called from one.
type Network struct {
	shape func(from, to string) *link.Link

	mu        sync.Mutex // guards everything below; taken before any link's lock
	closed    bool
	listeners map[uint64]*listener
	lastFree  uint64 // the last number allotted to a listener
	lastPort  uint64 // the last number given to a dialler's end
	sides     []map[string]bool
	conns     []Conn // some may have ended
	sweepAt   int    // how many conns make it worth to look for those
}

// NewNetwork returns a network without hosts.
func NewNetwork(o Options) *Network {
	return &Network{shape: o.Shape, listeners: make(map[uint64]*listener)}
}

// A Conn is a live connection of a Network, seen from outside.
type Conn struct {
	From, To string     // hosts: the dialler and the listener
	Pipe     *link.Pipe // Up is from the dialler
}

// An Addr is the address of one end of a connection.
type Addr struct {
	Host   string // its name, "" for a host without
	Number uint64 // a listener's, or one that nobody else has
}

// Network returns "memory".
func (Addr) Network() string { return "memory" }

// String returns a as the text of a multiaddr: "/memory/7".
func (a Addr) String() string { return "/memory/" + strconv.FormatUint(a.Number, 10) }

// dialled is where the numbers of diallers' ends begin, out of listeners' way.
const dialled = 1 << 63

// Transport returns the transport of the host without a name.
func (n *Network) Transport() *Host { return n.Host("") }

// Host returns the transport of the named host. A host exists by being named.
func (n *Network) Host(name string) *Host { return &Host{net: n, name: name} }

// Conns returns the live connections, oldest first.
func (n *Network) Conns() []Conn {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sweep()
	return slices.Clone(n.conns)
}

// Kill ends a host, as if its process died: its connections are reset and its
// listeners closed. The name can listen and dial again.
func (n *Network) Kill(host string) {
	n.kill(func(name string) bool { return name == host })
}

// Close kills every host. Later dials and listens fail with net.ErrClosed. It is
// idempotent.
func (n *Network) Close() error {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.kill(func(string) bool { return true })
	return nil
}

func (n *Network) kill(is func(host string) bool) {
	var listeners []*listener
	var conns []Conn
	n.mu.Lock()
	for number, l := range n.listeners {
		if is(l.host) {
			delete(n.listeners, number)
			listeners = append(listeners, l)
		}
	}
	for _, c := range n.conns {
		if is(c.From) || is(c.To) {
			conns = append(conns, c)
		}
	}
	n.mu.Unlock()
	for _, c := range conns {
		c.Pipe.Cut()
	}
	for _, l := range listeners {
		l.stop()
	}
}

// Partition cuts the named hosts off from all the others: connections between
// the two sides are black-holed and dials wait, until Heal. Within each side
// nothing changes. Several partitions add up.
func (n *Network) Partition(hosts ...string) {
	side := make(map[string]bool)
	for _, h := range hosts {
		side[h] = true
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sides = append(n.sides, side)
	for _, c := range n.conns {
		if side[c.From] != side[c.To] {
			c.Pipe.BlackHole()
		}
	}
}

// Heal ends all partitions, and black holes of single connections. What was
// held is delivered. Black holes of a Link are its owner's to heal.
func (n *Network) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sides = nil
	for _, c := range n.conns {
		c.Pipe.Heal()
	}
}

// severed reports whether a partition is between two hosts.
func (n *Network) severed(a, b string) bool {
	return slices.ContainsFunc(n.sides, func(side map[string]bool) bool { return side[a] != side[b] })
}

// sweep forgets connections that have ended.
func (n *Network) sweep() {
	n.conns = slices.DeleteFunc(n.conns, func(c Conn) bool { return !c.Pipe.Live() })
	n.sweepAt = max(64, 2*len(n.conns))
}

// connect makes a connection to the listener at number, if there is one.
func (n *Network) connect(from string, number uint64) (*link.Pipe, error) {
	n.mu.Lock()
	l, err := n.listenerAt(number)
	n.mu.Unlock()
	if err != nil {
		return nil, err
	}
	var over *link.Link
	if n.shape != nil {
		over = n.shape(from, l.host)
	}
	if over == nil {
		over = new(link.Link)
	}

	n.mu.Lock()
	defer n.mu.Unlock()
	// Once more: Shape was called without the lock. What is listed below while
	// the listener is there will be found by whoever kills it.
	if l, err = n.listenerAt(number); err != nil {
		return nil, err
	}
	n.lastPort++
	p := over.Pipe(Addr{from, dialled + n.lastPort}, Addr{l.host, number})
	if n.severed(from, l.host) {
		p.BlackHole()
	}
	if len(n.conns) >= n.sweepAt {
		n.sweep()
	}
	n.conns = append(n.conns, Conn{From: from, To: l.host, Pipe: p})
	_, b := p.Conns()
	l.arrive(b)
	return p, nil
}

// listenerAt returns the listener at number, under the lock.
func (n *Network) listenerAt(number uint64) (*listener, error) {
	if n.closed {
		return nil, net.ErrClosed
	}
	if l := n.listeners[number]; l != nil {
		return l, nil
	}
	return nil, syscall.ECONNREFUSED
}

// listen enters a new listener.
func (n *Network) listen(host string, number uint64, admit transport.Admit) (*listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, net.ErrClosed
	}
	if number == 0 {
		number = n.lastFree + 1
		for n.listeners[number] != nil {
			number++
		}
		n.lastFree = number
	}
	if n.listeners[number] != nil {
		return nil, syscall.EADDRINUSE
	}
	l := newListener(n, host, number, admit)
	n.listeners[number] = l
	return l, nil
}

// leave takes a listener from the network, if it is still there.
func (n *Network) leave(l *listener) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listeners[l.number] == l {
		delete(n.listeners, l.number)
	}
}

// A Host is the transport of one host of a Network.
type Host struct {
	net  *Network
	name string
}

var _ transport.Transport = (*Host)(nil)

var errAddr = errors.New("an address here is /memory/NUMBER and nothing more; to listen, /memory/0 takes a free number")

// number reads a /memory address.
func number(addr multiaddr.Multiaddr) (uint64, error) {
	if len(addr) != 1 || addr[0].Code() != multiaddr.P_MEMORY {
		return 0, fmt.Errorf("%w: %w", transport.ErrUnsupported, errAddr)
	}
	return strconv.ParseUint(addr[0].Value(), 10, 64)
}

// CanDial reports whether addr is /memory/N with an N other than 0.
func (h *Host) CanDial(addr multiaddr.Multiaddr) bool {
	n, err := number(addr)
	return err == nil && n != 0
}

// Listen listens at /memory/N, or with an N of 0 at a free number. It fails with
// EADDRINUSE where somebody does already.
func (h *Host) Listen(ctx context.Context, addr multiaddr.Multiaddr, admit transport.Admit) (transport.Listener, error) {
	num, err := number(addr)
	if err == nil {
		err = ctx.Err()
	}
	var l *listener
	if err == nil {
		l, err = h.net.listen(h.name, num, admit)
	}
	if err != nil {
		return nil, fmt.Errorf("memory: host %q: listen at %v: %w", h.name, addr, err)
	}
	return l, nil
}

// Dial dials /memory/N. It fails with ECONNREFUSED where nobody listens, and
// with transport.ErrRefused where the opening is not admitted.
func (h *Host) Dial(ctx context.Context, addr multiaddr.Multiaddr, opening []byte) (net.Conn, error) {
	conn, err := h.dial(ctx, addr, opening)
	if err != nil {
		return nil, fmt.Errorf("memory: host %q: dial %v: %w", h.name, addr, err)
	}
	return conn, nil
}

func (h *Host) dial(ctx context.Context, addr multiaddr.Multiaddr, opening []byte) (net.Conn, error) {
	num, err := number(addr)
	switch {
	case err != nil:
		return nil, err
	case num == 0:
		return nil, fmt.Errorf("%w: %w", transport.ErrUnsupported, errAddr)
	case len(opening) > transport.MaxOpening:
		return nil, transport.ErrOpeningTooLarge
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	p, err := h.net.connect(h.name, num)
	if err != nil {
		return nil, err
	}
	return knock(ctx, p, opening)
}
