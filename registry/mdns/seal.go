package mdns

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/splitmesh/splitmesh/identity"
	"github.com/splitmesh/splitmesh/registry"
)

// The labels of the keys. All that is open is sealed under the first, in place of a network key.
const (
	labelOpen = "splitmesh/v1/mdns/open"
	labelTag  = "splitmesh/v1/mdns/tag"
	labelSeal = "splitmesh/v1/mdns/seal"
)

const (
	saltSize  = 16
	nonceSize = chacha20poly1305.NonceSizeX
	sealing   = nonceSize + chacha20poly1305.Overhead
	// slotLength is how long a slot lasts. What was recorded in one is worth nothing after the next.
	slotLength = 10 * time.Minute
)

// sizes are those that a record is padded to, its length included. An answer of the second fits a packet of 1,400 bytes.
var sizes = [...]int{512, 1200, 2400, 2 + registry.MaxSize}

// maxSealed is how long a sealed record may be.
const maxSealed = 2 + registry.MaxSize + sealing

func sealedSize(n int) bool { return slices.Contains(sizes[:], n-sealing) }

// A subject is what a question asks for: an ID or a name, whose record is the answer.
type subject string

func ofID(id identity.ID) subject  { return subject("\x00" + string(id[:])) }
func ofName(name string) subject   { return subject("\x01" + name) }
func slotOf(now time.Time) uint64  { return uint64(now.UnixMilli()) / uint64(slotLength.Milliseconds()) }
func slots(now time.Time) []uint64 { s := slotOf(now); return []uint64{s, s - 1, s + 1} }

// keys are what follows from a network key. They are safe for concurrent use.
type keys struct {
	tag  []byte
	aead cipher.AEAD
}

// newKeys derives the keys of a network; nil stands for the open one.
func newKeys(network *[32]byte) *keys {
	secret := []byte(labelOpen)
	if network != nil {
		secret = network[:]
	}
	aead, err := chacha20poly1305.NewX(derive(secret, labelSeal))
	if err != nil { // the key has the right length
		panic("mdns: sealing: " + err.Error())
	}
	return &keys{derive(secret, labelTag), aead}
}

func derive(secret []byte, info string) []byte {
	key, err := hkdf.Key(sha256.New, secret, nil, info, 32)
	if err != nil { // 32 bytes are never too many
		panic("mdns: deriving " + info + ": " + err.Error())
	}
	return key
}

// ask returns the label of a question for s.
func (k *keys) ask(slot uint64, salt [saltSize]byte, s subject) label {
	mac := hmac.New(sha256.New, k.tag)
	mac.Write(salt[:])
	mac.Write(binary.BigEndian.AppendUint64(nil, slot))
	mac.Write([]byte(s))
	return label(append(salt[:], mac.Sum(nil)[:labelSize-saltSize]...))
}

// asks reports whether l asks for s, and was made within a slot of now.
func (k *keys) asks(now time.Time, l label, s subject) bool {
	for _, slot := range slots(now) {
		if want := k.ask(slot, [saltSize]byte(l[:]), s); hmac.Equal(want[:], l[:]) {
			return true
		}
	}
	return false
}

// seal returns a record sealed for an answer with the label.
func (k *keys) seal(slot uint64, nonce [nonceSize]byte, l label, record []byte) []byte {
	return k.aead.Seal(nonce[:], nonce[:], pad(record), bound(slot, l))
}

// open returns the record in m, or nil if it was sealed under another key, more than a slot from now, or for another label.
func (k *keys) open(now time.Time, m message) []byte {
	if len(m.sealed) < nonceSize {
		return nil
	}
	nonce, sealed := m.sealed[:nonceSize], m.sealed[nonceSize:]
	for _, slot := range slots(now) {
		if b, err := k.aead.Open(nil, nonce, sealed, bound(slot, m.label)); err == nil {
			return unpad(b)
		}
	}
	return nil
}

func bound(slot uint64, l label) []byte {
	return append(binary.BigEndian.AppendUint64(nil, slot), l[:]...)
}

// pad returns the record's length, the record, and zeros up to one of the sizes.
func pad(record []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(len(record)))
	b = append(b, record...)
	return append(b, make([]byte, padded(len(b))-len(b))...)
}

// unpad returns the record in what pad wrote, and nil for anything else.
func unpad(b []byte) []byte {
	if len(b) < 2 {
		return nil
	}
	end := 2 + int(binary.BigEndian.Uint16(b))
	if padded(end) != len(b) || slices.ContainsFunc(b[end:], func(c byte) bool { return c != 0 }) {
		return nil
	}
	return b[2:end]
}

// padded returns the size that n bytes are padded to, or 0 when they are too many.
func padded(n int) int {
	for _, size := range sizes {
		if n <= size {
			return size
		}
	}
	return 0
}
