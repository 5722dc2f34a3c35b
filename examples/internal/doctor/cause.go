package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"

	"github.com/splitmesh/splitmesh/frame"
	"github.com/splitmesh/splitmesh/mesh"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/splitter"
	"github.com/splitmesh/splitmesh/transport"
	"github.com/splitmesh/splitmesh/transport/websocket"
)

// A Cause is why a service can't be reached.
type Cause string

// The causes.
const (
	BadTarget       Cause = "bad target"
	FullDisk        Cause = "full disk"
	State           Cause = "state directory"
	WrongClock      Cause = "wrong clock"
	UnknownName     Cause = "unknown name"
	Directory       Cause = "directory"
	NoRecord        Cause = "no record"
	ExpiredRecord   Cause = "expired record"
	Revoked         Cause = "revoked key"
	NoRoute         Cause = "no address known"
	DNS             Cause = "DNS"
	Blocked         Cause = "blocked port"
	ProxyAuth       Cause = "proxy authentication"
	Certificate     Cause = "certificate"
	Version         Cause = "version"
	Silent          Cause = "wrong key, wrong network key, or no node there"
	RelayBlocked    Cause = "relay out of reach"
	RelaySilent     Cause = "another at the relay's address"
	NotReserved     Cause = "not reserved at the relay"
	RelayLimit      Cause = "relay limit"
	NoDisjointRelay Cause = "no disjoint relay"
	Unauthorized    Cause = "authorization"
	UnknownService  Cause = "unknown service"
	BusyService     Cause = "busy service"
	NoAnswer        Cause = "no answer from the port"
	ClosedPort      Cause = "closed port"
	Unknown         Cause = "unknown"
)

// order are the causes from what explains least to what explains most: the later one stands on the way, the more it
// does, and what is wrong with this machine explains all that follows.
var order = []Cause{
	Unknown, NoRoute, NoRecord, DNS, Blocked, RelayBlocked, NotReserved, RelaySilent, Silent, ExpiredRecord, ProxyAuth, Certificate,
	Version, NoDisjointRelay, RelayLimit, BusyService, UnknownService, NoAnswer, ClosedPort, Unauthorized, Revoked, Directory,
	UnknownName, BadTarget, State, WrongClock, FullDisk,
}

// rank is how much a cause explains, -1 of none.
func rank(c Cause) int { return slices.Index(order, c) }

// advice is what to do.
var advice = map[Cause]string{
	BadTarget:       "Write PEER:SERVICE, where PEER is an ID or NAME.mesh; the command's --help says what else it takes. Copy an ID whole.",
	FullDisk:        "Make room on the disk of the state directory, or choose another with --state.",
	State:           "Let the program's user write to the state directory, or choose another with --state.",
	WrongClock:      "Set this machine's clock, and the peer's: run timedatectl, and have a time service running. Records and certificates are judged by it.",
	UnknownName:     "Check the spelling, give the peer a petname in the hosts file, or write its ID.",
	Directory:       "The directory failed; the step says how. Others can be added: see the settings dht, registries and lan.",
	NoRecord:        "Nobody knows where the peer is: it is offline, publishes to other directories, or shares no bootstrap node with this one. At the peer, look at status.",
	ExpiredRecord:   "The peer has not published for long: it is offline, or can't reach its directories. At the peer, look at status and its log.",
	Revoked:         "The key was revoked for good. Ask its owner, by another way, for the new ID.",
	NoRoute:         "Give this node bootstrap addresses of relays or of the peer.",
	DNS:             "The name in the address does not resolve: check the resolver of this machine, and the spelling.",
	Blocked:         "Nothing answers at that address and port: a firewall stands between, or the peer's node does not run or listens elsewhere. At the peer run ss -ltn; from here try another network, or have the peer reserve at relays.",
	ProxyAuth:       "Put the right user and password into HTTPS_PROXY, http://user:password@host:port.",
	Certificate:     "The server's certificate is not for that name, has expired, or is of an authority that this machine does not know. If the clock is right, a proxy may be reading along.",
	Version:         "What answers speaks another protocol, or another version of this one: check the port and /ws at the end of the address, and update both ends.",
	Silent:          "Something answers, and not as the peer. The protocol does not tell a stranger which it is. At the other end: compare the ID in status with the one dialled here; compare the SHA-256 of the files network-key-file; and see whether the node listens at that address at all.",
	RelayBlocked:    "The relay does not answer at that address, so nobody is reached through it; of the peer itself that says nothing. Start the relay, or compare the address with the one that it has now; a firewall may stand between. Or give both ends another relay, in bootstrap.",
	RelaySilent:     "Something answers at the relay's address, and not as that relay: it has a new key or another network key, or the address is another's now. Compare the ID in its status with the one in the address, and put the right address into bootstrap, here and at the peer. Or give both ends another relay.",
	NotReserved:     "The peer holds no reservation at that relay: it is offline, or at other relays. At the peer, look at status.",
	RelayLimit:      "The relay has no room for more: try later, give both ends other relays, or ask the relay's operator to raise the limit that is named.",
	NoDisjointRelay: "A private path needs two relays that have nothing in common: give both ends more relays, of different operators, or allow direct paths.",
	Unauthorized:    "The peer runs and does not let you in. At the peer, allow this node's ID for the service.",
	UnknownService:  "The peer runs and offers no such service: check the spelling, and at the peer that it is served.",
	BusyService:     "The peer runs and does not keep up with those who connect: try again.",
	NoAnswer:        "The peer runs, and nothing came back from the port. Which it is the peer does not tell: no rule there allows this node the port, or a firewall there drops what comes.",
	ClosedPort:      "The peer lets this node in, and nothing listens at that port of its address: start the server there, or have it listen at that address too.",
	Unknown:         "The step says what went wrong.",
}

// CauseOf tells what an error means; "": nothing that is known. Of several errors, joined, the one that explains most counts.
func CauseOf(err error) Cause {
	c, _ := causeOf(err)
	return c
}

// causeOf is CauseOf, and of a relay that fails which ones and where.
func causeOf(err error) (best Cause, relays []string) {
	for _, l := range leaves(err, nil) {
		c := causeOfOne(l.error)
		at := ""
		if len(l.routes) > 1 { // it is the way to the relay that failed, not one through it
			if of, ok := ofRelay[c]; ok {
				c, at = of, l.routes[0]+" at "+l.routes[1]
			}
		}
		if rank(c) > rank(best) {
			best, relays = c, nil
		}
		if c == best && at != "" {
			relays = append(relays, at)
		}
	}
	return best, relays
}

// ofRelay are the causes that mean something else when it is a relay's address.
var ofRelay = map[Cause]Cause{Blocked: RelayBlocked, Silent: RelaySilent}

// A leaf is one of several errors, and the routes that it was on: that of the relay, then those to the relay.
type leaf struct {
	error
	routes []string
}

// leaves takes joined errors apart, and leaves chains together.
func leaves(err error, routes []string) (out []leaf) {
	if err == nil {
		return nil
	}
	whole := err
	for err != nil {
		switch x := err.(type) {
		case interface{ Unwrap() []error }:
			for _, p := range x.Unwrap() {
				out = append(out, leaves(p, routes)...)
			}
			return out
		case *mesh.RouteError:
			routes = append(slices.Clip(routes), x.Route)
			err = x.Err
		case interface{ Unwrap() error }:
			err = x.Unwrap()
		default:
			err = nil
		}
	}
	return []leaf{{whole, routes}}
}

func causeOfOne(err error) Cause {
	var (
		limit   *mesh.LimitError
		few     *splitter.TooFewPathsError
		dns     *net.DNSError
		invalid *tls.CertificateVerificationError
		timeout net.Error
	)
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return FullDisk
	case errors.Is(err, registry.ErrExpired):
		return ExpiredRecord
	case errors.Is(err, registry.ErrFuture):
		return WrongClock
	case errors.Is(err, mesh.ErrRevoked):
		return Revoked
	case errors.As(err, &limit):
		return RelayLimit
	case errors.As(err, &few):
		return NoDisjointRelay
	case errors.Is(err, mesh.ErrNoService):
		return UnknownService
	case errors.Is(err, mesh.ErrBusy):
		return BusyService
	case errors.Is(err, mesh.ErrNotReserved):
		return NotReserved
	case errors.Is(err, websocket.ErrProxyAuth):
		return ProxyAuth
	case errors.As(err, &invalid), isCertificate(err):
		return Certificate
	case errors.Is(err, frame.ErrVersion), errors.Is(err, frame.ErrType):
		return Version
	case errors.Is(err, transport.ErrRefused):
		return Silent
	case errors.Is(err, mesh.ErrRefused):
		return Unauthorized
	case errors.As(err, &dns):
		return DNS
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EACCES):
		return Blocked
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return Silent
	case errors.Is(err, mesh.ErrNoRoute):
		return NoRoute
	case errors.Is(err, registry.ErrNotFound):
		return NoRecord
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return Blocked
	}
	return ""
}

func isCertificate(err error) bool {
	var (
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
		alert     tls.AlertError
	)
	return errors.As(err, &authority) || errors.As(err, &host) || errors.As(err, &invalid) || errors.As(err, &alert) || strings.Contains(err.Error(), "x509: ")
}
