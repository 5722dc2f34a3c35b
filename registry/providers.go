package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/splitmesh/splitmesh/identity"
)

// A Finder is a directory that finds peers by what they do for others, where there is no list of all. Its methods are safe
// for concurrent use.
type Finder interface {
	Directory

	// Providers returns records that Lookup would return, of peers that announce the capability, in no order: where
	// there are many, some; where there are none, none, which is no error. They are the caller's to keep and change.
	Providers(ctx context.Context, capability string) ([]*Record, error)
}

const (
	// MaxProviders is how many records [Providers] returns at most.
	MaxProviders = 64
	// providerCalls bounds the pages that a Lister is asked for.
	providerCalls = 8
)

// CanFind reports whether [Providers] has whom to ask.
func CanFind(d Directory) bool {
	switch d.(type) {
	case Finder, Lister:
		return true
	}
	return false
}

// Providers asks d, a [Finder] or a [Lister], for peers that announce the capability, and returns [MaxProviders] records at
// most. A Lister is read from a random place on, so that of many peers nobody is always the first. Records that are
// forged, have expired, or are of peers that were revoked or announce something else are left out. The error of a
// directory that is neither wraps [errors.ErrUnsupported]; whatever was found before an error is returned with it.
func Providers(ctx context.Context, d Directory, capability string) (found []*Record, err error) {
	seen := make(map[identity.ID]bool)
	take := func(records []*Record) {
		now := time.Now()
		for _, r := range records {
			if len(found) < MaxProviders && !seen[r.ID] && !r.Revoked && r.Has(capability) && r.Check(now) == nil {
				seen[r.ID] = true
				found = append(found, r)
			}
		}
	}
	if f, ok := d.(Finder); ok {
		all, err := f.Providers(ctx, capability)
		take(all)
		return found, err
	}
	l, ok := d.(Lister)
	if !ok {
		return nil, &RecordError{Op: "list", Err: fmt.Errorf("%T finds no peers by capability: %w", d, errors.ErrUnsupported)}
	}
	start, err := identity.GenerateKey() // its ID is one that every List takes
	if err != nil {
		return nil, &RecordError{Op: "list", Err: err}
	}
	from := start.ID()
	after := from
	for wrapped, calls := false, 0; calls < providerCalls && len(found) < MaxProviders; calls++ {
		page, next, err := l.List(ctx, after, MaxProviders, capability)
		take(page)
		switch {
		case err != nil:
			return found, err
		case !next.IsZero() && next.Compare(after) <= 0:
			return found, &RecordError{Op: "list", Err: fmt.Errorf("%w: its pages do not go on", ErrMalformed)}
		case wrapped && (next.IsZero() || next.Compare(from) > 0):
			return found, nil
		case next.IsZero():
			wrapped = true
		}
		after = next
	}
	return found, nil
}
