package frame

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"testing"

	"golang.org/x/crypto/chacha20"
	"golang.org/x/crypto/chacha20poly1305"
)

var update = flag.Bool("update", false, "write testdata/vectors.json anew, from the reference code in the tests")

// vectors is testdata/vectors.json. Bytes are hexadecimal.
type vectors struct {
	Full    []fullVector
	Compact []compactVector
}

type fullVector struct {
	Key       hexBytes
	Type      uint8
	Flags     uint8
	Seq       uint32
	PeerKey   hexBytes
	Nonce     hexBytes
	Plaintext hexBytes
	Frame     hexBytes
}

type compactVector struct {
	Suite      Suite
	MaskSecret hexBytes // the path's first traffic secret, of which the header's mask is made
	Secret     hexBytes // the epoch's traffic secret
	Epoch      uint32
	Packet     uint64
	Key        hexBytes
	MaskKey    hexBytes
	Plaintext  hexBytes
	Frame      hexBytes
}

type hexBytes []byte

func (h hexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }
func (h *hexBytes) UnmarshalText(b []byte) (err error) {
	*h, err = hex.DecodeString(string(b))
	return err
}

func count(first byte, n int) hexBytes {
	b := make([]byte, n)
	for i := range b {
		b[i] = first + byte(i)
	}
	return b
}

// reference computes frames from the text of the specification, with nothing of
// the package but its constants.
func (v *fullVector) reference() hexBytes {
	n := len(v.Plaintext) + 16
	b := []byte{1<<4 | v.Type, v.Flags, byte(n >> 8), byte(n), byte(v.Seq >> 24), byte(v.Seq >> 16), byte(v.Seq >> 8), byte(v.Seq)}
	b = append(append(b, v.PeerKey...), v.Nonce...)
	aead, _ := chacha20poly1305.NewX(v.Key)
	return aead.Seal(b, v.Nonce, v.Plaintext, b)
}

func hkdfExpand(secret []byte, label string) hexBytes {
	m := hmac.New(sha256.New, secret)
	m.Write(append([]byte(label), 1))
	return m.Sum(nil)
}

func (v *compactVector) reference() hexBytes {
	v.Key, v.MaskKey = hkdfExpand(v.Secret, "splitmesh/v1/key"), hkdfExpand(v.MaskSecret, "splitmesh/v1/hp")
	n := len(v.Plaintext) + 16
	head := []byte{1<<4 | 2, byte(v.Epoch), byte(n >> 8), byte(n),
		byte(v.Packet >> 24), byte(v.Packet >> 16), byte(v.Packet >> 8), byte(v.Packet)}
	nonce := make([]byte, 12)
	for i := range 8 {
		nonce[4+i] = byte(v.Packet >> (56 - 8*i))
	}
	var aead cipher.AEAD
	if v.Suite == AES256GCM {
		block, _ := aes.NewCipher(v.Key)
		aead, _ = cipher.NewGCM(block)
	} else {
		aead, _ = chacha20poly1305.New(v.Key)
	}
	body := aead.Seal(nil, nonce, v.Plaintext, head)
	stream := make([]byte, 16)
	if v.Suite == AES256GCM {
		block, _ := aes.NewCipher(v.MaskKey)
		block.Encrypt(stream, body[:16])
	} else {
		c, _ := chacha20.NewUnauthenticatedCipher(v.MaskKey, body[4:16])
		c.SetCounter(uint32(body[0]) | uint32(body[1])<<8 | uint32(body[2])<<16 | uint32(body[3])<<24)
		c.XORKeyStream(stream, stream)
	}
	for i := range head {
		head[i] ^= stream[i]
	}
	return append(head, body...)
}

func makeVectors() *vectors {
	v := new(vectors)
	for i, n := range []int{0, 1, 33} {
		v.Full = append(v.Full, fullVector{Key: count(0, 32), Type: uint8(1 + i%2), Flags: uint8(i), Seq: uint32(i) << 30,
			PeerKey: count(0x40, 32), Nonce: count(0x80, 24), Plaintext: count(0xc0, n)})
	}
	for _, s := range suites {
		for _, tt := range []struct {
			epoch  uint32
			packet uint64
			n      int
		}{{0, 0, 1}, {0, 1, 40}, {1, 2, 17}, {0x1ff, 0x1234567890, 100}} {
			v.Compact = append(v.Compact, compactVector{Suite: s, MaskSecret: count(0, 32), Secret: count(byte(tt.epoch), 32),
				Epoch: tt.epoch, Packet: tt.packet, Plaintext: count(0xc0, tt.n)})
		}
	}
	for i := range v.Full {
		v.Full[i].Frame = v.Full[i].reference()
	}
	for i := range v.Compact {
		v.Compact[i].Frame = v.Compact[i].reference()
	}
	return v
}

func TestVectors(t *testing.T) {
	const file = "testdata/vectors.json"
	want, err := json.MarshalIndent(makeVectors(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, '\n')
	if *update {
		if err := os.WriteFile(file, want, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(data, want) {
		t.Errorf("%s is not what the reference code computes", file)
	}
	var v vectors
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	for i := range v.Full {
		v.Full[i].check(t)
	}
	for i := range v.Compact {
		v.Compact[i].check(t)
	}
}

func (v *fullVector) check(t *testing.T) {
	h := Full{v.Type, v.Flags, v.Seq, [32]byte(v.PeerKey), [24]byte(v.Nonce)}
	key := [32]byte(v.Key)
	if b, err := SealFull(nil, &key, &h, v.Plaintext); err != nil || !bytes.Equal(b, v.Frame) {
		t.Errorf("SealFull: %x, %v, want %x", b, err, v.Frame)
	}
	got, p, err := OpenFull(&key, v.Frame)
	if err != nil || got != h || !bytes.Equal(p, v.Plaintext) {
		t.Errorf("OpenFull: %+v, %x, %v", got, p, err)
	}
}

func (v *compactVector) check(t *testing.T) {
	first, secret := [32]byte(v.MaskSecret), [32]byte(v.Secret)
	s, err := NewSealer(v.Suite, &first, v.Epoch-min(v.Epoch, 1))
	if err != nil {
		t.Fatal(err)
	}
	o, err := NewOpener(v.Suite, &first, v.Epoch-min(v.Epoch, 1))
	if err != nil {
		t.Fatal(err)
	}
	setPacket(s, o, v.Packet, maxFrames)
	if v.Epoch > 0 {
		if err := s.Rekey(&secret, v.Epoch); err != nil {
			t.Fatal(err)
		}
		if err := o.Next(&secret, v.Epoch); err != nil {
			t.Fatal(err)
		}
	}
	if b := seal(t, s, v.Plaintext); !bytes.Equal(b, v.Frame) {
		t.Errorf("%v, packet %d: Seal: %x, want %x", v.Suite, v.Packet, b, v.Frame)
	}
	if p, err := o.Open(bytes.Clone(v.Frame)); err != nil || !bytes.Equal(p, v.Plaintext) {
		t.Errorf("%v, packet %d: Open: %x, %v", v.Suite, v.Packet, p, err)
	}
}

func aesMask(t *testing.T, key []byte) mask {
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	return mask{block: block}
}
