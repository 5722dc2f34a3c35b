// Package transport is the seam between a node and the networks that carry its
// bytes to a neighbour: WebSockets, TCP, memory.
//
// A transport authenticates nobody and keeps no secret: whoever is at the other
// end of a connection is proven by the handshake that runs over it. What a
// transport does promise is a reliable ordered byte pipe, and that the dialler's
// opening travels with the first flight and is judged before the listener shows
// that anything but an ordinary server is there.
//
// Every implementation passes [github.com/splitmesh/splitmesh/transport/transporttest].
package transport

import (
	"context"
	"errors"
	"net"

	"github.com/multiformats/go-multiaddr"
)

// MaxOpening is the largest opening, in bytes, that a transport carries.
const MaxOpening = 4096

var (
	// ErrRefused reports that whatever listens at the address did not admit the
	// opening: it is no peer of ours, or does not want to be.
	ErrRefused = errors.New("the other side did not admit us")
	// ErrUnsupported reports an address that the transport can't dial or listen on.
	ErrUnsupported = errors.New("address not supported by this transport")
	// ErrOpeningTooLarge reports an opening over MaxOpening bytes.
	ErrOpeningTooLarge = errors.New("opening is larger than 4096 bytes")
)

// A Transport carries bytes to a neighbour. It authenticates nobody: paths do.
// Its methods may be called from any goroutine.
type Transport interface {
	// CanDial reports whether Dial understands addr. It does no I/O.
	CanDial(addr multiaddr.Multiaddr) bool

	// Dial connects to addr and sends opening (at most MaxOpening bytes, not
	// kept) with its first flight. ctx bounds the dial only: the connection
	// outlives it. When the other side answers without admitting the opening
	// and the transport can tell, errors.Is(err, ErrRefused).
	Dial(ctx context.Context, addr multiaddr.Multiaddr, opening []byte) (net.Conn, error)

	// Listen accepts connections at addr until the Listener is closed. ctx
	// bounds the start only. Each arrival's opening is handed to admit.
	Listen(ctx context.Context, addr multiaddr.Multiaddr, admit Admit) (Listener, error)
}

// Admit judges an arrival by its opening, which it must not keep. It returns nil
// when we are not here for this caller, who is then answered as any stranger
// would be. Otherwise the transport completes the connection and calls the
// returned function exactly once, from a goroutine that the arrival owns and
// that the function may hold for as long as it likes: with the connection, which
// the function then owns, or with nil when it could not be completed.
//
// Admit is called from many goroutines at once.
type Admit func(opening []byte) func(net.Conn)

// A Listener is a running listener of a Transport.
type Listener interface {
	// Multiaddr is the address bound, with any port 0 replaced by the real one.
	Multiaddr() multiaddr.Multiaddr
	// Close stops new arrivals, abandons those not yet admitted and waits for
	// the listener's own goroutines. Connections handed over stay open. It is
	// idempotent.
	Close() error
}
