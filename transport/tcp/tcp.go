// Package tcp carries bytes to a neighbour over plain TCP.
//
//	t := &tcp.Transport{}
//	conn, err := t.Dial(ctx, multiaddr.StringCast("/ip4/192.0.2.1/tcp/4001"), opening)
//
// Addresses are /ip4, /ip6, /dns, /dns4 or /dns6, then /tcp/PORT, and nothing
// after it. The first bytes of a connection are the opening: its length as two
// bytes, big-endian, then itself, written at once. Nothing answers it. A listener
// that does not admit it closes without having sent a byte, as it does with
// whoever stalls, so that a port scan sees a service that hangs up; the system
// may make that a reset. Hence Dial can't tell a refusal: the connection's first
// Read does. TCP_NODELAY is on.
package tcp

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"runtime"
	"time"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/transport"
)

const (
	// DefaultArrivalTimeout is how long an arrival may take to send its opening.
	DefaultArrivalTimeout = 10 * time.Second
	// DefaultMaxArrivals is how many arrivals may be at it at once.
	DefaultMaxArrivals = 1024
)

// A Transport is useful as its zero value. Its fields are not to be changed once
// it is in use.
type Transport struct {
	// DialContext connects; nil is that of a zero net.Dialer.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
	// ArrivalTimeout cuts an arrival whose opening is not complete by then;
	// 0 is DefaultArrivalTimeout.
	ArrivalTimeout time.Duration
	// MaxArrivals bounds, for each listener, the arrivals not yet admitted; one
	// more cuts the oldest. 0 is DefaultMaxArrivals.
	MaxArrivals int
}

var _ transport.Transport = (*Transport)(nil)

// CanDial reports whether addr is a host and a TCP port and nothing else.
func (t *Transport) CanDial(addr multiaddr.Multiaddr) bool {
	_, _, err := t.target(addr)
	return err == nil
}

// target is where addr leads, as package net has it.
func (t *Transport) target(addr multiaddr.Multiaddr) (network, hostport string, err error) {
	network, hostport, rest, err := transport.HostPort(addr)
	if err != nil {
		return "", "", fmt.Errorf("tcp: %w: %w", transport.ErrUnsupported, err)
	}
	if len(rest) > 0 {
		return "", "", fmt.Errorf("tcp: %w: %v has more after its port", transport.ErrUnsupported, addr)
	}
	if t.DialContext == nil && runtime.GOOS == "js" {
		return "", "", fmt.Errorf("tcp: %w: a browser has no sockets; use a WebSocket", transport.ErrUnsupported)
	}
	return network, hostport, nil
}

// Dial implements [transport.Transport]. It does not wait for an answer.
func (t *Transport) Dial(ctx context.Context, addr multiaddr.Multiaddr, opening []byte) (net.Conn, error) {
	network, hostport, err := t.target(addr)
	if err != nil {
		return nil, err
	}
	if len(opening) > transport.MaxOpening {
		return nil, fmt.Errorf("tcp: dial %v: %w", addr, transport.ErrOpeningTooLarge)
	}
	dial := t.DialContext
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	conn, err := dial(ctx, network, hostport)
	if err != nil {
		// net reports an expired ctx as its own timeout: say whose it was.
		if cause := context.Cause(ctx); cause != nil {
			err = fmt.Errorf("%w: %w", cause, err)
		}
		return nil, fmt.Errorf("tcp: dial %v: %w", addr, err)
	}
	first := append(binary.BigEndian.AppendUint16(nil, uint16(len(opening))), opening...)
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	_, err = conn.Write(first)
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("tcp: dial %v: send the opening: %w", addr, err)
	}
	return conn, nil
}

// Listen implements [transport.Transport].
func (t *Transport) Listen(ctx context.Context, addr multiaddr.Multiaddr, admit transport.Admit) (transport.Listener, error) {
	network, hostport, err := t.target(addr)
	if err != nil {
		return nil, err
	}
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("tcp: listen on %v: %w", addr, err)
	}
	nl, err := new(net.ListenConfig).Listen(ctx, network, hostport)
	if err != nil {
		return nil, fmt.Errorf("tcp: listen on %v: %w", addr, err)
	}
	return newListener(nl, admit, orDefault(t.ArrivalTimeout, DefaultArrivalTimeout), orDefault(t.MaxArrivals, DefaultMaxArrivals)), nil
}

func orDefault[T int | time.Duration](v, d T) T {
	if v == 0 {
		return d
	}
	return v
}
