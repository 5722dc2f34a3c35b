package mesh

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/internal/session"
	"github.com/splitmesh/splitmesh/splitter"
)

var (
	// ErrNoRoute reports a peer of which no address is known: no record, no
	// bootstrap address, no relay to ask.
	ErrNoRoute = errors.New("no way to the peer is known")
	// ErrRevoked reports a peer whose key was revoked; whoever answers under it is
	// not to be trusted.
	ErrRevoked = errors.New("the peer's key was revoked: ask it for its new ID")
	// ErrNoService reports a service that the peer does not listen on.
	ErrNoService = errors.New("the peer does not listen on this service")
	// ErrPeerGone reports a conn whose peer's node was closed, or came back as
	// another run.
	ErrPeerGone = session.ErrPeerGone
	// ErrRefused reports a peer that won't talk to us, or not about this.
	ErrRefused = errors.New("refused by the peer")
	// ErrBusy reports a peer whose listener has too many conns waiting.
	ErrBusy = errors.New("the peer's listener is full")
	// ErrNotReserved reports a relay at which the peer holds no reservation.
	ErrNotReserved = errors.New("the peer holds no reservation at the relay")
	// ErrRelayLeaving reports a relay that takes nothing new; see Node.Drain.
	ErrRelayLeaving = errors.New("the relay is going away: others will do")
	// ErrDatagramSize reports a datagram over MaxDatagram.
	ErrDatagramSize = session.ErrDatagramSize
	// ErrDatagramPolicy reports a conn of a private policy, which has no datagrams.
	ErrDatagramPolicy = session.ErrDatagramPolicy
	// ErrServiceTaken reports a second Listen on a service.
	ErrServiceTaken = errors.New("the service is being listened on already")
)

// errNodeClosed is what every method returns after Close.
var errNodeClosed = fmt.Errorf("mesh node: %w", net.ErrClosed)

// An OpError reports what failed, towards whom.
type OpError struct {
	Op      string // "dial", "listen", "reserve", "start"
	Peer    identity.ID
	Service string
	Err     error
}

func (e *OpError) Error() string {
	var b strings.Builder
	b.WriteString("mesh: " + e.Op)
	if !e.Peer.IsZero() {
		b.WriteString(" " + e.Peer.Short())
	}
	switch {
	case e.Service == "":
	case e.Peer.IsZero():
		fmt.Fprintf(&b, " on service %q", e.Service)
	default:
		b.WriteString(":" + e.Service)
	}
	return b.String() + ": " + e.Err.Error()
}

func (e *OpError) Unwrap() error { return e.Err }

// Timeout reports whether the error is a deadline's; it makes OpError a net.Error.
func (e *OpError) Timeout() bool {
	t, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](e.Err)
	return ok && t.Timeout()
}

// Temporary is false.
//
// Deprecated: it is there for net.Error.
func (e *OpError) Temporary() bool { return false }

// A RouteError reports why one way to a peer failed.
type RouteError struct {
	Route string
	Err   error
}

func (e *RouteError) Error() string { return e.Route + ": " + e.Err.Error() }
func (e *RouteError) Unwrap() error { return e.Err }

// A PurposeError reports a peer that accepts only conns of its own private purpose.
type PurposeError struct {
	Peer identity.ID
	Want splitter.Purpose
}

func (e *PurposeError) Error() string {
	return fmt.Sprintf("%s accepts no conns but of the purpose %v: set that as Dialer.Split.Purpose", e.Peer.Short(), e.Want)
}

// A LimitError reports a relay's limit that a request ran into.
type LimitError struct {
	Relay identity.ID
	// Limit is the name of the RelayConfig field, Value what it is set to.
	Limit string
	Value uint64
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("relay %s has reached its %s of %d; try later or another relay", e.Relay.Short(), e.Limit, e.Value)
}
