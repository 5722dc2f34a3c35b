// Package registry says where a peer is and whether it may join: a signed [Record] that each peer makes about itself, and
// the two seams behind which records are kept, [Directory] and [Authority].
//
// The smallest program publishes where it is, for a day:
//
//	now := time.Now()
//	r := &registry.Record{
//		Sequence: now.UnixMilli(),
//		Expires:  now.Add(24 * time.Hour).UnixMilli(),
//		Addrs:    []multiaddr.Multiaddr{addr},
//	}
//	if err := r.Sign(key); err != nil {
//		return err
//	}
//	return directory.Publish(ctx, r)
//
// What the package promises:
//
//   - A record that [Parse] returned was signed by the key that its ID is, obeys every limit below, and is the only
//     encoding of what it says: nothing but what [Record.Sign] writes is accepted.
//   - Of two records of one peer, [Record.Newer] prefers the same one everywhere; a revocation beats whatever is not one.
//   - Whoever keeps records can withhold one, but cannot change it, nor bring an old one back to a directory that has
//     seen a newer.
//
// Package registry/registrytest is the test that every implementation of the seams passes; registry/memory is one of them.
package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/splitmesh/splitmesh/identity"
)

// A Directory knows where peers are. It is trusted to answer, not to tell the truth: records carry their own proof.
// Its methods are safe for concurrent use, and return an error that wraps ctx.Err() once ctx is done.
type Directory interface {
	// Publish makes r the record that Lookup returns for r.ID. It keeps a copy of r, or of its bytes.
	//
	// It refuses what [Record.Check] refuses, with the same errors, and a record that is not newer than the one it
	// knows, with [ErrRollback]; publishing the same record again is no error. A peer for whom it has no place gets
	// [ErrFull].
	Publish(ctx context.Context, r *Record) error

	// Lookup returns the newest record of id that has not expired, which the caller may keep and change, or
	// [ErrNotFound]. For a peer that was revoked it is the revocation, which never expires: Revoked is set and there
	// is no address in it.
	Lookup(ctx context.Context, id identity.ID) (*Record, error)
}

// An Authority knows whether a peer may join. Its methods are safe for concurrent use, and return an error that wraps
// ctx.Err() once ctx is done.
type Authority interface {
	// Standing returns how id stands. A peer that nobody ever admitted is [Unknown] with no error; an error means that
	// the authority cannot tell, and then the peer is not to be let in.
	Standing(ctx context.Context, id identity.ID) (Standing, error)
}

// A Namer is a directory that gives each name to one peer at a time, and whose Publish refuses, with [ErrNameTaken], a
// record with a name that another has. The name is the peer's until it publishes a record without it, is revoked, or its
// record, and any older one, must have expired: [MaxLife] after Sequence. Its methods are safe for concurrent use.
type Namer interface {
	Directory

	// Resolve returns the peer that has the name, or [ErrNotFound]. Who asks trusts the directory for it: an ID is
	// proven, a name is told.
	Resolve(ctx context.Context, name string) (identity.ID, error)
}

// A Lister is a directory whose records can be read one page after the other. Its methods are safe for concurrent use.
type Lister interface {
	Directory

	// List returns, ascending by ID, records that Lookup would return, of peers whose ID is higher than after: of all,
	// or of those that announce the capability when that is not empty. They are the caller's to keep and change. It
	// returns at most n, and fewer as it likes, even none. The next page is after next, which is higher than after
	// and no lower than any ID on this page; next is zero when this page is the last.
	List(ctx context.Context, after identity.ID, n int, capability string) (page []*Record, next identity.ID, err error)
}

// Standing is an [Authority]'s answer about a peer. The zero value is Unknown, which admits nobody.
type Standing int

// The standings.
const (
	Unknown Standing = iota // never heard of
	Active                  // may join
	Expired                 // might join until lately, and may again once it renews
	Revoked                 // may not join, ever
)

// String returns the name of the standing in lower case.
func (s Standing) String() string {
	switch s {
	case Unknown:
		return "unknown"
	case Active:
		return "active"
	case Expired:
		return "expired"
	case Revoked:
		return "revoked"
	}
	return fmt.Sprintf("standing(%d)", int(s))
}

// What a record may hold. Everything beyond is refused when it is signed and when it is parsed.
const (
	MaxSize         = 4 << 10          // bytes of the encoded record
	MaxAddrs        = 16               // addresses
	MaxComponents   = 16               // components of one address: in memory they take many times their bytes
	MaxCapabilities = 16               // capabilities
	MaxCapability   = 32               // bytes of one capability
	MaxLabel        = 64               // bytes of the operator's label, and of the network's
	MaxName         = 32               // bytes of the name
	MaxLife         = 48 * time.Hour   // from Sequence to Expires
	MaxSkew         = 10 * time.Minute // that Sequence may be ahead of the clock of whoever checks
)

// Capabilities that a record may announce. Others are carried and mean nothing here.
const (
	CapRelay     = "relay"      // splices circuits for others
	CapExit      = "exit"       // forwards to the internet
	CapDHTServer = "dht-server" // answers DHT queries
)

// Why a record is refused or absent. They come wrapped in a [*RecordError].
var (
	ErrNotFound     = errors.New("no record: the peer is offline, or published elsewhere")
	ErrExpired      = errors.New("the record has expired: its peer must publish again")
	ErrBadSignature = errors.New("the record is not signed by the key that it names")
	ErrMalformed    = errors.New("malformed record")
	ErrTooLarge     = errors.New("the record is too large")
	ErrFuture       = errors.New("the record is from the future: check the clocks of this machine and of the peer")
	ErrRollback     = errors.New("a newer record is known")
	ErrNameTaken    = errors.New("another peer has that name: choose one of your own")
	ErrFull         = errors.New("the directory is full, and those who have a place keep it: publish to another, or have its operator make room (MaxRecords)")
)

// A RecordError says what was being done with a record, whose it is, where the trouble lies, and what it is.
type RecordError struct {
	Op    string      // "sign", "parse", "check", "publish", "lookup" or "list"
	ID    identity.ID // zero when not known
	Field string      // such as "addrs[2]"; empty when it is about the whole
	Err   error       // wraps a sentinel above, or ctx.Err()
}

func (e *RecordError) Error() string {
	s := "registry: " + e.Op
	if !e.ID.IsZero() {
		s += " record of " + e.ID.String()
	}
	if e.Field != "" {
		s += ": " + e.Field
	}
	return s + ": " + e.Err.Error()
}

// Unwrap returns Err.
func (e *RecordError) Unwrap() error { return e.Err }
