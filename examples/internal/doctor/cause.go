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
	NotReserved     Cause = "not reserved at the relay"
	RelayLimit      Cause = "relay limit"
	NoDisjointRelay Cause = "no disjoint relay"
	Unauthorized    Cause = "authorization"
	UnknownService  Cause = "unknown service"
	BusyService     Cause = "busy service"
	Unknown         Cause = "unknown"
)

// order are the causes from what explains least to what explains most: the later one stands on the way, the more it
// does, and what is wrong with this machine explains all that follows.
var order = []Cause{
	Unknown, NoRoute, NoRecord, DNS, Blocked, NotReserved, Silent, ExpiredRecord, ProxyAuth, Certificate, Version, NoDisjointRelay,
	RelayLimit, BusyService, UnknownService, Unauthorized, Revoked, Directory, UnknownName, BadTarget, State, WrongClock, FullDisk,
}

// rank is how much a cause explains, -1 of none.
func rank(c Cause) int { return slices.Index(order, c) }

// advice is what to do.
var advice = map[Cause]string{
	BadTarget:       "Write PEER:SERVICE, where PEER is an ID or NAME.mesh.",
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
	NotReserved:     "The peer holds no reservation at that relay: it is offline, or at other relays. At the peer, look at status.",
	RelayLimit:      "The relay has no room for more: try later, give both ends other relays, or ask the relay's operator to raise the limit that is named.",
	NoDisjointRelay: "A private path needs two relays that have nothing in common: give both ends more relays, of different operators, or allow direct paths.",
	Unauthorized:    "The peer runs and does not let you in. At the peer, allow this node's ID for the service.",
	UnknownService:  "The peer runs and offers no such service: check the spelling, and at the peer that it is served.",
	BusyService:     "The peer runs and does not keep up with those who connect: try again.",
	Unknown:         "The step says what went wrong.",
}

// causeOf tells what an error means. Of several errors, joined, the one that explains most counts.
func causeOf(err error) (best Cause) {
	for _, e := range leaves(err) {
		if c := causeOfOne(e); rank(c) > rank(best) {
			best = c
		}
	}
	return best
}

// leaves takes joined errors apart, and leaves chains together.
func leaves(err error) (out []error) {
	if err == nil {
		return nil
	}
	whole := err
	for err != nil {
		switch x := err.(type) {
		case interface{ Unwrap() []error }:
			parts := x.Unwrap()
			for _, p := range parts {
				out = append(out, leaves(p)...)
			}
			return out
		case interface{ Unwrap() error }:
			err = x.Unwrap()
		default:
			err = nil
		}
	}
	return []error{whole}
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
