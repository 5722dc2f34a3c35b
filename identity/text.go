package identity

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"strings"

	"github.com/mr-tron/base58"
)

const (
	// idVersion is the last byte of an ID's text, before base32.
	idVersion = 1
	// checksumSize is the number of checksum bytes in an ID's text: one typing error in 65,536 goes unseen by it.
	checksumSize = 2
	// TextSize is the length of what [ID.String] returns: 35 bytes are 56 base32 characters with no bits left over.
	TextSize = (Size + checksumSize + 1) * 8 / 5
	// shortSize is enough to tell the peers in one log apart.
	shortSize = 8
	// peerIDMax bounds what is given to the base58 decoder, whose time grows with the square of the length.
	// The peer ID of an Ed25519 key has 52 characters.
	peerIDMax = 64
	// p2pPrefix is how a multiaddr introduces a peer ID.
	p2pPrefix = "/p2p/"
)

// noID is the text of the zero ID. It does not parse.
const noID = "invalid ID"

var text32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// peerIDPrefix is what stands before the key in a libp2p peer ID: the identity multihash (code 0, length 36) of the
// protobuf message PublicKey{Type: Ed25519 (1), Data: 32 bytes}. libp2p specs, peer-ids.
var peerIDPrefix = []byte{0x00, 0x24, 0x08, 0x01, 0x12, 0x20}

// checksum is the first two bytes of SHA-256("splitmesh/v1/id" ‖ key ‖ version).
func checksum(key []byte, version byte) []byte {
	h := sha256.New()
	h.Write([]byte(domain + "id"))
	h.Write(key)
	h.Write([]byte{version})
	return h.Sum(nil)[:checksumSize]
}

// String returns the ID's own spelling: 56 characters of lower-case base32 (RFC 4648 §6, no padding) of
// key(32) ‖ checksum(2) ‖ version(1). The checksum is the first two bytes of SHA-256("splitmesh/v1/id" ‖ key ‖ version)
// and the version is 1. The text is a valid DNS label. The zero ID gives "invalid ID".
func (id ID) String() string {
	if id.IsZero() {
		return noID
	}
	b := make([]byte, 0, Size+checksumSize+1)
	b = append(b, id[:]...)
	b = append(b, checksum(id[:], idVersion)...)
	b = append(b, idVersion)
	return text32.EncodeToString(b)
}

// Short returns the first 8 characters of the ID's text, for logs. Whoever wants to can make another key with the same
// ones: decide nothing by them.
func (id ID) Short() string {
	if id.IsZero() {
		return noID
	}
	return text32.EncodeToString(id[:shortSize*5/8])
}

// PeerID returns the ID's other spelling, the libp2p peer ID of the same key: 52 characters that begin with
// "12D3KooW", as they stand after /p2p/ in a multiaddr. The zero ID gives "invalid ID".
func (id ID) PeerID() string {
	if id.IsZero() {
		return noID
	}
	return base58.Encode(append(bytes.Clone(peerIDPrefix), id[:]...))
}

// ParseID reads an ID in either spelling: what [ID.String] returns, or what [ID.PeerID] returns, the latter with or
// without "/p2p/" before it.
//
// It accepts nothing but those two texts of a key that [NewID] accepts. Its errors are [*IDError] and wrap [ErrLength],
// [ErrSpelling], [ErrChecksum], [ErrVersion], or an error of NewID.
func ParseID(s string) (ID, error) {
	id, err := parse(s)
	if err != nil {
		return ID{}, &IDError{Input: clip(s), Err: err}
	}
	return id, nil
}

func parse(s string) (ID, error) {
	key, err := []byte(nil), ErrLength
	if rest, ok := strings.CutPrefix(s, p2pPrefix); ok || strings.HasPrefix(s, "12D3KooW") {
		key, err = decodePeerID(rest)
	} else if len(s) == TextSize {
		key, err = decodeText(s)
	}
	if err != nil {
		return ID{}, err
	}
	id, err := NewID(key)
	if err != nil {
		return ID{}, err.(*IDError).Err // the caller names the text, which says more than the bytes
	}
	return id, nil
}

// decodeText expects TextSize bytes and returns the key among what they encode.
func decodeText(s string) ([]byte, error) {
	b, err := text32.DecodeString(s)
	// The decoder skips line ends, so that a shorter text may come through with no error.
	if err != nil || len(b) != Size+checksumSize+1 {
		return nil, ErrSpelling
	}
	key, sum, version := b[:Size], b[Size:Size+checksumSize], b[Size+checksumSize]
	// The checksum is over the version that stands there, so that a wrong version with a right checksum is a later one.
	if !bytes.Equal(sum, checksum(key, version)) {
		return nil, ErrChecksum
	}
	if version != idVersion {
		return nil, ErrVersion
	}
	return key, nil
}

func decodePeerID(s string) ([]byte, error) {
	if len(s) > peerIDMax {
		return nil, ErrLength
	}
	b, err := base58.Decode(s)
	if err != nil {
		return nil, ErrSpelling
	}
	key, ok := bytes.CutPrefix(b, peerIDPrefix)
	if !ok { // base58 has one text for any bytes, so that nothing else can decode to them
		return nil, ErrSpelling
	}
	return key, nil
}

// MarshalText implements [encoding.TextMarshaler] with [ID.String]; the zero ID gives an empty text.
func (id ID) MarshalText() ([]byte, error) {
	if id.IsZero() {
		return []byte{}, nil
	}
	return []byte(id.String()), nil
}

// UnmarshalText implements [encoding.TextUnmarshaler] with [ParseID]; an empty text gives the zero ID.
// After an error id is as it was.
func (id *ID) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*id = ID{}
		return nil
	}
	parsed, err := ParseID(string(text))
	if err != nil {
		return err
	}
	*id = parsed
	return nil
}
