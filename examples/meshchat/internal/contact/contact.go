// Package contact is how people come to know each other: an invitation, one string that goes by whatever other way they
// have; and the words that both read to each other to be sure that nobody stood between them.
package contact

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/multiformats/go-multiaddr"
	"github.com/tyler-smith/go-bip39/wordlists"

	"github.com/splitmesh/splitmesh/examples/meshchat/internal/protocol"
	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
	"github.com/splitmesh/splitmesh/transport"
)

// Limits of an invitation.
const (
	MaxInvitation = 4 << 10 // bytes of text
	MaxAddrs      = 16
)

// ErrInvitation says that a text is no invitation.
var ErrInvitation = errors.New("not an invitation of meshchat: copy it whole, from meshchat: on")

const prefix = "meshchat:"

// checksumSize is how many bytes of SHA-256 say that it was copied whole.
const checksumSize = 4

// An Invitation is what one needs to reach somebody for the first time.
type Invitation struct {
	ID identity.ID
	// Addrs are of relays, and of the peer himself, each ending in /p2p/ID.
	Addrs []multiaddr.Multiaddr
	// Secret makes who shows it first a contact. None: the peer is asked.
	Secret []byte
	// Nick is what the peer calls himself.
	Nick string
}

type wire struct {
	ID     identity.ID `cbor:"1,keyasint"`
	Addrs  [][]byte    `cbor:"2,keyasint,omitempty"`
	Secret []byte      `cbor:"3,keyasint,omitempty"`
	Nick   string      `cbor:"4,keyasint,omitempty"`
}

// String is the invitation as one word.
func (v *Invitation) String() string {
	w := wire{ID: v.ID, Secret: v.Secret, Nick: v.Nick}
	for _, a := range v.Addrs[:min(len(v.Addrs), MaxAddrs)] {
		w.Addrs = append(w.Addrs, a.Bytes())
	}
	b, err := protocol.Marshal(w)
	if err != nil {
		panic("contact: an invitation has no CBOR: " + err.Error())
	}
	sum := sha256.Sum256(b)
	return prefix + base64.RawURLEncoding.EncodeToString(append(b, sum[:checksumSize]...))
}

// unfold takes out what a terminal or a mail has put in where it broke the line: white space, and the margin of the screen.
func unfold(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || r == '│' }), "")
}

// Parse reads what String wrote; that it was folded counts for nothing. Errors wrap ErrInvitation, and don't hold the text,
// which may hold a secret.
func Parse(s string) (*Invitation, error) {
	s = unfold(s)
	text, ok := strings.CutPrefix(s, prefix)
	if !ok || len(s) > MaxInvitation {
		return nil, ErrInvitation
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) < checksumSize {
		return nil, ErrInvitation
	}
	b, sum := b[:len(b)-checksumSize], b[len(b)-checksumSize:]
	if want := sha256.Sum256(b); string(sum) != string(want[:checksumSize]) {
		return nil, fmt.Errorf("%w: a character is missing or wrong", ErrInvitation)
	}
	var w wire
	if err := protocol.Unmarshal(b, &w); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvitation, err)
	}
	v := &Invitation{Secret: w.Secret, Nick: w.Nick}
	if v.ID, err = identity.NewID(w.ID[:]); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvitation, err)
	}
	if len(w.Addrs) > MaxAddrs || len(w.Nick) > protocol.MaxName || len(w.Secret) != 0 && len(w.Secret) != protocol.SecretSize {
		return nil, fmt.Errorf("%w: it holds too much", ErrInvitation)
	}
	for _, raw := range w.Addrs {
		a, err := multiaddr.NewMultiaddrBytes(raw)
		if err != nil || len(a) > registry.MaxComponents {
			return nil, fmt.Errorf("%w: an address in it makes no sense", ErrInvitation)
		}
		if a, err = transport.Parse(a.String()); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvitation, err)
		}
		if _, _, ok, err := transport.SplitPeer(a); err != nil || !ok {
			return nil, fmt.Errorf("%w: an address in it says not whose it is", ErrInvitation)
		}
		v.Addrs = append(v.Addrs, a)
	}
	if v.String() != prefix+text {
		return nil, fmt.Errorf("%w: a second spelling", ErrInvitation)
	}
	return v, nil
}

// Words is how many words two people compare. Somebody in the middle chooses both of his keys, and needs only that the
// phrases that they make with the two agree: with 12 words, which hold 132 bits, that takes 2^66 keys; with 8 it would take
// 2^44, which can be had.
const Words = 12

// Phrase is what both people read when they speak with each other, in whichever order the IDs are given. The words are of
// the English list of BIP-39.
func Phrase(a, b identity.ID) []string {
	ids := []identity.ID{a, b}
	slices.SortFunc(ids, identity.ID.Compare)
	h := sha256.New()
	h.Write([]byte("splitmesh/meshchat/v1/verify"))
	h.Write(ids[0][:])
	h.Write(ids[1][:])
	sum := h.Sum(nil)
	words := make([]string, Words)
	for i := range words {
		n := 0
		for bit := i * 11; bit < (i+1)*11; bit++ {
			n = n<<1 | int(sum[bit/8]>>(7-bit%8)&1)
		}
		words[i] = wordlists.English[n]
	}
	return words
}
