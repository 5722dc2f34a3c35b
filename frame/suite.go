package frame

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"runtime"

	"golang.org/x/crypto/chacha20"
	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/sys/cpu"
)

// A Suite is the cipher of a path's compact frames and of their header's mask.
type Suite uint8

// The suites. Both take 32-byte keys and 12-byte nonces and add 16-byte tags.
const (
	AES256GCM        Suite = 1 // for pairs that both have AES in hardware
	ChaCha20Poly1305 Suite = 2 // for all others
)

// String returns the suite's name.
func (s Suite) String() string {
	switch s {
	case AES256GCM:
		return "AES-256-GCM"
	case ChaCha20Poly1305:
		return "ChaCha20-Poly1305"
	}
	return fmt.Sprintf("Suite(%d)", uint8(s))
}

// HasAES reports whether this machine does AES-GCM in hardware. Without, AES is
// several times slower than ChaCha20, and not in constant time.
func HasAES() bool {
	switch runtime.GOARCH {
	case "amd64":
		return cpu.X86.HasAES && cpu.X86.HasPCLMULQDQ && cpu.X86.HasSSE41 && cpu.X86.HasSSSE3
	case "arm64":
		// Every Apple chip that Go runs on has both.
		return cpu.ARM64.HasAES && cpu.ARM64.HasPMULL || runtime.GOOS == "darwin" || runtime.GOOS == "ios"
	case "s390x":
		return cpu.S390X.HasAES && cpu.S390X.HasAESCTR && cpu.S390X.HasGHASH
	}
	return false
}

// Labels of the keys that are expanded from a traffic secret.
const (
	labelKey  = "splitmesh/v1/key"
	labelMask = "splitmesh/v1/hp"
)

// expand returns HKDF-Expand-SHA256(secret, label, 32).
func expand(secret *[32]byte, label string) []byte {
	key, err := hkdf.Expand(sha256.New, secret[:], label, 32)
	if err != nil { // not for a length within HKDF's bound
		panic("frame: " + err.Error())
	}
	return key
}

// epochKey is the key of one epoch and what is left of its life.
type epochKey struct {
	aead  cipher.AEAD
	epoch uint32
	left  uint32 // how many more frames it may seal or open
}

// maxFrames bounds the frames under one key: 2^31, far below what AES-GCM bears.
const maxFrames = 1 << 31

func newEpochKey(op string, s Suite, secret *[32]byte, epoch uint32) (epochKey, error) {
	k := epochKey{epoch: epoch, left: maxFrames}
	var err error
	switch s {
	case AES256GCM:
		var block cipher.Block
		if block, err = aes.NewCipher(expand(secret, labelKey)); err == nil {
			k.aead, err = cipher.NewGCM(block)
		}
	case ChaCha20Poly1305:
		k.aead, err = chacha20poly1305.New(expand(secret, labelKey))
	default:
		err = &Error{op, "suite", uint64(s), uint64(ChaCha20Poly1305), ErrSuite}
	}
	return k, err
}

// mask is the header protection of one direction of a path: RFC 9001, sections
// 5.4.3 and 5.4.4, with the first eight bytes of the keystream instead of five.
// Its key outlives rekeying, as the receiver must unmask a header before it can
// know the header's epoch.
type mask struct {
	block cipher.Block // of AES256GCM; nil for ChaCha20Poly1305
	key   []byte       // of ChaCha20Poly1305
	out   [aes.BlockSize]byte
}

// sampleSize is how many bytes after the header the mask is made from.
const sampleSize = 16

func newMask(s Suite, secret *[32]byte) (m mask, err error) {
	m.key = expand(secret, labelMask)
	if s == AES256GCM {
		m.block, err = aes.NewCipher(m.key)
		m.key = nil
	}
	return m, err
}

// bits returns the mask for the header of the frame whose body begins with
// sample. It is not for concurrent use.
func (m *mask) bits(sample []byte) header {
	if m.block != nil {
		m.block.Encrypt(m.out[:], sample[:sampleSize])
	} else {
		c, err := chacha20.NewUnauthenticatedCipher(m.key, sample[4:sampleSize])
		if err != nil { // not for key and nonce of the right size
			panic("frame: " + err.Error())
		}
		c.SetCounter(binary.LittleEndian.Uint32(sample))
		clear(m.out[:])
		c.XORKeyStream(m.out[:HeaderSize], m.out[:HeaderSize])
	}
	return header(binary.BigEndian.Uint64(m.out[:]))
}
