package experiments

import (
	"context"
	"net"
	"sync"
	"syscall"

	"github.com/multiformats/go-multiaddr"
	"github.com/splitmesh/splitmesh/transport"
)

// A door is an end's transport: the network's, but that relays can refuse it, and
// that what listens through it can move to another address.
type door struct {
	transport.Transport
	w   *world
	end string

	mu       sync.Mutex // guards the rest
	shut     bool       // to those who dial, nothing is there
	listener *movable
}

// Dial dials, unless what it leads to is gone.
func (d *door) Dial(ctx context.Context, addr multiaddr.Multiaddr, opening []byte) (net.Conn, error) {
	r := d.w.relayAt(addr)
	d.mu.Lock()
	shut := d.shut
	d.mu.Unlock()
	if shut || r != nil && r.refuses() {
		return nil, syscall.ECONNREFUSED
	}
	return d.Transport.Dial(ctx, addr, opening)
}

// Listen listens until the listener moves.
func (d *door) Listen(ctx context.Context, addr multiaddr.Multiaddr, admit transport.Admit) (transport.Listener, error) {
	l, err := d.Transport.Listen(ctx, addr, admit)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.listener = &movable{Listener: l, admit: admit}
	return d.listener, nil
}

// close refuses every dial until open.
func (d *door) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shut = true
}

func (d *door) open() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shut = false
}

// move has the listener leave its address for another.
func (d *door) move(ctx context.Context, to multiaddr.Multiaddr) error {
	d.mu.Lock()
	l := d.listener
	d.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.Listener.Close()
	fresh, err := d.Transport.Listen(ctx, to, l.admit)
	if err == nil {
		l.Listener = fresh
	}
	return err
}

// at is where the listener listens now.
func (d *door) at() multiaddr.Multiaddr {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.listener.Multiaddr()
}

// movable is a listener whose address may change.
type movable struct {
	mu sync.Mutex // guards the listener
	transport.Listener
	admit transport.Admit
}

// Multiaddr is where it listens now.
func (m *movable) Multiaddr() multiaddr.Multiaddr {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.Listener.Multiaddr()
}

// Close closes what listens now.
func (m *movable) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.Listener.Close()
}
