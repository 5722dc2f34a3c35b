package mdns

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
)

var update = flag.Bool("update", false, "write testdata/vectors.json anew, from the reference code in the tests")

type hexBytes []byte

func (h hexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }
func (h *hexBytes) UnmarshalText(b []byte) (err error) {
	*h, err = hex.DecodeString(string(b))
	return err
}

// A vector is a question and the answer to it.
type vector struct {
	NetworkKey       hexBytes `json:",omitempty"`
	Time             int64    // Unix seconds
	ID               hexBytes `json:",omitempty"`
	Name             string   `json:",omitempty"`
	Salt, Nonce      hexBytes
	Record           hexBytes // any bytes here
	TagKey, SealKey  hexBytes
	Question, Answer hexBytes // the messages, as in their datagrams
}

func count(first byte, n int) hexBytes {
	b := make(hexBytes, n)
	for i := range b {
		b[i] = first + byte(i)
	}
	return b
}

func hmacSHA256(key []byte, parts ...[]byte) []byte {
	h := hmac.New(sha256.New, key)
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

// reference computes all that follows, from the text of the specification and with nothing of the package.
func (v *vector) reference() {
	ikm := []byte(v.NetworkKey)
	if ikm == nil {
		ikm = []byte("splitmesh/v1/mdns/open")
	}
	prk := hmacSHA256(make([]byte, 32), ikm)
	v.TagKey = hmacSHA256(prk, []byte("splitmesh/v1/mdns/tag\x01"))
	v.SealKey = hmacSHA256(prk, []byte("splitmesh/v1/mdns/seal\x01"))
	slot := make([]byte, 8)
	for i, n := 7, v.Time/600; i >= 0; i, n = i-1, n>>8 {
		slot[i] = byte(n)
	}
	subject := append([]byte{0}, v.ID...)
	if v.Name != "" {
		subject = append([]byte{1}, v.Name...)
	}
	label := append(bytes.Clone(v.Salt), hmacSHA256(v.TagKey, v.Salt, slot, subject)[:16]...)
	text := strings.ToLower(strings.TrimRight(base32.StdEncoding.EncodeToString(label), "="))
	name := append([]byte{52}, text...)
	name = append(name, "\x0a_splitmesh\x04_udp\x05local\x00"...)

	v.Question = append(hexBytes{0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}, name...)
	v.Question = append(v.Question, 0, 16, 0, 1)

	plain := append([]byte{byte(len(v.Record) >> 8), byte(len(v.Record))}, v.Record...)
	for _, size := range []int{512, 1200, 2400, 4098} {
		if len(plain) <= size {
			plain = append(plain, make([]byte, size-len(plain))...)
			break
		}
	}
	aead, _ := chacha20poly1305.NewX(v.SealKey)
	sealed := aead.Seal(bytes.Clone(v.Nonce), v.Nonce, plain, append(bytes.Clone(slot), label...))
	var texts []byte
	for len(sealed) > 0 {
		n := min(255, len(sealed))
		texts = append(append(texts, byte(n)), sealed[:n]...)
		sealed = sealed[n:]
	}
	v.Answer = append(hexBytes{0, 0, 0x84, 0, 0, 0, 0, 1, 0, 0, 0, 0}, name...)
	v.Answer = append(v.Answer, 0, 16, 0, 1, 0, 0, 0, 10, byte(len(texts)>>8), byte(len(texts)))
	v.Answer = append(v.Answer, texts...)
}

func TestVectors(t *testing.T) {
	vs := []vector{
		{NetworkKey: count(0x30, 32), Time: noon.Unix(), ID: count(0x80, 32), Record: count(0, 300)},
		{NetworkKey: count(0x30, 32), Time: noon.Unix() - 1, Name: "ann", Record: count(1, 1000)},
		{Time: noon.Unix() + 599, ID: count(0x80, 32), Record: count(2, 510)},
	}
	for i := range vs {
		vs[i].Salt, vs[i].Nonce = count(byte(0x10+i), 16), count(byte(0xc0+i), 24)
		vs[i].reference()
	}
	want, err := json.MarshalIndent(vs, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	const file = "testdata/vectors.json"
	if *update {
		if err := os.WriteFile(file, append(want, '\n'), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(bytes.TrimSpace(got), want) {
		t.Fatalf("%s is not what the reference code computes", file)
	}
	for i, v := range vs {
		var network *[32]byte
		if v.NetworkKey != nil {
			network = (*[32]byte)(v.NetworkKey)
		}
		k, s := newKeys(network), subject("\x00"+string(v.ID))
		if v.Name != "" {
			s = ofName(v.Name)
		}
		if !bytes.Equal(k.tag, v.TagKey) {
			t.Errorf("%d: another tag key", i)
		}
		slot := slotOf(time.Unix(v.Time, 0))
		l := k.ask(slot, [saltSize]byte(v.Salt), s)
		if got := (message{label: l}).encode(); !bytes.Equal(got, v.Question) {
			t.Errorf("%d: the question is\n%x, want\n%x", i, got, v.Question)
		}
		if got := (message{l, k.seal(slot, [nonceSize]byte(v.Nonce), l, v.Record)}).encode(); !bytes.Equal(got, v.Answer) {
			t.Errorf("%d: the answer is\n%x, want\n%x", i, got, v.Answer)
		}
	}
}
