// Package invite has a node be joined by one text: who it is, where it is found, and a secret with which the one who
// joins is told from others.
//
// The text is "meshvpn1", then in lower-case base32 (RFC 4648, no padding) a CBOR array (RFC 8949, deterministic) and
// the first four bytes of the SHA-256 of "meshvpn invitation 1" and the array. The array holds the ID, the name that the
// node would like to be called, multiaddrs of it and of relays, the private network's key or nothing, the secret, and the
// Unix time at which it ends.
//
// What the package promises:
//
//   - A text that Parse takes is the only one that says the same; one that was mistyped or cut is refused, as is a later
//     version's.
//   - An invitation is used by one peer, before it ends; so it is after the inviter was restarted, too.
//   - The inviter keeps no secret, only its hash; printing an Invitation shows neither it nor the network's key.
package invite

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/multiformats/go-multiaddr"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/transport"
)

// What an invitation may hold.
const (
	MaxText  = 4096 // characters
	MaxAddrs = 8
	MaxLife  = 30 * 24 * time.Hour // from when it is made
)

const (
	family  = "meshvpn"
	version = "1"
	sumSize = 4
)

// A Secret is known to the inviter and to whom the text was given.
type Secret [16]byte

// An Invitation is what the text says.
type Invitation struct {
	Peer       identity.ID
	Name       string                // may be empty
	Addrs      []multiaddr.Multiaddr // each ends in /p2p/ID
	NetworkKey *[32]byte             // nil: a public network
	Secret     Secret
	Ends       time.Time // in whole seconds
}

// Why a text is no invitation.
var (
	ErrNoInvitation = errors.New("an invitation begins with " + family + version + ": copy it whole")
	ErrVersion      = errors.New("the invitation was made by a later version of meshvpn: upgrade this one")
	ErrChecksum     = errors.New("a character of the invitation is wrong or missing: copy it again, whole")
	ErrContent      = errors.New("the invitation holds what none does")
	ErrExpired      = errors.New("the invitation has expired: ask for another")
)

type wire struct {
	_      struct{} `cbor:",toarray"`
	Peer   []byte
	Name   string
	Addrs  [][]byte
	Key    []byte
	Secret []byte
	Ends   int64
}

var (
	encoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
	enc      = must(cbor.CoreDetEncOptions().EncMode())
	dec      = must(cbor.DecOptions{DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden, MaxArrayElements: 16, MaxMapPairs: 16, MaxNestedLevels: 4}.DecMode())
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// NewSecret makes a secret by chance.
func NewSecret() (s Secret) {
	rand.Read(s[:])
	return s
}

// Text is the invitation as it is given to the one who joins. Whoever reads it can join instead.
func (i *Invitation) Text() (string, error) {
	w := wire{Peer: i.Peer[:], Name: i.Name, Addrs: [][]byte{}, Key: []byte{}, Secret: i.Secret[:], Ends: i.Ends.Unix()}
	for _, a := range i.Addrs {
		w.Addrs = append(w.Addrs, a.Bytes())
	}
	if i.NetworkKey != nil {
		w.Key = i.NetworkKey[:]
	}
	if _, err := w.check(); err != nil {
		return "", err
	}
	b, err := enc.Marshal(&w)
	if err != nil {
		return "", err
	}
	text := family + version + encoding.EncodeToString(append(b, checksum(b)...))
	if len(text) > MaxText {
		return "", fmt.Errorf("%w: %d characters", ErrContent, len(text))
	}
	return text, nil
}

func checksum(b []byte) []byte {
	sum := sha256.Sum256(append([]byte(family+" invitation "+version), b...))
	return sum[:sumSize]
}

// Begins reports whether an invitation of some version may begin so.
func Begins(text string) bool {
	return len(text) > len(family) && strings.EqualFold(text[:len(family)], family)
}

// Parse reads an invitation. White space in it, as from a terminal that broke the line, counts for nothing, and a text
// all in capitals, as a QR code may have it, is as good.
func Parse(text string) (*Invitation, error) {
	if len(text) > 2*MaxText {
		return nil, ErrNoInvitation
	}
	text = strings.Join(strings.Fields(text), "")
	if text == strings.ToUpper(text) {
		text = strings.ToLower(text)
	}
	body, ok := strings.CutPrefix(text, family+version)
	if !ok {
		if rest, ok := strings.CutPrefix(text, family); ok && rest != "" && rest[0] > version[0] && rest[0] <= '9' {
			return nil, ErrVersion
		}
		return nil, ErrNoInvitation
	}
	b, err := encoding.DecodeString(body)
	if err != nil || len(b) < sumSize || encoding.EncodeToString(b) != body {
		return nil, ErrChecksum
	}
	b, sum := b[:len(b)-sumSize], b[len(b)-sumSize:]
	if !bytes.Equal(sum, checksum(b)) {
		return nil, ErrChecksum
	}
	var w wire
	if err := dec.Unmarshal(b, &w); err != nil {
		return nil, ErrContent // the error could quote what is secret
	}
	if again, err := enc.Marshal(&w); err != nil || !bytes.Equal(again, b) {
		return nil, ErrContent
	}
	return w.check()
}

// check returns the invitation if it is one.
func (w *wire) check() (*Invitation, error) {
	i := &Invitation{Name: w.Name, Ends: time.Unix(w.Ends, 0)}
	var err error
	if i.Peer, err = identity.NewID(w.Peer); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrContent, err)
	}
	if w.Name != "" && !registry.ValidName(w.Name) {
		return nil, fmt.Errorf("%w: %.40q is no name", ErrContent, w.Name)
	}
	if len(w.Addrs) > MaxAddrs {
		return nil, fmt.Errorf("%w: %d addresses, and %d at most are allowed", ErrContent, len(w.Addrs), MaxAddrs)
	}
	for _, b := range w.Addrs {
		a, err := multiaddr.NewMultiaddrBytes(b)
		if err != nil {
			return nil, fmt.Errorf("%w: an address: %w", ErrContent, err)
		}
		if a, err = transport.Parse(a.String()); err != nil || !bytes.Equal(a.Bytes(), b) {
			return nil, fmt.Errorf("%w: an address that is not written as it should be", ErrContent)
		}
		if _, _, ok, err := transport.SplitPeer(a); err != nil || !ok {
			return nil, fmt.Errorf("%w: an address that does not end in /p2p/ID", ErrContent)
		}
		i.Addrs = append(i.Addrs, a)
	}
	if len(w.Key) > 0 {
		i.NetworkKey = new([32]byte)
	}
	if len(w.Secret) != len(i.Secret) || len(w.Key) > 0 && len(w.Key) != len(i.NetworkKey) {
		return nil, fmt.Errorf("%w: a secret of another length", ErrContent)
	}
	copy(i.Secret[:], w.Secret)
	if i.NetworkKey != nil {
		copy(i.NetworkKey[:], w.Key)
	}
	if w.Ends < 0 || w.Ends > maxEnds {
		return nil, fmt.Errorf("%w: the time at which it ends", ErrContent)
	}
	return i, nil
}

const maxEnds = 1 << 36 // in the year 4147

// String names whom it leads to, and no secret.
func (i Invitation) String() string { return "invitation of " + i.Peer.Short() }

// GoString is String.
func (i Invitation) GoString() string { return i.String() }

// Format prints String, for every verb.
func (i Invitation) Format(f fmt.State, _ rune) { fmt.Fprint(f, i.String()) }

// LogValue logs String.
func (i Invitation) LogValue() slog.Value { return slog.StringValue(i.String()) }
