package registry

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/identity"
)

// A Record is what a peer says about itself: where it is and what it does for others.
//
// Fill in the exported fields, then [Record.Sign]. From then on a Record is read-only and safe for concurrent use: what
// counts is what was signed, and [Record.Check] refuses a record whose fields say something else. Change a
// [Record.Clone] and sign that, with a higher Sequence.
type Record struct {
	// ID is the peer, whose key signs. Sign fills it in.
	ID identity.ID
	// Sequence is when the record was made, in Unix milliseconds: the highest of a peer's records is the newest.
	Sequence int64
	// Expires is when the record ends, in Unix milliseconds: after Sequence, by at most MaxLife.
	Expires int64
	// Addrs are where the peer can be reached, best first. At most MaxAddrs, each of 1 to MaxComponents, whose text is
	// UTF-8 with no control characters.
	Addrs []multiaddr.Multiaddr
	// Capabilities are what the peer does for others: sorted, each once, of 1 to MaxCapability characters a-z, 0-9 and
	// hyphen. At most MaxCapabilities.
	Capabilities []string
	// Operator is who says to run the peer, in at most MaxLabel bytes of UTF-8 with no control characters. It is
	// the peer's own word: use it to keep relays of one operator apart, never to trust one.
	Operator string
	// Network is the network that the peer says to be in, such as its provider's: a label like Operator, and for the
	// same use.
	Network string
	// Name is what the peer would like to be called: see [ValidName]. Whoever keeps records gives a name to one peer
	// at a time, if it is a [Namer]; elsewhere it is the peer's own word, and never stands for an ID.
	Name string
	// Revoked ends the key for good: a peer says it when its key is lost or stolen. A revocation does not expire and
	// carries no Addrs, Capabilities, labels or Name, so that who forgets to look at Revoked has nothing to dial.
	Revoked bool

	// encoded is what Sign or Parse found good; nobody writes to it. Nil until signed.
	encoded []byte
	// signature is the part of encoded that is not in the fields.
	signature []byte
}

// purpose is what a record's signature is for; see [identity.Key.Sign].
const purpose = "record"

// Sign sets ID, puts sorted copies in place of the slices, and signs with k. It refuses, and leaves r as it was, what [Parse]
// would refuse: a field beyond its limits ([ErrMalformed]), more than [MaxSize] bytes in all ([ErrTooLarge]), and an ID
// already set to another key's ([ErrBadSignature]).
func (r *Record) Sign(k *identity.Key) error {
	id := k.ID()
	if !r.ID.IsZero() && r.ID != id {
		return &RecordError{"sign", r.ID, "id", fmt.Errorf("%w but by %s", ErrBadSignature, id)}
	}
	draft := *r
	draft.ID = id
	draft.Capabilities = slices.Compact(slices.Sorted(slices.Values(r.Capabilities)))
	if field, err := draft.validate(); err != nil {
		return &RecordError{"sign", id, field, err}
	}
	payload := draft.encodePayload()
	// Reading it back finds what validate cannot, such as a multiaddr put together by hand, and copies the addresses.
	signed, field, err := parse(encodeEnvelope(payload, k.Sign(purpose, payload)))
	if err != nil {
		return &RecordError{"sign", id, field, err}
	}
	*r = *signed
	return nil
}

func tooLarge(n int) error {
	return fmt.Errorf("%w: %d bytes, and at most %d are allowed; publish fewer addresses", ErrTooLarge, n, MaxSize)
}

// Marshal returns a copy of the signed record's encoding, or nil when r was not signed.
func (r *Record) Marshal() []byte { return bytes.Clone(r.encoded) }

// Clone returns a copy that shares nothing that can be changed. The copy of a signed record is signed.
func (r *Record) Clone() *Record {
	c := *r
	c.Addrs = slices.Clone(r.Addrs)
	for i, a := range c.Addrs {
		c.Addrs[i] = slices.Clone(a)
	}
	c.Capabilities = slices.Clone(r.Capabilities)
	return &c
}

// Has reports whether the record announces the capability.
func (r *Record) Has(capability string) bool { return slices.Contains(r.Capabilities, capability) }

// Check reports whether r may be used at the time now. It returns [ErrBadSignature] when r is not signed or was changed
// since, [ErrFuture] when it was made more than [MaxSkew] after now, and [ErrExpired] when it has ended, unless it is a
// revocation. That the signature holds was checked when r was signed or parsed.
func (r *Record) Check(now time.Time) error {
	fail := func(field string, err error) error { return &RecordError{"check", r.ID, field, err} }
	switch {
	case r.encoded == nil:
		return fail("", fmt.Errorf("%w: it is not signed at all", ErrBadSignature))
	case !bytes.Equal(encodeEnvelope(r.encodePayload(), r.signature), r.encoded):
		return fail("", fmt.Errorf("%w: it was changed after signing", ErrBadSignature))
	case r.Sequence > now.Add(MaxSkew).UnixMilli():
		return fail("sequence", fmt.Errorf("%w: made at %s, and it is %s", ErrFuture, stamp(r.Sequence), stamp(now.UnixMilli())))
	case !r.Revoked && r.Expires <= now.UnixMilli():
		return fail("expires", fmt.Errorf("%w: it ended at %s", ErrExpired, stamp(r.Expires)))
	}
	return nil
}

func stamp(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }

// Newer reports whether r, of the same ID, takes the place of than; a nil than is nothing yet. A revocation takes the
// place of whatever is none and is never displaced by that; otherwise the higher Sequence wins, and of two records with
// one Sequence the one whose encoding sorts last, so that all who see both keep the same.
func (r *Record) Newer(than *Record) bool {
	switch {
	case than == nil:
		return true
	case r.ID != than.ID:
		return false
	case r.Revoked != than.Revoked:
		return r.Revoked
	case r.Sequence != than.Sequence:
		return r.Sequence > than.Sequence
	}
	return bytes.Compare(r.encoded, than.encoded) > 0
}

// Equal reports whether both are the same signed record, byte for byte.
func (r *Record) Equal(other *Record) bool {
	return r.encoded != nil && other != nil && bytes.Equal(r.encoded, other.encoded)
}

// validate returns the field that breaks the rules of [Record], and how. It does not look at the signature.
func (r *Record) validate() (field string, err error) {
	bad := func(field, format string, args ...any) (string, error) {
		return field, fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
	}
	switch {
	case r.Sequence <= 0:
		return bad("sequence", "%d is no time in Unix milliseconds", r.Sequence)
	case r.Expires <= r.Sequence:
		return bad("expires", "not after it was made")
	case r.Expires-r.Sequence > MaxLife.Milliseconds():
		return bad("expires", "a life of %d ms, and at most %d (%v) is allowed", r.Expires-r.Sequence, MaxLife.Milliseconds(), MaxLife)
	case len(r.Addrs) > MaxAddrs:
		return bad("addrs", "%d addresses, and at most %d are allowed", len(r.Addrs), MaxAddrs)
	case len(r.Capabilities) > MaxCapabilities:
		return bad("capabilities", "%d capabilities, and at most %d are allowed", len(r.Capabilities), MaxCapabilities)
	case r.Name != "" && !ValidName(r.Name):
		return bad("name", "%q must have 1 to %d characters a-z, 0-9 and hyphen, and no hyphen at an end", clip(r.Name), MaxName)
	case r.Revoked && (len(r.Addrs) > 0 || len(r.Capabilities) > 0 || r.Operator != "" || r.Network != "" || r.Name != ""):
		return bad("revoked", "a revocation carries no addresses, capabilities, labels or name")
	}
	for _, l := range []struct{ field, label string }{{"operator", r.Operator}, {"network", r.Network}} {
		switch {
		case len(l.label) > MaxLabel:
			return bad(l.field, "%d bytes, and at most %d are allowed", len(l.label), MaxLabel)
		case !printable(l.label):
			return bad(l.field, "it must be UTF-8 without control characters")
		}
	}
	for i, a := range r.Addrs {
		if len(a) == 0 {
			return bad(fmt.Sprintf("addrs[%d]", i), "an empty address")
		}
		if len(a) > MaxComponents {
			return bad(fmt.Sprintf("addrs[%d]", i), "%d components, and at most %d are allowed", len(a), MaxComponents)
		}
		if !printable(a.String()) { // a name in it may hold any byte, for a terminal, or a file of lines
			return bad(fmt.Sprintf("addrs[%d]", i), "its text must be UTF-8 without control characters")
		}
	}
	for i, c := range r.Capabilities {
		if !validCapability(c) {
			return bad(fmt.Sprintf("capabilities[%d]", i), "%q must have 1 to %d characters a-z, 0-9 and hyphen", clip(c), MaxCapability)
		}
		if i > 0 && c <= r.Capabilities[i-1] {
			return bad(fmt.Sprintf("capabilities[%d]", i), "%q is out of order or doubled", c)
		}
	}
	return "", nil
}

// ValidName reports whether a peer may be called name: 1 to [MaxName] characters a-z, 0-9 and hyphen, neither first nor
// last a hyphen. So a name is a DNS label, and shorter than any spelling of an ID.
func ValidName(name string) bool {
	return validCapability(name) && len(name) <= MaxName && name[0] != '-' && name[len(name)-1] != '-'
}

func validCapability(c string) bool {
	other := func(r rune) bool { return r != '-' && (r < 'a' || r > 'z') && (r < '0' || r > '9') }
	return 0 < len(c) && len(c) <= MaxCapability && !strings.ContainsFunc(c, other)
}

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

func clip(s string) string { return s[:min(len(s), 2*MaxCapability)] }
